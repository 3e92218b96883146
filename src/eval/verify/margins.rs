//! Whether margins in double precision say what a line says, and what rounding may excuse.

use robust_core::{Goal, Outcome, Pred, Verdict, fragile};

/// Verdicts may rest on margins that agree to this share of the scores' size between interpreters.
pub(super) const TOLERANCE: f64 = 1e-4;

/// The same where the network jumps: one entry that rounding takes across an edge moves all that follows.
pub(super) const ACROSS: f64 = 1e-2;

/// What became of one line that is not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Holds,
    Unproven,
    Fragile,
}

/// Whether scores in double precision say what the line says; where a network `jumps`, they may be further off.
pub(super) fn compare(
    goal: &Goal,
    says: Option<Pred>,
    scores: &[f32],
    jumps: bool,
    which: &str,
) -> Result<Note, String> {
    let scale = goal.scale(0, scores);
    match (says, goal.judge(0, scores)) {
        (None, None) => Ok(Note::Holds),
        (Some(says), Some(seen)) => {
            let gap = (says.margin - seen.margin).abs();
            let room = if jumps { ACROSS } else { TOLERANCE };
            if gap > room * scale {
                return Err(format!("the {which} margin is {}, the line says {}", seen.margin, says.margin));
            }
            class(says.label, seen.label, scores, room * scale, which)?;
            let close = fragile(seen.margin, scale) || jumps && seen.margin.abs() <= ACROSS * scale;
            match goal.reached(says) == goal.reached(seen) {
                true if gap <= TOLERANCE * scale => Ok(Note::Holds),
                false if !close => Err(format!("the {which} sample is judged otherwise: margin {}", seen.margin)),
                _ => Ok(Note::Fragile),
            }
        }
        (says, seen) => Err(format!("the {which} scores are judged {seen:?}, the line says {says:?}")),
    }
}

/// Whether the class that a line says has the largest score, as far as rounding lets it be told.
pub(super) fn class(
    says: Option<u32>,
    seen: Option<u32>,
    scores: &[f32],
    room: f64,
    which: &str,
) -> Result<(), String> {
    let top = scores.iter().fold(f64::NEG_INFINITY, |a, z| a.max(f64::from(*z)));
    let near = |label: u32| scores.get(label as usize).is_some_and(|z| top - f64::from(*z) <= room);
    match says == seen || says.is_some_and(near) {
        true => Ok(()),
        false => Err(format!("the {which} sample is of class {seen:?}, the line says {says:?}")),
    }
}

/// Whether the line calls itself fragile when one of its margins is: unless that margin is itself at the edge of being so.
pub(super) fn fragility(o: &Outcome, goal: &Goal, clean: &[f32], point: Option<&[f32]>) -> Result<(), String> {
    let is = |says: Option<Pred>, scores: &[f32]| {
        let Some(says) = says else { return Some(false) };
        let scale = goal.scale(0, scores);
        let (sure, possible) = (fragile(says.margin, 0.9 * scale), fragile(says.margin, 1.1 * scale));
        (sure == possible).then_some(sure)
    };
    let before = is(o.clean, clean);
    let best = match (o.best, point) {
        (Some(_), None) => None,
        (best, point) => is(best, point.unwrap_or_default()),
    };
    let expected = match (before, best) {
        (Some(true), _) | (_, Some(true)) => true,
        (Some(false), Some(false)) => false,
        _ => return Ok(()),
    };
    match o.verdict == Verdict::Failed || o.fragile == expected {
        true => Ok(()),
        false => Err(format!("fragile is {}, its margins say {expected}", o.fragile)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_that_jump_may_differ_by_more_than_rounding() {
        let goal = Goal::Untargeted(vec![0]);
        let agree = |says: f64, seen: f32, jumps| {
            let says = Pred::answered(Some(u32::from(says <= 0.)), says);
            compare(&goal, Some(says), &[seen, 0., -100.], jumps, "clean")
        };
        for jumps in [false, true] {
            assert_eq!(agree(5., 5., jumps), Ok(Note::Holds));
            assert_eq!(agree(1e-5, -1e-5, jumps), Ok(Note::Fragile));
            assert!(agree(5., -5., jumps).is_err() && agree(9., 5., jumps).is_err());
        }
        assert!(agree(5., 5.5, false).is_err() && agree(0.2, -0.2, false).is_err());
        assert_eq!([agree(5., 5.5, true), agree(0.2, -0.2, true)], [Ok(Note::Fragile), Ok(Note::Fragile)]);
    }
}
