#!/usr/bin/env python3
"""Exports networks of torchvision and timm with random weights by both of PyTorch's ONNX exporters, and holds `robust` against
ONNX Runtime (outputs) and PyTorch (gradients).

    pip install torch torchvision timm onnx onnxruntime onnxscript safetensors
    cargo build --example onnx_check
    python3 scripts/onnx_zoo.py --results zoo.jsonl [--exporter dynamo|script] [--keep FOLDER] [NAME ...]
    python3 scripts/onnx_zoo.py --results zoo.jsonl --table zoo.md

Nothing is downloaded but the packages. Each export is removed once it has been looked at, unless `--keep` names a folder: then it
stays there, and a later run looks at it again without exporting (some 100 MB a network). A result is a line of the results file; what has one is not run again, so that a run may be interrupted
(remove a line to repeat it). Weights are random with statistics of batch norms measured on random images, so that activations
neither die nor explode. Images are 128 pixels wide where the network takes them. A difference above 1e-3 of the largest entry, or
fewer than 97 % equal signs of gradients, is WRONG.
"""
import argparse
import collections
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


SIDE = 128


def create(name, small):
    """The network and the shape of its images."""
    import timm
    import torchvision

    kind, name = name.split(":")
    if kind == "tv":
        extra = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        if small and name.startswith("vit"):
            extra["image_size"] = SIDE
        side = SIDE if small else {"inception_v3": 299, "swin_v2_t": 256}.get(name, 224)
        return getattr(torchvision.models, name)(weights=None, **extra), (3, side, side)
    if small:
        try:
            return timm.create_model(name, pretrained=False, img_size=SIDE), (3, SIDE, SIDE)
        except TypeError:
            return timm.create_model(name, pretrained=False), (3, SIDE, SIDE)
    model = timm.create_model(name, pretrained=False)
    return model, tuple(model.pretrained_cfg["input_size"])


def build(name):
    import torch

    for small in (True, False):
        torch.manual_seed(0)
        try:
            model, shape = create(name, small)
            model.eval()
            x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(2))
            with torch.no_grad():
                model(x)
            break
        except Exception:
            if not small:
                raise
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


def look(name, exporters, check, keep):
    """One result an exporter, of one network in one process: exporters leak, and one that dies takes nothing along."""
    import torch

    torch.set_num_threads(1)
    said, built = {}, None
    for exporter in exporters:
        with tempfile.TemporaryDirectory() as own:
            folder = pathlib.Path(keep, f"{name.replace(':', '-')}-{exporter}") if keep else pathlib.Path(own)
            made = folder / "made"  # written last
            if not made.exists():
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    built = built or build(name)
                    model, x = built
                    export(model, x, exporter, str(folder / "net.onnx"))
                    vectors(model, x, str(folder / "net.onnx"), str(folder / "vectors.safetensors"))
                    made.write_text(str(x.shape[-1]))
                except Exception as error:  # the exporter's trouble, not ours
                    said[exporter] = {"not exported": f"{type(error).__name__}: {error}".splitlines()[0][:160]}
                    continue
            said[exporter] = checked(check, folder) | {"side": int(made.read_text())}
    return said


def checked(check, folder):
    command = [check, folder / "net.onnx", folder / "vectors.safetensors"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return {"failed": "it took more than 15 minutes"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
    said = json.loads(done.stdout)
    return {"refused": said["refused"].split(": ", 1)[-1]} if "refused" in said else said


def verdict(said):
    if "fast" not in said:
        return next(iter(said))
    return "WRONG" if not max(said["fast"], said["exact"]) <= 1e-3 or said["signs"] < 0.97 else "loaded"


def results(path):
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {(line["network"], line["exporter"]): line["said"] for line in lines}


def table(done):
    rows = ["| network | pixels | dynamo: outputs | gradient | script: outputs | gradient |", "|---|---|---|---|---|---|"]
    names = list(dict.fromkeys(name for name, _ in done))
    for name in names:
        cells, side = [], "?"
        for exporter in ("dynamo", "script"):
            said = done.get((name, exporter), {"not run": ""})
            side = said.get("side", side)
            kind = verdict(said)
            if "fast" in said:
                mark = "" if kind == "loaded" else "WRONG "
                cells += [f"{mark}{max(said['fast'], said['exact']):.0e}", f"{said['gradient']:.0e}"]
            else:
                cells += [f"{kind}: {said[kind]}".replace("|", "\\|"), ""]
        rows.append(f"| {name} | {side} | " + " | ".join(cells) + " |")
    counts = collections.Counter((exporter, verdict(said)) for (_, exporter), said in done.items())
    rows.append("")
    rows += [f"{exporter}: {kind} {n}" for (exporter, kind), n in sorted(counts.items())]
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exporter", choices=["dynamo", "script"], action="append")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="lines are appended here")
    parser.add_argument("--table", help="write the table of the results here and do nothing else")
    parser.add_argument("--keep", help="folder where exports stay, with their vectors")
    parser.add_argument("--check", default="target/debug/examples/onnx_check", help="the built example")
    parser.add_argument("names", nargs="*", help="tv:NAME or timm:NAME; default: all of the list in this file")
    args = parser.parse_args()
    if args.table:
        pathlib.Path(args.table).write_text(table(results(args.results)))
        return
    names = args.names or [f"tv:{n}" for n in TORCHVISION] + [f"timm:{n}" for n in TIMM]
    for name in names:
        done = results(args.results)
        open_ = [e for e in args.exporter or ["dynamo", "script"] if (name, e) not in done]
        if not open_:
            continue
        code = f"import sys, json; sys.path.insert(0, {str(pathlib.Path(__file__).resolve().parent)!r}); import onnx_zoo; "
        code += f"print('RESULT ' + json.dumps(onnx_zoo.look({name!r}, {open_!r}, {os.path.abspath(args.check)!r}, {args.keep!r})))"
        try:
            ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=2400)
            line = [l for l in ran.stdout.splitlines() if l.startswith("RESULT ")]
            said = json.loads(line[-1][7:]) if line else {e: {"not exported": f"the process ended with {ran.returncode}"} for e in open_}
        except subprocess.TimeoutExpired:
            said = {e: {"not exported": "it took more than 40 minutes"} for e in open_}
        with open(args.results, "a") as file:
            file.writelines(json.dumps({"network": name, "exporter": e, "said": s}) + "\n" for e, s in said.items())
        for e, s in said.items():
            print(name, e, verdict(s), s, flush=True)


if __name__ == "__main__":
    main()
