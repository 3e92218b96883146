#!/usr/bin/env python3
"""Holds `robust` against the node tests of the `onnx` package: every operator with float inputs that can work on each image for itself.

    pip install onnx numpy safetensors
    cargo build --example onnx_check
    python3 scripts/onnx_nodes.py [--markdown FILE] [--refused] [--work FOLDER] [NAME ...]

A node test is a graph of one operator (or of the operators it is defined by) with inputs and expected outputs. Of each, up to four
models are made, and each of them must give the expected numbers where it loads:

- as it is: the first axis of the first float input is the batch. Only where the output begins with the same axis.
- in front: the inputs get a batch axis in front of their own, and what names axes by number (`axis`, `axes`, `perm`, `pads`, shapes) is
  moved by one. The batch holds the test's input twice. Graphs of one operator alone, and not those whose first axis is the batch by
  definition (convolutions, pools and their kin).
- either with the first float input as the image and all others as weights, and once more with all float inputs in the image, side by
  side, from which the graph takes them apart.

The output is flattened to `[n, k]` and doubled (`[n, 2 k]`), so that one number is not taken for two classes; comparisons are cast to
float. Expected numbers are the test's own; no other runtime has a part in it. Gradients are held against differences in double precision
along random directions (`slope`): they may differ at kinks and jumps.

A test counts as matched if a model of it loads and every one that loads is right to 1e-3 of the largest entry, the tolerance of the
package; as wrong if any that loads is not (two tests of Resize are counted apart: there ONNX
Runtime and PyTorch differ from the package, and are followed); as `mixes rows` if all are refused because rows would depend on their neighbours; else as
refused, with the first other reason.

Left out: tests without float inputs or outputs, training, losses, random numbers, control flow, sequences, recurrent networks, previews,
results that do not depend on a float input by more than its shape.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import onnx
from onnx import TensorProto as T, helper, numpy_helper

FLOATS = {T.FLOAT, T.DOUBLE, T.FLOAT16}
LEFT_OUT = set(
    """Adagrad Adam Momentum Gradient SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss Bernoulli RandomNormal RandomUniform
RandomNormalLike RandomUniformLike Multinomial If Loop Scan SequenceMap RNN LSTM GRU ImageDecoder NonMaxSuppression TfIdfVectorizer
StringNormalizer TreeEnsemble TreeEnsembleRegressor OptionalHasElement OptionalGetElement SplitToSequence SequenceInsert BitCast EyeLike
ConstantOfShape Range NonZero Unique LabelEncoder Binarizer ArrayFeatureExtractor""".split()
)
WORDS = "training sequence optional _loss nllloss sce_ adagrad adam momentum flexattention linear_attention causal_conv".split()
# Their first axis is the batch by definition.
BATCHED = set(
    """Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool BatchNormalization GroupNormalization
InstanceNormalization LRN DepthToSpace SpaceToDepth GridSample AffineGrid Col2Im DeformConv MaxUnpool RoiAlign Attention RotaryEmbedding
Resize Upsample MeanVarianceNormalization Flatten Gemm Einsum Det GatherND ScatterND GatherElements ScatterElements Scatter DFT STFT
TensorScatter ReverseSequence""".split()
)
# Where ONNX Runtime and PyTorch differ from the package's own numbers, the runtimes are followed (docs/decisions/0042).
LIKE_RUNTIMES = {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}
ROWS = ("batch axis", "across the batch", "in front of the batch", "batch included", "rows would depend", "leading axis of 1", "image to image")


def tests(names):
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        if not names or any(n in case.name for n in names):
            yield case


def kept(case):
    """The indices of float inputs and of float outputs, or None where the test is left out."""
    graph, base = case.model.graph, case.name.removeprefix("test_")
    if {n.op_type for n in graph.node} & LEFT_OUT and "expanded" not in base or any(w in base for w in WORDS):
        return None
    if len(case.data_sets) != 1 or any(not i.type.HasField("tensor_type") for i in (*graph.input, *graph.output)):
        return None
    inputs, outputs = case.data_sets[0]
    real = lambda info, value: isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).size and info.type.tensor_type.elem_type
    floats = [i for i, (info, v) in enumerate(zip(graph.input, inputs)) if real(info, v) in FLOATS]
    outs = [i for i, (info, v) in enumerate(zip(graph.output, outputs)) if real(info, v) in FLOATS | {T.BOOL}]
    return (floats, outs) if floats and outs else None


def reaches(graph, names, out):
    """Whether `out` depends on one of `names` by more than its shape."""
    seen = set(names)
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and seen & set(node.input):
            seen |= set(node.output)
    return out in seen


def in_front(node, consts, ranks, opset):
    """The node with every axis one further back and the constants it reads instead; None where its inputs make that impossible."""
    op, extra = node.op_type, {}
    new = onnx.NodeProto()
    new.CopyFrom(node)
    attributes = {a.name: a for a in new.attribute}
    rank = ranks.get(node.input[0], 0)
    behind = lambda a: np.where(np.asarray(a) >= 0, np.asarray(a) + 1, a)
    if op in BATCHED:
        return None
    for name in ("axis", "batch_dims"):
        if name in attributes and attributes[name].i >= 0:
            attributes[name].i += 1
    for name in ("axes", "perm"):
        if name in attributes:
            attributes[name].ints[:] = [*([0] if name == "perm" else []), *(int(a) for a in behind(list(attributes[name].ints)))]
    if op == "Pad" and "pads" in attributes:
        ints = list(attributes["pads"].ints)
        attributes["pads"].ints[:] = [0, *ints[: len(ints) // 2], 0, *ints[len(ints) // 2 :]]
    # Defaults that count from the first axis.
    default = {"Gather": 0, "Split": 0, "DequantizeLinear": 1, "QuantizeLinear": 1}.get(op)
    if opset < 13 and op in ("Softmax", "LogSoftmax", "Hardmax"):
        default = 1
    if default is not None and "axis" not in attributes:
        new.attribute.append(helper.make_attribute("axis", default + 1))
    if op == "Transpose" and "perm" not in attributes:
        new.attribute.append(helper.make_attribute("perm", [0, *range(rank, 0, -1)]))
    if op == "CenterCropPad" and "axes" not in attributes:
        new.attribute.append(helper.make_attribute("axes", list(range(1, rank + 1))))

    def given(i):
        return i < len(node.input) and node.input[i] != ""

    def replace(i, f):
        if not given(i):
            return
        if node.input[i] not in consts:
            raise LookupError
        value = consts[node.input[i]]
        new.input[i] = f"{node.input[i]}_moved"
        extra[new.input[i]] = np.asarray(f(value)).astype(value.dtype)

    def added(i, value):
        while len(new.input) <= i:
            new.input.append("")
        new.input[i] = f"{node.output[0]}_{i}"
        extra[new.input[i]] = np.asarray(value)

    lead = lambda first: lambda a: np.concatenate([[first], a])
    try:
        if op.startswith("Reduce"):
            replace(1, behind)
            empty = not given(1) or consts[node.input[1]].size == 0
            noop = "noop_with_empty_axes" in attributes and attributes["noop_with_empty_axes"].i
            if "axes" not in attributes and empty and not noop:
                if rank == 0:
                    return None
                if opset >= 18 or op == "ReduceSum" and opset >= 13:
                    added(1, np.arange(1, rank + 1))
                else:
                    new.attribute.append(helper.make_attribute("axes", list(range(1, rank + 1))))
        elif op in ("Squeeze", "Unsqueeze"):
            if not given(1) and "axes" not in attributes:
                return None
            replace(1, behind)
        elif op == "Pad":
            if given(3):
                replace(3, behind)
            else:
                replace(1, lambda a: [0, *a[: len(a) // 2], 0, *a[len(a) // 2 :]])
        elif op == "Slice" and given(1):
            if given(3):
                replace(3, behind)
            else:
                added(3, np.arange(1, consts[node.input[1]].size + 1))
        elif op == "Slice" and "axes" not in attributes:
            new.attribute.append(helper.make_attribute("axes", list(range(1, len(attributes["starts"].ints) + 1))))
        elif op in ("CumSum", "CumProd"):
            replace(1, behind)
        elif op == "Tile":
            replace(1, lead(1))
        elif op == "Reshape":
            # 0 copies an axis by its number, which moves along.
            replace(1, lead(2 if "allowzero" in attributes and attributes["allowzero"].i else 0))
        elif op == "Expand":
            if consts[node.input[1]].size > rank:
                return None
            replace(1, lambda a: [1, *[1] * (rank - len(a)), *a])
    except (LookupError, KeyError):
        return None
    return new, extra


def wrapped(case, floats, out, front, packed):
    """A model of one output and its vectors, or None where it cannot be made so."""
    graph, opset = case.model.graph, case.model.opset_import[0].version
    inputs, outputs = ([np.asarray(v) if isinstance(v, (np.ndarray, np.generic)) else v for v in vs] for vs in case.data_sets[0])
    images = [i for i in floats if front or inputs[i].ndim >= 2 and inputs[i].shape[0] == inputs[floats[0]].shape[0]]
    if packed and len(images) < 2 or not images:
        return None
    images = images if packed else floats[:1]
    names, result, y = [graph.input[i].name for i in images], graph.output[out].name, outputs[out]
    if not reaches(graph, names, result):
        return None
    consts = {i.name: v for i, v in zip(graph.input, inputs) if isinstance(v, np.ndarray) and i.name not in names}
    consts |= {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    extra, nodes, xs = {}, list(graph.node), [inputs[i] for i in images]
    if front:
        if len(nodes) > 1 or any(x.ndim == 0 for x in xs) and not packed or packed and len({x.ndim for x in xs}) > 1:
            return None
        moved = in_front(nodes[0], consts, {n: x.ndim for n, x in zip(names, xs)}, opset)
        if moved is None:
            return None
        nodes, extra = [moved[0]], moved[1]
        xs, y = [np.stack([x, x]) for x in xs], np.stack([y, y])
    elif xs[0].ndim < 2 or y.ndim < 1 or y.shape[0] != xs[0].shape[0]:
        return None
    n, elem = xs[0].shape[0], graph.input[images[0]].type.tensor_type.elem_type
    head, name, shape = [], names[0], list(xs[0].shape)
    if packed:
        if len({graph.input[i].type.tensor_type.elem_type for i in images}) > 1 or opset < 10:
            return None
        name, shape, at = "packed_image", [n, sum(x[0].size for x in xs)], 0
        for part, x in zip(names, xs):
            for what, value in (("start", [at]), ("end", [at + x[0].size]), ("axis", [1]), ("shape", [0, *x.shape[1:]])):
                extra[f"{part}_{what}"] = np.array(value, np.int64)
            head.append(helper.make_node("Slice", [name, f"{part}_start", f"{part}_end", f"{part}_axis"], [f"{part}_flat"]))
            head.append(helper.make_node("Reshape", [f"{part}_flat", f"{part}_shape"], [part]))
            at += x[0].size
        xs = [np.concatenate([x.reshape(n, -1) for x in xs], 1)]
    tail, last = [], result
    if graph.output[out].type.tensor_type.elem_type == T.BOOL:
        tail.append(helper.make_node("Cast", [last], ["y_float"], to=T.FLOAT))
        last, y = "y_float", y.astype(np.float32)
    if y.ndim == 1:
        extra["flat_axis"] = np.array([1], np.int64)
        new = opset >= 13
        tail.append(helper.make_node("Unsqueeze", [last, *(["flat_axis"] if new else [])], ["y_flat"], **({} if new else {"axes": [1]})))
    else:
        tail.append(helper.make_node("Flatten", [last], ["y_flat"], axis=1))
    tail.append(helper.make_node("Concat", ["y_flat", "y_flat"], ["y_twice"], axis=1))
    y = np.concatenate([y.reshape(n, -1)] * 2, 1).astype(np.float32)
    made = helper.make_graph(
        [*head, *nodes, *tail],
        "node",
        [helper.make_tensor_value_info(name, elem, ["n", *shape[1:]] if front else shape)],
        [helper.make_tensor_value_info("y_twice", T.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(a), k) for k, a in {**consts, **extra}.items()],
    )
    model = helper.make_model(made, opset_imports=case.model.opset_import)
    model.ir_version = case.model.ir_version
    return model, np.ascontiguousarray(xs[0].astype(np.float32)), np.ascontiguousarray(y)


def run(args, work):
    from safetensors.numpy import save_file

    jobs, seen, left = [], {}, 0
    for case in tests(args.names):
        found = kept(case)
        if found is None:
            left += 1
            continue
        floats, outs = found
        ops = [n.op_type for n in case.model.graph.node]
        depends = any(reaches(case.model.graph, [case.model.graph.input[i].name for i in floats], case.model.graph.output[o].name) for o in outs)
        if not depends:
            left += 1
            continue
        seen[case.name] = ops[0] if len(ops) == 1 else "functions spelled out"
        for out in outs:
            for form, (front, packed) in enumerate([(True, False), (False, False), (True, True), (False, True)]):
                made = wrapped(case, floats, out, front, packed)
                if made is None:
                    continue
                model, x, y = made
                stem = work / f"{case.name}.{out}.{form}"
                onnx.save(model, f"{stem}.onnx")
                g = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32)
                save_file({"x": x, "y": y, "g": g}, f"{stem}.safetensors")
                # Axes are where the test has them, whatever the graph looks like.
                options = "?layout=nchw" if x.ndim == 4 else ""
                jobs.append((case.name, f"{stem}.onnx{options}\t{stem}.safetensors"))
    (work / "list").write_text("".join(job + "\n" for _, job in jobs))
    done = subprocess.run([args.check, "--list", work / "list"], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if len(lines) != len(jobs):
        sys.exit(f"the check ended at {jobs[len(lines)][1]}: {done.stderr[-500:]}")
    said = collections.defaultdict(list)
    for (name, job), line in zip(jobs, lines):
        said[name].append(line | {"model": pathlib.Path(job.split("\t")[0]).name})
    return seen, said, left


def verdict(name, models):
    """What became of a test, its largest difference or its reason, and how far slopes were off."""
    loaded = [line for line in models if "fast" in line]
    failed = [line for line in models if "failed" in line]
    if failed:
        return "failed", f"{failed[0]['model']}: {failed[0]['failed']}", 0
    if loaded:
        worst = max(max(line["fast"], line["exact"]) for line in loaded)
        kind = "matched" if worst <= 1e-3 else "as runtimes" if name in LIKE_RUNTIMES else "wrong"
        return kind, worst, max(line.get("slope", 0) for line in loaded)
    if not models:
        return "not made", "no model can be made", 0
    reasons = [line["refused"] for line in models]
    others = [r for r in reasons if not any(word in r for word in ROWS)]
    return ("refused", others[0], 0) if others else ("mixes rows", reasons[0], 0)


KINDS = ["matched", "as runtimes", "wrong", "failed", "refused", "mixes rows", "not made"]


def report(args, seen, said, left):
    table, counts, slopes = {}, collections.Counter(), []
    for name, op in sorted(seen.items(), key=lambda item: item[1].lower()):
        kind, what, slope = verdict(name, said.get(name, []))
        counts[kind] += 1
        row = table.setdefault(op, collections.Counter())
        row[kind] += 1
        if kind in ("matched", "wrong"):
            row["largest"] = max(row["largest"], what)
            slopes += [(name, slope)] if slope > 1e-3 else []
        if kind in ("wrong", "failed") or args.refused and kind != "matched":
            print(f"{kind}: {name}: {what}")
    print("slopes that differ by more than 1e-3:", ", ".join(f"{n} {s:.0e}" for n, s in slopes))
    print({kind: counts[kind] for kind in KINDS}, f"of {len(seen)} tests; {left} left out")
    if args.markdown:
        lines = ["| operator | matched | largest difference | as runtimes | wrong | refused | mixes rows | not made |", "|---|---|---|---|---|---|---|---|"]
        for op, row in table.items():
            largest = f"{row['largest']:.0e}" if row["matched"] + row["wrong"] else ""
            numbers = [row["matched"], largest, row["as runtimes"], row["wrong"] + row["failed"], *(row[kind] for kind in KINDS[4:])]
            lines.append(f"| {op} | " + " | ".join(str(n or "") for n in numbers) + " |")
        pathlib.Path(args.markdown).write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", help="write the table here")
    parser.add_argument("--refused", action="store_true", help="print what does not load with its reason")
    parser.add_argument("--work", help="folder for the models (default: a temporary one)")
    parser.add_argument("--check", default="target/debug/examples/onnx_check", help="the built example")
    parser.add_argument("names", nargs="*", help="parts of names of tests; default: all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        work = pathlib.Path(args.work or own)
        work.mkdir(parents=True, exist_ok=True)
        report(args, *run(args, work))


if __name__ == "__main__":
    main()
