//! A result of a run as the gate judges it.

use super::config::Bounds;
use crate::doctor::Grade;
use crate::report::is_worst;

/// One result, as it will be judged and recorded.
#[derive(Debug, Clone)]
pub struct Measured {
    pub suite: String,
    pub model: String,
    pub attack: String,
    pub threat: String,
    pub dataset: String,
    pub data_digest: String,
    /// Whether the digest is of a folder's content, which earlier versions' was not.
    pub by_content: bool,
    /// The clean rows as the model was shown them: [`crate::eval::rows::named`].
    pub images: Option<String>,
    pub ids: Vec<u64>,
    pub seed: u64,
    pub attack_digest: String,
    pub model_digest: String,
    pub robust: String,
    pub interpreter: String,
    pub bits: Vec<bool>,
    pub failed: u64,
    pub seconds: f64,
    pub missing: Option<String>,
    pub grade: Option<Grade>,
    pub bounds: Bounds,
    /// Whether all of it was read from an earlier run: then nothing can come out again.
    pub resumed: bool,
    pub(super) allowed: u64,
    pub(super) line: usize,
    pub(super) repro: String,
    /// Attack, parameters and norm without epsilon, and epsilon: of a single attack on a ball.
    pub(super) ladder: Option<(String, f64)>,
}

impl Measured {
    /// Its name in the baseline: the attack, with the threat where that does not say it.
    pub fn key(&self) -> String {
        if is_worst(&self.attack) { format!("{} {}", self.attack, self.threat) } else { self.attack.clone() }
    }

    pub(super) fn held(&self) -> u64 {
        self.bits.iter().filter(|b| **b).count() as u64
    }
}
