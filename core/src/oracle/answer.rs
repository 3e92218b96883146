//! What an oracle answers.

use super::Confirmed;
use crate::{Cost, Place};
use candle_core::Tensor;

/// What a question told. Rows that were not granted hold zeros and have reached nothing.
pub struct Answer {
    /// `[m, width]` where access allows scores: of classes, and at the end the rejection where the model has one.
    pub scores: Option<Tensor>,
    /// The class of each row; the number of classes where it was rejected.
    pub labels: Vec<u32>,
    /// Whether search saw the goal reached, wherever the point lies: all that an attack by labels alone needs. The judge's word
    /// may differ; [`Oracle::settle`](super::Oracle::settle) asks for it.
    pub reached: Vec<bool>,
    /// Which rows the budget still paid for.
    pub granted: Vec<bool>,
}

/// Answers `[m, width]`, the objective per row, its gradient `[m, ...]` in the input as `dx * exp(log_scale)`, and which rows
/// were granted. Over EOT draws and surrogates they are averages. Rows that were not granted hold zeros and a NaN loss.
///
/// The scale is apart because a confident model's gradient underflows f32, which would mask it; steps that normalise
/// need `dx` alone.
pub struct Slope {
    pub out: Tensor,
    pub loss: Vec<f64>,
    pub dx: Tensor,
    pub log_scale: Vec<f64>,
    /// The objective on the last draw alone.
    pub last_loss: Vec<f64>,
    pub granted: Vec<bool>,
}

/// Scores of classes `[m, k]`, one gradient `[m, ...]` per seed, and which rows were granted. Averages over EOT draws and
/// surrogates. Rows that were not granted hold zeros.
pub struct Jacobian {
    pub out: Tensor,
    pub pulled: Vec<Tensor>,
    pub granted: Vec<bool>,
}

/// What became of one sample.
#[derive(Debug, Clone)]
pub struct Finding {
    pub id: u64,
    /// The confirmed success, if any.
    pub found: Option<Confirmed>,
    /// Without a success: the lowest-margin legal point as the judge sees it.
    pub held: Option<Confirmed>,
    pub queries: Option<u64>,
    /// The stage that reached the first confirmed success, such as `apgd-t`; `None` for attacks without stages.
    pub stage: Option<String>,
    /// Distance of the nearest confirmed success anywhere in the domain, where a stage looked for it.
    pub nearest: Option<f64>,
    /// Some legal point gave scores that are not numbers.
    pub broken: bool,
    /// How a point made elsewhere was moved; without any legal point, how far outside the nearest lay.
    pub place: Option<Place>,
    /// What the attack had to say of its point.
    pub remark: Option<String>,
    pub cost: Cost,
}

/// The beginning or the end of a part of an attack that has parts.
pub struct Lap<'a> {
    /// `apgd-t`, say.
    pub stage: &'a str,
    pub ends: bool,
    /// Samples it takes.
    pub samples: usize,
    /// Search passes of all samples so far.
    pub forward: u64,
    pub backward: u64,
}
