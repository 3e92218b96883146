#!/usr/bin/env python3
"""Exports networks of torchvision and timm with random weights by both of PyTorch's ONNX exporters, and holds `robust` against
ONNX Runtime (outputs) and PyTorch (gradients).

    pip install torch torchvision timm onnx onnxruntime onnxscript safetensors
    cargo build --release --example onnx_check
    python3 scripts/onnx_zoo.py [--exporter dynamo|script] [--markdown FILE] [NAME ...]

Nothing is downloaded but the packages, nothing is kept: each file is removed once it has been looked at. Weights are random with
statistics of batch norms measured on random images, so that activations neither die nor explode. One line per file: loaded, the
largest difference relative to the largest entry; or refused, and by what. A difference above 1e-3, or another argmax, is WRONG.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

TORCHVISION = """alexnet vgg11_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 googlenet inception_v3 mobilenet_v2
mobilenet_v3_small mobilenet_v3_large shufflenet_v2_x1_0 squeezenet1_1 mnasnet1_0 efficientnet_b0 efficientnet_v2_s regnet_y_400mf
regnet_x_400mf convnext_tiny vit_b_32 swin_t swin_v2_t maxvit_t""".split()
TIMM = """resnet26d resnetaa50 seresnet18 ecaresnet26t skresnet18 res2net50_26w_4s resnest14d dla34 dpn48b hrnet_w18_small cspresnet50
darknet53 repvgg_a0 rexnet_100 ghostnet_100 mobilenetv4_conv_small tf_efficientnet_lite0 efficientvit_b0 fastvit_t8 mobileone_s0
nf_resnet26 eca_nfnet_l0 edgenext_xx_small mobilevit_xxs mobilevitv2_050 levit_128 deit_tiny_patch16_224 vit_tiny_patch16_224
eva02_tiny_patch14_224 beit_base_patch16_224 cait_xxs24_224 convit_tiny crossvit_tiny_240 coat_tiny pvt_v2_b0 swin_tiny_patch4_window7_224
mixer_s16_224 resmlp_12_224 gmlp_s16_224 poolformer_s12 convmixer_768_32 visformer_tiny tnt_s_patch16_224 volo_d1_224 mvitv2_tiny
davit_tiny gcvit_xxtiny inception_next_tiny hgnet_tiny botnet26t_256 halonet26t lambda_resnet26t sequencer2d_s xcit_nano_12_p16_224
tiny_vit_5m_224 swiftformer_xs repvit_m0_9 starnet_s1""".split()


def build(name):
    import timm
    import torch
    import torchvision

    torch.manual_seed(0)
    kind, name = name.split(":")
    if kind == "tv":
        extra = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model = getattr(torchvision.models, name)(weights=None, **extra)
        side = {"inception_v3": 299, "swin_v2_t": 256}.get(name, 224)
        shape = (3, side, side)
    else:
        model = timm.create_model(name, pretrained=False)
        shape = tuple(model.pretrained_cfg["input_size"])
    model.eval()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            # Scales of ones and biases of zeros hide mistakes.
            if value.numel() == 1 or value.std() == 0:
                value.add_(0.1 * torch.randn(value.shape, generator=noise))
        hooks = []
        for layer in model.modules():
            if isinstance(layer, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                hooks.append(layer.register_forward_pre_hook(measured))
        x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(2))
        model(x)
        [hook.remove() for hook in hooks]
    return model, x


def measured(layer, inputs):
    """Gives a batch norm the statistics of what it meets, a little off."""
    import torch

    (x,) = inputs
    axes = [0, *range(2, x.dim())]
    noise = torch.Generator().manual_seed(x.shape[1])
    layer.running_mean.copy_(x.mean(axes) + 0.05 * x.std() * torch.randn(x.shape[1], generator=noise))
    layer.running_var.copy_((x.var(axes, unbiased=False) + 1e-4) * (0.8 + 0.4 * torch.rand(x.shape[1], generator=noise)))


def export(model, x, exporter, path):
    import torch

    names = {"input_names": ["x"], "output_names": ["logits"]}
    if exporter == "dynamo":
        shapes = ({0: torch.export.Dim("n")},)
        torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=shapes, verbose=False, **names)
    else:
        axes = {"x": {0: "n"}, "logits": {0: "n"}}
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def vectors(model, x, path, out):
    import onnxruntime
    import torch
    from safetensors.torch import save_file

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    y = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    x = x.clone().requires_grad_()
    scores = model(x)
    scores = scores if torch.is_tensor(scores) else getattr(scores, "logits", None) if hasattr(scores, "logits") else scores[0]
    (scores * g).sum().backward()
    save_file({"x": x.detach().contiguous(), "y": y.contiguous(), "g": g, "dx": x.grad.contiguous()}, out)


def look(name, exporter, check):
    with tempfile.TemporaryDirectory() as folder:
        path, numbers = f"{folder}/net.onnx", f"{folder}/vectors.safetensors"
        try:
            model, x = build(name)
            export(model, x, exporter, path)
            vectors(model, x, path, numbers)
        except Exception as error:  # the exporter's trouble, not ours
            return {"not exported": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
        done = subprocess.run([check, path, numbers], capture_output=True, text=True, timeout=900)
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
        return json.loads(done.stdout)


def verdict(said):
    if "fast" not in said:
        return next(iter(said))
    return "WRONG" if max(said["fast"], said["exact"]) > 1e-3 or said["signs"] < 0.97 else "loaded"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", choices=["dynamo", "script"], action="append")
    parser.add_argument("--markdown", help="append the table here")
    parser.add_argument("--check", default="target/release/examples/onnx_check", help="the built example")
    parser.add_argument("names", nargs="*", help="tv:NAME or timm:NAME; default: all of the list in this file")
    args = parser.parse_args()
    names = args.names or [f"tv:{n}" for n in TORCHVISION] + [f"timm:{n}" for n in TIMM]
    rows, counts = [], {}
    for exporter in args.exporter or ["dynamo", "script"]:
        for name in names:
            # A process each: exporters leak, and one that dies takes nothing along.
            code = f"import sys, json; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import onnx_zoo; "
            code += f"print('RESULT ' + json.dumps(onnx_zoo.look({name!r}, {exporter!r}, {os.path.abspath(args.check)!r})))"
            try:
                done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1200)
                line = [l for l in done.stdout.splitlines() if l.startswith("RESULT ")]
                said = json.loads(line[-1][7:]) if line else {"not exported": f"the process ended with {done.returncode}"}
            except subprocess.TimeoutExpired:
                said = {"not exported": "it took more than 20 minutes"}
            kind = verdict(said)
            counts[(exporter, kind)] = counts.get((exporter, kind), 0) + 1
            numbers = [f"{said[k]:.1e}" for k in ("fast", "exact", "gradient")] + [f"{100 * said['signs']:.2f} %"] if "fast" in said else [""] * 4
            why = "" if "fast" in said else str(next(iter(said.values())))
            rows.append([name, exporter, kind, *numbers, why])
            print("  ".join(rows[-1]), flush=True)
    print({f"{exporter} {kind}": n for (exporter, kind), n in sorted(counts.items())})
    if args.markdown:
        with open(args.markdown, "a") as file:
            file.write("| network | exporter | | fast | exact | gradient | equal signs | why |\n|---|---|---|---|---|---|---|---|\n")
            file.writelines("| " + " | ".join(row).replace("|", "\\|", 0) + " |\n" for row in rows)


if __name__ == "__main__":
    main()
