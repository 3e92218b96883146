//! Values of a line as messages name them.

use robust_core::{Place, Verdict};

/// As the line spells it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::CleanMiss => "clean_miss",
        Verdict::Fooled => "fooled",
        Verdict::Held => "held",
        Verdict::Failed => "failed",
    }
}

pub fn optional<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "nothing".to_string(), |v| v.to_string())
}

pub fn votes(votes: Option<(u32, u32)>) -> String {
    votes.map_or_else(|| "none".to_string(), |(fooled, of)| format!("{fooled} of {of}"))
}

pub fn place(place: Option<Place>) -> String {
    match place {
        None => "a point inside the threat model".to_string(),
        Some(Place::Moved(by)) => format!("a point moved by {by}"),
        Some(Place::Outside(by)) => format!("a point {by} outside the threat model"),
    }
}
