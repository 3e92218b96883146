//! A model in memory: the network, and what is known of it.

use robust_core::{Access, Card, Error, Input, InputKind, Kind, Model, Norm, Output, Result};
use robust_engine::{Network, Op};
use std::sync::Arc;

/// A model ready to be attacked.
pub struct LoadedModel {
    /// The label in reports: `name=` if given, else the file's stem or the built-in's name.
    pub name: String,
    /// `onnx`, `safetensors`, `pth`, `huggingface`, `builtin` or `ensemble`.
    pub format: &'static str,
    /// Name of the architecture; `None` where the file brings its own graph.
    pub family: Option<String>,
    pub card: Card,
    pub network: Arc<Network>,
    pub model: Arc<dyn Model>,
    /// Choices the loader made that a user should know of.
    pub notes: Vec<String>,
    /// Tensors of the file that are no part of the function.
    pub ignored: Vec<String>,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel").field("card", &self.card).field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// The card of a network.
///
/// # Errors
/// Kind `Load` for outputs that are not one row of numbers.
pub(crate) fn describe(network: &Network, name: String, threat: Option<(Norm, f64)>, embeds: bool) -> Result<Card> {
    let input = match *network.input_row() {
        [c, h, w] if !Input::is_line(&[c, h, w]) => Input::image(c, h, w),
        ref shape => Input { shape: shape.to_vec(), domain: None, kind: InputKind::Features },
    };
    let [k] = *network.output_row() else {
        return Err(Error::new(
            Kind::Load,
            format!("the output has shape [n, {:?}], not [n, classes]", network.output_row()),
        ));
    };
    Ok(Card {
        name,
        digest: String::new(), // computed by the model itself
        input,
        output: if embeds { Output::Embedding { d: k } } else { Output::Logits { k } },
        stochastic: false,
        couples_rows: false,
        access: Access::Gradient,
        taps: features(network).into_iter().collect(),
        preprocess: None,
        default_threat: threat,
    })
}

/// The name of the value the last linear layer reads.
fn features(network: &Network) -> Option<String> {
    let last = network.nodes().iter().rfind(|n| matches!(n.op, Op::Linear { .. }))?;
    let id = *last.inputs.first()?;
    let name = &network.nodes()[id.0].name;
    (network.find(name) == Some(id) && network.shapes()[id.0].batched).then(|| name.clone())
}
