//! Rows from the outcomes of a run: integers first, rates once at the end.

use super::distances::{Distances, epsilons};
use super::row::{Points, Row, WORST, WORST_COMPAT, worse};
use crate::eval::plan::{Plan, PlannedModel};
use crate::runs::stats::{rate, wilson};
use robust_core::{Outcome, Region, Verdict};
use std::collections::BTreeMap;

/// Integers of one row, per sample the worst verdict.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<u64, (Verdict, bool)>,
    clean: BTreeMap<u64, bool>,
    forwards: u64,
    backwards: u64,
    seconds: f64,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let slot = self.verdicts.entry(outcome.id).or_insert((outcome.verdict, false));
        slot.0 = worse(slot.0, outcome.verdict);
        slot.1 |= outcome.fragile;
        let correct = outcome.clean.is_some_and(|p| p.margin > 0.);
        self.clean.insert(outcome.id, correct);
        let cost = outcome.cost;
        self.forwards += cost.search.forward + cost.clean + cost.confirm;
        self.backwards += cost.search.backward;
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.values().filter(|(v, _)| *v == verdict).count() as u64
    }
}

/// One row per model and attack, then one `worst-case` row per model and threat model; none for attacks without an epsilon, which
/// find a success somewhere for nearly every sample. `seconds` are per (model,
/// attack) in the plan's order.
pub fn summarise(plan: &Plan, outcomes: &[Outcome], seconds: &[f64]) -> Vec<Row> {
    let mut rows = vec![];
    let mut slot = 0;
    for model in &plan.models {
        let mut unions: Vec<(Region, usize, Tally)> = vec![];
        for (index, attack) in model.attacks.iter().enumerate() {
            let mut tally = Tally { seconds: seconds.get(slot).copied().unwrap_or(0.), ..Tally::default() };
            let threat = attack.threat.region.clone();
            let mine = || outcomes.iter().filter(|o| o.model == model.name && o.attack == attack.label);
            if let Region::Nearest { norm } = threat {
                mine().for_each(|o| tally.add(o));
                let epsilons = epsilons(norm, model.attacks.iter().map(|a| &a.threat.region));
                let (row, distances) =
                    (row(plan, model, index, &attack.label, &tally), Some(Distances::of(mine(), &epsilons)));
                let nothing = (f64::NAN, f64::NAN);
                rows.push(Row { robust_accuracy: f64::NAN, robust_interval: nothing, distances, ..row });
                slot += 1;
                continue;
            }
            let place = unions.iter().position(|(t, ..)| *t == threat).unwrap_or_else(|| {
                unions.push((threat, index, Tally::default()));
                unions.len() - 1
            });
            let union = &mut unions[place].2;
            union.seconds += tally.seconds;
            for outcome in mine() {
                tally.add(outcome);
                union.add(outcome);
            }
            let points = Points::of(&attack.threat, mine());
            rows.push(Row { points, ..row(plan, model, index, &attack.label, &tally) });
            slot += 1;
        }
        let name = if model.attacks.iter().any(|a| a.is_compat()) { WORST_COMPAT } else { WORST };
        rows.extend(unions.iter().map(|(_, index, tally)| row(plan, model, *index, name, tally)));
    }
    rows
}

fn row(plan: &Plan, model: &PlannedModel, attack: usize, name: &str, tally: &Tally) -> Row {
    let threat = &model.attacks[attack].threat;
    let n = tally.verdicts.len() as u64;
    // As many as there are, and none beyond: the ids of the outcomes, not a word of the plan.
    let last = tally.verdicts.last_key_value().map_or(0, |(id, _)| *id);
    let clean_correct = tally.clean.values().filter(|c| **c).count() as u64;
    let held = tally.count(Verdict::Held);
    Row {
        model: model.name.clone(),
        dataset: plan.dataset.card.name.clone(),
        attack: name.to_string(),
        threat: model.attacks[attack].threat_text(),
        norm: threat.norm().map_or_else(String::new, |n| n.to_string()),
        eps: threat.eps(),
        n,
        clean_accuracy: rate(clean_correct, n),
        robust_accuracy: rate(held, n),
        clean_interval: wilson(clean_correct, n),
        robust_interval: wilson(held, n),
        clean_correct,
        held,
        fooled: tally.count(Verdict::Fooled),
        failed: tally.count(Verdict::Failed),
        fragile: tally.verdicts.values().filter(|(_, f)| *f).count() as u64,
        forwards: tally.forwards,
        backwards: tally.backwards,
        seconds: tally.seconds,
        seed: plan.seed,
        full: n == plan.dataset.card.samples && last < n.max(1),
        model_digest: model.digest.clone(),
        data_digest: plan.dataset.card.digest.clone(),
        reliability: None,
        encoder: model.head.as_ref().map(|h| h.encoder.clone()),
        head: model.head.as_ref().map(|h| h.head.clone()),
        points: None,
        distances: None,
        aimed: model.attacks[attack].aim.is_some(),
    }
}
