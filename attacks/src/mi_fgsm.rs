//! Momentum iterative FGSM (Dong et al. 2018, arXiv 1710.06081): iterated steps along an accumulated direction.
//!
//! The momentum steadies the direction, which matters most when the points are meant for another model.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! `steps` times: g <- decay g + gradient / ||gradient||_1, a step of length `step` along the steepest direction of g in
//! the norm, projection onto the ball and the domain.
//!
//! # Parameters
//! `steps` (default 10). `step` in input units (default eps / steps). `decay` in `[0,1]` (default 1).
//! `objective` = ce, margin or dlr (default ce). `target` = next, second, least or a class number (default none);
//! samples of that class go for the one after it.
//!
//! # Differs from the paper
//! L1 steps are offered too. The L1 norm of the gradient is taken per sample (some implementations take it per batch).
//!
//! # Without labels
//! The similarity of embeddings is climbed. Away from the clean embedding it has no slope at the clean point: the attack
//! begins at a random point a tenth of epsilon away instead.
//!
//! # Cost per sample
//! `steps + 1` forwards and `steps` backwards when it holds.

use crate::ascent::Ascent;
use crate::choice::{Loss, Toward, at_least_one, positive};
use robust_core::{Access, Attack, Built, Entry, Error, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MiFgsm {
    steps: u64,
    step: Option<f64>,
    decay: f64,
    objective: Loss,
    target: Toward,
}

impl Default for MiFgsm {
    fn default() -> Self {
        Self { steps: 10, step: None, decay: 1., objective: Loss::Ce, target: Toward::Anything }
    }
}

impl Attack for MiFgsm {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.target.aim(labels, clean)
    }

    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let usual = Some(oracle.threat().eps() / self.steps as f64).filter(|s| s.is_finite());
        let (steps, step, objective) = (self.steps, self.step.or(usual), self.objective.objective(oracle.goal()));
        Ascent { steps, step, decay: 1., random_start: false, momentum: Some(self.decay), objective }.run(oracle)
    }

    fn passes(&self) -> (u64, u64) {
        (self.steps + 1, self.steps)
    }
}

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<MiFgsm>(spec)?;
    at_least_one("steps", attack.steps)?;
    positive("step", attack.step)?;
    if !(0. ..=1.).contains(&attack.decay) {
        return Err(Error::usage(format!("decay must be in [0,1], got {}", attack.decay)));
    }
    Ok(Built { attack: Box::new(attack), params })
}

pub const ENTRY: Entry = Entry {
    name: "mi-fgsm",
    paper: "Dong et al. 2018, arXiv 1710.06081",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("mi_fgsm.rs"),
    build,
};
