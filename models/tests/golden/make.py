"""Writes the small ONNX files of this folder and expected.npz, computed by onnx's own reference evaluator, of the last ones by
ONNX Runtime. Run with Python, numpy, onnx (1.23) and onnxruntime (1.32): `python make.py`."""
import os
import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnx.reference import ReferenceEvaluator

HERE = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(7)
expected = {}


def f(*shape):
    return rng.normal(size=shape).astype(np.float32)


def i(*values):
    return np.array(values, dtype=np.int64)


def run_by_onnxruntime(name, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = onnxruntime.InferenceSession(os.path.join(HERE, f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    return run.run(None, {"image": x})[-1]


class Net:
    """Collects nodes; `op` returns the new value's name."""

    def __init__(self, name, opset, image=(2, 5, 5), batch="batch"):
        self.name, self.opset, self.image, self.batch = name, opset, image, batch
        self.nodes, self.inits, self.extra_inputs, self.flat = [], [], [], []

    def const(self, value, name=None, typed=None, listed=False):
        name = name or f"c{len(self.inits)}"
        value = np.asarray(value)
        if typed is not None:
            t = h.make_tensor(name, typed, value.shape, value.flatten().tolist())
        else:
            t = nh.from_array(value, name)
        self.inits.append(t)
        if listed:
            self.extra_inputs.append(h.make_tensor_value_info(name, t.data_type, list(value.shape)))
        return name

    def op(self, kind, *inputs, outputs=1, **attrs):
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(h.make_node(kind, list(inputs), names, name=f"{kind}_{len(self.nodes)}", **attrs))
        return names[0] if outputs == 1 else names

    def use(self, value, axis=1):
        """Adds a value to the output."""
        self.flat.append(self.op("Flatten", value, axis=axis))

    def save(self, output=None, rows=2, extra_outputs=(), like=None, runtime=False):
        out = output or self.op("Concat", *self.flat, axis=1)
        outs = [h.make_tensor_value_info(o, T.FLOAT, None) for o in (*extra_outputs, out)]
        image = h.make_tensor_value_info("image", T.FLOAT, [self.batch, *self.image])
        graph = h.make_graph(self.nodes, self.name or "twin", [*self.extra_inputs, image], outs, self.inits)
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", self.opset)])
        model.ir_version = 6 if self.opset < 15 else 8
        if self.name is None:
            return model
        with open(os.path.join(HERE, f"{self.name}.onnx"), "wb") as file:
            file.write(model.SerializeToString())
        x = rng.uniform(0.05, 0.95, size=(rows, *self.image)).astype(np.float32)
        if runtime:
            expected[f"{self.name}.input"] = x
            expected[f"{self.name}.output"] = run_by_onnxruntime(self.name, x).reshape(rows, -1).astype(np.float32)
            return
        run = ReferenceEvaluator(like or model)
        if self.batch == "batch":
            y = run.run(None if like else [out], {"image": x})[0]
        else:  # fixed batch: row by row
            y = np.concatenate([run.run([out], {"image": x[r : r + 1]})[0] for r in range(rows)])
        expected[f"{self.name}.input"] = x
        expected[f"{self.name}.output"] = y.reshape(rows, -1).astype(np.float32)


def activations(opset):
    n = Net(f"activations_{opset}", opset, (2, 3, 3))
    x = n.op("Sub", "image", n.const(np.float32(0.5)))
    for kind in ["Relu", "Sigmoid", "Tanh", "Softplus", "Exp", "Abs", "Neg", "Erf", "Sin", "Cos"]:
        n.use(n.op(kind, x))
    for kind in ["Log", "Sqrt", "Reciprocal"]:
        n.use(n.op(kind, "image"))
    n.use(n.op("LeakyRelu", x))
    n.use(n.op("LeakyRelu", x, alpha=0.2))
    n.use(n.op("Elu", x, alpha=0.7))
    n.use(n.op("HardSigmoid", n.op("Mul", x, n.const(np.float32(9)))))
    n.use(n.op("Clip", x, n.const(np.float32(-0.2)), n.const(np.float32(0.3))))
    n.use(n.op("Clip", x, "", n.const(np.float32(0.1))))
    if opset >= 14:
        n.use(n.op("HardSwish", n.op("Mul", x, n.const(np.float32(9)))))
    if opset >= 20:
        n.use(n.op("Gelu", x))
        n.use(n.op("Gelu", x, approximate="tanh"))
    n.save()


def arithmetic():
    n = Net("arithmetic_13", 13)
    c = n.const(np.abs(f(1, 2, 1, 1)) + 0.5, "per_channel", listed=True)
    for kind in ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"]:
        n.use(n.op(kind, "image", c))
    n.use(n.op("Sub", n.const(np.float32(1)), "image"))
    n.use(n.op("Div", n.const(f(5)), "image"))
    n.use(n.op("Pow", "image", n.const(np.float32(2))))
    n.use(n.op("Mul", "image", n.op("Sigmoid", "image")))
    n.use(n.op("Max", "image", c, n.op("Mul", "image", c)))
    n.use(n.op("Min", "image"))
    n.save()


def convolutions():
    n = Net("convolutions_11", 11, (2, 7, 6))
    w, b = n.const(f(4, 2, 3, 3), "w", listed=True), n.const(f(4), "b", listed=True)
    n.use(n.op("Conv", "image", w, b, pads=[1, 0, 0, 2]))
    n.use(n.op("Conv", "image", w, kernel_shape=[3, 3], strides=[2, 1], dilations=[2, 1]))
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"]:
        n.use(n.op("Conv", "image", w, b, auto_pad=mode, strides=[2, 2]))
    n.use(n.op("Conv", "image", n.const(f(4, 1, 2, 2)), group=2))
    n.save()


def pools():
    n = Net("pools_11", 11, (2, 6, 7))
    for kind in ["MaxPool", "AveragePool"]:
        n.use(n.op(kind, "image", kernel_shape=[2, 3]))
        n.use(n.op(kind, "image", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 0, 1]))
        n.use(n.op(kind, "image", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"))
        n.use(n.op(kind, "image", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))
    n.use(n.op("AveragePool", "image", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1))
    n.use(n.op("GlobalAveragePool", "image"))
    n.use(n.op("GlobalMaxPool", "image"))
    n.save()


def matrices():
    n = Net("matrices_13", 13, (3, 4, 5))
    n.use(n.op("MatMul", "image", n.const(f(5, 2))))
    n.use(n.op("MatMul", n.const(f(6, 4)), "image"))
    n.use(n.op("MatMul", n.const(f(3, 2, 4)), "image"))
    n.use(n.op("MatMul", "image", n.op("Transpose", "image", perm=[0, 1, 3, 2])))
    n.use(n.op("MatMul", "image", n.op("Transpose", n.const(f(2, 5)), perm=[1, 0])))
    flat = n.op("Flatten", "image")
    n.use(n.op("MatMul", flat, n.const(f(60, 3))))
    n.use(n.op("Gemm", flat, n.const(f(60, 3)), n.const(f(3))))
    n.use(n.op("Gemm", flat, n.const(f(3, 60)), n.const(f(1, 3)), transB=1, alpha=0.5, beta=2.0))
    n.use(n.op("Gemm", flat, n.const(f(3, 60)), n.const(f()), transB=1))
    n.use(n.op("Gemm", flat, n.const(f(60, 3))))
    n.save()


def norms(opset):
    bn = [f(3), f(3), f(3), np.abs(f(3)) + 0.1]
    cases = [(kind, attrs) for kind in ["Softmax", "LogSoftmax"] for attrs in [{}, {"axis": 1}, {"axis": 2}, {"axis": -1}]]
    n = Net(f"norms_{opset}", opset, (3, 2, 4))
    n.use(n.op("BatchNormalization", "image", *map(n.const, bn), epsilon=1e-3))
    for kind, attrs in cases:
        n.use(n.op(kind, "image", **attrs))
    if opset >= 13:
        return n.save()
    # The evaluator has opset 13's Softmax for all and trains old batch norms: a newer twin spells out the old meaning.
    twin = Net(None, 15, (3, 2, 4))
    twin.use(twin.op("BatchNormalization", "image", *map(twin.const, bn), epsilon=1e-3))
    for kind, attrs in cases:
        lead = (0, 3, 2, 4)[: attrs.get("axis", 1) % 4]
        twin.use(twin.op(kind, twin.op("Reshape", "image", twin.const(i(*lead, -1))), axis=-1))
    n.save(like=twin.save())


def reductions(opset):
    n = Net(f"reductions_{opset}", opset, (3, 4, 5))
    for kind in ["ReduceMean", "ReduceSum", "ReduceMax"]:
        for axes, keep in [([2, 3], 1), ([-1], 0), ([1], 1)]:
            if opset >= 18 or (opset >= 13 and kind == "ReduceSum"):
                n.use(n.op(kind, "image", n.const(i(*axes)), keepdims=keep))
            else:
                n.use(n.op(kind, "image", axes=axes, keepdims=keep))
    n.save()


def layouts(opset):
    n = Net(f"layouts_{opset}", opset, (4, 3, 6))
    x = n.op("Identity", n.op("Dropout", "image"))
    n.use(n.op("Reshape", x, n.const(i(0, -1, 9))))
    n.use(n.op("Reshape", x, n.const(i(-1, 12, 6))))
    n.use(n.op("Transpose", x, perm=[0, 2, 3, 1]))
    n.use(n.op("Slice", x, n.const(i(1, 0)), n.const(i(-1, 2**63 - 1)), n.const(i(1, -1)), n.const(i(1, 2))))
    n.use(n.op("Slice", x, n.const(i(0)), n.const(i(2**63 - 1)), n.const(i(0))))
    if opset >= 13:
        u = n.op("Unsqueeze", x, n.const(i(1, -1)))
        n.use(n.op("Squeeze", u, n.const(i(1))))
        n.use(n.op("Squeeze", u))
        n.use(n.op("Split", x, n.const(i(1, 3)), axis=1, outputs=2)[1])
    else:
        u = n.op("Unsqueeze", x, axes=[1, 4])
        n.use(n.op("Squeeze", u, axes=[1]))
        n.use(n.op("Split", x, split=[1, 3], axis=1, outputs=2)[1])
    if opset >= 18:
        n.use(n.op("Pad", x, n.const(i(1, 0, 2, 1)), n.const(np.float32(0.5)), n.const(i(2, 3))))
        parts = n.op("Split", x, axis=2, num_outputs=2, outputs=2)
        n.use(n.op("Concat", parts[1], parts[0], axis=2))
    n.use(n.op("Pad", x, n.const(i(0, 0, 1, 0, 0, 1, 0, 2)), n.const(np.float32(-1))))
    n.use(n.op("Concat", x, "image", x, axis=-2))
    n.use(n.op("Gather", x, n.const(np.int64(-1)), axis=1))
    n.use(n.op("Gather", x, n.const(i(2, 3)), axis=3))
    n.use(n.op("Cast", n.op("Cast", x, to=T.DOUBLE), to=T.FLOAT))
    n.save()


def shapes():
    n = Net("shapes_18", 18, (4, 3, 6))
    size = n.op("Shape", "image")
    batch = n.op("Gather", size, n.const(np.int64(0)), axis=0)
    h3 = n.op("Slice", size, n.const(i(2)), n.const(i(3)))
    # view(batch, c * w, h) through arithmetic on the shape
    area = n.op("Div", n.op("Mul", n.const(i(72)), h3), n.op("Mul", h3, h3))
    dims = n.op("Concat", n.op("Unsqueeze", batch, n.const(i(0))), area, h3, axis=0)
    n.use(n.op("Reshape", "image", dims))
    # flatten(1) as the script exporter writes it, with a cast and opset 15's start and end
    start = n.op("Shape", "image", start=0, end=1)
    n.use(n.op("Reshape", "image", n.op("Concat", n.op("Cast", start, to=T.INT64), n.op("Constant", value_ints=[-1]), axis=0)))
    # a class token expanded to the batch: the exporter's ConstantOfShape, Equal, Where
    tokens = n.op("Reshape", "image", n.const(i(0, 12, 6)))
    want = n.op("Concat", n.op("Unsqueeze", batch, n.const(i(0))), n.const(i(-1, -1)), axis=0)
    ones = n.op("ConstantOfShape", n.const(i(3)), value=nh.from_array(i(1)))
    minus = n.op("Mul", ones, n.const(i(-1)))
    final = n.op("Where", n.op("Equal", want, minus), ones, want)
    token = n.op("Expand", n.const(f(1, 1, 6)), final)
    n.use(n.op("Concat", token, tokens, axis=1))
    # weights made at import: range, floor of a float, transposed and scaled constants
    ramp = n.op("Cast", n.op("Range", n.const(np.int64(0)), n.const(np.int64(12)), n.const(np.int64(2))), to=T.FLOAT)
    half = n.op("Floor", n.op("Div", ramp, n.op("Constant", value_float=4.0)))
    n.use(n.op("Add", "image", n.op("Sqrt", half)))
    grid = n.op("Slice", n.const(f(6, 3)), n.const(i(-1)), n.const(i(-(2**63) + 1)), n.const(i(0)), n.const(i(-1)))
    n.use(n.op("Mul", "image", n.op("Unsqueeze", n.op("Transpose", grid, perm=[1, 0]), n.const(i(0)))))
    n.use(n.op("Mul", "image", n.op("Expand", n.const(f(3, 1)), n.const(i(4, 3, 6)))))
    n.use(n.op("Add", "image", n.op("Gather", n.const(f(9, 6)), n.const(i(8, 0, 4)), axis=0)))
    n.save()


def types():
    n = Net("types_21", 21, (2, 2, 2))
    values = [[1.5, -2.0], [0.25, 3.0]]
    half = n.op("Cast", n.const(np.array(values, dtype=np.float16)), to=T.FLOAT)
    typed_half = n.op("Cast", n.const(values, typed=T.FLOAT16), to=T.FLOAT)
    brain = n.op("Cast", n.const(values, typed=T.BFLOAT16), to=T.FLOAT)
    double = n.op("Cast", n.const(np.array(values)), to=T.FLOAT)
    typed = n.const(values, typed=T.FLOAT)
    for w in [half, typed_half, brain, double, typed]:
        n.use(n.op("Mul", "image", w))
    small = n.const(np.array([2, 1], dtype=np.int32))
    n.use(n.op("Mul", "image", n.op("Cast", small, to=T.FLOAT)))
    n.use(n.op("Mul", "image", n.op("Cast", n.const([True, False], typed=T.BOOL), to=T.FLOAT)))
    n.use(n.op("Mul", "image", n.op("Cast", n.const(np.array([200, 3], dtype=np.uint8)), to=T.FLOAT)))
    n.save()


def fixed_batch():
    n = Net("fixed_batch_13", 13, (2, 3, 4), batch=1)
    x = n.op("Reshape", "image", n.const(i(1, 6, 4)))
    n.use(x)
    n.use(n.op("Reshape", "image", n.const(i(1, -1))))
    n.save()


def outputs():
    n = Net("two_outputs_13", 13)
    pooled = n.op("GlobalAveragePool", "image")
    n.nodes.append(h.make_node("Conv", [pooled, n.const(f(7, 2, 1, 1))], ["logits"]))
    n.save(output="logits", extra_outputs=[pooled])


def group_norms(opset):
    n = Net(f"group_norms_{opset}", opset, (6, 3, 4))
    n.use(n.op("InstanceNormalization", "image", n.const(f(6)), n.const(f(6)), epsilon=1e-3))
    # A group norm as PyTorch exports it.
    flat = n.op("Reshape", "image", n.const(i(0, 2, -1)))
    normed = n.op("InstanceNormalization", flat, n.const(np.ones(2, np.float32)), n.const(np.zeros(2, np.float32)))
    back = n.op("Reshape", normed, n.op("Shape", "image"))
    n.use(n.op("Add", n.op("Mul", back, n.const(f(6, 1, 1))), n.const(f(6, 1, 1))))
    if opset >= 18:
        size = 6 if opset >= 21 else 3
        n.use(n.op("GroupNormalization", "image", n.const(f(size)), n.const(f(size)), num_groups=3, epsilon=1e-3))
    n.save()


def resizes(opset):
    n = Net(f"resizes_{opset}", opset, (2, 5, 6))
    linear = dict(mode="linear")
    shape = n.op("Shape", "image")
    front = n.op("Slice", shape, n.const(i(0)), n.const(i(2)))
    sizes = n.op("Concat", front, n.const(i(12, 4)), axis=0)
    cases = [dict(linear, coordinate_transformation_mode=m) for m in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]]
    cases += [dict(mode="nearest", nearest_mode=m) for m in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]]
    cases += [dict(mode="cubic"), dict(mode="cubic", cubic_coeff_a=-0.5), {}]
    for case in cases:
        n.use(n.op("Resize", "image", "", "", sizes, **case))
    for factor in (2.0, 1.7, 0.6):
        scales = n.const(np.array([1, 1, factor, factor], np.float32))
        n.use(n.op("Resize", "image", "", scales, **linear))
        n.use(n.op("Resize", "image", "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"))
    if opset >= 18:
        n.use(n.op("Resize", "image", "", "", n.const(i(7, 3)), axes=[2, 3], **linear))
    n.save()


def lines():
    n = Net("lines_18", 18)
    wide = n.op("Mul", "image", n.const(np.float32(7)))
    wide = n.op("Sub", wide, n.const(np.float32(3.2)))
    n.use(n.op("CumSum", "image", n.const(np.int64(2))))
    n.use(n.op("CumSum", "image", n.const(np.int64(-1)), exclusive=1, reverse=1))
    n.use(n.op("ReduceProd", wide, n.const(i(2, 3)), keepdims=0))
    n.use(n.op("ReduceProd", wide, n.const(i(1)), keepdims=1))
    n.use(n.op("Hardmax", wide, axis=2))
    n.use(n.op("TopK", wide, n.const(i(3)), axis=2, outputs=2)[0])
    n.use(n.op("TopK", wide, n.const(i(2)), axis=-1, largest=0, outputs=2)[0])
    n.use(n.op("MeanVarianceNormalization", wide, axes=[2, 3]))
    n.use(n.op("LpNormalization", wide, axis=1, p=1))
    n.use(n.op("LpNormalization", wide, axis=3, p=2))
    n.use(n.op("Trilu", "image", n.const(np.int64(-1)), upper=1))
    n.use(n.op("Trilu", "image", upper=0))
    for kind in ("Floor", "Ceil", "Round", "Sign", "Atan", "Sinh", "Cosh", "Asinh"):
        n.use(n.op(kind, wide))
    for kind in ("Asin", "Acos", "Atanh", "Tan"):
        n.use(n.op(kind, "image"))
    n.use(n.op("Acosh", n.op("Exp", "image")))
    n.use(n.op("Pow", wide, n.const(np.int32(3))))
    n.use(n.op("CastLike", wide, n.const(np.float32(1))))
    n.use(n.op("Compress", wide, n.const(np.array([True, False, True, True, False])), axis=2))
    n.use(n.op("CenterCropPad", wide, n.const(i(3, 8)), axes=[2, 3]))
    n.use(n.op("Einsum", "image", n.const(f(5, 3)), equation="...i,ij->...j"))
    n.save(runtime=True)


def places():
    n = Net("places_18", 18)
    front = n.op("Transpose", "image", perm=[1, 0, 2, 3])
    flipped = n.op("GatherND", front, n.const(np.array([[1], [0], [1]])))
    n.use(n.op("Transpose", flipped, perm=[1, 0, 2, 3]))
    front = n.op("Transpose", "image", perm=[2, 3, 0, 1])
    n.use(n.op("Transpose", n.op("GatherND", front, n.const(np.array([[0, 1], [4, 2], [3, 3]]))), perm=[1, 2, 0]))
    stacked = n.op("Concat", *(n.op("Unsqueeze", x, n.const(i(0))) for x in ("image", n.op("Relu", "image"))), axis=0)
    n.use(n.op("ReduceMean", stacked, n.const(i(0)), keepdims=0))
    # Once for each image.
    size = n.op("Shape", "image")
    rows = n.op("Slice", size, n.const(i(0)), n.const(i(1)))
    ones = n.op("ConstantOfShape", n.op("Concat", rows, n.const(i(2, 5)), axis=0), value=nh.from_array(np.array([1.5], np.float32)))
    n.use(n.op("Add", n.op("CumSum", ones, n.const(np.int64(2))), n.op("ReduceMean", "image", n.const(i(3)), keepdims=0)))
    shape = n.op("Concat", rows, n.const(i(2, 2, 5)), axis=0)
    index = n.op("Expand", n.const(np.array([[[[4, 0, 2, 1, 1], [3, 3, 0, 1, 2]], [[0, 0, 0, 0, 0], [-1, -2, -3, 1, 4]]]])), shape)
    n.use(n.op("GatherElements", "image", index, axis=2))
    index = n.op("Expand", n.const(np.array([[[[1, 0, 2, 1, 3], [3, 4, 0, 2, 1]], [[0, 0, 0, 0, 0], [4, 1, 3, 1, 4]]]])), shape)
    part = n.op("Slice", "image", n.const(i(0)), n.const(i(2)), n.const(i(2)))
    n.use(n.op("ScatterElements", "image", index, n.op("Exp", part), axis=2))
    for reduction in ("add", "mul", "max"):
        n.use(n.op("ScatterElements", "image", index, n.op("Sub", n.const(np.float32(1)), part), axis=2, reduction=reduction))
    n.use(n.op("GatherND", "image", n.op("Expand", n.const(np.array([[[1, 2], [0, 4]]])), n.op("Concat", rows, n.const(i(2, 2)), axis=0)), batch_dims=1))
    # Merged with the batch and back.
    merged = n.op("Reshape", "image", n.const(i(-1, 1, 5, 5)))
    maps = n.op("Conv", merged, n.const(f(3, 1, 3, 2)), n.const(f(3)), strides=[2, 1], pads=[1, 0, 2, 1])
    n.use(n.op("Reshape", maps, n.op("Concat", rows, n.const(i(-1)), axis=0)))
    n.use(n.op("Reshape", n.op("MaxPool", merged, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), n.op("Concat", rows, n.const(i(-1)), axis=0)))
    n.use(n.op("Reshape", n.op("AveragePool", merged, kernel_shape=[2, 3]), n.op("Concat", rows, n.const(i(-1)), axis=0)))
    lines = n.op("Flatten", "image", axis=3)
    lines = n.op("Gemm", lines, n.const(f(5, 3)), n.const(f(3)))
    n.use(n.op("Reshape", lines, n.op("Concat", rows, n.const(i(-1)), axis=0)))
    n.save(runtime=True)


def windows():
    n = Net("windows_19", 19)
    n.use(n.op("MaxPool", "image", kernel_shape=[2, 2], dilations=[2, 3], strides=[1, 1], pads=[1, 0, 1, 1]))
    n.use(n.op("AveragePool", "image", kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 0, 0]))
    n.use(n.op("AveragePool", "image", kernel_shape=[2, 2], dilations=[1, 2], pads=[1, 1, 0, 0], count_include_pad=1))
    n.use(n.op("LpPool", "image", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], p=3))
    n.use(n.op("GlobalLpPool", "image", p=2))
    room = n.op("Reshape", "image", n.const(i(0, 2, 1, 5, 5)))
    room = n.op("Concat", room, n.op("Relu", n.op("Neg", room)), n.op("Exp", room), axis=2)
    n.use(n.op("MaxPool", room, kernel_shape=[2, 3, 2], strides=[1, 2, 1], pads=[0, 1, 0, 0, 1, 0]))
    n.use(n.op("AveragePool", room, kernel_shape=[2, 2, 2], pads=[1, 0, 0, 0, 0, 1]))
    n.use(n.op("GlobalAveragePool", room))
    n.use(n.op("Conv", room, n.const(f(4, 2, 2, 3, 3)), n.const(f(4)), pads=[0, 1, 1, 1, 1, 1], strides=[1, 2, 1]))
    n.use(n.op("Conv", room, n.const(f(4, 1, 3, 1, 2)), group=2, dilations=[1, 1, 2]))
    blocks = n.op("Reshape", n.op("Slice", "image", n.const(i(0)), n.const(i(4)), n.const(i(3))), n.const(i(0, 10, 4)))
    n.use(n.op("Col2Im", n.op("Concat", blocks, n.op("Exp", blocks), axis=1), n.const(i(3, 6)), n.const(i(2, 5)), pads=[0, 0, 0, 0]))
    n.save(runtime=True)


def grids():
    n = Net("grids_20", 20)
    for mode in ("linear", "nearest"):
        for padding, corners in (("zeros", 0), ("border", 1), ("reflection", 0)):
            grid = n.op("Sub", n.op("Mul", "image", n.const(np.float32(3))), n.const(np.float32(1.4)))
            grid = n.op("Reshape", grid, n.const(i(0, 5, 5, 2)))
            n.use(n.op("GridSample", "image", grid, mode=mode, padding_mode=padding, align_corners=corners))
    theta = n.op("Slice", n.op("Flatten", "image", axis=1), n.const(i(0)), n.const(i(6)), n.const(i(1)))
    theta = n.op("Reshape", theta, n.const(i(0, 2, 3)))
    rows = n.op("Slice", n.op("Shape", "image"), n.const(i(0)), n.const(i(1)))
    size = n.op("Concat", rows, n.const(i(2, 4, 3)), axis=0)
    for corners in (0, 1):
        n.use(n.op("GridSample", "image", n.op("AffineGrid", theta, size, align_corners=corners), align_corners=corners))
    n.save(runtime=True)


def quantised():
    n = Net("quantised_21", 21)
    q = lambda x, scale, zero, **a: n.op("QuantizeLinear", x, n.const(np.float32(scale)), n.const(zero), **a)
    d = lambda x, scale, zero, **a: n.op("DequantizeLinear", x, n.const(np.float32(scale)), n.const(zero), **a)
    # Halves of a step, in numbers that any arithmetic holds exactly.
    grid = n.op("Mul", n.op("Round", n.op("Mul", "image", n.const(np.float32(16)))), n.const(np.float32(0.0625)))
    n.use(d(q(grid, 0.125, np.uint8(3)), 0.125, np.uint8(3)))
    n.use(d(q("image", 0.004, np.int8(-10)), 0.004, np.int8(-10)))
    n.use(d(q("image", 0.0025, np.uint8(0)), 0.0025, np.uint8(0)))
    each = ([0.01, 0.003], np.array([5, 100], np.uint8))
    n.use(d(q("image", *each, axis=1), *each, axis=1))
    levels = q(n.op("Sub", "image", n.const(np.float32(0.5))), 0.004, np.uint8(128))
    n.use(d(n.op("MaxPool", levels, kernel_shape=[2, 2]), 0.004, np.uint8(128)))
    weight = d(q(n.const(f(3, 2, 3, 3)), [0.02, 0.03, 0.01], np.zeros(3, np.int8), axis=0), [0.02, 0.03, 0.01], np.zeros(3, np.int8), axis=0)
    n.use(d(q(n.op("Conv", d(levels, 0.004, np.uint8(128)), weight), 0.02, np.uint8(120)), 0.02, np.uint8(120)))
    n.save(runtime=True)


for opset in (11, 13, 18, 21):
    activations(opset)
    layouts(opset)
for opset in (11, 15):
    norms(opset)
for opset in (11, 13, 18):
    reductions(opset)
arithmetic()
convolutions()
pools()
matrices()
shapes()
types()
fixed_batch()
outputs()
# New files last: the numbers of the others stay.
for opset in (13, 18, 21):
    group_norms(opset)
for opset in (13, 18):
    resizes(opset)
for make in (lines, places, windows, grids, quantised):
    make()
np.savez_compressed(os.path.join(HERE, "expected.npz"), **expected)
