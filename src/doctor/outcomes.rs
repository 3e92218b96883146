//! What the outcomes of a run say about each other, at no cost: per sample, not only on average.

use super::{Code, Finding};
use crate::eval::plan::{Plan, PlannedAttack, PlannedModel};
use crate::report::Points;
use robust_attacks::find;
use robust_core::{Access, Outcome, Place, Region, Verdict};
use std::collections::BTreeMap;

/// Samples that a weaker attack may fool by luck before it counts: one, or two in a thousand as AutoAttack's own flag.
const LUCK: f64 = 0.002;

/// An attack's verdicts by sample.
struct Line<'a> {
    attack: &'a PlannedAttack,
    kind: Kind,
    fooled: BTreeMap<u64, bool>,
    /// Found by the last resort of an attack made of attacks.
    by_scores: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Noise,
    Scores,
    OneStep,
    Iterated,
    Other,
}

fn kind(attack: &PlannedAttack) -> Kind {
    let needs = find(&attack.attack).map(|(entry, _)| entry.needs);
    match (attack.attack.as_str(), needs) {
        ("fgsm", _) => Kind::OneStep,
        ("uniform-noise" | "random-sign", _) => Kind::Noise,
        (_, Ok(Access::Gradient)) => Kind::Iterated,
        (_, Ok(Access::Scores | Access::Label)) => Kind::Scores,
        _ => Kind::Other,
    }
}

/// Contradictions between the attacks of each model of a run, by the model's name.
pub fn compare(plan: &Plan, outcomes: &[Outcome]) -> Vec<(String, Vec<Finding>)> {
    plan.models.iter().map(|model| (model.name.clone(), of_model(model, outcomes))).collect()
}

fn of_model(model: &PlannedModel, outcomes: &[Outcome]) -> Vec<Finding> {
    let mine: Vec<&Outcome> = outcomes.iter().filter(|o| o.model == model.name).collect();
    let lines: Vec<Line> = model
        .attacks
        .iter()
        .map(|attack| {
            let rows = || mine.iter().filter(|o| o.attack == attack.label);
            let judged = rows().filter(|o| matches!(o.verdict, Verdict::Fooled | Verdict::Held));
            Line {
                attack,
                kind: kind(attack),
                fooled: judged.map(|o| (o.id, o.verdict == Verdict::Fooled)).collect(),
                by_scores: rows().filter(|o| o.stage.as_deref().is_some_and(|s| s.starts_with("square"))).count(),
            }
        })
        .collect();
    let mut found: Vec<Finding> = model.attacks.iter().filter_map(|a| one_draw(&model.name, a)).collect();
    found.extend(model.attacks.iter().filter_map(|a| outside(a, mine.iter().filter(|o| o.attack == a.label))));
    for (i, strong) in lines.iter().enumerate().filter(|(_, l)| l.kind == Kind::Iterated) {
        found.extend(last_resort(strong));
        for (j, weak) in lines.iter().enumerate().filter(|(j, _)| *j != i) {
            found.extend(pair(strong, weak, i < j));
        }
    }
    found
}

/// What can be said of a plan before it is run, by the model's name.
pub fn foresee(plan: &Plan) -> Vec<Finding> {
    plan.models.iter().flat_map(|m| m.attacks.iter().filter_map(|a| one_draw(&m.name, a))).collect()
}

/// A model that is judged by votes answers at random; the gradient of one of its draws is not the gradient of its vote.
fn one_draw(model: &str, attack: &PlannedAttack) -> Option<Finding> {
    let averaged = attack.eot > 1 || attack.params.get("version").is_some_and(|v| v == "rand");
    let blind = attack.votes.is_some() && attack.threat.access == Access::Gradient && !averaged;
    let text = format!("{model} answers at random and {} follows the gradient of one draw at a time", attack.label);
    blind.then(|| {
        Finding::new(Code::OneDraw, text, "the number is too high: add --eot 20, or use autoattack:version=rand")
    })
}

/// Points that were never judged say nothing about the model.
fn outside<'a>(attack: &PlannedAttack, outcomes: impl Iterator<Item = &'a &'a Outcome> + Clone) -> Option<Finding> {
    let points = Points::of(&attack.threat, outcomes.clone().copied()).filter(|p| p.outside > 0)?;
    let first =
        outcomes.filter(|o| matches!(o.place, Some(Place::Outside(_)))).find_map(|o| Some((o.id, o.why.as_ref()?)));
    let first = first.map_or(String::new(), |(id, why)| format!(" (sample {id}: {why})"));
    let (n, most) = (points.outside, points.outside_most);
    let text = format!("{}: {n} points lie outside {}, the furthest by {most:.2e}{first}", attack.label, attack.threat);
    let advice = "they were not judged and their samples count as not robust: give the epsilon and the norm that they were made \
                  for, one row per sample in the data set's order, in the model's input range; `robust explain file` says more";
    let finding = Finding::new(Code::PointsOutside, text, advice);
    Some(finding.with("outside", n as f64).with("furthest", most))
}

/// AutoAttack's own flag: its attack without gradients found what those with gradients had left.
fn last_resort(line: &Line) -> Option<Finding> {
    let n = line.fooled.len();
    let text = format!(
        "{}: {} of {n} samples were fooled by Square alone, after every attack with gradients",
        line.attack.label, line.by_scores
    );
    let advice = "gradients are masked: `robust doctor --adaptive` tries to make them useful; treat the number as an upper \
                  bound";
    let finding = Finding::new(Code::BlackBoxBeatsWhiteBox, text, advice);
    lucky(line.by_scores, n).then(|| finding.with("only_weaker", line.by_scores as f64).with("samples", n as f64))
}

fn lucky(only: usize, n: usize) -> bool {
    only > 1 && only as f64 > LUCK * n as f64
}

/// The class that an attack aims at, if it does.
fn goal(attack: &PlannedAttack) -> Option<&serde_json::Value> {
    attack.params.get("target").filter(|target| !target.is_null())
}

fn pair(strong: &Line, weak: &Line, ordered: bool) -> Option<Finding> {
    let (a, b) = (strong.attack, weak.attack);
    // An attack towards a class has less to win than one away from a class: neither contradicts the other.
    if goal(a).is_some() && goal(a) != goal(b) {
        return None;
    }
    let same = a.threat.region == b.threat.region;
    let shared = strong.fooled.iter().filter_map(|(id, s)| weak.fooled.get(id).map(|w| (*s, *w)));
    let (mut only, mut n) = (0, 0);
    for (s, w) in shared {
        n += 1;
        only += usize::from(w && !s);
    }
    let (code, advice) = match weak.kind {
        Kind::Noise if same => (Code::NoiseBeatsAttack, "the attack is broken on this model: see `robust doctor`"),
        Kind::Scores if same => (
            Code::BlackBoxBeatsWhiteBox,
            "gradients are masked: report the worst case, and try `robust doctor --adaptive`",
        ),
        Kind::OneStep if same => {
            (Code::SingleStepBeatsIterated, "the iterated attack loses its way: other steps, restarts or losses")
        }
        Kind::Iterated if ordered || !same => return monotone(strong, weak),
        _ => return None,
    };
    let text = format!("{} fools {only} samples that {} leaves standing", b.label, a.label);
    lucky(only, n).then(|| Finding::new(code, text, advice).with("only_weaker", only as f64).with("samples", n as f64))
}

/// The same attack with a larger epsilon must fool what it fooled with a smaller one.
fn monotone(large: &Line, small: &Line) -> Option<Finding> {
    let (a, b) = (large.attack, small.attack);
    let (Region::Ball { norm: p, eps: large_eps }, Region::Ball { norm: q, eps: small_eps }) =
        (&a.threat.region, &b.threat.region)
    else {
        return None;
    };
    if a.attack != b.attack || a.params != b.params || p != q || large_eps <= small_eps {
        return None;
    }
    let lost = small.fooled.iter().filter(|(id, f)| **f && large.fooled.get(id) == Some(&false)).count();
    let n = small.fooled.len();
    let text = format!("{lost} of {n} samples are fooled by {} and not by {}", b.label, a.label);
    let advice = "more room must not help the model: the attack is not converged, use more steps and restarts";
    lucky(lost, n).then(|| Finding::new(Code::NotMonotone, text, advice).with("lost", lost as f64))
}
