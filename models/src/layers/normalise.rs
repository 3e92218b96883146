//! Normalisation as a layer: inside the network, so that epsilon means pixels.

use crate::options::Options;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Binary, Builder, NodeId, Op};

/// Appends `(x - mean) / std` per channel, from the options or from the buffers a file brings; nothing if neither does.
pub(crate) fn normalise(
    net: &mut Builder,
    x: NodeId,
    options: &Options,
    buffers: Option<(Tensor, Tensor)>,
) -> Result<NodeId> {
    let row = net.shape(x).row.clone();
    let (mean, std) = match (buffers, &options.mean, &options.std) {
        (None, None, None) => return Ok(x),
        (Some((mean, std)), None, None) => (mean, std),
        (None, given_mean, given_std) => {
            let channels = row.first().copied().unwrap_or(1);
            let tensor = |what: &str, values: &Option<Vec<f64>>, default: f64| {
                let values = values.clone().unwrap_or(vec![default]);
                if values.len() != channels && values.len() != 1 {
                    return Err(Error::usage(format!(
                        "{what} has {} values, the model {channels} channels",
                        values.len()
                    )));
                }
                let n = values.len();
                Ok(Tensor::from_vec(values, n, &Device::Cpu)?)
            };
            (tensor("mean", given_mean, 0.)?, tensor("std", given_std, 1.)?)
        }
        (Some(_), ..) => {
            return Err(Error::usage("the file already normalises its input with buffers of its own")
                .hint("leave `mean` and `std` out"));
        }
    };
    if is_all(&mean, 0.)? && is_all(&std, 1.)? {
        return Ok(x);
    }
    let spread = std.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    if let Some(bad) = spread.into_iter().find(|s| !(s.is_finite() && *s > 0.)) {
        return Err(Error::load("the normalisation", format!("a standard deviation is {bad}, not positive")));
    }
    let mut out = x;
    for (name, made, value, op) in [("mean", "centred", mean, Binary::Sub), ("std", "scaled", std, Binary::Div)] {
        let mut dims = vec![1; row.len() + 1];
        dims[1] = value.elem_count();
        let param = net.param(format!("normalise.{name}"), value.reshape(dims)?);
        let value = net.node(format!("normalise.{name}"), Op::Param(param), &[])?;
        out = net.node(format!("normalise.{made}"), Op::Binary(op), &[out, value])?;
    }
    Ok(out)
}

fn is_all(values: &Tensor, wanted: f64) -> Result<bool> {
    Ok(values.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().all(|v| *v == wanted))
}
