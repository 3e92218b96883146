//! The draws of a random model's judge, drawn again.

use super::margins::Note;
use robust_core::{Goal, Outcome, Pred, RowKey, fragile};

/// What an adversarial point was seen as.
pub(super) struct Seen {
    /// Scores of the draw of median margin, which speaks for all.
    pub typical: Vec<f32>,
    /// Draws that reach the goal, and all draws.
    pub fooled: u32,
    pub draws: u32,
    /// Whether rounding may turn one of them.
    pub close: bool,
}

/// Rows, keys and stream that judge a point as the run did: the point once for each vote.
pub(super) fn draws(outcome: &Outcome, point: &[f32]) -> (Vec<Vec<f32>>, Vec<RowKey>, u64) {
    let votes = outcome.votes.map_or(1, |v| v.1).clamp(1, 1000);
    match &outcome.drawn {
        Some(drawn) => {
            let keys = (0..votes).map(|vote| drawn.key(outcome.id, vote)).collect();
            (vec![point.to_vec(); votes as usize], keys, drawn.stream())
        }
        None => (vec![point.to_vec()], vec![RowKey::of(outcome.id)], 0),
    }
}

/// Judges the scores of all draws.
pub(super) fn count(goal: &Goal, mut scores: Vec<Vec<f32>>) -> Seen {
    let pred = |z: &[f32]| goal.judge(0, z);
    let margin = |z: &[f32]| pred(z).map_or(f64::INFINITY, |p| p.margin);
    scores.sort_by(|a, b| margin(a).total_cmp(&margin(b)));
    let judged: Vec<Pred> = scores.iter().filter_map(|z| pred(z)).collect();
    let close = scores.iter().any(|z| pred(z).is_some_and(|p| fragile(p.margin, goal.scale(0, z))));
    let draws = scores.len() as u32;
    let fooled = judged.iter().filter(|p| goal.reached(**p)).count() as u32;
    let middle = judged.len().saturating_sub(1) / 2;
    let typical = if middle < scores.len() { scores.swap_remove(middle) } else { vec![] };
    Seen { typical, fooled, draws, close }
}

/// Whether the votes are those that the line says.
pub(super) fn check(outcome: &Outcome, goal: &Goal, seen: &Seen) -> Result<Note, String> {
    if outcome.drawn.is_none() {
        return Err("the model is random, and the line does not say where its judge drew".to_string());
    }
    let says = match (outcome.votes, outcome.best) {
        (Some(votes), _) => votes,
        (None, best) => (u32::from(best.is_some_and(|p| goal.reached(p))), 1),
    };
    match says == (seen.fooled, seen.draws) {
        true => Ok(Note::Holds),
        false if says.1 == seen.draws && seen.close => Ok(Note::Fragile),
        false => {
            Err(format!("{} of {} draws are fooled, the line says {} of {}", seen.fooled, seen.draws, says.0, says.1))
        }
    }
}
