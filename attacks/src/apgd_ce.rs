//! APGD-CE (Croce and Hein 2020, arXiv 2003.01690): projected ascent of the cross-entropy that chooses its own step sizes.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! A random start (Linf: uniform, stretched until an entry touches the face; L2: on the sphere), steps of length 2 eps at
//! first with momentum 0.75. After 22 % of the steps, then at intervals shrinking to 6 %, a sample whose loss rose in at
//! most `rho` of the interval's steps, or whose best loss has not improved since the last check, goes back to its best
//! point with half the step. L1 (Croce and Hein 2021, arXiv 2103.01208): steps along the signs of the steepest entries,
//! as many as two thirds of those in which the best point differs, with the exact projection onto ball and box; with
//! `larger` the ball shrinks from 3 eps over 2 eps to eps, for 30, 30 and 40 % of the steps. Restarts after the first take
//! the samples that held, in step (compat: in turn).
//!
//! # Parameters
//! `steps` (default 100). `restarts` (default 1). `rho` (default 0.75). `larger` (default true; L1 only). `compat`
//! (default false): the reference implementation's counts and quirks.
//!
//! # Differs from the paper
//! A sample stops at its first confirmed success, and the last point is judged without a gradient. The cross-entropy's
//! slope does not underflow for confident models. In L2 ball and box are projected onto jointly. `compat=true` neither stops nor saves: it takes every step, asks the
//! clean point first, differentiates in single precision, cuts by the ball and then by the box, compares the first step's loss with 0, and with EOT believes
//! the last draw, as fra31/auto-attack does; noise is still each sample's own, and a tie still counts as fooled.
//!
//! # Without labels
//! The similarity of embeddings takes the place of the cross-entropy.
//!
//! # Cost per sample
//! `restarts (steps + 1)` forwards and `restarts steps` backwards when it holds; 2 more of each per restart in L1 with
//! `larger`. Compat: `restarts (steps + 1) + 1` forwards and `restarts (steps + 1)` backwards, whether it holds or not.

use crate::choice::{at_least_one, named_norm, share};
use crate::climb::{Apgd, Climb};
use crate::host::targets;
use robust_core::{Access, Attack, Built, Entry, Error, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    pub steps: u64,
    pub restarts: u64,
    pub rho: f64,
    pub larger: bool,
    pub compat: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { steps: 100, restarts: 1, rho: 0.75, larger: true, compat: false }
    }
}

/// APGD without a target, on either loss.
pub struct Untargeted {
    given: Parameters,
    climb: Climb,
    norm: Norm,
}

impl Untargeted {
    /// # Errors
    /// Kind `Usage` for numbers that make no sense.
    pub fn new(given: Parameters, climb: Climb, norm: Norm) -> Result<Self> {
        at_least_one("steps", given.steps)?;
        at_least_one("restarts", given.restarts)?;
        share("rho", given.rho)?;
        Ok(Self { given, climb, norm })
    }

    fn engine(&self) -> Apgd {
        let Parameters { steps, rho, larger, compat, .. } = self.given;
        Apgd { steps, rho, larger, compat }
    }
}

impl Attack for Untargeted {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        targets(clean.first().map_or(0, Vec::len), None, 1)?;
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    fn label_free(&self) -> Result<()> {
        match self.climb {
            Climb::Ce if !self.given.compat => Ok(()),
            Climb::Ce => Err(Error::usage("compat=true repeats a reference that attacks classes")),
            _ => Err(Error::usage("its loss is a ratio of class scores, which a bare encoder does not give")),
        }
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        self.engine().attack(oracle, (0..self.given.restarts).map(|r| (format!("r{r}"), self.climb)))
    }

    fn passes(&self) -> (u64, u64) {
        self.passes_on(10, 1)
    }

    fn passes_on(&self, _classes: usize, draws: u64) -> (u64, u64) {
        let (forward, backward) = self.engine().passes(self.norm, draws);
        (self.given.restarts * forward + u64::from(self.given.compat), self.given.restarts * backward)
    }
}

pub const ENTRY: Entry = Entry {
    name: "apgd-ce",
    paper: "Croce and Hein 2020, arXiv 2003.01690; L1: Croce and Hein 2021, arXiv 2103.01208",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("apgd_ce.rs"),
    build: |spec| build(spec, Climb::Ce),
};

pub fn build(spec: &Spec, climb: Climb) -> Result<Built> {
    let (given, params) = parameters::<Parameters>(spec)?;
    Ok(Built { attack: Box::new(Untargeted::new(given, climb, named_norm(spec))?), params })
}
