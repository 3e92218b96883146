"""Files as torch.save wrote them before PyTorch 1.6, whole modules, weights kept in parts, and what the networks in them compute.
Written by PyTorch 2.15. Weights are tiny and random. Run in this folder: python make_legacy.py"""
import collections

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils import spectral_norm, weight_norm

torch.manual_seed(2)
# The old format keeps the source of every class; PyTorch's own has no place in these files.
torch.serialization.get_source_lines_and_file = lambda obj: (["class Layer: pass\n"], 1, "layer.py")
expected = {}


def keep(name, net, shape):
    """Stores what `name`.pth must compute on an input of its own."""
    net.eval()
    x = torch.randint(0, 257, (2, *shape)) / 256
    with torch.no_grad():
        expected[f"{name}.input"] = x.numpy()
        expected[f"{name}.output"] = net.double()(x.double()).float().numpy()
    net.float()


def old(value, name):
    torch.save(value, name, _use_new_zipfile_serialization=False)


def wong():
    return nn.Sequential(nn.Conv2d(1, 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 10))


net = wong()
for name in ("old_sequential", "whole_sequential", "old_list"):
    keep(name, net, (1, 8, 8))
old(net, "old_sequential.pth")
torch.save({"epoch": 1, "model": net}, "whole_sequential.pth")
other = wong()
old({"state_dict": [net.state_dict(), other.state_dict()], "err": 0.25}, "old_list.pth")

large = nn.Sequential(nn.Conv2d(3, 2, 3, 1, 1), nn.ReLU(), nn.Conv2d(2, 2, 4, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, 1, 1), nn.ReLU(),
                      nn.Conv2d(3, 3, 4, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(),
                      nn.Linear(5, 10))
mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
keep("wong_large", nn.Sequential(collections.OrderedDict(net=large)), (3, 8, 8))
with torch.no_grad():
    x = torch.tensor(expected["wong_large.input"]).double()
    expected["wong_large.output"] = large.double()((x - mean.double()) / 0.225).float().numpy()
    large.float()
old(large.state_dict(), "wong_large.pth")


class Trades(nn.Module):
    """TRADES' SmallCNN for 20x20 images."""

    def __init__(self):
        super().__init__()
        act = nn.ReLU(True)
        self.feature_extractor = nn.Sequential(collections.OrderedDict([
            ("conv1", nn.Conv2d(1, 2, 3)), ("relu1", act), ("conv2", nn.Conv2d(2, 3, 3)), ("relu2", act),
            ("maxpool1", nn.MaxPool2d(2, 2)), ("conv3", nn.Conv2d(3, 4, 3)), ("relu3", act), ("conv4", nn.Conv2d(4, 3, 3)),
            ("relu4", act), ("maxpool2", nn.MaxPool2d(2, 2))]))
        self.classifier = nn.Sequential(collections.OrderedDict([
            ("fc1", nn.Linear(12, 6)), ("relu1", act), ("drop", nn.Dropout(0.5)), ("fc2", nn.Linear(6, 5)), ("relu2", act),
            ("fc3", nn.Linear(5, 10))]))

    def forward(self, x):
        return self.classifier(self.feature_extractor(x).flatten(1))


trades = Trades()
keep("trades", trades, (1, 20, 20))
old(trades.state_dict(), "trades.pth")


class Mnist(nn.Module):
    """mnist-cnn for 8x8 images."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 5, padding=2), nn.Conv2d(3, 4, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(16, 6), nn.Linear(6, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


whole = Mnist()
keep("whole_class", whole, (1, 8, 8))
torch.save(whole, "whole_class.pth")


def train(net):
    """Spectral norm's vectors as after some steps."""
    net.train()
    for _ in range(3):
        net(torch.rand(2, 1, 8, 8))
    return net


parts = Mnist()
weight_norm(parts.conv1), spectral_norm(parts.conv2)
weight_norm(parts.fc1, dim=None)
prune.l1_unstructured(parts.fc2, "weight", amount=0.3), prune.random_unstructured(parts.fc2, "bias", amount=0.2)
with torch.no_grad():
    parts.conv1.weight_g.mul_(1.5), parts.fc1.weight_g.mul_(0.7)
keep("parts", train(parts), (1, 8, 8))
torch.save(parts.state_dict(), "parts.pth")
parametrised = Mnist()
parametrizations.weight_norm(parametrised.conv1), parametrizations.spectral_norm(parametrised.conv2)
parametrizations.weight_norm(parametrised.fc1, dim=1)
parametrizations.weight_norm(parametrised.fc2), prune.random_unstructured(parametrised.fc2.parametrizations.weight, "original1", amount=0.3)
with torch.no_grad():
    parametrised.conv1.parametrizations.weight.original0.mul_(1.5), parametrised.fc1.parametrizations.weight.original0.mul_(0.7)
keep("parametrised", train(parametrised), (1, 8, 8))
torch.save(parametrised.state_dict(), "parametrised.pth")

own = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.MaxPool2d(3, 2, 1),
                    nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(),
                    nn.Linear(24, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))
for m in own.modules():
    if isinstance(m, nn.BatchNorm2d):
        m.weight.data.uniform_(0.8, 1.2), m.bias.data.normal_(0, 0.1)
        m.running_mean.normal_(0, 0.1), m.running_var.uniform_(0.8, 1.5)
keep("own_layers", own, (3, 16, 16))
torch.save({"state_dict": own.state_dict()}, "own_layers.pth")
np.savez_compressed("expected_legacy.npz", **expected)
