"""Writes models/tests/vectors/huggingface: what transformers computes with folders of small networks whose weights follow from
their names (`scripts/vectors.py`).

    python scripts/vectors_huggingface.py [NAME...]

Needs numpy, torch, safetensors and transformers in an environment of its own. Each folder has NAME.json.gz (config.json, input,
labels, loss, the shapes of all tensors of its file) and NAME.npz (`output`, `grad`). Names and shapes are those that
`save_pretrained` writes, and `from_pretrained` reads the made-up weights back.
"""
import gzip
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from vectors import OUT, check_slope, image, tensor

VIT = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8)
SWIN = dict(image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], mlp_ratio=2.0)


def logits(**more):
    return dict(num_labels=5, **more)


# The model's class, its settings, the pixels' side, and how they differ from what is saved today.
ENTRIES = {
    "swinv2": ("Swinv2ForImageClassification", logits(window_size=4, **SWIN), 64),
    "swinv2-larger": ("Swinv2ForImageClassification",
                      logits(window_size=8, pretrained_window_sizes=[4, 4], **SWIN), 64),
    "dinov2-swiglu": ("Dinov2ForImageClassification",
                      logits(use_swiglu_ffn=True, **{k: v for k, v in VIT.items() if k != "intermediate_size"}), 32),
    "dinov3-gated": ("DINOv3ViTModel", dict(use_gated_mlp=True, hidden_act="silu", num_register_tokens=2, **VIT), 32),
    "deit-distilled": ("DeiTForImageClassificationWithTeacher", logits(**VIT), 32),
}


def write(name):
    kind, settings, side = ENTRIES[name]
    kind = getattr(transformers, kind)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        kind(kind.config_class(**settings)).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        shapes = {n: list(t.shape) for n, t in load_file(folder / "model.safetensors").items() if t.is_floating_point()}
        save_file({n: tensor(n, s) for n, s in shapes.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        model = kind.from_pretrained(folder, dtype=torch.float32).eval().double()
    labels = [0, 1]
    x = image(f"input/{name}", (2, 3, side, side)).double().requires_grad_()
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def score(x):
        made = model((x - mean) / std)
        return made.logits if hasattr(made, "logits") else made.last_hidden_state[:, 0]

    def loss_of(output):
        return torch.nn.functional.cross_entropy(output, torch.tensor(labels), reduction="sum")

    output = score(x)
    loss = loss_of(output)
    loss.backward()
    check_slope(lambda x: loss_of(score(x)).item(), x)
    place = OUT / "huggingface"
    place.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(place / f"{name}.npz", output=output.detach().float().numpy(), grad=x.grad.float().numpy())
    about = dict(name=name, config=config, input_shape=list(x.shape), labels=labels, loss=loss.item(), shapes=shapes)
    (place / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(about, separators=(",", ":")).encode(), mtime=0))
    print(f"{name}: {len(shapes)} tensors; {[n for n in shapes if 'mlp' in n or 'classifier' in n][:6]}")


for chosen in sys.argv[1:] or ENTRIES:
    write(chosen)
