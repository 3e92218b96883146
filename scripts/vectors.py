"""Writes models/tests/vectors: outputs and input gradients of named architectures, by the packages that define them.

    python scripts/vectors.py --list
    python scripts/vectors.py timm/resnet-d torchvision/mobilenet_v3_small
    python scripts/vectors.py --all

Needs numpy, torch, torchvision and timm in an environment of its own. Each architecture has two files: NAME.json.gz (input,
labels, loss, options, and the shapes of all tensors) and NAME.npz (`output`, and `grad`, the gradient of the summed
cross-entropy towards the pixels). Both are computed in float64 and stored as float32. No weights are stored: every tensor
follows from its name. Networks are those of the packages at small widths and depths, so that files and tests stay small.
"""
import argparse
import gzip
import json
import math
import pathlib

import numpy as np
import torch

import vectors_transformers

OUT = pathlib.Path(__file__).parent.parent / "models/tests/vectors"
IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


# Tensors by name: 24 bits of SplitMix64, whose state starts at the FNV-1a hash of the name.

def numbers(name, count):
    """`count` numbers in [-1, 1)."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
        for shift, factor in [(30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)]:
            z = (z ^ z >> np.uint64(shift)) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def tensor(name, shape):
    """Matrices and kernels are scaled by their fan-in, norms are near the identity, everything else is small."""
    u = numbers(name, math.prod(shape))
    if name.endswith("running_var"):
        u = 1 + np.abs(u) / 2
    elif name.endswith("running_mean"):
        u = u / 10
    elif len(shape) >= 2:
        u = u * math.sqrt(3 / math.prod(shape[1:]))
    elif name.endswith(("weight", "gamma")):
        u = 1 + u / 10
    else:
        u = u / 10
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def image(name, shape):
    u = (numbers(name, math.prod(shape)) + 1) / 2
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


# Architectures: how to make one, the pixels' side, and what the loader must be told beyond the tensors.

class Entry:
    def __init__(self, make, side=64, options=None, normalise=IMAGENET, rows=1):
        self.make, self.side, self.options, self.normalise, self.rows = make, side, options or {}, normalise, rows


def timm_model(name, **settings):
    import timm
    return timm.create_model(name, **{"num_classes": 10, **settings})


def tv_model(name, **settings):
    import torchvision
    return torchvision.models.get_model(name, **{"num_classes": 10, **settings})


ENTRIES = {
    "torchvision/mobilenet_v3_small": Entry(lambda: tv_model("mobilenet_v3_small")),
}
ENTRIES |= vectors_transformers.entries(Entry)


def shapes_of(model):
    """Floating tensors of the state dict: counters and indices follow from the sizes."""
    return {name: list(t.shape) for name, t in model.state_dict().items() if t.is_floating_point()}


def named_weights(model):
    for name, t in model.state_dict().items():
        if t.is_floating_point():
            t.copy_(tensor(name, t.shape))


def check_slope(loss, x, step=1e-6):
    """Automatic gradients have been wrong: along one direction they must be what differences say."""
    along = 2 * torch.rand(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 1
    with torch.no_grad():
        by_differences = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    by_gradient = (x.grad * along).sum().item()
    assert abs(by_differences - by_gradient) <= 1e-3 * max(abs(by_gradient), x.grad.norm().item()), (by_differences, by_gradient)


def write(name, entry, out):
    torch.manual_seed(0)
    model = entry.make().eval()
    shapes = shapes_of(model)
    named_weights(model)
    model = model.double()
    # `input/NAME` again where a ReLU of this one is within rounding of zero: another name is another image.
    pixels, labels = f"input/{name}", list(range(entry.rows))
    x = image(pixels, (entry.rows, 3, entry.side, entry.side)).double().requires_grad_()
    mean, std = (torch.tensor(entry.normalise[k]).double().view(1, 3, 1, 1) for k in ("mean", "std"))
    output = model((x - mean) / std)
    loss = torch.nn.functional.cross_entropy(output, torch.tensor(labels), reduction="sum")
    loss.backward()
    check_slope(lambda x: torch.nn.functional.cross_entropy(
        model((x - mean) / std), torch.tensor(labels), reduction="sum").item(), x)
    file = name.replace("/", "__")
    np.savez_compressed(
        out / f"{file}.npz", output=output.detach().float().numpy(), grad=x.grad.float().numpy())
    about = dict(arch=name, input=pixels, input_shape=list(x.shape), **entry.normalise, labels=labels,
                 loss=loss.item(), file=f"{file}.npz", options=entry.options, shapes=shapes)
    text = json.dumps(about, separators=(",", ":")).encode()
    (out / f"{file}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    sizes = [(out / f"{file}{end}").stat().st_size for end in (".npz", ".json.gz")]
    count = sum(math.prod(s) for s in shapes.values())
    print(f"{name}: {len(shapes)} tensors, {count} numbers, {sizes[0]} + {sizes[1]} bytes")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("names", nargs="*", help="architectures, as --list has them")
    args.add_argument("--all", action="store_true")
    args.add_argument("--list", action="store_true")
    args.add_argument("--out", type=pathlib.Path, default=OUT)
    given = args.parse_args()
    unknown = [n for n in given.names if n not in ENTRIES]
    if unknown or not (given.names or given.all or given.list):
        args.error(f"unknown: {', '.join(unknown)}" if unknown else "say which, or --all or --list")
    if given.list:
        print("\n".join(ENTRIES))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for name in ENTRIES if given.all else given.names:
        write(name, ENTRIES[name], given.out)


if __name__ == "__main__":
    main()
