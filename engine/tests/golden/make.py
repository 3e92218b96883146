"""Writes ops.safetensors: what PyTorch computes for small ops, in f64 stored as f32 (inputs are exact in f32).

Run with PyTorch 2.15 and safetensors: python make.py. Case i has tensors i.x, i.g (the output's seed), i.y, i.dx, and
i.p0, i.p1, ... with gradients i.dp0, ...; the metadata entry "cases" lists their ops as JSON.
"""
import json, os
import torch, torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(0)
tensors, cases = {}, []


def draw(*dims):
    return torch.randn(*dims).float().double()


def add(op, x, f, params=(), **attrs):
    i = len(cases)
    x = x.clone().requires_grad_()
    params = [p.clone().requires_grad_() for p in params]
    y = f(x, *params)
    g = draw(*y.shape)
    grads = torch.autograd.grad(y, [x, *params], g, materialize_grads=True)
    cases.append({"op": op, **attrs})
    for name, t in [("x", x), ("g", g), ("y", y), ("dx", grads[0])]:
        tensors[f"{i}.{name}"] = t.detach().float().contiguous()
    for k, (p, d) in enumerate(zip(params, grads[1:])):
        tensors[f"{i}.p{k}"], tensors[f"{i}.dp{k}"] = p.detach().float(), d.float().contiguous()


def conv(c, h, w, o, k, stride, dilation, pads, groups):  # pads: top, left, bottom, right
    t, l, b, r = pads
    f = lambda x, w, bias: F.conv2d(F.pad(x, (l, r, t, b)), w, bias, stride, 0, dilation, groups)
    add("conv", draw(2, c, h, w), f, [draw(o, c // groups, *k), draw(o)],
        stride=stride, dilation=dilation, pads=pads, groups=groups)


conv(3, 7, 6, 4, (3, 3), [1, 1], [1, 1], [1, 1, 1, 1], 1)
conv(3, 8, 7, 4, (3, 2), [2, 3], [1, 1], [0, 1, 1, 0], 1)
conv(4, 9, 8, 6, (3, 3), [1, 2], [2, 1], [2, 1, 0, 3], 2)
conv(4, 6, 6, 4, (3, 3), [2, 2], [1, 1], [1, 1, 1, 1], 4)
conv(4, 5, 7, 8, (2, 3), [1, 1], [1, 2], [0, 2, 1, 2], 4)
conv(5, 5, 4, 3, (1, 1), [1, 1], [1, 1], [0, 0, 0, 0], 1)
conv(5, 6, 5, 3, (1, 1), [2, 2], [1, 1], [0, 0, 0, 0], 1)

ties = torch.randint(-1, 2, (2, 2, 7, 8)).double()
for k, s, p, ceil in [((2, 2), [2, 2], (0, 0), False), ((3, 3), [2, 2], (1, 1), False), ((3, 3), [2, 2], (1, 1), True),
                      ((3, 2), [1, 3], (1, 0), False), ((2, 3), [3, 2], (1, 1), True), ((1, 3), [5, 4], (0, 1), True)]:
    attrs = dict(kernel=k, stride=s, pads=[*p, *p], ceil=ceil)
    f = lambda x: F.max_pool2d(x, k, s, p, 1, ceil)
    add("max_pool", draw(2, 2, 7, 8), f, **attrs)
    add("max_pool", ties, f, **attrs)
    for count in [True, False]:
        add("avg_pool", draw(2, 2, 7, 8), lambda x: F.avg_pool2d(x, k, s, p, ceil, count), count=count, **attrs)

for eps, row in [(1e-5, (3, 4, 5)), (1e-3, (3,))]:
    f = lambda x, m, v, w, b: (x - m.view(-1, *[1] * (len(row) - 1))) * (w / torch.sqrt(v + eps)).view(-1, *[1] * (len(row) - 1)) + b.view(-1, *[1] * (len(row) - 1))
    mean, var, gamma, beta = draw(3), draw(3).abs() + 0.5, draw(3), draw(3)
    x = draw(2, *row)
    # Written out because batch_norm gives no gradient of its running statistics; the values must agree.
    assert torch.allclose(f(x, mean, var, gamma, beta), F.batch_norm(x, mean, var, gamma, beta, False, 0.1, eps))
    add("batch_norm", x, f, [mean, var, gamma, beta], eps=eps)

add("linear", draw(3, 6), lambda x, w, b: F.linear(x, w, b), [draw(4, 6), draw(4)])
add("linear", draw(2, 5, 6), lambda x, w, b: F.linear(x, w, b), [draw(3, 6), draw(3)])
for axis in [1, 3]:
    add("softmax", draw(2, 3, 4, 5) * 3, lambda x: F.softmax(x, axis), axis=axis)
    add("log_softmax", draw(2, 3, 4, 5) * 3, lambda x: F.log_softmax(x, axis), axis=axis)

kinks = torch.tensor([-20., -6., -3., -2.5, -1., -0.5, -0., 0., 0.25, 0.5, 1., 2.5, 3., 6., 7., 20.]).double()
line = torch.cat([kinks, draw(8).float().double()]).view(2, 12)
for name, f in [("relu", F.relu), ("leaky_relu", lambda x: F.leaky_relu(x, 0.1)), ("elu", lambda x: F.elu(x, 0.7)),
                ("clip", lambda x: F.hardtanh(x, -0.5, 6.)), ("sigmoid", torch.sigmoid), ("hard_sigmoid", F.hardsigmoid),
                ("tanh", torch.tanh), ("silu", F.silu), ("hard_swish", F.hardswish), ("gelu", F.gelu),
                ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
                # The default threshold of 20 cuts the exact function off.
                ("softplus", lambda x: F.softplus(x, 1, 60)), ("exp", torch.exp), ("abs", torch.abs), ("neg", torch.neg),
                ("erf", torch.erf)]:
    add(name, line, f)
for name, f in [("log", torch.log), ("sqrt", torch.sqrt), ("reciprocal", torch.reciprocal)]:
    add(name, line.abs() + 0.25, f)

# Small integers tie often.
small = torch.randint(-2, 3, (3, 2, 4)).double()
for name, f in [("max", torch.maximum), ("min", torch.minimum), ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul)]:
    add(name, small, f, [torch.tensor([-1., 0., 1., 2.]).double()])
    add(name, small, f, [draw(2, 1)])
add("div", small, torch.div, [draw(2, 4).abs() + 0.5])
add("pow", torch.randint(0, 4, (3, 2, 4)).double(), torch.pow, [torch.tensor([0., 1., 2., 3.]).double()])
add("pow", draw(3, 2, 4).abs() + 0.25, torch.pow, [torch.tensor([-0.5, 0.5, 1.5, -2.]).double()])
add("reduce_max", small, lambda x: torch.amax(x, (1, 2)), axes=[1, 2])
add("reduce_mean", small, lambda x: torch.mean(x, (2,)), axes=[2])
add("reduce_sum", small, lambda x: torch.sum(x, (1, 2)), axes=[1, 2])
add("matmul", draw(2, 3, 4, 5), torch.matmul, [draw(5, 6)])
add("matmul", draw(4, 5), torch.matmul, [draw(5, 3)])

# Integers lie on the edges of bands of whole standard deviations, and thirds do nearly.
for axis, threshold in [(1, 1.), (2, 0.5), (3, 0.), (1, 1 / 3)]:
    def mean_sparse(x, mean, var, threshold):
        line = [1] * 4
        line[axis] = -1
        mean, reach = mean.view(line), threshold * torch.sqrt(var).view(line)
        return torch.where((x - mean).abs() < reach, mean * torch.ones_like(x), x)
    x = torch.randint(-4, 5, (2, 3, 3, 3)).double() / (1 if threshold else 3)
    add("mean_sparse", x, mean_sparse, [torch.tensor([-1., 0., 2.]).double(), torch.tensor([1., 4., 16.]).double(),
                                        torch.tensor(threshold).float().double()], axis=axis)

# Small angles, and some far from zero.
angles = torch.cat([draw(8), 100 * draw(8), 1e6 * draw(8)]).float().double().view(2, 12)
for name, f in [("sin", torch.sin), ("cos", torch.cos)]:
    add(name, angles, f)

# Places on, between and beyond pixels; a quarter more keeps them off the kinks of the slope.
for mode in ["bilinear", "nearest"]:
    for edge in ["zeros", "border", "reflection"]:
        for corners in [False, True]:
            f = lambda x, g: F.grid_sample(x, g.expand(2, -1, -1, -1), mode, edge, corners)
            add("grid_sample", draw(2, 3, 5, 4), f, [1.3 * draw(1, 4, 6, 2)], mode=mode, edge=edge, corners=corners)
            f = lambda x, g: F.grid_sample(x, g.expand(1, -1, -1, -1), mode, edge, corners)
            add("grid_sample", draw(1, 2, 1, 6), f, [3. * draw(1, 3, 5, 2)], mode=mode, edge=edge, corners=corners)
for k, largest in [(1, True), (3, True), (4, False)]:
    # Without ties, whose order PyTorch leaves open.
    add("sorted", torch.randperm(40).double().view(2, 5, 4), lambda x: torch.topk(x, k, -1, largest)[0], k=k, largest=largest)
places = [5, 0, 0, 11, 3, 5, 5]
add("pick", draw(2, 3, 4), lambda x: x.flatten(1)[:, places], **{"from": places})
halves = torch.tensor([-4., -3.5, -2.5, -1.5, -1., -0.5, -0.4, 0., 0.5, 0.6, 1.5, 2.5, 3.5, 4.49, 4.5, 4.6, 5.5, 9.]).double().view(2, 9)
for name, f in [("floor", torch.floor), ("ceil", torch.ceil), ("round", torch.round),
                # PyTorch has it in single precision.
                ("fake_quantize", lambda x: torch.fake_quantize_per_tensor_affine(x.float(), 1., 0, -3, 4).double())]:
    add(name, halves, f)
    add(name, 4 * draw(2, 9), f)
inner = torch.linspace(-0.95, 0.95, 18).float().double().view(2, 9)
for name, f in [("asin", torch.asin), ("acos", torch.acos), ("atanh", torch.atanh), ("tan", torch.tan)]:
    add(name, inner, f)
for name, f in [("atan", torch.atan), ("sinh", torch.sinh), ("cosh", torch.cosh), ("asinh", torch.asinh)]:
    add(name, 2 * draw(2, 9), f)
add("acosh", draw(2, 9).abs() + 1.25, torch.acosh)

here = os.path.dirname(os.path.abspath(__file__))
save_file(tensors, os.path.join(here, "ops.safetensors"), {"cases": json.dumps(cases), "torch": torch.__version__})
