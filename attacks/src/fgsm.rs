//! Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572): one step of length epsilon.
//!
//! The weakest white-box attack, kept as a baseline: a model that FGSM breaks less often than noise does, or that an
//! iterated attack does not break more often, is hiding its gradients.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! One gradient at the clean point, one step of length epsilon along the steepest direction of the norm (signs for
//! Linf, the normalised gradient for L2, the steepest entries for L1), projected onto the ball and the domain.
//!
//! # Parameters
//! `objective` = ce, margin or dlr (default ce). `target` = next, second, least or a class number (default none);
//! samples of that class go for the one after it.
//!
//! # Differs from the paper
//! L2 and L1 steps are offered too; the clean point counts as asked.
//!
//! # Without labels
//! The similarity of embeddings is climbed. Away from the clean embedding it has no slope at the clean point: the attack
//! begins at a random point a tenth of epsilon away instead.
//!
//! # Cost per sample
//! 2 forwards, 1 backward.

use crate::ascent::Ascent;
use crate::choice::{Loss, Toward};
use robust_core::{Access, Attack, Built, Entry, Goal, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fgsm {
    objective: Loss,
    target: Toward,
}

impl Attack for Fgsm {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.target.aim(labels, clean)
    }

    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let step = Some(oracle.threat().eps()).filter(|e| e.is_finite());
        let objective = self.objective.objective(oracle.goal());
        Ascent { steps: 1, step, decay: 1., random_start: false, momentum: None, objective }.run(oracle)
    }

    fn passes(&self) -> (u64, u64) {
        (2, 1)
    }
}

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<Fgsm>(spec)?;
    Ok(Built { attack: Box::new(attack), params })
}

pub const ENTRY: Entry = Entry {
    name: "fgsm",
    paper: "Goodfellow et al. 2015, arXiv 1412.6572",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("fgsm.rs"),
    build,
};
