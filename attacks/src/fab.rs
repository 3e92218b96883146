//! FAB (Croce and Hein 2020, arXiv 1907.02044): the nearest point across the closest linearised boundary, again and
//! again, pulled back toward the clean point.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! `steps` times from the clean point (later restarts: from within half the radius): the gradients of all differences
//! between another class's score and the label's give one hyperplane each; the closest is kept. Both the iterate and the
//! clean point are projected onto it within the box, exactly; the next iterate lies between the two, `eta` beyond the
//! plane, at most `alpha` of the way to the clean one's. A misclassified iterate is first pulled back to `beta` of its
//! distance.
//!
//! # Parameters
//! `steps` (default 100). `restarts` (default 1). `alpha` (default 0.1). `eta` (default 1.05). `beta` (default 0.9).
//! `nearest` (default false): do not stop at a success within eps but go on to the nearest one, for curves of accuracy
//! against epsilon. `compat` (default false): the reference implementation's counts and quirks.
//!
//! # Differs from the paper
//! A sample stops at its first confirmed success within eps (unless `nearest`). The gradients at a misclassified
//! iterate serve the point it is pulled back to as well, which saves the forward that would look at the label first. No
//! final binary search. `compat=true` does as fra31/auto-attack does: no stop, two forwards a step, as many backwards as
//! there are classes, weights below 1e-8 count as 0 in L2 and L1.
//!
//! # Cost per sample
//! `restarts (steps + 1)` forwards and `restarts steps (classes - 1)` backwards when it holds. Compat: `1 + restarts (2
//! steps + 2)` forwards and `restarts steps classes` backwards.

use crate::fab_step::{Fab, Toward};
use crate::host::{classes, targets};
use robust_core::{Access, Attack, Built, Entry, Goal, Norm, Oracle, Result, Spec, parameters};

/// FAB over all classes.
pub struct Untargeted(pub Fab);

impl Attack for Untargeted {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        targets(clean.first().map_or(0, Vec::len), None, 1)?;
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        targets(classes(oracle)?, None, 1)?;
        self.0.attack(oracle, &[Toward::Closest])
    }

    fn passes(&self) -> (u64, u64) {
        self.passes_on(10, 1)
    }

    fn passes_on(&self, classes: usize, draws: u64) -> (u64, u64) {
        self.0.passes(1, classes as u64, draws)
    }
}

pub const ENTRY: Entry = Entry {
    name: "fab",
    paper: "Croce and Hein 2020, arXiv 1907.02044",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("fab.rs"),
    build,
};

fn build(spec: &Spec) -> Result<Built> {
    let (given, params) = parameters::<Fab>(spec)?;
    Ok(Built { attack: Box::new(Untargeted(given.checked()?)), params })
}
