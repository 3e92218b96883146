//! What is attacked, through what, and how it is judged.

use crate::Model;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
