//! Encoders side by side: clean and robust accuracy of each head on each, and how far apart encoders are.

use super::written;
use crate::escape::cell;
use crate::eval::plan::{Plan, PlannedAttack, PlannedModel};
use crate::runs::stats::{Paired, Side, p_text, rate};
use comfy_table::{CellAlignment, Table, presets};
use robust_core::{Outcome, Result, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;

/// One encoder under one head and attack. Gaps are to the run's first encoder, in shares of the samples; positive where
/// this one is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderRow {
    pub head: String,
    pub attack: String,
    pub threat: String,
    pub encoder: String,
    pub n: u64,
    pub clean_accuracy: f64,
    pub robust_accuracy: f64,
    /// `None` for the first encoder itself.
    pub gap: Option<Gap>,
}

/// How an encoder differs from the first one on the same samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gap {
    pub clean: f64,
    pub robust: f64,
    /// 95 % interval of the robust gap (Newcombe 1998, method 10).
    pub interval: (f64, f64),
    /// McNemar's mid-p test of the robust gap, two-sided.
    pub p: f64,
}

/// Per sample: whether it was right, and whether it held.
type Verdicts = BTreeMap<u64, (bool, bool)>;

/// The lines of a run that put heads on encoders, by head and attack; none for other runs. Encoders are compared where the
/// label of the attack and the threat are the same.
pub fn compare(plan: &Plan, outcomes: &[Outcome]) -> Vec<EncoderRow> {
    let of = |model: &PlannedModel, attack: &str| -> Verdicts {
        let mine = outcomes.iter().filter(|o| o.model == model.name && o.attack == attack);
        let right = |o: &Outcome| o.clean.is_some_and(|p| p.margin > 0.);
        mine.map(|o| (o.id, (right(o), o.verdict == Verdict::Held))).collect()
    };
    let headed = || plan.models.iter().filter_map(|m| Some((m, m.head.as_ref()?)));
    let mut heads: Vec<&str> = vec![];
    for (_, head) in headed() {
        if !heads.contains(&head.head.as_str()) {
            heads.push(&head.head);
        }
    }
    let mut lines = vec![];
    for head in heads {
        let models: Vec<_> = headed().filter(|(_, h)| h.head == head).collect();
        let Some((first, _)) = models.first() else { continue };
        // Attacks without an epsilon find a success somewhere for nearly every sample: no share of them is a robust accuracy.
        let nearest = |a: &&PlannedAttack| matches!(a.threat.region, robust_core::Region::Nearest { .. });
        for attack in first.attacks.iter().filter(|a| !nearest(a)) {
            let base = of(first, &attack.label);
            for (i, (model, planned)) in models.iter().enumerate() {
                let same = model.attacks.iter().any(|a| a.label == attack.label && a.threat == attack.threat);
                if !same {
                    continue;
                }
                let mine = of(model, &attack.label);
                let share = |which: fn(&(bool, bool)) -> bool| {
                    rate(mine.values().filter(|v| which(v)).count() as u64, mine.len() as u64)
                };
                lines.push(EncoderRow {
                    head: head.to_string(),
                    attack: attack.label.clone(),
                    threat: attack.threat_text(),
                    encoder: planned.encoder.clone(),
                    n: mine.len() as u64,
                    clean_accuracy: share(|v| v.0),
                    robust_accuracy: share(|v| v.1),
                    gap: (i > 0).then(|| gap(&base, &mine)),
                });
            }
        }
    }
    lines
}

fn gap(base: &Verdicts, mine: &Verdicts) -> Gap {
    let (mut clean, mut robust) = (Paired::default(), Paired::default());
    for (id, was) in base {
        if let Some(is) = mine.get(id) {
            clean.add(was.0, is.0);
            robust.add(was.1, is.1);
        }
    }
    let (low, high) = robust.newcombe(0.95);
    // `drop` is how far the rate fell; the gap is how far it rose.
    Gap {
        clean: 0. - clean.drop(),
        robust: 0. - robust.drop(),
        interval: (-high, -low),
        p: robust.mcnemar_mid_p(Side::Two),
    }
}

/// A table, or nothing where there is nothing to compare.
pub fn to_text(lines: &[EncoderRow]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "head",
        "attack",
        "encoder",
        "clean %",
        "robust %",
        "clean gap",
        "robust gap",
        "95 % interval",
        "p",
    ]);
    let percent = |v: f64| format!("{:.1}", 100. * v);
    let signed = |v: f64| format!("{:+.1}", 100. * v);
    for l in lines {
        let gap = match l.gap {
            None => [String::new(), String::new(), String::new(), String::new()],
            Some(g) => [
                signed(g.clean),
                signed(g.robust),
                format!("{} - {}", signed(g.interval.0), signed(g.interval.1)),
                p_text(g.p),
            ],
        };
        let start = [l.head.clone(), l.attack.clone(), l.encoder.clone(), percent(l.clean_accuracy)];
        table.add_row(start.into_iter().chain([percent(l.robust_accuracy)]).chain(gap));
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\n{}\n\nGaps are to the first encoder on the same samples, in points.\n", table.trim_fmt())
}

/// A header and one line per encoder, head and attack.
///
/// # Errors
/// Never in practice.
pub fn to_csv(lines: &[EncoderRow]) -> Result<String> {
    let header = [
        "head",
        "attack",
        "threat",
        "encoder",
        "n",
        "clean_accuracy",
        "robust_accuracy",
        "clean_gap",
        "robust_gap",
        "robust_gap_low",
        "robust_gap_high",
        "p",
    ];
    let rows = lines.iter().map(|l| {
        let gap = |of: fn(Gap) -> f64| l.gap.map_or(String::new(), |g| of(g).to_string());
        [
            cell(&l.head),
            cell(&l.attack),
            cell(&l.threat),
            cell(&l.encoder),
            l.n.to_string(),
            l.clean_accuracy.to_string(),
            l.robust_accuracy.to_string(),
            gap(|g| g.clean),
            gap(|g| g.robust),
            gap(|g| g.interval.0),
            gap(|g| g.interval.1),
            gap(|g| g.p),
        ]
    });
    written(std::iter::once(header.map(String::from)).chain(rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::plan::tests::plan;
    use crate::eval::plan::{PlannedData, PlannedHead};

    fn outcome(model: &str, id: u64, verdict: &str, margin: f64) -> Outcome {
        serde_json::from_value(serde_json::json!({
            "schema": "robust.outcome/1", "model": model, "attack": "a", "id": id, "digest": "", "label": 0,
            "clean": { "label": 0, "margin": margin }, "verdict": verdict, "best": null, "distance": null, "nearest": null,
            "queries": null, "cost": { "search": { "forward": 1, "backward": 0 }, "clean": 1, "confirm": 0 },
            "evidence": null,
        }))
        .unwrap()
    }

    #[test]
    fn encoders_are_paired_under_each_head() {
        let mut plan = plan();
        assert!(compare(&plan, &[]).is_empty() && to_text(&[]).is_empty(), "a run without heads");
        let model = plan.models.remove(0);
        let head = |encoder: &str| PlannedHead {
            encoder: encoder.into(),
            head: "knn".into(),
            file: String::new(),
            train: PlannedData { source: String::new(), card: plan.dataset.card.clone(), by_content: false },
            limit: None,
        };
        for (name, encoder) in [("x+knn", "x"), ("y+knn", "y")] {
            let attacks = model.attacks[..1].to_vec();
            plan.models.push(PlannedModel { name: name.into(), head: Some(head(encoder)), attacks, ..model.clone() });
        }
        let mut outcomes = vec![];
        for id in 0..20 {
            outcomes.push(outcome("x+knn", id, if id < 4 { "held" } else { "fooled" }, 1.));
            let verdict = if id < 14 { "held" } else { "clean_miss" };
            outcomes.push(outcome("y+knn", id, verdict, if id < 14 { 1. } else { -1. }));
        }
        let lines = compare(&plan, &outcomes);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].clean_accuracy, lines[0].robust_accuracy, lines[0].gap), (1., 0.2, None));
        let gap = lines[1].gap.unwrap();
        assert!((gap.clean + 0.3).abs() < 1e-12 && (gap.robust - 0.5).abs() < 1e-12, "{gap:?}");
        assert!(gap.interval.0 < 0.5 && gap.interval.1 > 0.5 && gap.interval.0 > 0.1 && gap.p < 0.01, "{gap:?}");
        let text = to_text(&lines);
        assert!(text.contains("+50.0") && text.contains("-30.0"), "{text}");
        let csv = to_csv(&lines).unwrap();
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.contains("\nknn,a,Linf 0.100000,y,20,0.7,0.7,-0.3,0.5,"), "{csv}");
    }
}
