"""Writes models/tests/vectors/ensembles: outputs and input gradients of RobustBench's ensembles, by its own forward functions.

    python scripts/vectors_ensembles.py

Needs numpy, torch and RobustBench's files on PYTHONPATH. Members are the narrow networks of `vectors_robustbench.py`; every tensor
follows from its name, which begins with `members.N.`. Each ensemble has NAME.json.gz and NAME.npz, with three outputs and gradients of
the summed cross-entropy: of what RobustBench's class returns (`probabilities`), of its logarithm (`log-probabilities`), and of the mean
of the members' scores (`logits`). All are computed in float64 and stored as float32.
"""
import ast
import gzip
import json
import pathlib
import sys

import numpy as np
import torch

import vectors
import vectors_robustbench as robustbench

OUT = vectors.OUT / "ensembles"
ROWS = 2


def published(name, **names):
    """A class of RobustBench's file of models, which as a whole imports everything else."""
    place = next(p for p in map(pathlib.Path, sys.path) if (p / "robustbench/model_zoo/cifar10.py").is_file())
    tree = ast.parse((place / "robustbench/model_zoo/cifar10.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    scope = dict(torch=torch, nn=torch.nn, **names)
    exec(compile(tree, "cifar10.py", "exec"), scope)
    return scope[name]


def chen():
    made = iter([robustbench.pre_bottlenecks() for _ in range(3)])
    return published("Chen2020AdversarialNet", ResNet=lambda *_: next(made), BottleneckChen2020AdversarialNet=None)()


def deck():
    return published("Diffenderfer2021CARD_Deck_Binary", WidePreActResNet=lambda **_: robustbench.card())()


def write(name, make):
    model = make().eval()
    shapes = []
    for i, member in enumerate(model.models):
        shapes.append({n: list(t.shape) for n, t in member.state_dict().items() if t.is_floating_point()})
        member.load_state_dict({n: vectors.tensor(f"members.{i}.{n}", s) for n, s in shapes[-1].items()}, strict=False)
    mean, std = model.mu.flatten().tolist(), model.sigma.flatten().tolist()
    model = model.double()
    # What the file says in decimals, not what f32 makes of it.
    mean, std = [[round(v, 4) for v in values] for values in (mean, std)]
    model.mu, model.sigma = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (mean, std))
    pixels, labels = f"input/{name}", list(range(ROWS))
    ways = {
        "probabilities": model,
        "log-probabilities": lambda x: model(x).log(),
        "logits": lambda x: torch.stack([m((x - model.mu) / model.sigma) for m in model.models]).mean(0),
    }
    arrays = {}
    for way, function in ways.items():
        x = vectors.image(pixels, (ROWS, 3, 32, 32)).double().requires_grad_()
        output = function(x)
        loss = torch.nn.functional.cross_entropy(output, torch.tensor(labels), reduction="sum")
        loss.backward()
        vectors.check_slope(lambda x: torch.nn.functional.cross_entropy(
            function(x), torch.tensor(labels), reduction="sum").item(), x)
        arrays[f"output_{way}"], arrays[f"grad_{way}"] = output.detach().float().numpy(), x.grad.float().numpy()
    OUT.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(OUT / f"{name}.npz", **arrays)
    about = dict(input=pixels, input_shape=[ROWS, 3, 32, 32], mean=mean, std=std, labels=labels, members=shapes)
    text = json.dumps(about, separators=(",", ":")).encode()
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    print(name, [(OUT / f"{name}{end}").stat().st_size for end in (".npz", ".json.gz")], arrays["output_probabilities"].std())


if __name__ == "__main__":
    write("chen2020", chen)
    write("diffenderfer2021", deck)
