"""The state dicts of the parity fixtures as PyTorch checkpoints, for the parity test to read back.

    python scripts/parity_pth.py FIXTURES OUT      # numpy and torch needed; about 1 GB
    ROBUST_PARITY_PTH=OUT cargo test -p robust-models named_architectures -- --nocapture

Wrapped as training code wraps them, each in another way: bare, nested, under DataParallel, half-built optimizer beside.
"""
import json
import pathlib
import sys

import torch

fixtures, out = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(fixtures / "parity"))
import weights  # noqa: E402  (the fixtures' own generator)

WRAPS = [
    lambda d: d,
    lambda d: {"state_dict": d, "epoch": 90},
    lambda d: {"model_state_dict": {f"module.{k}": v for k, v in d.items()}, "optimizer": {"state": {0: {"step": 1}}}},
    lambda d: {"net": {k: torch.nn.Parameter(v) for k, v in d.items()}, "acc": 93.1},
]

out.mkdir(parents=True, exist_ok=True)
for i, entry in enumerate(json.loads((fixtures / "parity" / "index.json").read_text())):
    shapes = json.loads((fixtures / "parity" / entry["tensors"]).read_text())
    state = {name: torch.from_numpy(weights.tensor(name, shape)) for name, shape in shapes.items()}
    path = out / (pathlib.Path(entry["file"]).stem + ".pth")
    torch.save(WRAPS[i % len(WRAPS)](state), path)
    print(path.name, path.stat().st_size)
