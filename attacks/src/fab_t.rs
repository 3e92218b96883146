//! FAB-T (Croce and Hein 2020, arXiv 1907.02044 and 2003.01690): FAB across the boundary to one class after the other,
//! one backward a step whatever the number of classes.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! As `fab`, with the hyperplane of one class: for each of the `targets` classes of largest clean score after the
//! label's, in falling order. Any wrong class counts as success. Later targets and restarts
//! take the samples that held to the first, in step (compat and `nearest`: in turn).
//!
//! # Parameters
//! `steps` (default 100). `targets` (default 9, or all other classes when there are fewer). `restarts` per target (default
//! 1). `alpha` (default 0.1). `eta` (default 1.05). `beta` (default 0.9). `nearest` and `compat` (default false), as in
//! `fab`.
//!
//! # Differs from the paper
//! As `fab`.
//!
//! # Cost per sample
//! `targets restarts (steps + 1)` forwards and `targets restarts steps` backwards when it holds. Compat: `1 + targets
//! restarts (2 steps + 3)` forwards and `targets restarts steps` backwards.

use crate::apgd_t::{TARGETS, check_compat};
use crate::choice::at_least_one;
use crate::fab_step::{Fab, Toward};
use crate::host::{classes, targets};
use robust_core::{Access, Attack, Built, Entry, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    steps: u64,
    targets: Option<u64>,
    restarts: u64,
    alpha: f64,
    eta: f64,
    beta: f64,
    nearest: bool,
    compat: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        let Fab { steps, restarts, alpha, eta, beta, nearest, compat } = Fab::default();
        Self { steps, targets: None, restarts, alpha, eta, beta, nearest, compat }
    }
}

pub struct Targeted {
    pub fab: Fab,
    pub targets: Option<u64>,
}

impl Targeted {
    fn count(&self, classes: usize) -> Result<u64> {
        check_compat(self.fab.compat, self.targets.unwrap_or(TARGETS), classes)?;
        targets(classes, self.targets, TARGETS)
    }
}

impl Attack for Targeted {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.count(clean.first().map_or(0, Vec::len))?;
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let count = self.count(classes(oracle)?)?;
        self.fab.attack(oracle, &(0..count).map(Toward::Rank).collect::<Vec<_>>())
    }

    fn passes(&self) -> (u64, u64) {
        self.passes_on(10, 1)
    }

    fn passes_on(&self, classes: usize, draws: u64) -> (u64, u64) {
        let count = self.targets.unwrap_or(TARGETS).min(classes.saturating_sub(1) as u64);
        self.fab.passes(count, 2, draws)
    }
}

pub const ENTRY: Entry = Entry {
    name: "fab-t",
    paper: "Croce and Hein 2020, arXiv 1907.02044 and 2003.01690",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("fab_t.rs"),
    build,
};

fn build(spec: &Spec) -> Result<Built> {
    let (given, params) = parameters::<Parameters>(spec)?;
    given.targets.map(|t| at_least_one("targets", t)).transpose()?;
    let Parameters { steps, targets, restarts, alpha, eta, beta, nearest, compat } = given;
    let fab = Fab { steps, restarts, alpha, eta, beta, nearest, compat }.checked()?;
    Ok(Built { attack: Box::new(Targeted { fab, targets }), params })
}
