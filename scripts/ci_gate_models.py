"""Trains the two models of examples/ci-gate on MNIST and writes them as ONNX: model.onnx against FGSM with a random start
(Wong et al. 2020) at Linf 0.1, weakened.onnx without. A minute on two cores.

    python scripts/ci_gate_models.py MNIST-FOLDER examples/ci-gate
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

data, out = Path(sys.argv[1]), Path(sys.argv[2])


def read(stem, offset):
    for path in data.glob(f"{stem}*"):
        raw = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
        return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=offset).copy())
    sys.exit(f"no {stem} in {data}")


x = read("train-images", 16).view(-1, 1, 28, 28).float() / 255
y = read("train-labels", 8).long()
EPS = 0.1


def train(adversarial):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 12, 5, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 9 * 9, 10))
    epochs = 12
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=epochs * (len(x) // 256))
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for i in range(0, len(x) - 255, 256):
            a, b = x[order[i : i + 256]], y[order[i : i + 256]]
            if adversarial:
                d = torch.empty_like(a).uniform_(-EPS, EPS).requires_grad_()
                (g,) = torch.autograd.grad(F.cross_entropy(net(a + d), b), d)
                d = (d + 1.25 * EPS * g.sign()).clamp(-EPS, EPS).detach()
                a = (a + d).clamp(0, 1)
            opt.zero_grad()
            F.cross_entropy(net(a), b).backward()
            opt.step()
            plan.step()
    return net.eval()


for name, adversarial in (("model", True), ("weakened", False)):
    net = train(adversarial)
    torch.onnx.export(net, torch.zeros(1, 1, 28, 28), str(out / f"{name}.onnx"), opset_version=17, dynamo=False,
                      input_names=["image"], output_names=["scores"],
                      dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}})
    with torch.no_grad():
        print(name, (net(x[:10000]).argmax(1) == y[:10000]).float().mean().item())
