"""Ours against PyTorch on the same inputs and weights, in alternation: medians, ratios, and whether results agree.

Started by bench-peers. For measuring only: the product never needs Python.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn


class Basic(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv3, self.bn3 = nn.Conv2d(o, 4 * o, 1, bias=False), nn.BatchNorm2d(4 * o)
        self.downsample = None
        if stride != 1 or i != 4 * o:
            self.downsample = nn.Sequential(nn.Conv2d(i, 4 * o, 1, stride, bias=False), nn.BatchNorm2d(4 * o))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def stage(block, i, o, blocks, stride, wide=1):
    layers = [block(i, o, stride)] + [block(o * wide, o, 1) for _ in range(blocks - 1)]
    return nn.Sequential(*layers)


class CifarResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(Basic, 64, 64, 2, 1), stage(Basic, 64, 128, 2, 2)
        self.layer3, self.layer4 = stage(Basic, 128, 256, 2, 2), stage(Basic, 256, 512, 2, 2)
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(x.mean((2, 3)))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = stage(Bottleneck, 64, 64, 3, 1, 4), stage(Bottleneck, 256, 128, 4, 2, 4)
        self.layer3, self.layer4 = stage(Bottleneck, 512, 256, 6, 2, 4), stage(Bottleneck, 1024, 512, 3, 2, 4)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(i), nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(o), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.convShortcut = None if i == o else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return y + (x if self.convShortcut is None else self.convShortcut(a))


class WideGroup(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.layer = stage(*args)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, blocks=4, width=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = WideGroup(WideBlock, 16, 16 * width, blocks, 1)
        self.block2 = WideGroup(WideBlock, 16 * width, 32 * width, blocks, 2)
        self.block3 = WideGroup(WideBlock, 32 * width, 64 * width, blocks, 2)
        self.bn1, self.fc = nn.BatchNorm2d(64 * width), nn.Linear(64 * width, 10)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class MnistCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, 1, 2), nn.Conv2d(32, 64, 5, 1, 2)
        self.fc1, self.fc2 = nn.Linear(3136, 1024), nn.Linear(1024, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, 1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, 1e-6), Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.proj = nn.Conv2d(3, width, size, size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class ViTSmall(nn.Module):
    def __init__(self, width=384, depth=12):
        super().__init__()
        self.patch_embed = Patches(width, 16)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 197, width) * 0.02)
        self.blocks = nn.Sequential(*[EncoderBlock(width, width // 64) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class NextNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_dw, self.norm = nn.Conv2d(width, width, 7, 1, 3, groups=width), nn.LayerNorm(width, 1e-6)
        self.mlp, self.gamma = Mlp(width), nn.Parameter(torch.ones(width) * 0.5)

    def forward(self, x):
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1)))
        return x + (y * self.gamma).permute(0, 3, 1, 2)


class NextStage(nn.Module):
    def __init__(self, i, o, depth):
        super().__init__()
        self.downsample = nn.Sequential(NextNorm(i, 1e-6), nn.Conv2d(i, o, 2, 2)) if i != o else nn.Identity()
        self.blocks = nn.Sequential(*[NextBlock(o) for _ in range(depth)])

    def forward(self, x):
        return self.blocks(self.downsample(x))


class NextHead(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width, 1e-6), nn.Linear(width, 1000)

    def forward(self, x):
        return self.fc(self.norm(x.mean((2, 3))))


class ConvNextTiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 96, 4, 4), NextNorm(96, 1e-6))
        widths, depths = [96, 96, 192, 384, 768], [3, 3, 9, 3]
        self.stages = nn.Sequential(*[NextStage(widths[k], widths[k + 1], depths[k]) for k in range(4)])
        self.head = NextHead(768)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


NETWORKS = {
    "mnist-cnn-b256": (MnistCnn, (256, 1, 28, 28), "mean=none"),
    "cifar-resnet18-b32": (CifarResNet18, (32, 3, 32, 32), "mean=none"),
    "cifar-resnet18-b128": (CifarResNet18, (128, 3, 32, 32), "mean=none"),
    "wrn-28-10-b4": (WideResNet, (4, 3, 32, 32), "mean=none"),
    "resnet50-b4": (ResNet50, (4, 3, 224, 224), "mean=none"),
    "vit-s-16-b4": (ViTSmall, (4, 3, 224, 224), "mean=none"),
    "convnext-t-b4": (ConvNextTiny, (4, 3, 224, 224), "mean=none"),
}


def settle(net):
    """Batch statistics that keep activations near one, so that gradients are worth comparing."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.8, 1.2)
            nn.init.normal_(m.bias, 0, 0.1)
            m.momentum = None
    return net


class Ours:
    def __init__(self, command, folder, name, net, shape, options, x, seed):
        model, image, slope = (os.path.join(folder, f"{name}.{e}") for e in ("pth", "x", "seed"))
        torch.save(net.state_dict(), model)
        x.numpy().tofile(image)
        seed.numpy().tofile(slope)
        args = command + [f"{model}?{options}", ",".join(map(str, shape)), image, slope]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def peer(net, x, seed, mode):
    if mode != "eager":
        net = copy.deepcopy(net).to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    if mode == "compiled":
        net = torch.compile(net)

    def both():
        z = x.detach().requires_grad_()
        out = net(z)
        return out.detach(), torch.autograd.grad(out, z, seed)[0]

    def forward():
        with torch.no_grad():
            return net(x)

    return {"both": both, "forward": forward}


def timed(f):
    start = time.perf_counter()
    f()
    return (time.perf_counter() - start) * 1e3


def apart(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def signs(a, b):
    return (a.sign() == b.sign()).double().mean().item()


def peak_memory(both):
    """Bytes that are live at once beyond what was live before, as PyTorch's own profiler books them."""
    from torch.profiler import ProfilerActivity, profile

    both()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        both()
    live = top = 0
    for e in p.profiler.kineto_results.events():
        if e.name() == "[memory]":
            live += e.nbytes()
            top = max(top, live)
    return top


def measure(name, args, folder):
    make, shape, options = NETWORKS[name]
    torch.manual_seed(0)
    net, x = settle(make()), torch.rand(shape)
    with torch.no_grad():
        net.train()(torch.rand(shape))
    net.eval().requires_grad_(False)
    seed = torch.randn(shape[0], net(x[:1]).shape[1])
    peers = {mode: peer(net, x, seed, mode) for mode in args.modes}
    ours = Ours(args.command, folder, name, net, shape, options, x, seed)
    out, grad = (copy.deepcopy(net).double()(x.double()[:4]), None)
    z = x[:4].double().requires_grad_()
    wide = copy.deepcopy(net).double()
    grad = torch.autograd.grad(wide(z), z, seed[:4].double())[0]
    for _ in range(2):
        ours.ask("both")
        for p in peers.values():
            p["both"]()
    times = {(who, what): [] for who in ["ours", *args.modes] for what in ("both", "forward")}
    for _ in range(args.rounds):
        for what in ("both", "forward"):
            times["ours", what].append(float(ours.ask(what)))
            for mode, p in peers.items():
                times[mode, what].append(timed(p[what]))
    files = [os.path.join(folder, f) for f in ("out", "grad")]
    ours.ask("both")
    ours.ask(f"out {files[0]}")
    ours.ask(f"grad {files[1]}")
    memory = int(ours.ask("memory"))
    ours.close()
    mine = [torch.from_file(f, size=os.path.getsize(f) // 4, dtype=torch.float32) for f in files]
    mine = [mine[0].reshape(shape[0], -1)[:4].double(), mine[1].reshape(shape)[:4].double()]
    gaps = apart(mine[0], out), apart(mine[1], grad)
    same = signs(mine[1], grad)
    theirs = [t[:4].double() for t in peers[args.modes[0]]["both"]()]
    their_gaps, their_same = (apart(theirs[0], out), apart(theirs[1], grad)), signs(theirs[1], grad)
    median = {k: statistics.median(v) for k, v in times.items()}
    best = min(median[m, "both"] for m in args.modes if m != "compiled") if set(args.modes) - {"compiled"} else 0
    best_forward = min(median[m, "forward"] for m in args.modes)
    peak = peak_memory(peers[args.modes[0]]["both"])
    print(f"{name}: " + ", ".join(f"{w} {median[w, 'both']:.1f} ms ({median[w, 'forward']:.1f} forward)" for w in ["ours", *args.modes]))
    print(f"    PyTorch / ours {best / median['ours', 'both']:.2f} with gradient, {best_forward / median['ours', 'forward']:.2f} forward")
    print(f"    against f64: output {gaps[0]:.1e}, gradient {gaps[1]:.1e}, equal signs {same:.2%}; "
          f"PyTorch in f32 {their_gaps[0]:.1e}, {their_gaps[1]:.1e}, {their_same:.2%}")
    print(f"    values and workspace: ours {memory / 1e6:.0f} MB, PyTorch {peak / 1e6:.0f} MB", flush=True)
    # Where rounding switches a ReLU no two programs agree: then ours may differ as much as PyTorch does.
    return gaps[0] <= 1e-4 and same >= min(0.999, their_same - 0.005)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--modes", default="eager,channels-last,compiled")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    args.modes = args.modes.split(",")
    torch.set_num_threads(args.threads)
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        agreed = [measure(name, args, folder) for name in args.networks.split(",")]
    sys.exit(0 if all(agreed) else 1)


if __name__ == "__main__":
    main()
