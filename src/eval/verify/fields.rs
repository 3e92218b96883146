//! What a line says beside its clean row and its point: fields that must agree with each other and with the plan, whether
//! or not a point was kept.

use super::words;
use crate::eval::plan::PlannedAttack;
use robust_core::{Cost, Outcome, Passes, Place, Pred, Verdict};

/// How far a distance may lie beyond epsilon, in shares of the larger of it and 1: the sum of a row in another order.
const ROOM: f64 = 1e-5;

/// Checks a line against itself and the attack that wrote it.
///
/// # Errors
/// The first contradiction, as a sentence.
pub(super) fn check(attack: &PlannedAttack, o: &Outcome) -> Result<(), String> {
    cost(attack, o)?;
    point(attack, o)?;
    success(attack, o)?;
    place(attack, o)?;
    if let Some(clean) = o.clean {
        class("clean", clean, o.label, None)?;
    }
    if let Some(best) = o.best {
        class("adversarial", best, o.label, o.target)?;
    }
    if o.verdict == Verdict::Failed && o.why.is_none() {
        return Err("it failed and does not say why".to_string());
    }
    if matches!(o.verdict, Verdict::Held | Verdict::Fooled) && o.why.is_some() {
        return Err("it says why it failed, and it did not fail".to_string());
    }
    Ok(())
}

/// Whether the attack met the sample at all: clean misses are not attacked, but corrupted all the same.
pub(super) fn attacked(attack: &PlannedAttack, o: &Outcome) -> bool {
    !o.digest.is_empty() && (o.verdict != Verdict::CleanMiss || attack.is_corruption())
}

fn cost(attack: &PlannedAttack, o: &Outcome) -> Result<(), String> {
    let clean = match o.digest.is_empty() {
        true => 0,
        // Another sample's embedding is one more.
        false => 1 + u64::from(o.anchor.is_some()),
    };
    if o.cost.clean != clean {
        return Err(format!("it says {} clean passes, a clean sample takes {clean}", o.cost.clean));
    }
    if !attacked(attack, o) {
        let nothing = Cost { clean, ..Cost::default() };
        return match o.cost == nothing {
            true => Ok(()),
            false => Err("passes of an attack on a sample that was not attacked".to_string()),
        };
    }
    let Passes { forward, backward } = o.cost.search;
    let most = attack.queries.unwrap_or(u64::MAX).min(attack.passes.0);
    if forward > most || backward > attack.passes.1 {
        let (f, b) = (most, attack.passes.1);
        return Err(format!(
            "it says {forward} forwards and {backward} backwards, the attack takes at most {f} and {b}"
        ));
    }
    let draws = attack.votes.map_or(1, |v| u64::from(v.m)).max(1);
    if !o.cost.confirm.is_multiple_of(draws) || (o.best.is_some() && o.cost.confirm == 0) {
        return Err(format!("it says {} passes of the judge, each judgement takes {draws}", o.cost.confirm));
    }
    Ok(())
}

/// A point is there with everything that belongs to it, or not at all.
fn point(attack: &PlannedAttack, o: &Outcome) -> Result<(), String> {
    let (best, norm) = (o.best.is_some(), attack.threat.norm().is_some());
    if best && !attacked(attack, o) {
        return Err("a point of a sample that was not attacked".to_string());
    }
    if o.evidence.is_some() != best || o.distance.is_some() != (best && norm) {
        return Err("its prediction, distance and digest are not those of one point".to_string());
    }
    let eps = attack.threat.eps();
    if let Some(distance) = o.distance.filter(|d| !(*d >= 0. && *d <= eps + ROOM * eps.max(1.))) {
        return Err(format!("its point is {distance} away, epsilon is {eps}"));
    }
    let Some(pred) = o.best else {
        return match o.verdict {
            Verdict::Fooled => Err("a fooled sample without a point".to_string()),
            Verdict::Held => Err("it is said to hold, and none of its points was judged".to_string()),
            _ => Ok(()),
        };
    };
    let draws = attack.votes.map_or(1, |v| v.m);
    if o.votes.map_or(1, |v| v.1) != draws.max(1) || o.votes.is_some_and(|v| v.0 > v.1) {
        return Err(format!("its votes are {}, of {draws} draws", words::votes(o.votes)));
    }
    if matches!(o.verdict, Verdict::CleanMiss | Verdict::Failed) {
        return Ok(());
    }
    if o.drawn.is_some() && o.votes.is_none() {
        return Err("it says where its votes were drawn, and has none".to_string());
    }
    let strict = o.target.is_some() || attack.aim.is_some();
    let reached = match (o.votes, attack.votes) {
        (Some((fooled, _)), Some(votes)) => fooled >= votes.k.max(1),
        _ if strict => pred.margin < 0.,
        _ => pred.margin <= 0.,
    };
    match reached == (o.verdict == Verdict::Fooled) {
        true => Ok(()),
        false => {
            Err(format!("verdict {} contradicts the margin {} of its own line", words::verdict(o.verdict), pred.margin))
        }
    }
}

/// Only points made elsewhere are moved, and what lies outside was not judged.
fn place(attack: &PlannedAttack, o: &Outcome) -> Result<(), String> {
    let fits = match o.place {
        None => true,
        Some(Place::Moved(by)) => attack.attack == "file" && by > 0.,
        Some(Place::Outside(by)) => o.verdict == Verdict::Failed && o.best.is_none() && by > 0.,
    };
    fits.then_some(())
        .ok_or_else(|| format!("{} contradicts its verdict {}", words::place(o.place), words::verdict(o.verdict)))
}

/// Where and when a success was found, and the nearest one.
fn success(attack: &PlannedAttack, o: &Outcome) -> Result<(), String> {
    let found = o.verdict == Verdict::Fooled || (o.verdict == Verdict::CleanMiss && attack.is_corruption());
    match o.queries {
        None if o.verdict == Verdict::Fooled => return Err("a fooled sample without its number of queries".to_string()),
        Some(_) if !found => return Err("queries up to a success that it does not have".to_string()),
        Some(queries) if queries > o.cost.search.forward => {
            return Err(format!("{queries} queries up to its success, {} in all", o.cost.search.forward));
        }
        _ => {}
    }
    if let Some(stage) = &o.stage {
        if !found {
            return Err(format!("it names the part `{stage}` for a success that it does not have"));
        }
        if !is_part(attack, stage) {
            return Err(format!("`{stage}` is not part of the attack"));
        }
    }
    let Some(nearest) = o.nearest else {
        return match o.verdict == Verdict::Fooled && seeks(attack) {
            true => Err("the distance of its nearest success is missing".to_string()),
            false => Ok(()),
        };
    };
    if !seeks(attack) {
        return Err("a nearest success of an attack that does not look for it".to_string());
    }
    let fits = match o.verdict {
        // A point that search and judge saw differently may have one farther away beside it.
        Verdict::Fooled => o.distance == Some(nearest) || o.fragile && nearest > attack.threat.eps(),
        Verdict::Held | Verdict::Failed => nearest > attack.threat.eps(),
        Verdict::CleanMiss => false,
    };
    match fits && nearest.is_finite() {
        true => Ok(()),
        false => Err(format!(
            "its nearest success is said to be {nearest} away, its point is {} away",
            words::optional(o.distance)
        )),
    }
}

fn seeks(attack: &PlannedAttack) -> bool {
    attack.params.get("nearest").is_some_and(|n| n == true) || robust_attacks::minimises(&attack.attack)
}

/// The class that is said against the sign of the margin, which is the lead of the label or the lack of the target.
fn class(which: &str, says: Pred, label: Option<u32>, target: Option<u32>) -> Result<(), String> {
    let fits = match (target, label) {
        // The margin is then that of the rejection.
        (_, Some(_)) if says.rejected => says.label.is_some(),
        (Some(target), _) if says.margin < 0. => says.label == Some(target),
        (Some(target), _) if says.margin > 0. => says.label != Some(target),
        (None, Some(label)) if says.margin > 0. => says.label == Some(label),
        (None, Some(label)) if says.margin < 0. => says.label != Some(label),
        (_, Some(_)) => says.label.is_some(),
        (_, None) => says.label.is_none(),
    };
    let class = says.label.map_or("none".to_string(), |l| l.to_string());
    fits.then_some(()).ok_or_else(|| format!("the {which} class {class} contradicts the margin {}", says.margin))
}

/// Whether an attack has a part of this name: members of AutoAttack, then targets, restarts and their groups.
fn is_part(attack: &PlannedAttack, stage: &str) -> bool {
    let mut words = stage.split('/').peekable();
    let text = |key: &str| attack.params.get(key).and_then(|v| v.as_str());
    let most = |key: &str, usual: u64| attack.params.get(key).and_then(|v| v.as_u64()).unwrap_or(usual);
    let members: &[&str] = match text("version") {
        Some("plus") => &["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
        Some("rand") => &["apgd-ce", "apgd-dlr"],
        _ => &["apgd-ce", "apgd-t", "fab-t", "square"],
    };
    let name = match attack.attack == "autoattack" {
        false => attack.attack.as_str(),
        true => match words.next().and_then(|word| members.iter().find(|m| **m == word)) {
            Some(member) => member,
            None => return false,
        },
    };
    let kinds: &[&str] = match name {
        "pgd" | "apgd-ce" | "apgd-dlr" => &["rest", "r"],
        "fab" => &["rest", "r", "nearest"],
        "apgd-t" => &["rest", "t", "r"],
        "fab-t" => &["rest", "t", "r", "nearest"],
        "square" => &["rest", "r", "search"],
        _ => &[],
    };
    let is = |word: &str| {
        let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        let kind = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = digits.parse::<u64>().ok();
        let within = match kind {
            "r" => number.is_some_and(|n| n < most("restarts", 5)),
            "t" => number.is_some_and(|n| n < most("targets", 9)),
            "rest" => digits.is_empty() || number.is_some_and(|n| n > 1),
            _ => digits.is_empty(),
        };
        within && kinds.contains(&kind)
    };
    // In the reference's counts a member may find a success outside its runs.
    (words.peek().is_some() || attack.attack == "autoattack") && words.all(is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::attacked::unreadable;
    use crate::eval::plan::tests::plan;
    use serde_json::json;

    /// A sample of label 3 that PGD fooled, and its attack.
    fn fooled() -> (PlannedAttack, Outcome) {
        let mut attack = plan().models[0].attacks[0].clone();
        attack.params.insert("restarts".into(), 2.into());
        let line = Outcome {
            digest: "d".into(),
            label: Some(3),
            clean: Some(Pred::answered(Some(3), 2.)),
            verdict: Verdict::Fooled,
            why: None,
            best: Some(Pred::answered(Some(5), -1.)),
            distance: Some(0.1),
            queries: Some(4),
            stage: Some("r0".into()),
            cost: Cost { search: Passes { forward: 4, backward: 3 }, clean: 1, confirm: 1 },
            evidence: Some("e".into()),
            ..unreadable("m", "a", 1, "").outcome
        };
        (attack, line)
    }

    #[test]
    fn a_line_that_contradicts_itself_is_found_out_field_by_field() {
        let (attack, line) = fooled();
        assert_eq!(check(&attack, &line), Ok(()));
        type Edit = fn(&mut Outcome);
        let edits: [(&str, Edit); 19] = [
            ("clean passes", |o| o.cost.clean = 2),
            ("at most", |o| o.cost.search.forward = 42),
            ("at most", |o| o.cost.search.backward = 41),
            ("passes of the judge", |o| o.cost.confirm = 0),
            ("queries up to its success", |o| o.queries = Some(5)),
            ("number of queries", |o| o.queries = None),
            ("not part of the attack", |o| o.stage = Some("t0/r0".into())),
            ("not part of the attack", |o| o.stage = Some("r2".into())),
            ("not part of the attack", |o| o.stage = Some(String::new())),
            ("does not look for it", |o| o.nearest = Some(0.05)),
            ("clean class 4", |o| o.clean = Some(Pred::answered(Some(4), 2.))),
            ("adversarial class 3", |o| o.best = Some(Pred::answered(Some(3), -1.))),
            ("contradicts the margin 1", |o| o.best = Some(Pred::answered(Some(3), 1.))),
            ("epsilon is 0.1", |o| o.distance = Some(0.2)),
            ("not those of one point", |o| o.evidence = None),
            ("its votes", |o| o.votes = Some((1, 3))),
            ("did not fail", |o| o.why = Some("x".to_string())),
            ("contradicts its verdict", |o| o.place = Some(Place::Moved(1e-8))),
            ("contradicts its verdict", |o| o.place = Some(Place::Outside(0.1))),
        ];
        for (word, edit) in edits {
            let mut line = line.clone();
            edit(&mut line);
            let said = check(&attack, &line).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
        // What was not attacked has cost nothing and has no point.
        let missed = Outcome {
            verdict: Verdict::CleanMiss,
            clean: Some(Pred::answered(Some(4), -1.)),
            best: None,
            distance: None,
            queries: None,
            stage: None,
            evidence: None,
            ..line.clone()
        };
        assert!(check(&attack, &missed).unwrap_err().contains("not attacked"));
        let free = Outcome { cost: Cost { clean: 1, ..Cost::default() }, ..missed };
        assert_eq!(check(&attack, &free), Ok(()));
        assert!(check(&attack, &Outcome { queries: Some(0), ..free }).is_err());
    }

    #[test]
    fn the_nearest_success_is_the_point_or_lies_outside_the_ball() {
        let (mut attack, line) = fooled();
        (attack.attack, attack.params["restarts"]) = ("fab".into(), 1.into());
        attack.params.insert("nearest".into(), true.into());
        let line = Outcome { stage: Some("nearest".into()), nearest: line.distance, ..line };
        assert_eq!(check(&attack, &line), Ok(()));
        for nearest in [None, Some(0.05), Some(0.3)] {
            assert!(check(&attack, &Outcome { nearest, ..line.clone() }).is_err(), "{nearest:?}");
        }
        let held = Outcome {
            verdict: Verdict::Held,
            best: Some(Pred::answered(Some(3), 1.)),
            queries: None,
            stage: None,
            ..line
        };
        let unjudged = Outcome { best: None, distance: None, evidence: None, ..held.clone() };
        assert!(check(&attack, &unjudged).unwrap_err().contains("none of its points was judged"));
        for (nearest, holds) in [(None, true), (Some(0.3), true), (Some(0.05), false), (Some(f64::INFINITY), false)] {
            assert_eq!(check(&attack, &Outcome { nearest, ..held.clone() }).is_ok(), holds, "{nearest:?}");
        }
    }

    #[test]
    fn parts_are_those_of_the_attack_and_of_its_members() {
        let mut attack = plan().models[0].attacks[0].clone();
        let mut says = |name: &str, params: serde_json::Value, stage: &str| {
            attack.attack = name.into();
            attack.params = params.as_object().cloned().unwrap();
            is_part(&attack, stage)
        };
        let standard = || json!({ "version": "standard", "targets": null });
        assert!(says("autoattack", standard(), "apgd-t/rest/t3/r0"));
        assert!(says("autoattack", standard(), "apgd-ce") && says("autoattack", standard(), "square/r0/search"));
        assert!(!says("autoattack", standard(), "apgd-dlr/r0") && !says("autoattack", standard(), "r0"));
        assert!(says("autoattack", json!({ "version": "plus" }), "apgd-dlr/rest/r4"));
        assert!(!says("autoattack", json!({ "version": "plus" }), "apgd-dlr/rest/r5"));
        assert!(
            says("pgd", json!({ "restarts": 20 }), "rest3/r17") && !says("pgd", json!({ "restarts": 20 }), "rest1/r17")
        );
        assert!(!says("fgsm", json!({}), "r0") && !says("pgd", json!({ "restarts": 3 }), "r1/nonsense"));
    }
}
