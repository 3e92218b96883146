//! What `run.json` says of its data set, samples and attacks, against what they are: a fingerprint proves only that nobody
//! edited the file without making the fingerprint again.

use super::words;
use crate::eval::plan::{Plan, PlannedAttack, PlannedModel};
use robust_benchmarks::subset::{Pick, choose};
use robust_core::{Card, Dataset, View};
use robust_models::LoadedModel;
use serde_json::Value;

/// What does not fit, a sentence each. `moved`: the data set was named anew, so its name may be another.
pub fn contradictions(plan: &Plan, models: &[LoadedModel], data: &dyn Dataset, moved: bool) -> Vec<String> {
    let (says, is) = (&plan.dataset.card, data.card());
    let mut found = vec![];
    if says.samples != is.samples {
        found.push(format!("it says {} samples, the data set has {}", says.samples, is.samples));
    }
    if says.classes != is.classes {
        found.push("its class names are not those of the data set".to_string());
    }
    if says.name != is.name && !moved {
        found.push(format!("it calls the data set `{}`, which is `{}`", says.name, is.name));
    }
    found.extend(samples(plan, is.samples));
    for (planned, model) in plan.models.iter().zip(models) {
        found.extend(attacks(planned, &model.card));
    }
    found
}

/// Samples that are not those which the way they were chosen gives. A list of ids (`ids`) may be any.
fn samples(plan: &Plan, there: u64) -> Option<String> {
    let number = |text: &str| text.trim().parse().ok();
    let pick = match plan.pick.split_once(' ') {
        None if plan.pick == "all" => Pick::All,
        None if plan.pick == "ids" => Pick::Ids(plan.ids.clone()),
        Some(("limit", n)) => Pick::Limit(number(n)?),
        Some(("first", n)) => Pick::First(number(n)?),
        _ => return Some(format!("`{}` is no way to choose samples", plan.pick)),
    };
    let chosen = choose(there, &pick);
    let differ = chosen.is_ok_and(|ids| ids == plan.ids);
    (!differ).then(|| format!("its {} samples are not `{}` of {there}", plan.ids.len(), plan.pick))
}

fn attacks(planned: &PlannedModel, card: &Card) -> Vec<String> {
    let mut found = vec![];
    let name = &planned.name;
    for attack in &planned.attacks {
        if planned.view(attack) != (View { input: card.input.clone(), preprocess: card.preprocess }) {
            found.push(format!("under {} it gives {name} other images than the model takes", attack.label));
        }
        if let Some(what) = settings(attack, card) {
            found.push(format!("{} of {name} is not what its name says: {what}", attack.label));
        }
    }
    found
}

/// The first setting in which an attack is not what its label means. Labels of corruptions, files of points, goals without
/// labels and borrowed gradients do not say everything.
fn settings(attack: &PlannedAttack, card: &Card) -> Option<String> {
    if attack.aim.is_some() || attack.gradients.is_some() {
        return None;
    }
    let meant = robust_attacks::resolve(&attack.label, card).ok().filter(|meant| meant.label == attack.label)?;
    let differ = |what: &str, says: String, is: String| (says != is).then(|| format!("{what} is {says}, not {is}"));
    let threat = differ("the threat", attack.threat.to_string(), meant.threat.to_string());
    let eps = differ("eps", attack.threat.eps().to_string(), meant.threat.eps().to_string());
    let queries = differ("queries", words::optional(attack.queries), words::optional(meant.budget.queries));
    // Another version may have parameters that this one has not.
    let other = |(key, value): (&String, &Value)| {
        let says = attack.params.get(key).filter(|says| !equal(says, value))?;
        Some(format!("{key} is {says}, not {value}"))
    };
    threat.or(eps).or(queries).or_else(|| meant.params.iter().find_map(other))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::plan::tests::plan;

    #[test]
    fn samples_must_be_those_that_were_asked_for() {
        let mut plan = plan();
        let mut holds = |pick: &str, ids: Vec<u64>, there| {
            (plan.pick, plan.ids) = (pick.into(), ids);
            samples(&plan, there).is_none()
        };
        let limited = choose(1000, &Pick::Limit(40)).unwrap();
        assert!(holds("all", (0..40).collect(), 40) && !holds("all", (0..40).collect(), 1000));
        assert!(holds("limit 40", limited.clone(), 1000) && !holds("limit 40", limited.clone(), 500));
        assert!(!holds("limit 40", (0..40).collect(), 1000) && !holds("all", limited, 1000));
        assert!(holds("first 40", (0..40).collect(), 1000) && !holds("first 40", (0..39).collect(), 1000));
        assert!(holds("ids", vec![3, 9], 10) && !holds("ids", vec![3, 10], 10) && !holds("ids", vec![9, 3], 10));
        assert!(!holds("some", vec![3], 10) && !holds("", vec![3], 10));
    }
}
