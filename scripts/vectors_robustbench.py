"""Entries of `scripts/vectors.py` for the networks of RobustBench's own classes: small ones, in their names. They need RobustBench's
package (`robustbench/` of github.com/RobustBench/robustbench) on PYTHONPATH; only its files of architectures are run. Kang 2021 needs
geotorch and torchdiffeq besides.
"""
import importlib
import pathlib
import sys
import types

import torch

RAW = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
CIFAR10 = dict(mean=[0.4914, 0.4822, 0.4465], std=[0.2471, 0.2435, 0.2616])


def home(name):
    """One file of architectures, without the package around it, which wants a downloader and more."""
    for parent in ["robustbench", "robustbench.model_zoo", "robustbench.model_zoo.architectures"]:
        if parent not in sys.modules:
            place = next(p for p in map(pathlib.Path, sys.path) if (p / "robustbench/model_zoo/architectures").is_dir())
            module = types.ModuleType(parent)
            module.__path__ = [str(place / parent.replace(".", "/"))]
            sys.modules[parent] = module
    return importlib.import_module(f"robustbench.model_zoo.architectures.{name}")


def unnormalised(model):
    """The script normalises by itself."""
    model.mean, model.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    return model


def normalised_outside(model):
    for part in ["normalize", "normalization"]:
        if hasattr(model, part):
            setattr(model, part, torch.nn.Identity())
    return model


def ra_wrn(file, **settings):
    small = dict(mean=(0, 0, 0), std=(1, 1, 1), stem_width=8, depth=(2, 1, 1), stage_width=(12, 16, 20), groups=(1, 1, 1),
                 activation_fn=torch.nn.SiLU, se_ratio=0.25, se_activation=torch.nn.ReLU, se_order=2)
    return unnormalised(home(file).NormalizedWideResNet(**{**small, **settings}))


def ra_wrn_imagenet():
    """ra_wrn101_2, narrow."""
    file, nn = home("robustarch_wide_resnet"), torch.nn
    return normalised_outside(file.NormalizedConfigurableModel(
        mean=[0.0] * 3, std=[1.0] * 3, stage_widths=[32, 48, 64, 96], kernel=3, strides=[2] * 4, dilation=1,
        norm_layer=[nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d], activation_layer=[nn.SiLU] * 3, group_widths=[4, 6, 8, 12],
        bottleneck_multipliers=[0.25] * 4, downsample_norm=nn.BatchNorm2d, depths=[2, 1, 2, 1], dense_ratio=None,
        stem_type=file.Stem, stem_width=8, stem_kernel=7, stem_downsample_factor=2, stem_patch_size=None,
        block_constructor=file.BottleneckBlock, ConvBlock=file.Conv2dNormActivation, se_ratio=0.25, se_activation=nn.ReLU,
        num_classes=10))


def sparse_wrn(file, name):
    """DeepMind's wide network with MeanSparse; the class has the width as a multiple of 16."""
    return unnormalised(getattr(home(file), name)(num_classes=10, depth=10, width=1, activation_fn=torch.nn.SiLU))


def sparse_swin():
    return home("Meansparse_swin_L").SwinTransformer(
        img_size=64, patch_size=4, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(1, 2), mlp_ratio=2.0, num_classes=10)


def sparse_convnext(timm_convnext):
    """The published widths are in the function's text, so narrow layers are put in their place."""
    file, widths = home("sparsified_model"), dict(zip((192, 384, 768, 1536), (16, 24, 32, 40)))
    model = timm_convnext()
    file.add_custom_layer_imagenet(model, lambda c: file.MeanSparse_imagenet(widths.get(c, c)))
    return model


def wide(file="wide_resnet", name="WideResNet", **settings):
    return getattr(home(file), name)(**{**dict(depth=10, widen_factor=1), **settings})


def cosine_wide():
    """The class fixes its own mean and deviation; here the script's are used."""
    model = wide("boosting_wide_resnet", "BoostingWideResNet")
    del model.mu, model.sigma
    model.mu, model.sigma = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    return model


class Standardised(torch.nn.Module):
    """Ding et al. 2020's network as RobustBench's `Ding2020MMANet` has it: each image by its own mean and deviation. That class is in
    a file that imports everything else."""

    def __init__(self):
        super().__init__()
        self.inner = wide()

    def state_dict(self, *args, **settings):
        return self.inner.state_dict(*args, **settings)

    def load_state_dict(self, state, **settings):
        return self.inner.load_state_dict(state, **settings)

    def forward(self, x):
        n = x[0].numel()
        std = x.std(dim=(1, 2, 3), keepdim=True)
        floor = torch.full_like(std, n**-0.5)
        return self.inner((x - x.mean(dim=(1, 2, 3), keepdim=True)) / torch.maximum(std, floor))


def learned_wide():
    file = home("paf_wide_resnet")
    return file.PAF_WideResNet(file.PSSiLU(), depth=10, widen_factor=1)


def exploring_wide():
    return home("robust_wide_resnet").RobustWideResNet(channel_configs=[8, 12, 16, 12], depth_configs=[1, 2, 1])


def revisiting_wide():
    """Without its own normalisation: the published file lacks the buffers, and the script normalises."""
    return home("robust_resnet").PreActResNet(
        channel_configs=(8, 12, 16, 12), depth_configs=(2, 1, 1), activations=("SiLU",) * 3, pre_process=False)


def card():
    """Four stages of the class's block, narrow."""
    file = home("CARD_resnet")
    model = file.WidePreActResNet(num_blocks=[1, 1, 1, 1], widen_factor=0)
    model.in_planes = 8
    model.conv1 = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    for i, (planes, blocks) in enumerate([(8, 1), (12, 2), (16, 1), (20, 1)]):
        setattr(model, f"layer{i + 1}", model._make_layer(file.PreActBasicBlock, planes, blocks, 1 if i == 0 else 2))
    model.bn1 = torch.nn.BatchNorm2d(20, affine=False)
    model.fc = torch.nn.Conv2d(20, 10, 1, bias=False)
    return model


def pre_bottlenecks():
    """One branch of Chen 2020 (Adversarial), narrow."""
    file = home("resnet")
    block = file.BottleneckChen2020AdversarialNet
    model = file.ResNet(block, [1, 1, 1, 1])
    model.in_planes = 8
    model.conv1, model.bn1 = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False), torch.nn.BatchNorm2d(8)
    for i, (planes, blocks) in enumerate([(4, 2), (6, 1), (8, 2), (10, 1)]):
        setattr(model, f"layer{i + 1}", model._make_layer(block, planes, blocks, 1 if i == 0 else 2))
    model.linear = torch.nn.Linear(40, 10)
    return model


def resnest():
    """ResNest152, narrow."""
    file, norm = home("resnest"), torch.nn.BatchNorm2d
    model = file.ResNest(file.Bottleneck, [1, 1, 1, 1], radix=4, groups=1, deep_stem=True, stem_width=4, avg_down=True, avd=True,
                         swish=True)
    for i, (planes, blocks) in enumerate([(8, 1), (8, 2), (12, 1), (12, 1)]):
        if i == 0:
            model.inplanes = 8
        setattr(model, f"layer{i + 1}", model._make_layer(
            file.Bottleneck, planes, blocks, 1 if i == 0 else 2, norm_layer=norm, is_first=i > 0))
    model.fc = torch.nn.Linear(48, 10)
    return model


def bit():
    """Bai et al. 2023's and 2024's standard network, narrow; its file has no mean and deviation, which are 0.5."""
    file = home("bit_rn_v2")
    model = unnormalised_parameters(file.ResNetV2([1, 1, 1, 1], 1, head_size=10))
    model.root.conv = file.StdConv2d(3, 32, kernel_size=7, stride=2, padding=3, bias=False)
    width = 32
    for i, (out, middle, units) in enumerate([(64, 32, 2), (64, 32, 1), (96, 32, 2), (96, 32, 1)]):
        made = torch.nn.Sequential()
        for unit in range(units):
            stride = 2 if i > 0 and unit == 0 else 1
            made.add_module(f"unit{unit + 1:02d}", file.PreActBottleneck(width, out, middle, stride))
            width = out
        model.body[i] = made
    model.head.gn, model.head.conv = torch.nn.GroupNorm(32, width), torch.nn.Conv2d(width, 10, 1)
    return model


def unnormalised_parameters(model):
    del model.mean, model.std
    return unnormalised(model)


def vit_conv_stem():
    import vectors_transformers
    model = vectors_transformers.vit(img_size=64, patch_size=16)
    model.patch_embed.proj = home("convstem_models").ConvBlock(8, end_siz=16)
    return model


def mimir():
    from functools import partial
    return home("MIMIR_swin_transformer").SwinTransformer(
        img_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[1, 2], window_size=4, mlp_ratio=2, num_classes=10,
        drop_path_rate=0.0, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))


def sodef():
    """Kang 2021, narrow; its classes fix 1024 and 64. The equation is solved by the class's package as exactly as it can in double
    precision, each image by itself, and differentiated through the solver: the class's own tolerance of 1e-3 leaves steps to the batch,
    and its gradient solves another equation."""
    from torchdiffeq import odeint
    file = home("sodef_layers")
    file.odeint = lambda field, z, times, **_: odeint(field, z, times, rtol=1e-10, atol=1e-10)
    network = unnormalised(file.DMWideResNet(num_classes=10, depth=10, width=1, activation_fn=torch.nn.SiLU))
    network.logits = file.Identity()
    features, flow, head = file.MLP_OUT_ORTH1024(), file.ODEBlock(file.ODEfunc_mlp(0)), file.MLP_OUT_LINEAR()
    features.fc0 = file.ORTHFC(64, 24, False)
    flow.odefunc.fc1 = file.ConcatFC(24, 24)
    head.fc0 = torch.nn.Linear(24, 10)
    return torch.nn.Sequential(network, features, torch.nn.Sequential(flow, head))


def entries(Entry, timm_convnext):
    def small(make, options=None, normalise=CIFAR10, side=32, **settings):
        return Entry(make, side, options, normalise, **settings)

    jumps = dict(step=1e-8)
    return {
        "peng2023/ra_wrn70_16": small(lambda: ra_wrn("robustarch_wide_resnet")),
        "peng2023/ra_wrn101_2": Entry(ra_wrn_imagenet, 45),
        "amini2024/wrn_94_16": small(lambda: sparse_wrn("Meansparse_wrn_94_16", "MeanSparse_DMWideResNet"), **jumps),
        "amini2024/wrn_70_16": small(lambda: sparse_wrn("Meansparse_wrn_70_16", "DMWideResNet"), **jumps),
        "amini2024/ra_wrn_70_16": small(lambda: ra_wrn("Meansparse_ra_wrn_70_16"), **jumps),
        "amini2024/swin-l": Entry(sparse_swin, 64, **jumps),
        "amini2024/convnext-l": Entry(lambda: sparse_convnext(timm_convnext), 46, **jumps),
        "huang2021/exploring": small(exploring_wide),
        "huang2022/wrn-a4": small(revisiting_wide),
        "dai2021/pssilu": small(learned_wide, normalise=RAW),
        "pang2020/boosting": small(cosine_wide, dict(variant="cosine")),
        "ding2020/mma": small(Standardised, dict(variant="standardised"), RAW),
        "diffenderfer2021/binary": small(card),
        "chen2020/adversarial": small(pre_bottlenecks, normalise=IMAGENET),
        "sehwag2021/resnest": small(resnest, dict(variant="cifar"), RAW),
        "bai2023/bit": small(bit, normalise=HALF),
        "singh2023/vit_cvst": Entry(vit_conv_stem, 64),
        "kang2021/sodef": small(sodef),
        "xu2024/mimir-swin": Entry(mimir, 64, dict(variant="eps1e-6"), RAW),
    }
