//! The committed baseline: one bit per sample and check, in a text that diffs well.

use super::checked::Check;
use super::measured::Measured;
use crate::disk::publish;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use robust_core::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub const SCHEMA: &str = "robust.baseline/1";

/// The largest baseline that is read: bits of ten million samples.
const MOST_BYTES: u64 = 64 << 20;

/// Keys are sorted everywhere, so that the same results make the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    pub schema: String,
    pub suites: BTreeMap<String, Samples>,
}

/// What a suite judged: the same samples for all its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Samples {
    pub data_digest: String,
    pub dataset: String,
    #[serde(with = "crate::eval::plan::ranges")]
    pub ids: Vec<u64>,
    /// By model, then by check.
    pub models: BTreeMap<String, BTreeMap<String, Recorded>>,
    pub seed: u64,
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// blake3 of everything that decides the attack.
    pub attack_digest: String,
    /// A bit per id, the first in the highest bit of the first byte: 1 held.
    pub bits: String,
    pub held: u64,
    /// The clean images as the model was shown them; baselines of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    pub interpreter: String,
    pub model_digest: String,
    /// The version that attacked.
    pub robust: String,
}

impl Recorded {
    /// Whether each sample held, in the order of the ids.
    ///
    /// # Errors
    /// Kind `Usage` when bits and counts do not fit: the file was edited.
    pub fn held(&self, n: usize) -> Result<Vec<bool>> {
        let damaged = |why: String| {
            Error::usage(format!("the baseline is damaged: {why}")).hint("restore it from the repository's history")
        };
        let bytes = STANDARD.decode(&self.bits).map_err(|e| damaged(e.to_string()))?;
        if bytes.len() != n.div_ceil(8) {
            return Err(damaged(format!("{} bytes of bits for {n} samples", bytes.len())));
        }
        let bit = |i: usize| bytes[i / 8] >> (7 - i % 8) & 1 == 1;
        let bits: Vec<bool> = (0..n).map(bit).collect();
        let count = bits.iter().filter(|b| **b).count() as u64;
        if count != self.held || (n..8 * bytes.len()).any(bit) {
            return Err(damaged(format!("{count} samples held by its bits, {} by its count", self.held)));
        }
        Ok(bits)
    }

    fn encode(bits: &[bool]) -> String {
        let byte = |part: &[bool]| part.iter().enumerate().fold(0u8, |b, (i, held)| b | u8::from(*held) << (7 - i));
        STANDARD.encode(bits.chunks(8).map(byte).collect::<Vec<u8>>())
    }
}

impl Baseline {
    /// The baseline of these results.
    pub fn of(measured: &[Measured]) -> Self {
        let mut suites: BTreeMap<String, Samples> = BTreeMap::new();
        for m in measured {
            let suite = suites.entry(m.suite.clone()).or_insert_with(|| Samples {
                data_digest: m.data_digest.clone(),
                dataset: m.dataset.clone(),
                ids: m.ids.clone(),
                models: BTreeMap::new(),
                seed: m.seed,
            });
            let recorded = Recorded {
                attack_digest: m.attack_digest.clone(),
                bits: Recorded::encode(&m.bits),
                held: m.bits.iter().filter(|b| **b).count() as u64,
                images: m.images.clone(),
                interpreter: m.interpreter.clone(),
                model_digest: m.model_digest.clone(),
                robust: m.robust.clone(),
            };
            suite.models.entry(m.model.clone()).or_default().insert(m.key(), recorded);
        }
        Self { schema: SCHEMA.to_string(), suites }
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// Kind `Usage` when it is damaged or of another schema.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let cannot = |e: String| {
            Error::usage(format!("cannot read the baseline {}: {e}", path.display()))
                .hint("restore it from the repository's history, or write it anew with --update-baseline")
        };
        let text = match files::read_text(path, MOST_BYTES) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| cannot(e.to_string()))?,
        };
        let baseline: Self = serde_json::from_str(&text).map_err(|e| cannot(e.to_string()))?;
        if baseline.schema != SCHEMA {
            return Err(cannot(format!("its schema is not {SCHEMA}")));
        }
        Ok(Some(baseline))
    }

    /// # Errors
    /// Kind `Write`.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::internal(format!("baseline: {e}")))?;
        publish(path, (text + "\n").as_bytes())
    }

    pub fn find(&self, suite: &str, model: &str, key: &str) -> Option<(&Samples, &Recorded)> {
        let samples = self.suites.get(suite)?;
        Some((samples, samples.models.get(model)?.get(key)?))
    }
}

/// What `--update-baseline` changes, a line per check: old to new.
pub fn changes(old: Option<&Baseline>, new: &Baseline, checks: &[Check]) -> String {
    let mut text = String::new();
    for (name, suite) in &new.suites {
        let rate = |held: u64, n: usize| super::checked::percent(crate::runs::stats::rate(held, n as u64));
        for (model, results) in &suite.models {
            for (key, now) in results {
                let before = match old.and_then(|o| o.find(name, model, key)) {
                    Some((samples, then)) => rate(then.held, samples.ids.len()),
                    None => "nothing".to_string(),
                };
                let after = rate(now.held, suite.ids.len());
                text += &format!("{name} {model} {key}: {before} -> {after}");
                let check = checks.iter().find(|c| c.suite == *name && c.model == *model && c.attack == *key);
                if let Some(b) = check.and_then(|c| c.baseline.as_ref()) {
                    text += &format!(" ({} broken, {} fixed)", b.samples.broken, b.samples.fixed);
                }
                text.push('\n');
            }
        }
    }
    let keys = |b: &Baseline| -> Vec<(String, String, String)> {
        let each = |(s, v): (&String, &Samples)| {
            let of = |(m, r): (&String, &BTreeMap<String, Recorded>)| {
                r.keys().map(|k| (s.clone(), m.clone(), k.clone())).collect::<Vec<_>>()
            };
            v.models.iter().flat_map(of).collect::<Vec<_>>()
        };
        b.suites.iter().flat_map(each).collect()
    };
    let kept = keys(new);
    for (s, m, k) in old.map(keys).unwrap_or_default().into_iter().filter(|k| !kept.contains(k)) {
        text += &format!("{s} {m} {k}: removed\n");
    }
    text.lines().map(|l| crate::escape::line(l) + "\n").collect()
}
