//! What a model says of itself.

use crate::{Access, Goal, Input, Norm, Preprocess, Rejection, View, argmax};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// `[n, k]` unnormalised class scores.
    Logits { k: usize },
    /// `[n, d]` features without classes.
    Embedding { d: usize },
    /// `[n, k + 1]`: class scores, then the rejection, which says by how much a detector's score is above its threshold. A
    /// row is rejected where that is above zero: the model then gives no answer.
    LogitsReject { k: usize },
}

impl Output {
    /// Columns of an answer.
    pub fn width(&self) -> usize {
        match *self {
            Output::Logits { k } => k,
            Output::Embedding { d } => d,
            Output::LogitsReject { k } => k + 1,
        }
    }

    /// Columns of an answer without the rejection: scores of classes, or the embedding.
    pub fn classes(&self) -> usize {
        match *self {
            Output::Logits { k } | Output::LogitsReject { k } => k,
            Output::Embedding { d } => d,
        }
    }

    /// Classes that are scored; `None` for embeddings.
    pub fn scored(&self) -> Option<usize> {
        match *self {
            Output::Logits { k } | Output::LogitsReject { k } => Some(k),
            Output::Embedding { .. } => None,
        }
    }

    /// What an answer says: the class of the largest score, or the number of classes where the row is rejected. `None` for a
    /// row that is not [`readable`](crate::readable).
    pub fn said(&self, row: &[f32]) -> Option<u32> {
        match *self {
            Output::LogitsReject { k } => {
                let label = argmax(row.get(..k)?)?;
                if *row.get(k)? > 0. { u32::try_from(k).ok() } else { Some(label) }
            }
            _ => argmax(row),
        }
    }

    /// The goal as it is meant for such answers: where they may be rejected, `rejection` says what that counts as.
    pub fn guard(&self, goal: Goal, rejection: Rejection) -> Goal {
        match self {
            Output::LogitsReject { .. } => Goal::Guarded { goal: Box::new(goal), rejection },
            _ => goal,
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
    /// Names of inner activations a trace can return, by [`crate::TapId`].
    pub taps: Vec<String>,
    /// How images become its input, where it is known; a data set's own rule goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// The threat the model was built against, if it says so: used when the user gives no epsilon.
    pub default_threat: Option<(Norm, f64)>,
    /// Whether what it computes jumps somewhere, or nearly: rounding then moves its answers by more than rounding, and whoever
    /// judges them again allows for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub jumps: bool,
    /// What computes it, such as `plan/f32/avx512`: results are the same bytes within one interpreter only. Empty where the
    /// model does not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interpreter: String,
}

impl Card {
    /// A deterministic model that gives gradients and says nothing more of itself.
    pub fn new(name: impl Into<String>, input: Input, output: Output) -> Self {
        Self {
            name: name.into(),
            digest: String::new(),
            input,
            output,
            stochastic: false,
            couples_rows: false,
            access: Access::Gradient,
            taps: vec![],
            preprocess: None,
            default_threat: None,
            jumps: false,
            interpreter: String::new(),
        }
    }

    /// What the model wants of a data set.
    pub fn view(&self) -> View {
        View { input: self.input.clone(), preprocess: self.preprocess }
    }
}
