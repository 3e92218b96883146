//! A model in memory: the network, and what is known of it.

use robust_core::{Card, Error, Input, InputKind, Kind, Model, Norm, Output, Result};
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
    /// What the model computes, where it is a network of ours: a model elsewhere shows none.
    pub network: Option<Arc<Network>>,
    pub model: Arc<dyn Model>,
    /// Choices the loader made that a user should know of.
    pub notes: Vec<String>,
    /// Tensors of the file that are not part of the function.
    pub ignored: Vec<String>,
}

impl LoadedModel {
    /// A model that did not come from a file of ours.
    pub fn own(model: Arc<dyn Model>) -> Self {
        let card = model.card().clone();
        let (name, notes, ignored) = (card.name.clone(), vec![], vec![]);
        Self { name, format: "own", family: None, card, network: None, model, notes, ignored }
    }

    /// The network behind the model.
    ///
    /// # Errors
    /// Kind `Usage` for a model that shows none.
    pub fn graph(&self) -> Result<&Arc<Network>> {
        self.network.as_ref().ok_or_else(|| {
            Error::usage(format!("model `{}` does not show the network that it computes", self.name))
                .hint("name a file of weights or an ONNX file instead")
        })
    }
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
    let output = if embeds { Output::Embedding { d: k } } else { Output::Logits { k } };
    // The model itself finds its digest, and whether it jumps.
    let taps = features(network).into_iter().collect();
    Ok(Card { taps, default_threat: threat, ..Card::new(name, input, output) })
}

/// The name of the value the last linear layer reads.
fn features(network: &Network) -> Option<String> {
    let last = network.nodes().iter().rfind(|n| matches!(n.op, Op::Linear { .. }))?;
    let id = *last.inputs.first()?;
    let name = &network.nodes()[id.0].name;
    (network.find(name) == Some(id) && network.shapes()[id.0].batched).then(|| name.clone())
}
