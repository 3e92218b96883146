//! What changed between the versions of ONNX's operators, as far as it matters here: a file is read by the rules of its own opset, and
//! where an operator meant something that is not known here, that operator is refused and not the file.

use super::call::Call;
use super::proto::ModelProto;
use robust_core::{Error, Result};

/// Broadcasting has been numpy's since 7.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// The opset of the file's own operators.
pub fn opset(model: &ModelProto) -> Result<i64> {
    let found = model.opset_import.iter().find(|o| ["", "ai.onnx"].contains(&o.domain.as_str()));
    let version = found.map(|o| o.version);
    match version {
        Some(v) if OPSETS.contains(&v) => Ok(v),
        _ => {
            let shown = version.map_or("none".into(), |v| v.to_string());
            Err(Error::load(
                "the file",
                format!("its ONNX opset is {shown}; {} to {} are supported", OPSETS.start(), OPSETS.end()),
            )
            .hint("torch.onnx.export(model, x, \"net.onnx\", dynamo=True, opset_version=18)"))
        }
    }
}

/// Refuses a node whose operator says something else in the file's opset than it is read as.
///
/// # Errors
/// Kind `Load`, with the node.
pub fn check(call: &Call) -> Result<()> {
    match call.op() {
        // Statistics of each entry instead of each channel.
        "BatchNormalization" if call.opset < 9 && call.int("spatial", 1)? == 0 => {
            Err(call.fail("spatial = 0 (statistics of single entries, before opset 9) is not supported"))
        }
        // From 11 on no operator differs from what is built for 18; later versions added element types alone, but for these.
        "Cast" if call.opset >= 24 && call.has("round_mode") && call.text("round_mode", "up")? != "up" => {
            Err(call.fail("its round_mode is not supported"))
        }
        // Only the order of channels that was the only one before.
        "SpaceToDepth" if call.opset >= 28 && call.text("mode", "DCR")? != "DCR" => {
            Err(call.fail("its mode is not supported; DCR is"))
        }
        _ => Ok(()),
    }
}
