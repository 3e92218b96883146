//! What became of the lines of a model under an attack.

use serde::Serialize;

/// What was found for one model and attack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    pub model: String,
    pub attack: String,
    pub rows: u64,
    /// Points re-judged.
    pub evidence: u64,
    /// Verdicts without a kept point: the clean prediction was re-judged, the attack's result was not.
    pub unproven: u64,
    /// Verdicts that differ within rounding of the boundary.
    pub fragile: Vec<u64>,
    /// Samples whose line does not hold, with the reason.
    pub wrong: Vec<(u64, String)>,
    /// The model has no form in double precision: it was asked once more in the way in which it was judged.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub same_path: bool,
}
