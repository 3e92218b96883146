//! The answer in one sentence per model and threat model: what it keeps, against whom, how sure that is.

use super::distances::{Distances, Level};
use super::{Row, is_worst, svg};
use crate::doctor::{Grade, grade_text};

/// One sentence per model and norm, at the largest epsilon that was attacked, in the table's order, then one per attack that looked
/// for the nearest success; corruptions and regions without a norm have none. `name` says how a model is called.
pub fn sentences(rows: &[Row], name: impl Fn(&Row) -> String) -> Vec<String> {
    let worst: Vec<&Row> = rows.iter().filter(|r| is_worst(&r.attack) && !r.norm.is_empty() && r.n > 0).collect();
    let beside = |a: &Row, b: &Row| (&a.model, &a.norm, goal(a)) == (&b.model, &b.norm, goal(b));
    let largest = |r: &&&Row| !worst.iter().any(|other| beside(r, other) && other.eps > r.eps);
    let answers = worst.iter().filter(largest).map(|r| sentence(r, rows, &name));
    answers.chain(rows.iter().filter_map(|r| Some(distance(r, r.distances.as_ref()?, &name)))).collect()
}

/// Of an attack without an epsilon: how far the nearest successes lie, and what survives at the epsilons that are asked for.
fn distance(row: &Row, found: &Distances, name: &impl Fn(&Row) -> String) -> String {
    let attack = row.attack.split(':').next().unwrap_or_default();
    let text = |d: f64| svg::number((1e4 * d).round() / 1e4);
    let half = match (found.lower_quartile, found.median, found.upper_quartile) {
        (low, Some(median), high) => {
            let edge = |d: Option<f64>| d.map_or("beyond reach".to_string(), text);
            format!("at {} {} for half of them (quartiles {} and {})", row.norm, text(median), edge(low), edge(high))
        }
        _ => "for fewer than half of them".to_string(),
    };
    let at = |l: &Level| {
        let (low, high) = l.robust_interval;
        let rate = percent(l.robust_accuracy);
        format!("{rate} % at {} {} ({} to {} %)", row.norm, epsilon(l.eps), percent(low), percent(high))
    };
    let clean = match row.aimed {
        true => String::new(),
        false => format!("; clean accuracy {} %", percent(row.clean_accuracy)),
    };
    format!(
        "{}: of {} samples that are right, {attack} finds a success {half}; of all {} samples {} survive it{clean}; grade: {}.",
        name(row),
        found.attacked,
        row.n,
        found.at.iter().map(at).collect::<Vec<_>>().join(", "),
        grade(row.reliability)
    )
}

fn sentence(worst: &Row, rows: &[Row], name: &impl Fn(&Row) -> String) -> String {
    let attacks: Vec<&Row> =
        rows.iter().filter(|r| r.model == worst.model && r.threat == worst.threat && !is_worst(&r.attack)).collect();
    let by = match attacks[..] {
        [only] => only.attack.split(':').next().unwrap_or_default().to_string(),
        ref several => format!("the worst of {} attacks", several.len()),
    };
    let (low, high) = worst.robust_interval;
    // Goals without labels have no clean accuracy: every sample begins as itself.
    let clean = match worst.aimed {
        true => String::new(),
        false => format!("; clean accuracy {} %", percent(worst.clean_accuracy)),
    };
    format!(
        "{} keeps {} % of {} samples right at {} under {by} (95 % interval {} to {} %{clean}); grade: {}.",
        name(worst),
        percent(worst.robust_accuracy),
        worst.n,
        threat(worst),
        percent(low),
        percent(high),
        grade(worst.reliability)
    )
}

fn grade(grade: Option<Grade>) -> String {
    match grade {
        None => "unchecked (the doctor did not look)".to_string(),
        some => grade_text(some),
    }
}

/// The goal where it is not a class: `, away: ...`.
fn goal(row: &Row) -> String {
    row.threat.split_once(", ").map_or_else(String::new, |(_, goal)| format!(", {goal}"))
}

/// `Linf 8/255`, with the goal.
fn threat(row: &Row) -> String {
    match row.eps.is_finite() {
        true => format!("{} {}{}", row.norm, epsilon(row.eps), goal(row)),
        false => row.threat.clone(),
    }
}

/// `8/255` where it is that, else the number.
pub fn epsilon(eps: f64) -> String {
    let levels = eps * 255.;
    if eps > 0. && (0.999..32.5).contains(&levels) && (levels - levels.round()).abs() < 1e-6 {
        return format!("{}/255", levels.round());
    }
    svg::number(eps)
}

/// A rate as tables and sentences show it.
pub(super) fn percent(rate: f64) -> String {
    format!("{:.1}", 100. * rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::stats::wilson;

    fn row(attack: &str, held: u64) -> Row {
        Row {
            model: "net".into(),
            dataset: "digits".into(),
            attack: attack.into(),
            threat: "Linf 0.031373".into(),
            norm: "Linf".into(),
            eps: 8. / 255.,
            n: 200,
            clean_accuracy: 0.95,
            robust_accuracy: held as f64 / 200.,
            clean_interval: wilson(190, 200),
            robust_interval: wilson(held, 200),
            clean_correct: 190,
            held,
            fooled: 190 - held,
            failed: 0,
            fragile: 0,
            forwards: 0,
            backwards: 0,
            seconds: 0.,
            seed: 0,
            full: true,
            model_digest: String::new(),
            data_digest: String::new(),
            reliability: Some(Grade::Doubtful),
            encoder: None,
            head: None,
            points: None,
            distances: None,
            aimed: false,
        }
    }

    #[test]
    fn a_model_under_one_attack_is_one_sentence() {
        let rows = [row("pgd-linf:eps=8/255", 100), row("worst-case", 100)];
        assert_eq!(
            sentences(&rows, |r| r.model.clone()),
            [
                "net keeps 50.0 % of 200 samples right at Linf 8/255 under pgd-linf (95 % interval 43.1 to 56.9 %; clean accuracy \
                 95.0 %); grade: doubtful."
            ]
        );
    }

    #[test]
    fn of_several_epsilons_the_largest_is_told() {
        let smaller = Row { eps: 0.01, threat: "Linf 0.010000".into(), ..row("worst-case", 150) };
        let other = Row { model: "other".into(), ..smaller.clone() };
        let said = sentences(&[row("worst-case", 100), smaller, other], |r| r.model.clone());
        assert_eq!(said.len(), 2);
        assert!(said[0].contains("net keeps 50.0 %") && said[1].contains("other keeps 75.0 %"), "{said:?}");
    }

    #[test]
    fn an_attack_without_an_epsilon_is_told_by_its_distances() {
        let at = |eps: f64, held| Level {
            eps,
            held,
            robust_accuracy: held as f64 / 200.,
            robust_interval: wilson(held, 200),
        };
        let found = Distances {
            attacked: 190,
            fell: 160,
            lower_quartile: Some(0.75),
            median: Some(1.23456),
            upper_quartile: None,
            at: vec![at(0.5, 160), at(2., 40)],
        };
        let nearest = Row {
            norm: "L2".into(),
            eps: f64::INFINITY,
            threat: "nearest L2".into(),
            robust_accuracy: f64::NAN,
            distances: Some(found),
            ..row("ddn-l2:steps=20", 30)
        };
        assert_eq!(
            sentences(&[nearest], |r| r.model.clone()),
            [
                "net: of 190 samples that are right, ddn-l2 finds a success at L2 1.2346 for half of them (quartiles 0.75 and beyond \
                 reach); of all 200 samples 80.0 % at L2 0.5 (73.9 to 85.0 %), 20.0 % at L2 2 (15.0 to 26.1 %) survive it; clean \
                 accuracy 95.0 %; grade: doubtful."
            ]
        );
    }

    #[test]
    fn several_attacks_are_counted_and_a_model_that_nobody_looked_at_is_unchecked() {
        let worst = Row { reliability: None, ..row("worst-case", 80) };
        let corruption = Row { norm: String::new(), threat: "fog".into(), eps: f64::INFINITY, ..row("worst-case", 10) };
        let said = sentences(&[row("a", 90), row("b", 80), worst, corruption], |r| r.model.clone());
        assert_eq!(said.len(), 1);
        assert!(
            said[0].contains("under the worst of 2 attacks") && said[0].contains("grade: unchecked"),
            "{}",
            said[0]
        );
    }
}
