//! What is put to an oracle.

use crate::{Batch, Goal, Target, ThreatModel};

/// When a sample is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At its first confirmed success.
    AtFirst,
    /// When the attack ends; successes of lower margin replace earlier ones.
    Never,
    /// When the attack ends; nearer successes replace earlier ones, and the nearest success outside the ball is kept
    /// too.
    Nearest,
}

/// Search forwards one sample may cost; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    pub queries: Option<u64>,
}

/// Everything that defines one attack on one batch of clean-correct samples.
pub struct Question<'a> {
    pub target: &'a Target,
    pub threat: &'a ThreatModel,
    pub batch: &'a Batch,
    /// One entry per row of `batch`.
    pub goal: Goal,
    /// Clean scores, one row per row of `batch`, as the judge saw them.
    pub clean: &'a [Vec<f32>],
    pub seed: u64,
    /// Names the noise: `pgd-linf`, say.
    pub path: &'a str,
    pub stop: Stop,
    pub budget: Budget,
    /// Maximum rows per model call.
    pub at_once: usize,
}
