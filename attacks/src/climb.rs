//! What the runs of Auto-PGD climb, and the numbers that they share in every norm.

use robust_core::{Objective, Oracle, Result};

/// What a run climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Climb {
    Ce,
    Dlr,
    /// Toward the class of this rank among the others by clean score, from 0.
    Toward(u64),
}

/// Numbers that the runs of an attack share.
#[derive(Debug, Clone, Copy)]
pub struct Apgd {
    pub steps: u64,
    /// Share of steps that must raise the loss between two checkpoints.
    pub rho: f64,
    /// L1: whether the ball shrinks to its size in three parts.
    pub larger: bool,
    /// The reference's schedule, counts and quirks instead of stopping at the first confirmed success.
    pub compat: bool,
}

impl Climb {
    /// With too few classes for the ratio, its numerator is left. `compat` leaves an error instead.
    pub fn objective(self, oracle: &Oracle, targets: impl Iterator<Item = u32>, compat: bool) -> Result<Objective> {
        let classes = oracle.clean_scores()?.first().map_or(0, Vec::len);
        Ok(match self {
            Climb::Ce if oracle.goal().is_label_free() => Objective::Margin,
            Climb::Ce if compat => Objective::CeSingle,
            Climb::Ce => Objective::Ce,
            Climb::Dlr if classes >= 3 || compat => Objective::Dlr,
            Climb::Dlr => Objective::Margin,
            Climb::Toward(_) if classes >= 4 || compat => Objective::DlrTargeted(targets.collect()),
            Climb::Toward(_) => Objective::MarginTargeted(targets.collect()),
        })
    }
}
