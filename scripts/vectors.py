"""Writes models/tests/vectors: outputs and input gradients of named architectures, by the packages that define them.

    python scripts/vectors.py --list
    python scripts/vectors.py timm/resnet_d torchvision/mobilenet_v3_small
    python scripts/vectors.py --all

Needs numpy, torch, torchvision, timm and, for `openclip/resnet`, open_clip_torch in an environment of its own, and RobustBench's
files for its networks. Each architecture has two files: NAME.json.gz (input,
labels, loss, options, and the shapes of all tensors) and NAME.npz (`output`, and `grad`, the gradient of the summed
cross-entropy towards the pixels). Both are computed in float64 and stored as float32. No weights are stored: every tensor
follows from its name. Of some there are ONNX files too, by both of torch's exporters. Networks are those of the packages
at small widths and depths, so that files and tests stay small.
"""
import argparse
import gzip
import io
import json
import math
import pathlib

import numpy as np
import torch

import vectors_robustbench
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
    elif name.endswith("threshold"):
        u = 0.2 + np.abs(u) / 10
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
    def __init__(self, make, side=64, options=None, normalise=IMAGENET, rows=1, onnx=False, authors=None,
                 step=1e-6):
        self.make, self.side, self.options, self.normalise, self.rows = make, side, options or {}, normalise, rows
        self.onnx = onnx
        # Of the check of slopes; small where the function jumps.
        self.step = step
        # For files of other names than the package's: how a name and shape become theirs, and the package's own reading of them.
        self.authors = authors


def timm_model(name, **settings):
    import timm
    return timm.create_model(name, **{"num_classes": 10, **settings})


def timm_part(module, part, *args, **settings):
    """A class or an inner builder of timm's, which takes any width and depth."""
    import importlib
    return getattr(importlib.import_module(f"timm.models.{module}"), part)(*args, **{"num_classes": 10, **settings})


def timm_resnet(block="Bottleneck", layers=(1, 2, 1, 1), **settings):
    from timm.models import resnet
    return timm_part("resnet", "ResNet", getattr(resnet, block), layers, channels=(8, 16, 24, 32), **settings)


def timm_resnest():
    """Four parts in two groups, as of its networks `4s2x40d` has."""
    from timm.models.resnest import ResNestBottleneck
    return timm_part("resnet", "ResNet", ResNestBottleneck, (1, 2, 1, 1), channels=(8, 16, 24, 32), stem_type="deep", stem_width=8,
                     avg_down=True, cardinality=2, base_width=32, block_args=dict(radix=4, avd=True, avd_first=False))


def tv_model(name, **settings):
    import torchvision
    return torchvision.models.get_model(name, **{"num_classes": 10, **settings})


def tv_alexnet():
    """The class's layers, narrow."""
    from torchvision.models import AlexNet
    model, widths = AlexNet(num_classes=10, dropout=0.0), iter([8, 12, 16, 12, 8])
    before = 3
    for i, layer in enumerate(model.features):
        if isinstance(layer, torch.nn.Conv2d):
            width = next(widths)
            model.features[i] = torch.nn.Conv2d(before, width, layer.kernel_size, layer.stride, layer.padding)
            before = width
    model.classifier[1], model.classifier[4] = torch.nn.Linear(before * 36, 24), torch.nn.Linear(24, 16)
    model.classifier[6] = torch.nn.Linear(16, 10)
    return model


def tv_densenet():
    from torchvision.models.densenet import DenseNet
    return DenseNet(growth_rate=8, block_config=(2, 2, 1, 1), num_init_features=8, bn_size=2, num_classes=10)


def tv_convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    widths, depths = (8, 12, 16, 20, None), (1, 1, 2, 1)
    return ConvNeXt([CNBlockConfig(*w) for w in zip(widths, widths[1:], depths)], num_classes=10)


def tv_regnet(**settings):
    from torchvision.models.regnet import BlockParams, RegNet
    params = BlockParams.from_init_params(depth=7, w_0=24, w_a=16, w_m=2, group_width=8, **settings)
    return RegNet(params, num_classes=10)


def tv_efficientnet(name, **scale):
    """One of its networks with its depths and epsilon, but narrow."""
    from functools import partial
    from torch import nn
    from torchvision.models import efficientnet
    conf, last = efficientnet._efficientnet_conf(name, **scale)
    if not scale:
        for stage in conf:
            stage.input_channels, stage.out_channels = stage.input_channels // 8 * 2, stage.out_channels // 8 * 2
    norm = partial(nn.BatchNorm2d, eps=1e-3)
    return efficientnet.EfficientNet(conf, 0.0, norm_layer=norm, last_channel=last and 96, num_classes=10)


def tv_mobilenet_v3(name):
    from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
    conf, last = _mobilenet_v3_conf(name, width_mult=0.5)
    return MobileNetV3(conf, last_channel=last // 8, num_classes=10)


def timm_efficientnet(builder, **settings):
    return timm_part("efficientnet", builder, "", channel_multiplier=0.25, **settings)


class ConvStem(torch.nn.Module):
    """Singh et al. 2023: convolutions of 3x3, each with layer norm over channels and GELU."""

    def __init__(self, widths, strides):
        super().__init__()
        from timm.layers import LayerNorm2d
        layers, before = [], 3
        for width, stride in zip(widths, strides):
            layers += [torch.nn.Conv2d(before, width, 3, stride, 1), LayerNorm2d(width, eps=1e-6), torch.nn.GELU()]
            before = width
        self.stem = torch.nn.Sequential(*layers)

    def forward(self, x):
        return self.stem(x)


def timm_bit():
    """As its `resnetv2_*_bit` have them, narrow."""
    from functools import partial
    from timm.layers import StdConv2d
    return timm_part("resnetv2", "ResNetV2", [2, 1, 1, 1], channels=(128, 128, 128, 256), stem_chs=32, stem_type="fixed",
                     conv_layer=partial(StdConv2d, eps=1e-8))


def timm_convnext(stem=None, **settings):
    settings = dict(depths=(1, 1, 2, 1), dims=(16, 24, 32, 40)) | settings
    model = timm_part("convnext", "ConvNeXt", **settings)
    if stem:
        model.stem = ConvStem(*stem)
    return model


def vissl_name(name, shape):
    """What vissl calls a tensor of timm's RegNet."""
    parts = dict(conv1="f.a", conv2="f.b", conv="0", bn="1")
    if name.startswith("stem"):
        _, part, kind = name.split(".")
        return f"_feature_blocks.conv1.stem.{parts[part]}.{kind}", shape
    stage, block, *rest, kind = name.split(".")
    stage, block = int(stage[1:]), int(block[1:]) - 1
    match rest:
        case "downsample", part:
            part = "proj" if part == "conv" else "bn"
        case "conv3", part:
            part = "f.c" if part == "conv" else "f.final_bn"
        case "se", part:
            part = "f.se.excitation." + ("0" if part == "fc1" else "2")
        case conv, part:
            part = f"{parts[conv]}.{parts[part]}"
    return f"_feature_blocks.res{stage + 1}.block{stage}-{block}.{part}.{kind}", shape


def vissl_read(state, model):
    from timm.models.regnet import _filter_fn
    return _filter_fn(dict(classy_state_dict=dict(base_model=dict(model=dict(trunk=state, heads={})))))


def facebook_name(name, shape):
    """What the authors of ConvNeXt call a tensor of timm's."""
    for old, new in [("head.fc", "head"), ("head.norm", "norm"), (".blocks.", "."), ("conv_dw", "dwconv"),
                     ("mlp.grn.weight", "grn.gamma"), ("mlp.grn.bias", "grn.beta"), ("mlp.fc", "pwconv")]:
        name = name.replace(old, new)
    if name.startswith("stem."):
        name = name.replace("stem.", "downsample_layers.0.")
    if ".downsample." in name:
        _, stage, _, rest = name.split(".", 3)
        name = f"downsample_layers.{stage}.{rest}"
    return name, [1, 1, 1, *shape] if ".grn." in name else shape


def facebook_read(state, model):
    from timm.models.convnext import checkpoint_filter_fn
    return checkpoint_filter_fn(state, model)


TF = dict(bn_eps=1e-3, pad_type="same")
TF_SAYS, PLAIN_SAYS = dict(variant="tf"), dict(variant="plain")

# Sizes that are no multiple of 32 tell paddings apart.
ENTRIES = {
    # Maps of 2x2, which the adaptive pool makes 6x6.
    "torchvision/alexnet": Entry(tv_alexnet, 96),
    "torchvision/densenet": Entry(tv_densenet, 46, onnx=True),
    "timm/densenet": Entry(lambda: timm_part("densenet", "DenseNet", growth_rate=8, block_config=(2, 2, 1, 2)), 33),
    "torchvision/efficientnet_b5": Entry(
        lambda: tv_efficientnet("efficientnet_b5", width_mult=0.25, depth_mult=2.2), 45),
    "torchvision/efficientnet_v2_s": Entry(lambda: tv_efficientnet("efficientnet_v2_s"), 45),
    "timm/efficientnet_b0": Entry(lambda: timm_efficientnet("_gen_efficientnet"), 45, PLAIN_SAYS),
    "timm/tf_efficientnet_b0": Entry(lambda: timm_efficientnet("_gen_efficientnet", **TF), 45, TF_SAYS),
    "timm/tf_efficientnetv2_b0": Entry(lambda: timm_efficientnet("_gen_efficientnetv2_base", **TF), 46, TF_SAYS),
    "timm/efficientnetv2_rw_s": Entry(
        lambda: timm_efficientnet("_gen_efficientnetv2_s", rw=True, depth_multiplier=0.4), 44),
    "torchvision/mobilenet_v3_small": Entry(lambda: tv_mobilenet_v3("mobilenet_v3_small"), 45),
    "torchvision/mobilenet_v3_large": Entry(lambda: tv_mobilenet_v3("mobilenet_v3_large"), 45),
    "timm/mobilenetv3_small_050": Entry(lambda: timm_model("mobilenetv3_small_050"), 45, PLAIN_SAYS),
    "timm/tf_mobilenetv3_large": Entry(
        lambda: timm_part("mobilenetv3", "_gen_mobilenet_v3", "large", 0.35, **TF), 45, TF_SAYS),
    "timm/tf_mobilenetv3_small_minimal": Entry(
        lambda: timm_part("mobilenetv3", "_gen_mobilenet_v3", "small_minimal", 0.5, **TF), 45, TF_SAYS),
    "torchvision/regnet_x": Entry(tv_regnet, 45),
    "torchvision/regnet_y": Entry(lambda: tv_regnet(se_ratio=0.25), 45),
    "timm/regnetx_002": Entry(lambda: timm_model("regnetx_002"), 45),
    "timm/regnety_002": Entry(lambda: timm_model("regnety_002"), 45),
    "torchvision/convnext": Entry(tv_convnext, 46, onnx=True),
    "vissl/seer_regnet_y": Entry(lambda: timm_model("regnety_002", num_classes=0), 45, authors=(vissl_name, vissl_read)),
    "timm/convnext": Entry(timm_convnext, 46),
    "facebook/convnext": Entry(timm_convnext, 46, authors=(facebook_name, facebook_read)),
    "facebook/convnextv2": Entry(lambda: timm_convnext(use_grn=True, ls_init_value=None), 46,
                                 authors=(facebook_name, facebook_read)),
    # Known by its first width.
    "timm/convnext_xxlarge": Entry(
        lambda: timm_convnext(depths=(1, 1, 1, 1), dims=(384, 8, 16, 16), norm_eps=1e-5), 32),
    "timm/convnextv2": Entry(lambda: timm_convnext(use_grn=True, ls_init_value=None), 46),
    "singh2023/convnext_t_cvst": Entry(lambda: timm_convnext(((12, 16), (2, 2))), 46),
    "singh2023/convnext_b_cvst": Entry(lambda: timm_convnext(((8, 12, 16), (2, 2, 1))), 46),
    "timm/resnet_c": Entry(lambda: timm_resnet(stem_type="deep", stem_width=8), 45),
    "timm/resnet_d": Entry(lambda: timm_resnet(stem_type="deep", stem_width=8, avg_down=True), 45),
    "timm/resnet_d_basic": Entry(lambda: timm_resnet("BasicBlock", stem_type="deep", stem_width=8, avg_down=True), 45),
    "timm/seresnet": Entry(lambda: timm_resnet(block_args=dict(attn_layer="se")), 45),
    "timm/resnext": Entry(lambda: timm_resnet(cardinality=4, base_width=16), 45),
    "timm/resnest": Entry(lambda: timm_resnest(), 45, dict(variant="imagenet")),
    "timm/resnetv2_bit": Entry(timm_bit, 45, dict(variant="plain"), dict(mean=[0.5] * 3, std=[0.5] * 3)),
    "timm/wide_resnet": Entry(lambda: timm_resnet(base_width=128), 45),
}
ENTRIES |= vectors_transformers.entries(Entry)
ENTRIES |= vectors_robustbench.entries(Entry, timm_convnext)


def named_weights(model, authors):
    """Fills the model; returns the shapes of the file. Counters, indices and masks are left out: they follow from the sizes."""
    follows = lambda name, t: not t.is_floating_point() or name.endswith("attn_mask")
    own = {name: list(t.shape) for name, t in model.state_dict().items() if not follows(name, t)}
    rename, read = authors or (lambda name, shape: (name, shape), lambda state, _: state)
    shapes = dict(rename(name, shape) for name, shape in own.items())
    state = read({name: tensor(name, shape) for name, shape in shapes.items()}, model)
    assert set(state) == set(own)
    model.load_state_dict(state, strict=False)
    return shapes


def export(model, entry, path):
    """The same network by both exporters, without the normalisation."""
    x = torch.rand(2, 3, entry.side, entry.side)
    batch = torch.export.Dim("batch", min=1)
    kinds = dict(torchscript=dict(dynamo=False, dynamic_axes={"x": {0: "batch"}}),
                 dynamo=dict(dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False))
    for kind, settings in kinds.items():
        plain = io.BytesIO()
        torch.onnx.export(model, (x,), plain, input_names=["x"], output_names=["scores"], **settings)
        packed = gzip.compress(plain.getvalue(), mtime=0)
        path.with_name(f"{path.name}.{kind}.onnx.gz").write_bytes(packed)
        print(f"{path.name}.{kind}.onnx.gz: {len(packed)} bytes")


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
    shapes = named_weights(model, entry.authors)
    if entry.onnx:
        export(model, entry, out / name.replace("/", "__"))
    model = model.double()
    # `input/NAME` again where a ReLU of this one is within rounding of zero: another name is another image.
    pixels, labels = f"input/{name}", list(range(entry.rows))
    x = image(pixels, (entry.rows, 3, entry.side, entry.side)).double().requires_grad_()
    mean, std = (torch.tensor(entry.normalise[k]).double().view(1, 3, 1, 1) for k in ("mean", "std"))
    output = model((x - mean) / std)
    loss = torch.nn.functional.cross_entropy(output, torch.tensor(labels), reduction="sum")
    loss.backward()
    check_slope(lambda x: torch.nn.functional.cross_entropy(
        model((x - mean) / std), torch.tensor(labels), reduction="sum").item(), x, entry.step)
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
