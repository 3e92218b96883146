//! APGD-T (Croce and Hein 2020, arXiv 2003.01690): APGD on the targeted difference of logits ratio, toward one class
//! after the other.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! For each of the `targets` classes of largest clean score after the label's, in falling order: one run as in `apgd-ce`,
//! climbing (target's score - label's score) / (largest score - half the sum of third and fourth largest). Any wrong
//! class counts as success. Later targets and restarts take the samples that held to the first, in step (compat: in turn).
//!
//! # Parameters
//! `steps` (default 100). `targets` (default 9, or all other classes when there are fewer). `restarts` per target (default
//! 1). `rho` (default 0.75). `larger` (default true; L1 only). `compat` (default false), as in `apgd-ce`.
//!
//! # Differs from the paper
//! As `apgd-ce`. With two or three classes the ratio does not exist: its numerator is climbed instead; compat refuses.
//! Targets are ranked by the scores of the clean pass; compat also asks the clean point again before each target, as
//! the reference does.
//!
//! # Cost per sample
//! `targets restarts (steps + 1)` forwards and `targets restarts steps` backwards when it holds. Compat: `1 + targets
//! restarts (steps + 2)` forwards and `targets restarts (steps + 1)` backwards when it holds.

use crate::choice::{at_least_one, named_norm, share};
use crate::climb::{Apgd, Climb};
use crate::host::{self, targets};
use robust_core::{Access, Attack, Built, Entry, Error, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    pub steps: u64,
    pub targets: Option<u64>,
    pub restarts: u64,
    pub rho: f64,
    pub larger: bool,
    pub compat: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { steps: 100, targets: None, restarts: 1, rho: 0.75, larger: true, compat: false }
    }
}

/// Targets unless the user says otherwise.
pub const TARGETS: u64 = 9;

pub struct Targeted {
    given: Parameters,
    norm: Norm,
    most: u64,
}

impl Targeted {
    /// # Errors
    /// Kind `Usage` for numbers that make no sense.
    pub fn new(given: Parameters, norm: Norm) -> Result<Self> {
        at_least_one("steps", given.steps)?;
        at_least_one("restarts", given.restarts)?;
        given.targets.map(|t| at_least_one("targets", t)).transpose()?;
        share("rho", given.rho)?;
        Ok(Self { given, norm, most: TARGETS })
    }

    /// Another number of targets unless the user says otherwise.
    pub fn at_most(self, most: u64) -> Self {
        Self { most, ..self }
    }

    fn engine(&self) -> Apgd {
        let Parameters { steps, rho, larger, compat, .. } = self.given;
        Apgd { steps, rho, larger, compat }
    }

    fn count(&self, classes: usize) -> Result<u64> {
        check_compat(self.given.compat, self.given.targets.unwrap_or(self.most), classes)?;
        targets(classes, self.given.targets, self.most)
    }
}

/// The reference goes on with fewer targets than it was asked for, or stops; neither can be compared.
pub fn check_compat(compat: bool, targets: u64, classes: usize) -> Result<()> {
    if compat && (classes < 4 || targets >= classes as u64) {
        return Err(Error::usage(format!("compat=true with {targets} targets needs more than {classes} classes"))
            .hint("drop compat=true, or give targets=... below the number of classes (which must be at least 4)"));
    }
    Ok(())
}

impl Attack for Targeted {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.count(clean.first().map_or(0, Vec::len))?;
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let count = self.count(host::classes(oracle)?)?;
        let runs = (0..count).flat_map(|t| (0..self.given.restarts).map(move |r| (t, r)));
        self.engine().attack(oracle, runs.map(|(t, r)| (format!("t{t}/r{r}"), Climb::Toward(t))))
    }

    fn passes(&self) -> (u64, u64) {
        self.passes_on(10, 1)
    }

    fn passes_on(&self, classes: usize, draws: u64) -> (u64, u64) {
        let count = self.given.targets.unwrap_or(self.most).min(classes.saturating_sub(1) as u64);
        let (runs, compat) = (count * self.given.restarts, u64::from(self.given.compat));
        let (forward, backward) = self.engine().passes(self.norm, draws);
        (runs * (forward + compat) + compat, runs * backward)
    }
}

pub const ENTRY: Entry = Entry {
    name: "apgd-t",
    paper: "Croce and Hein 2020, arXiv 2003.01690; L1: Croce and Hein 2021, arXiv 2103.01208",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("apgd_t.rs"),
    build,
};

fn build(spec: &Spec) -> Result<Built> {
    let (given, params) = parameters::<Parameters>(spec)?;
    Ok(Built { attack: Box::new(Targeted::new(given, named_norm(spec))?), params })
}
