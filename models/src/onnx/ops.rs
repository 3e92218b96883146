//! Which operators can be built into a network, and what is said of others.

use super::call::{Call, Lower};
use super::proto::NodeProto;
use super::{
    arithmetic, attention, einsum, fold, grid, group_norm, layers, layout, lines, patches, places, pointwise,
    quantised, resample, select, transposed,
};
use robust_core::{Error, Result};

/// Every op that can be built into a network, by its ONNX name.
pub(super) const OPS: &[(&str, Lower)] = &[
    ("Abs", pointwise::activation),
    ("Acos", pointwise::activation),
    ("Acosh", pointwise::activation),
    ("Add", pointwise::binary),
    ("AffineGrid", grid::affine_grid),
    ("And", arithmetic::mask),
    ("Asin", pointwise::activation),
    ("Asinh", pointwise::activation),
    ("Atan", pointwise::activation),
    ("Atanh", pointwise::activation),
    ("Attention", attention::attention),
    ("AveragePool", layers::pool),
    ("BatchNormalization", layers::batch_norm),
    ("Cast", layout::cast),
    ("CastLike", lines::cast_like),
    ("Ceil", pointwise::activation),
    ("Celu", arithmetic::composed),
    ("CenterCropPad", places::center),
    ("Clip", pointwise::activation),
    ("Col2Im", patches::col2im),
    ("Compress", places::compress),
    ("Concat", layout::concat),
    ("Conv", layers::conv),
    ("ConvTranspose", transposed::conv_transpose),
    ("Cos", pointwise::activation),
    ("Cosh", pointwise::activation),
    ("CumSum", lines::running_sums),
    ("DepthToSpace", select::depth_to_space),
    ("DequantizeLinear", quantised::dequantize),
    ("Div", pointwise::binary),
    ("Dropout", layout::identity),
    ("Einsum", einsum::einsum),
    ("Elu", pointwise::activation),
    ("Equal", arithmetic::mask),
    ("Erf", pointwise::activation),
    ("Exp", pointwise::activation),
    ("Expand", layout::expand),
    ("Flatten", layout::flatten),
    ("Floor", pointwise::activation),
    ("Gather", layout::gather),
    ("GatherElements", places::gather_elements),
    ("GatherND", places::gather_nd),
    ("Gelu", pointwise::activation),
    ("Gemm", layers::gemm),
    ("GlobalAveragePool", layers::global_pool),
    ("GlobalLpPool", patches::global_norm),
    ("GlobalMaxPool", layers::global_pool),
    ("Greater", arithmetic::mask),
    ("GreaterOrEqual", arithmetic::mask),
    ("GridSample", grid::grid_sample),
    ("GroupNormalization", group_norm::group_norm),
    ("HardSigmoid", pointwise::activation),
    ("HardSwish", pointwise::activation),
    ("Hardmax", lines::hardmax),
    ("Identity", layout::identity),
    ("InstanceNormalization", group_norm::instance_norm),
    ("LRN", transposed::lrn),
    ("LayerNormalization", layers::layer_norm),
    ("LeakyRelu", pointwise::activation),
    ("Less", arithmetic::mask),
    ("LessOrEqual", arithmetic::mask),
    ("Log", pointwise::activation),
    ("LogSoftmax", layers::softmax),
    ("LpNormalization", lines::lp_norm),
    ("LpPool", patches::pool),
    ("MatMul", layers::matmul),
    ("Max", pointwise::extremum),
    ("MaxPool", layers::pool),
    ("Mean", arithmetic::several),
    ("MeanVarianceNormalization", lines::mean_variance),
    ("Min", pointwise::extremum),
    ("Mish", arithmetic::composed),
    ("Mul", pointwise::binary),
    ("Neg", pointwise::activation),
    ("Not", arithmetic::mask),
    ("Or", arithmetic::mask),
    ("PRelu", arithmetic::prelu),
    ("Pad", layout::pad),
    ("Pow", pointwise::binary),
    ("QuantizeLinear", quantised::quantize),
    ("RMSNormalization", lines::rms_norm),
    ("Reciprocal", pointwise::activation),
    ("ReduceL1", layers::reduce),
    ("ReduceL2", layers::reduce),
    ("ReduceLogSum", layers::reduce),
    ("ReduceLogSumExp", layers::reduce),
    ("ReduceMax", layers::reduce),
    ("ReduceMean", layers::reduce),
    ("ReduceMin", layers::reduce),
    ("ReduceProd", layers::reduce),
    ("ReduceSum", layers::reduce),
    ("ReduceSumSquare", layers::reduce),
    ("Relu", pointwise::activation),
    ("Reshape", layout::reshape),
    ("Resize", resample::resize),
    ("Round", pointwise::activation),
    ("Scatter", places::scatter),
    ("ScatterElements", places::scatter),
    ("ScatterND", places::scatter),
    ("Selu", arithmetic::composed),
    ("Shape", layout::shape),
    ("Shrink", arithmetic::composed),
    ("Sigmoid", pointwise::activation),
    ("Sign", arithmetic::composed),
    ("Sin", pointwise::activation),
    ("Sinh", pointwise::activation),
    ("Slice", layout::slice),
    ("Softmax", layers::softmax),
    ("Softplus", pointwise::activation),
    ("Softsign", arithmetic::composed),
    ("SpaceToDepth", select::space_to_depth),
    ("Split", layout::split),
    ("Sqrt", pointwise::activation),
    ("Squeeze", layout::squeeze),
    ("Sub", pointwise::binary),
    ("Sum", arithmetic::several),
    ("SwiGLU", lines::swiglu),
    ("Swish", arithmetic::composed),
    ("Tan", pointwise::activation),
    ("Tanh", pointwise::activation),
    ("ThresholdedRelu", arithmetic::composed),
    ("Tile", select::tile),
    ("TopK", lines::top),
    ("Transpose", layout::transpose),
    ("Trilu", lines::triangle),
    ("Unsqueeze", layout::unsqueeze),
    ("Upsample", resample::resize),
    ("Where", arithmetic::choose),
];

/// Whether the op is one of the standard's own.
pub(super) fn is_standard(call: &Call) -> bool {
    ["", "ai.onnx"].contains(&call.node.domain.as_str())
}

/// Names an operator that is not supported before any other trouble: no setting of an exporter would change it.
pub(super) fn check<'a>(nodes: impl Iterator<Item = &'a NodeProto>, opset: i64) -> Result<()> {
    for node in nodes {
        let call = Call { node, opset, inputs: vec![], hidden: 0 };
        let known = is_standard(&call);
        let supported = OPS.iter().any(|(name, _)| *name == call.op()) || fold::ONLY_FOLDED.contains(&call.op());
        if !known || !supported {
            return Err(unsupported(&call, known));
        }
    }
    Ok(())
}

/// Ops of integers, as quantised files have them.
const INTEGERS: &[&str] =
    &["ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul"];

pub(super) fn unsupported(call: &Call, known: bool) -> Error {
    let domain = if known { String::new() } else { format!(" of domain `{}`", call.node.domain) };
    let error = call.fail(format!("unsupported op `{}`{domain}", call.op()));
    if INTEGERS.contains(&call.op()) || call.op().starts_with("QLinear") {
        return error.hint(
            "export the float model, or quantise it with QuantizeLinear and DequantizeLinear around its layers (the QDQ format)",
        );
    }
    let names: Vec<&str> = OPS.iter().map(|(name, _)| *name).chain(fold::ONLY_FOLDED.iter().copied()).collect();
    error.hint(format!("supported: {}", names.join(", ")))
}
