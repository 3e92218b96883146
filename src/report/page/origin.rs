//! How far the numbers can be trusted, and where they come from.

use super::section::{Cell, Figure, Section, Table};
use super::subjects::Subject;
use crate::clock::utc;
use crate::doctor::{Finding, Severity, grade_text};
use crate::eval::plan::PlannedAttack;
use crate::eval::record::Session;
use crate::runs::finished::FinishedRun;

pub fn diagnostics(subjects: &[Subject]) -> Section {
    let mut table = Table {
        caption: "Reliability of each model's numbers, and what speaks against it".to_string(),
        head: ["model", "reliability", "severity", "finding", "evidence", "advice"].map(String::from).to_vec(),
        rows: vec![],
    };
    for subject in subjects {
        let Some(found) = subject.run.diagnoses.iter().find(|d| d.model == subject.model.name) else { continue };
        let grade = grade_text(found.grade);
        let first = || [Cell::text(&subject.label), Cell { class: format!("grade {grade}"), ..Cell::text(&grade) }];
        if found.findings.is_empty() {
            let nothing = [Cell::default(), Cell::text("none"), Cell::default(), Cell::default()];
            table.rows.push(first().into_iter().chain(nothing).collect());
        }
        table.rows.extend(found.findings.iter().map(|f| first().into_iter().chain(finding(f)).collect()));
    }
    let rows = table.rows.len();
    let figure = Figure { title: "Findings".to_string(), table, ..Figure::default() };
    Section {
        id: "diagnostics",
        title: "Can the numbers be trusted?",
        about: "What the doctor found before the run and in its outcomes. `reliable` means that no check found anything, not \
                that the attack was strong; `unchecked`, that the doctor did not look at the model."
            .to_string(),
        figures: if rows == 0 { vec![] } else { vec![figure] },
    }
}

fn finding(f: &Finding) -> [Cell; 4] {
    let severity = match f.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let code = serde_json::to_value(f.code).ok().and_then(|v| Some(v.as_str()?.replace('_', " ")));
    [severity.to_string(), code.unwrap_or_default(), f.evidence.clone(), f.advice.clone()].map(Cell::text)
}

pub fn provenance(runs: &[FinishedRun]) -> Section {
    Section {
        id: "provenance",
        title: "Provenance",
        about: "Everything that decides the numbers. `robust verify DIR` judges every line and point again."
            .to_string(),
        figures: runs.iter().flat_map(|run| [facts(run), parts(run)]).collect(),
    }
}

fn facts(run: &FinishedRun) -> Figure {
    let plan = &run.record.plan;
    let mut rows: Vec<(&str, String)> = vec![
        ("run", run.name()),
        ("fingerprint", run.record.fingerprint.clone()),
        ("robust", plan.robust.clone()),
        ("interpreter", plan.interpreter.clone()),
        ("data set", format!("{} ({})", plan.dataset.card.name, plan.dataset.source)),
        ("data digest", plan.dataset.card.digest.clone()),
        ("samples", format!("{} of {} ({})", plan.ids.len(), plan.dataset.card.samples, plan.pick)),
        ("seed", plan.seed.to_string()),
        (
            "evidence",
            serde_json::to_value(plan.evidence).ok().and_then(|v| Some(v.as_str()?.to_string())).unwrap_or_default(),
        ),
        ("outcomes", format!("{} of {}", run.outcomes.len(), plan.rows())),
    ];
    rows.extend(plan.shard.map(|s| ("shard", s.to_string())));
    for s in &run.record.sessions {
        rows.push(("command", s.command.join(" ")));
        rows.push(("session", session(s)));
    }
    let cells = rows
        .into_iter()
        .map(|(name, value)| vec![Cell::text(name), Cell { class: "wide".into(), ..Cell::text(value) }]);
    let head = ["what", "value"].map(String::from).to_vec();
    let table = Table { caption: format!("Run {}", run.name()), head, rows: cells.collect() };
    Figure { title: format!("Run {}", run.name()), table, ..Figure::default() }
}

fn session(s: &Session) -> String {
    format!(
        "{:.1} s on {} with {} threads, batches of {}, started {}",
        s.seconds,
        s.machine,
        s.threads,
        s.batch_size,
        utc(s.started)
    )
}

fn parts(run: &FinishedRun) -> Figure {
    let mut rows = vec![];
    for model in &run.record.plan.models {
        for attack in &model.attacks {
            let cells = [
                model.name.clone(),
                model.source.clone(),
                model.digest.clone(),
                attack.label.clone(),
                parameters(attack),
            ];
            rows.push(cells.into_iter().map(|c| Cell { class: "wide".into(), ..Cell::text(c) }).collect());
        }
    }
    let head = ["model", "source", "digest", "attack", "parameters"].map(String::from).to_vec();
    let table = Table { caption: format!("Models and attacks of {}", run.name()), head, rows };
    Figure { title: format!("Models and attacks of {}", run.name()), table, ..Figure::default() }
}

fn parameters(attack: &PlannedAttack) -> String {
    let mut said: Vec<String> = attack.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
    said.extend(attack.queries.map(|q| format!("queries={q}")));
    said.extend((attack.eot > 1).then(|| format!("eot={}", attack.eot)));
    said.extend(attack.votes.map(|v| format!("votes={}/{}", v.k, v.m)));
    said.join(" ")
}
