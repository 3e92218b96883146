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
DIFFENDERFER = dict(mean=[0.491, 0.482, 0.447], std=[0.247, 0.243, 0.262])


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


class Smoothed:
    """Bai et al. 2023: two narrow members and a narrow mixing network in RobustBench's own class, whose constructor has the
    published sizes alone."""

    # gamma's scale and shift, alpha's range and least, scales of the logits.
    def __init__(self, mix):
        file, nn = robustbench.home("comp_model"), torch.nn
        model = file.CompositeModel.__new__(file.CompositeModel)
        nn.Module.__init__(model)
        accurate = robustbench.bit()
        accurate.return_features = True
        robust = robustbench.unnormalised(file.dm_rn.WideResNet(depth=10, width=1, activation_fn=nn.SiLU))
        model.models = nn.ModuleList([accurate, robust]).eval()
        model.policy_net, model.bn = self.mixing(file), nn.BatchNorm1d(1, affine=False)
        model.policy_graph = model.use_policy = model.resize = True
        parts = ["gamma_scale", "gamma_bias", "alpha_scale", "alpha_bias", "std_scale", "rob_scale"]
        for part, value in zip(parts, mix):
            setattr(model, part, nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=False))
        self.model, self.said = model.eval(), f"mix={','.join(map(str, mix))}"

    @staticmethod
    def mixing(file):
        net = file.MixingNetV4.__new__(file.MixingNetV4)
        torch.nn.Module.__init__(net)
        # 64 channels of the accurate member and 16 of the robust one after the first stage, 64 and 32 after the second.
        net.planes = [80, 4, 6, 6]
        net.in_planes = net.planes[0]
        net.layers = torch.nn.ModuleList([net._make_layer(p, stride=2) for p in net.planes[1:]])
        net.global_avg_pool = torch.nn.AdaptiveAvgPool2d(1)
        net.linear, net.conv1x1 = torch.nn.Linear(6, 1, bias=False), torch.nn.Conv2d(96, 4, 1, bias=False)
        return net

    def members(self):
        mixing = torch.nn.ModuleDict(dict(model=self.model.policy_net, bn=self.model.bn))
        return [*self.model.models, mixing]

    def ways(self):
        return {"adaptive-smoothing": lambda x: self.model(x)[0]}


class Nuts:
    """Bai et al. 2024, narrow."""

    # scale, shift, power of the map; the robust member's share, and the same where the map is bypassed.
    def __init__(self, accurate, robust, mix):
        maps, nets = robustbench.home("output_maps"), robustbench.home("mixing_net")
        scale, shift, power, share, bypassed = mix
        settings = dict(std_map=maps.HardMaxMap(), alpha=share, alpha_diffable=bypassed, rob_map=maps.LNClampPowerScaleMap(
            scale=scale, power=power, clamp_bias=shift, ln_k=250))
        self.model = nets.NonLinMixedClassifier(accurate.eval(), robust.eval(), settings)
        self.said = f"mix={','.join(map(str, mix))}"
        for part, value in [("_alpha", share), ("_alpha_diffable", bypassed)]:
            setattr(self.model, part, torch.nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=False))
        for part, value in [("scale", scale), ("power", power), ("clamp_bias", shift)]:
            setattr(self.model.rob_map, part, torch.nn.Parameter(torch.tensor(value, dtype=torch.float64), requires_grad=False))

    def members(self):
        return [self.model.std_model, self.model.rob_model]

    def ways(self):
        return {
            "mixednuts": lambda x: self.unrounded(x, False),
            "mixednuts-bypassed": lambda x: self.unrounded(x, True)[1],
        }

    def unrounded(self, x, everything):
        """The class gives its results in single precision."""
        as_is = torch.Tensor.float
        try:
            torch.Tensor.float = lambda t: t
            return self.model(x, return_all=everything)
        finally:
            torch.Tensor.float = as_is


class Mean:
    """An ensemble of RobustBench's file of models."""

    def __init__(self, model):
        self.model, self.said = model.eval(), ""
        model.mu, model.sigma = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)

    def members(self):
        return self.model.models

    def ways(self):
        return {
            "probabilities": self.model,
            "log-probabilities": lambda x: self.model(x).log(),
            "logits": lambda x: torch.stack([m(x) for m in self.model.models]).mean(0),
        }


def write(name, ensemble, normalise, side=32):
    shapes = []
    for i, member in enumerate(ensemble.members()):
        shapes.append({n: list(t.shape) for n, t in member.state_dict().items() if t.is_floating_point()})
        member.load_state_dict({n: vectors.tensor(f"members.{i}.{n}", s) for n, s in shapes[-1].items()}, strict=False)
        member.double()
    mean, std = (torch.tensor(normalise[part], dtype=torch.float64).view(1, 3, 1, 1) for part in ("mean", "std"))
    pixels, labels, arrays = f"input/{name}", list(range(ROWS)), {}
    for way, function in ensemble.ways().items():
        x = vectors.image(pixels, (ROWS, 3, side, side)).double().requires_grad_()
        loss = lambda x: torch.nn.functional.cross_entropy(
            function((x - mean) / std), torch.tensor(labels), reduction="sum")
        loss(x).backward()
        # Enlarged images have so many ReLUs that a longer step crosses some.
        vectors.check_slope(lambda x: loss(x).item(), x, 1e-8)
        output = function((x - mean) / std)
        arrays[f"output_{way}"], arrays[f"grad_{way}"] = output.detach().float().numpy(), x.grad.float().numpy()
    OUT.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(OUT / f"{name}.npz", **arrays)
    about = dict(input=pixels, input_shape=[ROWS, 3, side, side], **normalise, labels=labels, said=ensemble.said, members=shapes)
    text = json.dumps(about, separators=(",", ":")).encode()
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    print(name, [(OUT / f"{name}{end}").stat().st_size for end in (".npz", ".json.gz")], {n: a.std() for n, a in arrays.items()})


def many_classes(**settings):
    return vectors.timm_convnext(num_classes=300, **settings)


if __name__ == "__main__":
    write("chen2020", Mean(chen()), robustbench.IMAGENET)
    write("diffenderfer2021", Mean(deck()), DIFFENDERFER)
    smoothed = Smoothed([2.0, 1.3, 0.15, 0.84, 2.0, 1.0])
    write("bai2023", smoothed, robustbench.CIFAR10)
    # As RobustBench's loader wants the third file.
    parts = {name: {n: t.float() if t.is_floating_point() else t for n, t in part.state_dict().items()}
             for name, part in smoothed.members()[2].items()}
    torch.save(dict(state_dict=parts, epoch=3), OUT / "bai2023_mixing.pth")
    # As on CIFAR-10, where alpha may come close to 1.
    write("bai2023_whole", Smoothed([2.0, 1.05, 0.04, 0.96, 1.2, 0.3]), robustbench.CIFAR10)
    write("bai2024", Nuts(robustbench.bit(), robustbench.ra_wrn("robustarch_wide_resnet"),
                          [5.0, -1.1, 4.0, 0.9987500602493457, 0.9570535356459247]), robustbench.CIFAR10)
    # As on ImageNet: more classes than the 250 whose mean and deviation are taken.
    accurate, robust = many_classes(use_grn=True, ls_init_value=None), many_classes()
    write("bai2024_many", Nuts(accurate, robust, [0.0235, -0.2857, 2.7143, 0.99712664, 0.90683792]), robustbench.IMAGENET, 46)
