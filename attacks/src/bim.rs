//! Basic iterative method (Kurakin et al. 2017, arXiv 1607.02533): FGSM in small steps from the clean point.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! `steps` times: gradient, a step of length `step` along the steepest direction of the norm, projection onto the ball
//! and the domain. Every iterate is judged; a sample stops at its first confirmed success.
//!
//! # Parameters
//! `steps` (default 10). `step` in input units (default 2.5 eps / steps). `objective` = ce, margin or dlr (default ce).
//! `target` = next, second, least or a class number (default none);
//! samples of that class go for the one after it.
//!
//! # Differs from the paper
//! The paper ties the number of steps to epsilon in grey levels; here both are parameters.
//!
//! # Without labels
//! The similarity of embeddings is climbed. Away from the clean embedding it has no slope at the clean point: the attack
//! begins at a random point a tenth of epsilon away instead.
//!
//! # Cost per sample
//! `steps + 1` forwards and `steps` backwards when it holds.

use crate::ascent::Ascent;
use crate::choice::{Loss, Toward, at_least_one, positive};
use robust_core::{Access, Attack, Built, Entry, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bim {
    steps: u64,
    step: Option<f64>,
    objective: Loss,
    target: Toward,
}

impl Default for Bim {
    fn default() -> Self {
        Self { steps: 10, step: None, objective: Loss::Ce, target: Toward::Anything }
    }
}

impl Attack for Bim {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.target.aim(labels, clean)
    }

    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let (steps, step, objective) = (self.steps, self.step, self.objective.objective(oracle.goal()));
        Ascent { steps, step, decay: 1., random_start: false, momentum: None, objective }.run(oracle)
    }

    fn passes(&self) -> (u64, u64) {
        (self.steps + 1, self.steps)
    }
}

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<Bim>(spec)?;
    at_least_one("steps", attack.steps)?;
    positive("step", attack.step)?;
    Ok(Built { attack: Box::new(attack), params })
}

pub const ENTRY: Entry = Entry {
    name: "bim",
    paper: "Kurakin et al. 2017, arXiv 1607.02533",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("bim.rs"),
    build,
};
