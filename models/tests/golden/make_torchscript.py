"""TorchScript programs with the module trees of CLIP's files, and what their image towers compute by OpenCLIP's code. Written by
PyTorch 2.15 and open_clip_torch 3.3. Run in this folder: python make_torchscript.py

As in OpenAI's files, convolutions, linear layers and projections are in half precision, norms are not, and three sizes are
integers beside them. The programs' own code does nothing: readers must not need it."""
import inspect
import pathlib

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

# Programs hold where their source was: the name will do.
source_file = inspect.getsourcefile
inspect.getsourcefile = lambda of: pathlib.Path(__file__).name if source_file(of) == __file__ else source_file(of)
torch.manual_seed(3)


class Module(nn.Module):
    """A module of the tree: what a program has beside its tensors is a method and attributes of other kinds."""

    def __init__(self):
        super().__init__()
        self.scale, self.name, self.sizes = 0.5, "a module", [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Program(Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Long enough to be compressed in the archive."""
        for i in range(self.sizes[1]):
            x = torch.where(x > 0, x * self.scale, x / (1.0 + float(i)))
        return x


class Packed(Module):
    """Of such a module only its own code knows what its state means."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(2))

    @torch.jit.export
    def __getstate__(self):
        return self.weight * 2, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight, self.training = state[0] / 2, state[1]


def tree(state, buffers):
    """The modules that dotted names stand for."""
    root = Program()
    for name, value in state.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, Module())
            at = getattr(at, part)
        if name in buffers or not value.is_floating_point():
            at.register_buffer(last, value)
        else:
            at.register_parameter(last, nn.Parameter(value))
    return root.eval()


def halved(model):
    """The names of what OpenAI keeps in half precision."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.MultiheadAttention)):
            yield from (f"{name}.{n}" for n, _ in module.named_parameters())
    yield from ("text_projection", "visual.proj")


expected = {}
text = CLIPTextCfg(context_length=2, vocab_size=4, width=4, heads=1, layers=1)
towers = dict(
    clip_vit=CLIPVisionCfg(layers=1, width=64, patch_size=4, image_size=8, mlp_ratio=0.5),
    clip_resnet=CLIPVisionCfg(layers=(1, 1, 1, 1), width=2, image_size=32),
)
for name, vision in towers.items():
    model = CLIP(12, vision, text, quick_gelu=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.2), module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.8, 1.5)
    half = set(halved(model))
    state = {k: v.half() if k in half else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    # OpenAI's programs hold the mask of their text tower's blocks, and the sizes. One file with a text tower will do.
    state["transformer.resblocks.0.attn_mask"] = model.attn_mask
    if name == "clip_resnet":
        state = {k: v for k, v in state.items() if k.startswith("visual.") or k == "logit_scale"}
    for size, value in dict(input_resolution=vision.image_size, context_length=2, vocab_size=4).items():
        state[size] = torch.tensor(value)
    program = torch.jit.script(tree(state, dict(model.named_buffers())))
    program.save(f"{name}_script.pt")
    assert set(program.state_dict()) == set(state)
    x = torch.randint(0, 257, (2, 3, vision.image_size, vision.image_size)) / 256
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (
        [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]))
    with torch.no_grad():
        expected[f"{name}.input"] = x.numpy()
        expected[f"{name}.output"] = model.double().visual((x.double() - mean) / std).float().numpy()
np.savez_compressed("expected_torchscript.npz", **expected)
# No network known by its names, no tensors at all, a state of its own.
stranger = Program()
stranger.layer = Module()
stranger.layer.register_buffer("kernel", torch.ones(2, 3))
torch.jit.script(stranger).save("stranger_script.pt")
torch.jit.script(Module()).save("empty_script.pt")
program = Program()
program.packed = Packed()
torch.jit.script(program).save("packed_script.pt")
