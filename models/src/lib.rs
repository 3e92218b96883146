//! Every way to get a model: ONNX files, safetensors and PyTorch weights of named architectures, and small built-in nets. Each is
//! lowered to a [`robust_engine::Network`] whose input is pixels in `[0,1]`: normalisation is a layer inside.

pub mod arch;
pub mod builtin;
mod compose;
mod convert;
pub mod ensemble;
mod facts;
mod files;
mod fold;
mod head;
pub mod hf;
#[cfg(feature = "hub")]
pub mod hub;
mod labels;
pub mod onnx;
mod output;
pub mod probe;
mod pth;
pub mod safetensors;
mod spec;
mod ssl;
pub mod statistics;

pub use convert::convert;
pub use facts::{Facts, Normalisation, OpFacts, inspect};
pub use head::Head;
pub use labels::{ClassNames, class_names};
pub use spec::{LoadedModel, load};

use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Preprocess, Result};
use robust_engine::{Binary, Builder, NodeId, Op};

/// The line that makes a file of any PyTorch network; the zeros have the shape of a batch of images. Hints of refused weights
/// begin with it: weights carry no code.
pub(crate) const EXPORT: &str = "torch.onnx.export(model.eval(), torch.zeros(1, 3, 32, 32), 'net.onnx', dynamo=True)";

/// What a user may say about a model beyond where it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Name of one of [`arch::ARCHITECTURES`]; recognised from the tensor names when absent.
    pub arch: Option<String>,
    /// Where in a `.pth` checkpoint the state dict is, as a dotted path; searched for when absent.
    pub key: Option<String>,
    /// Which of the functions that share the same tensor names, for architectures that have several.
    pub variant: Option<String>,
    /// Heads of each attention, where names and shapes do not say it.
    pub heads: Option<String>,
    /// The layers of an `nn.Sequential`, which the tensors do not tell; see `arch::layers`.
    pub layers: Option<String>,
    /// `relu`, `silu`, ...: for architectures whose tensors do not tell.
    pub activation: Option<String>,
    /// Subtracted from the pixels, one per channel or one for all.
    pub mean: Option<Vec<f64>>,
    /// The pixels are divided by it, positive.
    pub std: Option<Vec<f64>>,
    /// Prefix to strip from the names of a state dict.
    pub strip: Option<String>,
    /// Channels, height, width, where the file leaves them open.
    pub input: Option<[usize; 3]>,
    /// How the tokens of an encoder become one embedding: `cls` or `mean`.
    pub pool: Option<String>,
    /// What of the model is its output. `features`: what the last linear layer reads, an embedding. `embedding`: the output is an
    /// embedding and no scores of classes. Of ONNX files also the name of an output, or `embedding:NAME`.
    pub output: Option<String>,
    /// The order of an ONNX file's axes, `nchw` or `nhwc`, where the graph does not tell.
    pub layout: Option<String>,
    /// The file of a [`Head`] to put on the embedding.
    pub head: Option<std::path::PathBuf>,
    /// How images of other sizes become the input.
    pub preprocess: Option<Preprocess>,
}

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
