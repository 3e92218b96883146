"""Entries of `scripts/vectors.py` for transformers: small ones of timm's and torchvision's classes, in their names and in those
of other homes, which timm reads through its own filters.
"""
import torch

CLIP = dict(mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711])


class Renamed(torch.nn.Module):
    """A model whose state dict has another home's names; `read` turns them back, and so what the network computes is the
    filter's reading of them."""

    def __init__(self, model, shapes, read):
        super().__init__()
        self.model, self.read = model, read
        self.shapes = shapes
        self.held = {name: torch.zeros(shape) for name, shape in shapes.items()}

    def state_dict(self, *_, **__):
        return self.held

    def load_state_dict(self, state, **_):
        self.held.update(state)

    def forward(self, x):
        weights = self.read({k: v.clone() for k, v in self.held.items()}, self.model)
        missing, extra = self.model.load_state_dict({k: v.double() for k, v in weights.items()}, strict=False)
        assert not extra and all("relative_" in m for m in missing), (missing, extra)
        return self.model(x)


def vit(name="vit_tiny_patch16_224", **settings):
    import timm
    small = dict(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2, mlp_ratio=2, num_classes=10)
    return timm.create_model(name, **{**small, **settings})


def shapes(model, rename=lambda n: n, drop=()):
    found = {rename(n): list(t.shape) for n, t in model.state_dict().items() if t.is_floating_point()}
    return {n: s for n, s in found.items() if n not in drop}


def dinov2():
    """The giant's gated layers and registers, in the names of its authors."""
    from timm.models.vision_transformer import checkpoint_filter_fn
    model = vit("vit_giant_patch14_reg4_dinov2", num_classes=0, mlp_ratio=4)
    names = shapes(model, lambda n: n.replace("reg_token", "register_tokens").replace("fc1", "w12").replace("fc2", "w3"))
    names["pos_embed"] = [1, 1 + names["pos_embed"][1], names["pos_embed"][2]]
    names["mask_token"] = [1, 128]
    return Renamed(model, names, checkpoint_filter_fn)


def clip(quick):
    from timm.models.vision_transformer import checkpoint_filter_fn
    model = vit(f"vit_base_patch32_clip{'_quickgelu' if quick else ''}_224", num_classes=24)
    parts = [("patch_embed.proj", "conv1"), ("cls_token", "class_embedding"), ("pos_embed", "positional_embedding"),
             ("norm_pre", "ln_pre"), ("blocks.", "transformer.resblocks."), (".norm", ".ln_"), ("qkv.", "in_proj_"),
             ("attn.proj", "attn.out_proj"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("head.weight", "proj")]

    def rename(name):
        name = "ln_post" + name[4:] if name.startswith("norm.") else name
        for ours, theirs in parts:
            name = name.replace(ours, theirs)
        return f"visual.{name}"

    names = shapes(model, rename, drop=["visual.head.bias"])
    names["visual.class_embedding"] = names["visual.class_embedding"][2:]
    names["visual.positional_embedding"] = names["visual.positional_embedding"][1:]
    names["visual.proj"] = names["visual.proj"][::-1]
    return Renamed(model, names, checkpoint_filter_fn)


class Tower(torch.nn.Module):
    """OpenCLIP's convolutional image tower where it is in a whole model."""

    def __init__(self, layers, width, side):
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet
        self.visual = ModifiedResNet(layers, output_dim=24, heads=width * 32 // 64, image_size=side, width=width)

    def forward(self, x):
        return self.visual(x)


def beit(**settings):
    from timm.models.beit import Beit
    return Beit(**{**dict(img_size=32, patch_size=8, embed_dim=96, depth=2, num_heads=3, mlp_ratio=2, num_classes=10,
                          qkv_bias=True, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1), **settings})


def xcit(patch=None, **settings):
    """With `patch`, as RobustBench makes networks for small images: the first convolutions have stride 1."""
    from timm.models.xcit import Xcit
    model = Xcit(**{**dict(img_size=32, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=10, mlp_ratio=2,
                           tokens_norm=True, qkv_bias=True, eta=1.0), **settings})
    if patch:
        for i in range(0, model.patch_embed.patch_size // patch, 2):
            model.patch_embed.proj[i][0].stride = (1, 1)
    # PyTorch 2.15's batch norm in eval mode has a wrong input gradient where that of its output is a transposed view.
    model.patch_embed.proj[-1][1].register_forward_hook(lambda _, __, out: in_order(out))
    return model


def in_order(out):
    if out.requires_grad:
        out.register_hook(lambda grad: grad.contiguous())
    return out


def xcit_authors():
    from timm.models.xcit import checkpoint_filter_fn
    model = xcit(patch_size=8, qkv_bias=True)
    names = shapes(model, lambda n: n.replace("pos_embed.", "pos_embeder."))
    for name in [n for n in names if "cls_attn_blocks" in n and ".attn." in n and "proj" not in n]:
        shape = names.pop(name)
        block, part = name.rsplit(".attn.", 1)
        names[f"{block}.attn.qkv.{part.split('.')[1]}"] = [3 * shape[0], *shape[1:]]
    return Renamed(model, names, checkpoint_filter_fn)


SWIN = dict(embed_dim=32, depths=[2, 2], num_heads=[1, 2], mlp_ratio=2.0, num_classes=10)


def torchvision_swin(v2):
    from torchvision.models import swin_transformer as home
    kind = dict(block=home.SwinTransformerBlockV2, downsample_layer=home.PatchMergingV2) if v2 else {}
    return home.SwinTransformer(patch_size=[4, 4], window_size=[4, 4], **SWIN, **kind)


def swin(v2, **settings):
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    return (SwinTransformerV2 if v2 else SwinTransformer)(**{**dict(img_size=64, window_size=8), **SWIN, **settings})


def swin_authors(v2):
    import re
    from timm.models import swin_transformer, swin_transformer_v2
    model = swin(v2, window_size=4)
    back = lambda n: re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", n)
    names = shapes(model, lambda n: back(n).replace("head.fc.", "head."))
    return Renamed(model, names, (swin_transformer_v2 if v2 else swin_transformer).checkpoint_filter_fn)


def torchvision_vit():
    from torchvision.models import VisionTransformer
    return VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=128, mlp_dim=192, num_classes=10)


def entries(Entry):
    def small(make, **settings):
        return Entry(make, **{"side": 32, **settings})

    return {
        "timm/vit-average": small(lambda: vit(global_pool="avg")),
        "timm/vit-no-class-token": small(lambda: vit(class_token=False, global_pool="avg", fc_norm=False)),
        "timm/vit-pooled": small(lambda: vit(class_token=False, global_pool="map")),
        # Pixels that fill no patch are left out; and no head.
        "timm/vit-pooled-tanh": small(
            lambda: vit(img_size=36, class_token=False, reg_tokens=2, global_pool="map", act_layer="gelu_tanh", num_classes=0), side=36,
            options=dict(activation="gelu_pytorch_tanh")),
        "timm/vit-clip": small(lambda: vit("vit_base_patch16_clip_224"), normalise=CLIP),
        "timm/vit-registers": small(lambda: vit("vit_small_patch14_reg4_dinov2", num_classes=10)),
        "timm/vit-swiglu": small(lambda: vit("vit_giant_patch14_dinov2", mlp_ratio=4)),
        "timm/vit-resized": small(lambda: vit(dynamic_img_size=True), side=48),
        "timm/deit-distilled": small(lambda: vit("deit_tiny_distilled_patch16_224")),
        "dinov2/giant-registers": small(dinov2),
        "torchvision/vit": small(torchvision_vit),
        "openclip/vit": small(lambda: clip(False), normalise=CLIP),
        "openai/clip-vit": small(lambda: clip(True), normalise=CLIP, options=dict(activation="quick_gelu")),
        "openclip/resnet": small(lambda: Tower((1, 2, 1, 1), 4, 64), normalise=CLIP, side=64),
        "timm/beit": small(beit),
        "timm/beit-shared": small(
            lambda: beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_abs_pos_emb=True, global_pool="token")),
        "timm/xcit": small(xcit, side=64, options=dict(variant="patch16")),
        "timm/xcit-nano": small(lambda: xcit(embed_dim=128, num_heads=4, tokens_norm=False), options=dict(variant="patch16")),
        "xcit/patch8": small(xcit_authors, options=dict(variant="patch8")),
        "robustbench/xcit": small(lambda: xcit(patch=4)),
        "torchvision/swin": small(lambda: torchvision_swin(False), side=40),
        "torchvision/swin_v2": small(lambda: torchvision_swin(True), side=40),
        "timm/swin": small(lambda: swin(False, depths=[2, 2, 2], num_heads=[1, 2, 4]), side=64),
        "timm/swin_v2": small(lambda: swin(True, window_size=4), side=64, options=dict(variant="window4")),
        "timm/swin_v2-larger": small(
            lambda: swin(True, pretrained_window_sizes=(4, 4, 4, 2), depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 2], embed_dim=16),
            side=64, options=dict(variant="window8from4")),
        "swin/v1": small(lambda: swin_authors(False), side=64),
        "swin/v2": small(lambda: swin_authors(True), side=64, options=dict(variant="window4")),
    }
