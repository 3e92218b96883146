//! What a model takes: the shape and range of a row, and what an attacker may ask of it.

use serde::{Deserialize, Serialize};

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
    /// Entries of a row.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether a row has no entry.
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
