"""Small checkpoints as PyTorch writes them, and what the networks in them compute. Written by PyTorch 2.15.
Weights are tiny and random: the tests compare numbers, not accuracy. Run in this folder: python make_pth.py"""
import argparse
import collections

import numpy as np
import torch
from torch import nn

torch.manual_seed(1)


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


class Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class Cifar(nn.Module):
    """cifar-resnet with two stages."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.layer1, self.layer2 = nn.Sequential(Block(4, 4, 1)), nn.Sequential(Block(4, 6, 2))
        self.linear = nn.Linear(6, 10)

    def forward(self, x):
        x = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
        return self.linear(x.mean((2, 3)))


class PreAct(nn.Module):
    """preact-resnet whose shortcut reads the block's input or its activation; the same tensors either way."""

    def __init__(self, activated):
        super().__init__()
        self.activated = activated
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        block = nn.Module()
        block.bn1, block.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, 2, 1, bias=False)
        block.bn2, block.conv2 = nn.BatchNorm2d(5), nn.Conv2d(5, 5, 3, 1, 1, bias=False)
        block.shortcut = nn.Sequential(nn.Conv2d(4, 5, 1, 2, bias=False))
        same = nn.Module()
        same.bn1, same.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        same.bn2, same.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 1, 1, bias=False)
        self.layer1, self.layer2 = nn.Sequential(same), nn.Sequential(block)
        if activated:
            self.bn = nn.BatchNorm2d(5)
        self.linear = nn.Linear(5, 10)

    def forward(self, x):
        x = self.conv1(x)
        for b in (self.layer1[0], self.layer2[0]):
            y = torch.relu(b.bn1(x))
            skip = x
            if hasattr(b, "shortcut"):
                skip = b.shortcut(y if self.activated else x)
            x = b.conv2(torch.relu(b.bn2(b.conv1(y)))) + skip
        if self.activated:
            x = torch.relu(self.bn(x))
        return self.linear(x.mean((2, 3)))


class DmPreAct(nn.Module):
    """dm-preact-resnet with two stages and SiLU; brings its own mean and std."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.49, 0.48, 0.44]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.24, 0.23, 0.26]).view(3, 1, 1))
        self.conv_2d = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        for name, inputs, width, stride in (("layer_0", 4, 4, 1), ("layer_1", 4, 6, 2)):
            block = nn.Module()
            block.batchnorm_0, block.conv_2d_1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 3, stride, bias=False)
            block.batchnorm_1, block.conv_2d_2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
            if inputs != width:
                block.shortcut = nn.Conv2d(inputs, width, 3, stride, bias=False)
            setattr(self, name, nn.Sequential(block))
        self.batchnorm, self.logits = nn.BatchNorm2d(6), nn.Linear(6, 10)

    def forward(self, x):
        x = self.conv_2d((x - self.mean) / self.std)
        for b in (self.layer_0[0], self.layer_1[0]):
            stride = b.conv_2d_1.stride[0]
            pad = lambda v: nn.functional.pad(v, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
            skip = b.shortcut(pad(x)) if hasattr(b, "shortcut") else x
            y = b.conv_2d_1(pad(nn.functional.silu(b.batchnorm_0(x))))
            x = b.conv_2d_2(nn.functional.silu(b.batchnorm_1(y))) + skip
        return self.logits(nn.functional.silu(self.batchnorm(x)).mean((2, 3)))


class ResNeXt(nn.Module):
    """cifar-resnext with two stages of cardinality 2."""

    def __init__(self):
        super().__init__()
        self.conv_1_3x3, self.bn_1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        for name, inputs, stride in (("stage_1", 4, 1), ("stage_2", 8, 2)):
            b = nn.Module()
            b.conv_reduce, b.bn_reduce = nn.Conv2d(inputs, 6, 1, bias=False), nn.BatchNorm2d(6)
            b.conv_conv, b.bn = nn.Conv2d(6, 6, 3, stride, 1, groups=2, bias=False), nn.BatchNorm2d(6)
            b.conv_expand, b.bn_expand = nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8)
            b.downsample = nn.Sequential(nn.Conv2d(inputs, 8, 1, stride, bias=False), nn.BatchNorm2d(8))
            setattr(self, name, nn.Sequential(b))
        self.classifier = nn.Linear(8, 10)

    def forward(self, x):
        x = torch.relu(self.bn_1(self.conv_1_3x3(x)))
        for b in (self.stage_1[0], self.stage_2[0]):
            y = torch.relu(b.bn_reduce(b.conv_reduce(x)))
            y = b.bn_expand(b.conv_expand(torch.relu(b.bn(b.conv_conv(y)))))
            x = torch.relu(y + b.downsample(x))
        return self.classifier(x.mean((2, 3)))


class Wide(nn.Module):
    """wide-resnet with two groups, no last bias, and the blocks that TRADES' code declares but never calls."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)

        def block(inputs, width, stride):
            b = nn.Module()
            b.bn1, b.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
            b.bn2, b.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
            if inputs != width:
                b.convShortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
            group = nn.Module()
            group.layer = nn.Sequential(b)
            return group

        self.block1, self.sub_block1, self.block2 = block(4, 4, 1), block(4, 4, 1), block(4, 6, 2)
        self.bn1, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 10, bias=False)

    def forward(self, x):
        x = self.conv1(x)
        for b in (self.block1.layer[0], self.block2.layer[0]):
            y = torch.relu(b.bn1(x))
            skip = b.convShortcut(y) if hasattr(b, "convShortcut") else x
            x = skip + b.conv2(torch.relu(b.bn2(b.conv1(y))))
        return self.fc(torch.relu(self.bn1(x)).mean((2, 3)))


class Grouped(nn.Module):
    """torchvision's resnet with two stages of bottlenecks in two groups; ImageNet's normalisation in front."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4)
        for name, inputs, stride in (("layer1", 4, 1), ("layer2", 8, 2)):
            b = nn.Module()
            b.conv1, b.bn1 = nn.Conv2d(inputs, 6, 1, bias=False), nn.BatchNorm2d(6)
            b.conv2, b.bn2 = nn.Conv2d(6, 6, 3, stride, 1, groups=2, bias=False), nn.BatchNorm2d(6)
            b.conv3, b.bn3 = nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8)
            b.downsample = nn.Sequential(nn.Conv2d(inputs, 8, 1, stride, bias=False), nn.BatchNorm2d(8))
            setattr(self, name, nn.Sequential(b))
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = imagenet(x)
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for b in (self.layer1[0], self.layer2[0]):
            y = torch.relu(b.bn2(b.conv2(torch.relu(b.bn1(b.conv1(x))))))
            x = torch.relu(b.bn3(b.conv3(y)) + b.downsample(x))
        return self.fc(x.mean((2, 3)))


class Vgg(nn.Module):
    """torchvision's vgg without batch norm, three convolutions and two pools."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(3, 2, 3, 1, 1),
                                      nn.ReLU(), nn.Conv2d(2, 1, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2))
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(nn.Linear(49, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 4), nn.ReLU(), nn.Dropout(),
                                        nn.Linear(4, 10))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(imagenet(x))).flatten(1))


def imagenet(x):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean.to(x).view(3, 1, 1)) / std.to(x).view(3, 1, 1)


class Opt:
    """A class that exists here only."""

    def __init__(self):
        self.lr = 0.1


def settle(net):
    """Batch norms as after training: no statistic is trivial."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.data.uniform_(0.8, 1.2), m.bias.data.normal_(0, 0.1)
            m.running_mean.normal_(0, 0.1), m.running_var.uniform_(0.8, 1.5)
    return net.eval()


expected = {}


def keep(name, net, shape):
    """Stores what `name`.pth must compute on an input of its own."""
    x = torch.randint(0, 257, (2, *shape)) / 256
    with torch.no_grad():
        expected[f"{name}.input"] = x.numpy()
        expected[f"{name}.output"] = net.double()(x.double()).float().numpy()
    net.float()


def half(state):
    return {k: v.half() if v.is_floating_point() else v for k, v in state.items()}


mnist, cifar = Mnist().eval(), settle(Cifar())
for name in ("mnist_nested", "mnist_protocol4", "mnist_strided", "mnist_shared", "mnist_foreign"):
    keep(name, mnist, (1, 8, 8))
optimizer = torch.optim.SGD(mnist.parameters(), lr=0.1, momentum=0.9)
mnist(torch.rand(2, 1, 8, 8)).sum().backward()
state = {k: v.clone() for k, v in mnist.state_dict().items()}
optimizer.step()
# Nested, with an optimizer's tensors beside the weights, prefixed by DataParallel.
parallel = collections.OrderedDict((f"module.{k}", v) for k, v in state.items())
torch.save({"epoch": 3, "state_dict": parallel, "optimizer": optimizer.state_dict(), "best_acc": torch.tensor(0.5),
            "loss": [1.5, None, True, 2**70]}, "mnist_nested.pth")
torch.save(state, "mnist_protocol4.pth", pickle_protocol=4)
# Transposed views, and every other entry of larger tensors.
strided = {k: v.repeat_interleave(2)[::2] if v.dim() == 1 else v.transpose(0, 1).contiguous().transpose(0, 1)
           for k, v in state.items()}
torch.save({"net": strided, "ema": {k: v * 0 for k, v in state.items()}}, "mnist_strided.pth")
# All weights as pieces of one storage.
flat, shared, at = torch.cat([torch.zeros(7)] + [v.flatten() for v in state.values()]), {}, 7
for k, v in state.items():
    shared[k] = flat[at : at + v.numel()].view(v.shape)
    at += v.numel()
torch.save({"model": shared}, "mnist_shared.pth")
torch.save({"args": Opt(), "namespace": argparse.Namespace(a=1), "numpy": np.float64(0.5), "array": np.zeros(3),
            "model_state_dict": state}, "mnist_foreign.pth")
torch.save(mnist, "whole_object.pth")
torch.save({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, "quantised.pth")
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)

halved = Cifar()
halved.load_state_dict(half(cifar.state_dict()))
keep("cifar_half", halved.eval(), (3, 8, 8))
torch.save({"last": {f"module._orig_mod.{k}": v for k, v in half(halved.state_dict()).items()}}, "cifar_half.pth")
normalised = nn.Sequential(collections.OrderedDict(normalize=nn.Module(), model=cifar))
normalised.normalize.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
normalised.normalize.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))
normalised.normalize.forward = lambda x: (x - normalised.normalize.mean) / normalised.normalize.std
keep("cifar_normalised", normalised, (3, 8, 8))
torch.save(normalised.state_dict(), "cifar_normalised.pth")
for name, net in (("preact_input", PreAct(False)), ("preact_activated", PreAct(True)), ("dm_preact", DmPreAct()),
                  ("resnext", ResNeXt())):
    keep(name, settle(net), (3, 8, 8))
    torch.save({"state_dict": net.state_dict()}, f"{name}.pth")
for name, net, side in (("wide", Wide(), 8), ("grouped", Grouped(), 16), ("vgg", Vgg(), 56)):
    keep(name, settle(net), (3, side, side))
    torch.save(net.state_dict(), f"{name}.pth")
np.savez_compressed("expected_pth.npz", **expected)
