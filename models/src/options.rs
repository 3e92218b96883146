//! What a user may say about a model beyond where it is.

use robust_core::Preprocess;

/// The line that makes a file of any PyTorch network; the zeros have the shape of a batch of images. Hints of refused weights
/// begin with it: weights carry no code.
pub(crate) const EXPORT: &str = "torch.onnx.export(model.eval(), torch.zeros(1, 3, 32, 32), 'net.onnx', dynamo=True)";

/// What a user may say about a model beyond where it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Name of one of [`ARCHITECTURES`](crate::families::ARCHITECTURES); recognised from the tensor names when absent.
    pub arch: Option<String>,
    /// Where in a `.pth` checkpoint the state dict is, as a dotted path; searched for when absent.
    pub key: Option<String>,
    /// Which of the functions that share the same tensor names, for architectures that have several.
    pub variant: Option<String>,
    /// Heads of each attention, where names and shapes do not say it.
    pub heads: Option<String>,
    /// The layers of an `nn.Sequential`, which the tensors do not tell; see `families::sequential`.
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
    /// The file of a [`Head`](crate::Head) to put on the embedding.
    pub head: Option<std::path::PathBuf>,
    /// How images of other sizes become the input.
    pub preprocess: Option<Preprocess>,
}
