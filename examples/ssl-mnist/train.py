"""Trains two encoders of one architecture on MNIST: SimCLR (Chen et al. 2020, arXiv 2002.05709), which sees no label, and
its supervised twin. Writes simclr.safetensors and supervised.safetensors, which `robust` loads as `mnist-cnn`.

    pip install torch safetensors
    python train.py --data DIR_OF_IDX_FILES

Both see the same images under the same random crops, turns and shifts, for the same number of epochs, from the same
initial weights. The SimCLR network's last layer is its (linear) projection: `?output=features` cuts it off, and the
supervised network's scores likewise.
"""

import argparse
import gzip
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn


class MnistCnn(nn.Module):
    """Tensor names and shapes of robust's `mnist-cnn`."""

    def __init__(self, outputs):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, outputs)

    def features(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.fc1(x.flatten(1)))

    def forward(self, x):
        return self.fc2(self.features(x))


def read_idx(folder, stem):
    """The values of an IDX file, plain or gzip'd."""
    plain, packed = folder / stem, folder / (stem + ".gz")
    raw = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    dims = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return torch.frombuffer(bytearray(raw[4 + 4 * raw[3] :]), dtype=torch.uint8).reshape(dims)


def views(x, rng):
    """Each image under a random turn, zoom, shift and change of contrast of its own."""
    n = len(x)
    uniform = lambda low, high: low + (high - low) * torch.rand(n, generator=rng)
    turn, zoom = uniform(-0.35, 0.35), uniform(0.75, 1.25)
    cos, sin = torch.cos(turn) * zoom, torch.sin(turn) * zoom
    rows = [torch.stack([cos, -sin, uniform(-0.2, 0.2)], 1), torch.stack([sin, cos, uniform(-0.2, 0.2)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), x.shape, align_corners=False)
    moved = F.grid_sample(x, grid, align_corners=False)
    noisy = moved * uniform(0.6, 1.0)[:, None, None, None] + 0.05 * torch.randn(x.shape, generator=rng)
    return noisy.clamp(0, 1)


def nt_xent(a, b, temperature):
    """Each view must find its twin among all other views of the batch."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    scores = z @ z.T / temperature
    scores.fill_diagonal_(-math.inf)
    n = len(a)
    twin = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(scores, twin)


def train(net, images, labels, epochs, batch, seed, loss_of):
    rng = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=3e-3, total_steps=steps)
    for epoch in range(epochs):
        begin, total = time.time(), 0.0
        order = torch.randperm(len(images), generator=rng)
        for at in range(0, len(images) - batch + 1, batch):
            pick = order[at : at + batch]
            loss = loss_of(net, images[pick], labels[pick], rng)
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1} of {epochs}: loss {total * batch / len(images):.3f}, {time.time() - begin:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four IDX files of MNIST, plain or .gz")
    parser.add_argument("--out", type=Path, default=Path("."), help="where the two files go")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: PyTorch's; 1 is fastest on a busy machine")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    images = read_idx(args.data, "train-images-idx3-ubyte").float().div(255).unsqueeze(1)
    labels = read_idx(args.data, "train-labels-idx1-ubyte").long()

    def simclr(net, x, y, rng):
        return nt_xent(net(views(x, rng)), net(views(x, rng)), args.temperature)

    def supervised(net, x, y, rng):
        return F.cross_entropy(net(views(x, rng)), y)

    args.out.mkdir(parents=True, exist_ok=True)
    for name, outputs, loss_of in [("simclr", 64, simclr), ("supervised", 10, supervised)]:
        print(name, flush=True)
        torch.manual_seed(args.seed)
        net = MnistCnn(outputs)
        train(net, images, labels, args.epochs, args.batch, args.seed, loss_of)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, args.out / f"{name}.safetensors")


if __name__ == "__main__":
    main()
