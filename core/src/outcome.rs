//! What is written down for one sample under one attack: one JSON line that holds no time, host, path, batch size,
//! thread, shard or file name.

use crate::{Pred, RowKey, stream};
use serde::{Deserialize, Serialize};

/// Of every line.
pub const SCHEMA: &str = "robust.outcome/1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The clean sample is misclassified already, or rejected: not attacked, not robust.
    CleanMiss,
    /// A confirmed adversarial point was found; a point that the model rejects is none.
    Fooled,
    /// Correct, and the attack found nothing.
    Held,
    /// The sample could not be judged; `why` says the reason. Neither robust nor a crash.
    Failed,
}

/// How the points that were asked lay to the threat model, where they did not simply lie inside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A point made elsewhere was moved to a legal one, so far in the entry that moved most (input units).
    Moved(f64),
    /// None was legal; the nearest lies so far outside ([`crate::ThreatModel::beyond`]).
    Outside(f64),
}

/// The draws of one judgement of a random model: of the stream `path/judge`, in turn 0 and lane 0, draws `first` to `first` plus the
/// votes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// Of the attack, and of its part: `autoattack-linf/apgd-t/rest`.
    pub path: String,
    pub first: u32,
}

impl Drawn {
    /// What names draw `vote`, from 0, to a model that judges sample `id`.
    pub fn key(&self, id: u64, vote: u32) -> RowKey {
        RowKey { draw: self.first.saturating_add(vote), ..RowKey::of(id) }
    }

    /// The stream of those draws.
    pub fn stream(&self) -> u64 {
        stream(&format!("{}/judge", self.path))
    }
}

/// Rows through the model forward, and pulled back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    pub forward: u64,
    pub backward: u64,
}

/// Passes by purpose. The clean pass and confirmation are forwards only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub search: Passes,
    pub clean: u64,
    pub confirm: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub schema: String,
    pub model: String,
    pub attack: String,
    pub id: u64,
    /// blake3 of the clean row's little-endian f32 bytes, hex; empty when the sample could not be read.
    pub digest: String,
    pub label: Option<u32>,
    pub clean: Option<Pred>,
    /// The class a targeted attack had to reach; margins of `best` are then relative to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<u32>,
    /// Without labels: the sample whose embedding the attack had to approach.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub anchor: Option<u64>,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    /// The best point the attack reached, as the judge saw it: the confirmed success, or the lowest margin for a
    /// sample that held.
    pub best: Option<Pred>,
    /// The deciding margin is within rounding of zero: another interpreter may judge otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub fragile: bool,
    /// Distance of the best point under the threat's norm.
    pub distance: Option<f64>,
    /// Distance of the nearest confirmed success, for attacks that look for it.
    pub nearest: Option<f64>,
    /// Fresh draws that were fooled, for random models.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub votes: Option<(u32, u32)>,
    /// Where a random model's judge drew, so that its votes can be counted again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drawn: Option<Drawn>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<Place>,
    /// Search forwards used up to the confirmed success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queries: Option<u64>,
    /// The stage of an attack made of attacks that reached the first success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stage: Option<String>,
    pub cost: Cost,
    /// blake3 of the best point's little-endian f32 bytes, hex, whether or not the point is kept as evidence.
    pub evidence: Option<String>,
}
