//! What an attack, a defence or a report may know of a model, and how it is asked.

use crate::{Draw, Error, Norm, Preprocess, Result, View};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the attacker may see. Ordered: more access includes less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Nothing,
    Label,
    Scores,
    Gradient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    Image,
    Tokens,
    Features,
}

/// One row of input: `shape` without the batch; `domain` is the closed range of every entry, `None` when unbounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub shape: Vec<usize>,
    pub domain: Option<(f32, f32)>,
    pub kind: InputKind,
}

impl Input {
    /// `[c, h, w]` with pixels in `[0,1]`.
    pub fn image(c: usize, h: usize, w: usize) -> Self {
        Self { shape: vec![c, h, w], domain: Some((0., 1.)), kind: InputKind::Image }
    }
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether a shape is a line of entries, such as `[784]`, `[784, 1]`, `[1, 784]` or `[1, 1, 784]`: no image.
    pub fn is_line(shape: &[usize]) -> bool {
        match shape {
            // One pixel may have three channels; more are features.
            [c, 1, 1] => *c > 4,
            _ => shape.iter().filter(|d| **d != 1).count() <= 1 && shape.iter().any(|d| *d != 1),
        }
    }
    /// What L0 counts: pixels of an image, entries of anything else.
    pub fn sites(&self) -> usize {
        self.len() / self.channels()
    }
    /// Entries that change together when L0 counts one: an image's channels.
    pub fn channels(&self) -> usize {
        match (self.kind, self.shape.as_slice()) {
            (InputKind::Image, [c, _, _]) => *c,
            _ => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// `[n, k]` unnormalised class scores.
    Logits { k: usize },
    /// `[n, d]` features without classes.
    Embedding { d: usize },
}

impl Output {
    pub fn width(&self) -> usize {
        match *self {
            Output::Logits { k } => k,
            Output::Embedding { d } => d,
        }
    }
}

/// The model's own account of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub name: String,
    /// blake3 of the weights and the graph, hex: two runs with equal digests attacked the same function.
    pub digest: String,
    pub input: Input,
    pub output: Output,
    /// Outputs depend on the draw.
    pub stochastic: bool,
    /// A row's output depends on its neighbours (train-mode batch norm).
    pub couples_rows: bool,
    pub access: Access,
    /// Names of inner activations a trace can return, by [`TapId`].
    pub taps: Vec<String>,
    /// How images become its input, where it is known; a data set's own rule goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// The threat the model was built against, if it says so: used when the user gives no epsilon.
    pub default_threat: Option<(Norm, f64)>,
}

impl Card {
    /// What the model wants of a data set.
    pub fn view(&self) -> View {
        View { input: self.input.clone(), preprocess: self.preprocess }
    }
}

/// Index into [`Card::taps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TapId(pub usize);

/// Where a pullback is seeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    Output,
    Tap(TapId),
}

pub trait Model: Send + Sync {
    fn card(&self) -> &Card;

    /// Rows `[n, input...]` -> `[n, width]`, by the fastest path that is good enough to search with.
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor>;

    /// The same function by its most exact path, which the judge uses to confirm. Default: [`Model::forward`].
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.forward(x, draw)
    }

    /// One forward that can be pulled back any number of times, with chosen inner activations.
    fn trace<'a>(&'a self, _x: &Tensor, _draw: &Draw, _taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        let name = &self.card().name;
        Err(Error::usage(format!("model `{name}` gives no gradients"))
            .hint("use an attack that needs scores or labels only: `robust list attacks` shows what each needs"))
    }
}

pub trait Trace {
    fn output(&self) -> &Tensor;
    /// The activation of a tap that was asked for.
    fn tap(&self, tap: TapId) -> Result<&Tensor>;
    /// Sum over the seeds of (d site / d x)^T seed: `[n, input...]`, each row from its own seed rows alone.
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor>;
}

/// How a random model is judged: `m` fresh draws, fooled when at least `k` of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Votes {
    pub k: u32,
    pub m: u32,
}

/// What is attacked and through what. Plain white box: no surrogates, the attacker climbs the deployed model itself.
#[derive(Clone)]
pub struct Target {
    pub deployed: Arc<dyn Model>,
    /// When not empty, gradients and search scores come from their average; the judge still asks the deployed model.
    pub surrogates: Vec<Arc<dyn Model>>,
    /// Gradient draws averaged per step (expectation over transformation).
    pub eot: u32,
    pub votes: Votes,
}

impl Target {
    /// One draw per gradient; a random model is judged by a majority of 10 fresh draws, others by one.
    pub fn white_box(deployed: Arc<dyn Model>) -> Self {
        let votes = if deployed.card().stochastic { Votes { k: 5, m: 10 } } else { Votes { k: 1, m: 1 } };
        Self { deployed, surrogates: vec![], eot: 1, votes }
    }

    /// The models the search may ask.
    pub fn search(&self) -> &[Arc<dyn Model>] {
        if self.surrogates.is_empty() { std::slice::from_ref(&self.deployed) } else { &self.surrogates }
    }
}
