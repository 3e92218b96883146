"""PyTorch's values of a small network in training mode: batch norms with the statistics of the batch.

    python training.py        # writes training.safetensors beside this file
"""
import pathlib

import torch
from safetensors.torch import save_file

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
net = torch.nn.Sequential(
    torch.nn.Conv2d(2, 4, 3, padding=1, bias=False),
    torch.nn.BatchNorm2d(4),
    torch.nn.ReLU(),
    torch.nn.Conv2d(4, 3, 3, stride=2),
    torch.nn.BatchNorm2d(3, eps=1e-3),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(12, 5),
)
for name, value in net.state_dict().items():
    if value.is_floating_point():
        value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value))
# A mean far from 0 shows a variance that was computed as the difference of two large numbers.
x = (torch.randn(5, 2, 6, 6) + 30.0).requires_grad_()
g = torch.randn(5, 5)
out = {f"w.{name}": value.clone() for name, value in net.state_dict().items() if value.is_floating_point()}
net.train()
y = net(x)
(y * g).sum().backward()
out |= {"x": x.detach().clone(), "g": g, "y": y.detach().clone(), "dx": x.grad}
out |= {f"d.{name}": p.grad for name, p in net.named_parameters()}
out |= {f"after.{name}": b.clone() for name, b in net.named_buffers() if b.is_floating_point()}
save_file(out, pathlib.Path(__file__).with_name("training.safetensors"))
