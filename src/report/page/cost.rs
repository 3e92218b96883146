//! What the numbers cost: passes per sample and seconds.

use super::section::{Cell, DRAWN, Figure, Section, Table, crowded};
use super::subjects::Subject;
use crate::report::svg;

pub fn section(subjects: &[Subject]) -> Section {
    let mut table = Table {
        caption: "Passes per sample (clean, search and confirmation) and seconds".to_string(),
        head: ["model", "attack", "forwards per sample", "backwards per sample", "seconds", "samples"]
            .map(String::from)
            .to_vec(),
        rows: vec![],
    };
    let mut bars: Vec<svg::Bar> = vec![];
    for subject in subjects {
        let (mut seconds, mut forwards) = (0., 0);
        for row in subject.rows(false).filter(|r| r.n > 0) {
            let per = |total: u64| {
                let value = total as f64 / row.n as f64;
                Cell::number(value, format!("{value:.1}"))
            };
            seconds += row.seconds;
            forwards += row.forwards;
            table.rows.push(vec![
                Cell::text(&subject.label),
                Cell::text(&row.attack),
                per(row.forwards),
                per(row.backwards),
                Cell::number(row.seconds, format!("{:.1}", row.seconds)),
                Cell::count(row.n),
            ]);
        }
        if forwards > 0 {
            let tip = format!("{}: {seconds:.1} seconds, {forwards} forwards", subject.label);
            bars.push((subject.label.clone(), subject.style, seconds, tip));
        }
    }
    let about: Vec<String> = bars.iter().map(|b| b.3.clone()).collect();
    let notes = crowded(bars.len());
    let drawn = &bars[..bars.len().min(DRAWN)];
    let figure = Figure {
        title: "Seconds per model, all attacks".to_string(),
        svg: svg::bars("cost-0", "Seconds per model, all attacks", &about.join("; "), drawn),
        notes,
        table,
        ..Figure::default()
    };
    Section {
        id: "cost",
        title: "Cost",
        about: "A forward is one row through the model, a backward one row pulled back; seconds are the machine's."
            .to_string(),
        figures: if figure.table.rows.is_empty() { vec![] } else { vec![figure] },
    }
}
