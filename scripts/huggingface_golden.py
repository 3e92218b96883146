"""Writes models/tests/golden/huggingface: a tiny ViT folder with its weights in PyTorch's format, and torch's resizing of a
grid. Needs torch and numpy. python scripts/huggingface_golden.py
"""
import json
import pathlib

import torch

out = pathlib.Path(__file__).parent.parent / "models/tests/golden/huggingface"
out.mkdir(parents=True, exist_ok=True)
W, HIDDEN, PATCH, SIZE, CLASSES = 8, 12, 4, 8, 3
config = dict(
    architectures=["ViTForImageClassification"], model_type="vit", hidden_size=W, num_attention_heads=2,
    num_hidden_layers=1, intermediate_size=HIDDEN, image_size=SIZE, patch_size=PATCH, num_channels=3,
    hidden_act="gelu", layer_norm_eps=1e-12, qkv_bias=True, id2label={str(i): f"LABEL_{i}" for i in range(CLASSES)},
)
(out / "config.json").write_text(json.dumps(config))
layer = "vit.encoder.layer.0."
shapes = {
    "vit.embeddings.cls_token": [1, 1, W],
    "vit.embeddings.position_embeddings": [1, 1 + (SIZE // PATCH) ** 2, W],
    "vit.embeddings.patch_embeddings.projection.weight": [W, 3, PATCH, PATCH],
    "vit.embeddings.patch_embeddings.projection.bias": [W],
    "vit.layernorm.weight": [W], "vit.layernorm.bias": [W],
    "classifier.weight": [CLASSES, W], "classifier.bias": [CLASSES],
}
for name, (o, i) in {
    "attention.attention.query": (W, W), "attention.attention.key": (W, W), "attention.attention.value": (W, W),
    "attention.output.dense": (W, W), "intermediate.dense": (HIDDEN, W), "output.dense": (W, HIDDEN),
}.items():
    shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = [o, i], [o]
for name in ["layernorm_before", "layernorm_after"]:
    shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = [W], [W]
torch.manual_seed(0)
torch.save({n: torch.randn(s) * 0.3 for n, s in shapes.items()}, out / "pytorch_model.bin")

grid = torch.randn(1, 2, 3, 3, dtype=torch.float64)
cases = []
for size in [(5, 4), (2, 2), (3, 3), (2, 7)]:
    for smooth in [False, True]:
        made = torch.nn.functional.interpolate(grid, size=size, mode="bicubic", align_corners=False, antialias=smooth)
        cases.append(dict(size=size, smooth=smooth, values=made[0].permute(1, 2, 0).flatten().tolist()))
(out / "resize.json").write_text(json.dumps(dict(grid=grid[0].permute(1, 2, 0).flatten().tolist(), cases=cases)))
