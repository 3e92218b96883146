//! What became of samples that an attack could not drive toward the class it was given, for they are of that class.

use crate::eval::plan::Plan;
use robust_core::Outcome;

/// A sentence for every attack with a fixed target that had to leave it for some samples.
pub fn own_class(plan: &Plan, outcomes: &[Outcome]) -> Vec<String> {
    let mut notes = vec![];
    for model in &plan.models {
        for attack in &model.attacks {
            let Some(class) = attack.params.get("target").and_then(serde_json::Value::as_u64) else { continue };
            let mine = outcomes.iter().filter(|o| o.model == model.name && o.attack == attack.label);
            let own = mine.filter(|o| o.label.map(u64::from) == Some(class) && o.target.is_some());
            let targets: Vec<u32> = own.filter_map(|o| o.target).collect();
            let (Some(least), Some(most)) = (targets.iter().min(), targets.iter().max()) else { continue };
            let went = if least == most { format!("class {least}") } else { "the next class".to_string() };
            notes.push(format!(
                "{}, {}: {} samples are of class {class} themselves: they were driven toward {went}",
                model.name,
                attack.label,
                targets.len()
            ));
        }
    }
    notes
}
