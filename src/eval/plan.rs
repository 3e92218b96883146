//! A run, resolved: everything that can change a number, and nothing that cannot. Paths are kept for `verify` but are
//! not part of the fingerprint.

use super::trial::{Trial, is_compat};
use crate::corruption::facts::Facts;
use crate::eval::shard::Shard;
use robust_core::{Aim, DataCard, Dataset, Error, Preprocess, Result, Target, ThreatModel, View, Votes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const SCHEMA: &str = "robust.plan/1";

/// Samples per unit of work: what is written at once and lost at most.
pub const UNIT: usize = 64;

/// Units of work that a run can have: 20 models under 20 attacks on 600,000 samples.
const MAX_UNITS: usize = 1 << 22;
/// Entries that one input can have.
const MAX_ENTRIES: usize = 1 << 28;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub schema: String,
    /// The version that attacks: another one may find other points, and does not continue this run.
    pub robust: String,
    pub models: Vec<PlannedModel>,
    pub dataset: PlannedData,
    /// Sample ids, ascending; written as ranges, `0-99,120`.
    #[serde(with = "ranges")]
    pub ids: Vec<u64>,
    /// How they were chosen: `all`, `limit 100`, `first 500`, `ids`.
    pub pick: String,
    pub seed: u64,
    pub unit: usize,
    pub evidence: Keep,
    /// The part of the units that this run does; not part of the fingerprint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shard: Option<Shard>,
    /// Byte identity of outcomes is promised per interpreter, precision and device class.
    pub interpreter: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedModel {
    pub name: String,
    pub source: String,
    pub digest: String,
    /// How images become its input, unless the data set's source says so itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// The head that this run put on it; `source` is then the encoder alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<PlannedHead>,
    pub attacks: Vec<PlannedAttack>,
}

/// A head fitted by the run itself. The model's digest covers its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedHead {
    /// Name of the encoder.
    pub encoder: String,
    /// As it was asked for: `knn`, `linear:l2=0.01`.
    pub head: String,
    /// Below the run folder.
    pub file: String,
    pub train: PlannedData,
    /// How many samples it was fitted on, unless on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedAttack {
    pub label: String,
    pub attack: String,
    pub threat: ThreatModel,
    pub queries: Option<u64>,
    pub params: Map<String, Value>,
    /// The most a sample can cost: forwards, backwards.
    pub passes: (u64, u64),
    /// Gradient draws averaged per step.
    #[serde(skip_serializing_if = "is_one", default = "one")]
    pub eot: u32,
    /// How a random model is judged, unless by one forward.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub votes: Option<Votes>,
    /// Where gradients come from, unless from the model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gradients: Option<Gradients>,
    /// What it must reach on a bare encoder, where no labels are asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aim: Option<Aim>,
}

/// What lends its gradients to an attack; the judge asks the model all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Gradients {
    /// A differentiable stand-in ([`robust_core::StandIn`]).
    Bpda { model: String, digest: String },
    /// The model averaged over noise of this deviation ([`robust_core::Smoothed`]).
    Smooth { sigma: f64 },
}

impl std::fmt::Display for Gradients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gradients::Bpda { model, .. } => write!(f, "via {model}"),
            Gradients::Smooth { sigma } => write!(f, "via noise {sigma}"),
        }
    }
}

fn one() -> u32 {
    1
}

fn is_one(eot: &u32) -> bool {
    *eot == 1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedData {
    pub source: String,
    pub card: DataCard,
    /// Whether a digest that earlier versions made from names and sizes covers the content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_content: bool,
}

impl PlannedData {
    pub fn of(source: &str, data: &dyn Dataset) -> Self {
        Self { source: source.to_string(), card: data.card().clone(), by_content: data.formerly().is_some() }
    }

    /// Whether the digest is one that an earlier version made of a folder: of names and sizes alone.
    pub fn is_by_names(&self) -> bool {
        let place = self.card.name.strip_prefix("folder:").map(|rest| rest.split('?').next().unwrap_or(rest));
        let packed = |name: &str| [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.to_lowercase().ends_with(end));
        !self.by_content && place.is_some_and(|name| !packed(name))
    }
}

/// Which adversarial points are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Of every attacked sample: also what was tried on those that held.
    All,
    /// Of fooled samples: what proves the number.
    #[default]
    Fooled,
    None,
}

/// At most `n` of these ids, spread evenly: the first ones of a sorted folder are of one class.
pub fn spread(ids: &[u64], n: usize) -> Vec<u64> {
    let n = n.min(ids.len());
    (0..n).map(|i| ids[i * ids.len() / n]).collect()
}

/// The work of one journal entry: `ids[start..start + count]` under one attack on one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    pub model: usize,
    pub attack: usize,
    pub start: usize,
    pub count: usize,
}

impl Unit {
    /// The evidence file's stem.
    pub fn name(&self) -> String {
        format!("m{:02}-a{:02}-{:08}", self.model, self.attack, self.start)
    }
}

impl PlannedModel {
    /// What an attack on this model wants of the data set.
    pub fn view(&self, attack: &PlannedAttack) -> View {
        View { input: attack.threat.input.clone(), preprocess: self.preprocess }
    }
}

impl PlannedAttack {
    /// Whether it is a corruption, made or read.
    pub fn is_corruption(&self) -> bool {
        matches!(self.threat.region, robust_core::Region::Recipe { .. })
    }

    /// The threat, and the goal where it is not to change the class: what rows must share to stand in one table.
    pub fn threat_text(&self) -> String {
        match self.aim {
            Some(aim) => format!("{}, {aim}", self.threat),
            None => self.threat.to_string(),
        }
    }

    /// Whether its targets are chosen by the order of clean scores.
    pub fn ranks(&self) -> bool {
        matches!(self.params.get("target").and_then(Value::as_str), Some("second" | "least"))
    }

    /// Whether its points are made again instead of being kept.
    pub fn is_recipe(&self) -> bool {
        self.is_corruption() && !self.params.contains_key("published")
    }

    /// What corruption it is; `None` for attacks.
    pub fn corruption(&self) -> Option<Facts> {
        self.is_corruption().then(|| Facts::of(&self.params)).flatten()
    }

    /// Whether it does as its reference implementation does, in steps and counts.
    pub fn is_compat(&self) -> bool {
        is_compat(&self.params)
    }

    /// # Errors
    /// Never in practice: parameters are names and numbers.
    pub fn new(trial: &Trial, target: &Target) -> Result<Self> {
        let (classes, eot) = (target.deployed.card().output.classes(), target.eot);
        Ok(Self {
            label: trial.label().to_string(),
            attack: trial.name().to_string(),
            threat: trial.threat().clone(),
            queries: trial.budget().queries,
            params: trial.params()?,
            passes: trial.passes_on(classes, u64::from(eot)),
            eot,
            votes: Some(target.votes).filter(|v| v.m > 1),
            gradients: None,
            aim: trial.aim(),
        })
    }
}

impl Plan {
    /// This run's units in the order of the journal: by model, attack, sample.
    pub fn units(&self) -> Vec<Unit> {
        let all = self.all_units().into_iter().enumerate();
        all.filter(|(i, _)| self.shard.is_none_or(|s| s.takes(*i))).map(|(_, u)| u).collect()
    }

    fn all_units(&self) -> Vec<Unit> {
        let mut units = vec![];
        for (model, planned) in self.models.iter().enumerate() {
            for attack in 0..planned.attacks.len() {
                for start in (0..self.ids.len()).step_by(self.unit.max(1)) {
                    units.push(Unit { model, attack, start, count: self.unit.max(1).min(self.ids.len() - start) });
                }
            }
        }
        units
    }

    /// Whether a run can have such a plan: what every reader of a stranger's plan relies on.
    ///
    /// # Errors
    /// What is impossible about it.
    pub fn check(&self) -> std::result::Result<(), String> {
        let attacks =
            self.models.iter().try_fold(0usize, |sum, m| sum.checked_add(m.attacks.len())).unwrap_or(usize::MAX);
        let pieces = self.ids.len().div_ceil(self.unit.max(1));
        if self.unit == 0 {
            return Err("units of 0 samples".to_string());
        }
        if !self.ids.is_sorted_by(|a, b| a < b) {
            return Err("sample ids that do not ascend".to_string());
        }
        if attacks.checked_mul(pieces).is_none_or(|units| units > MAX_UNITS) {
            return Err(format!(
                "{attacks} attacks on {} samples are more units of work than a run can have",
                self.ids.len()
            ));
        }
        let shapes = self.models.iter().flat_map(|m| &m.attacks).map(|a| &a.threat.input.shape);
        let size = |shape: &Vec<usize>| shape.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
        match shapes.into_iter().find(|s| size(s).is_none_or(|n| n == 0 || n > MAX_ENTRIES)) {
            Some(shape) => Err(format!("inputs of shape {shape:?}")),
            None => Ok(()),
        }
    }

    /// Outcomes of this run when it is complete.
    pub fn rows(&self) -> usize {
        self.units().iter().map(|u| u.count).sum()
    }

    /// Forwards and backwards, together and at most, of the outcomes after the first `done`: one forward for the clean
    /// sample, one for the judge, and what the attack may take.
    pub fn most_passes(&self, done: usize) -> u64 {
        let mut before = 0;
        let of = |unit: Unit| {
            let (forward, backward) = self.models[unit.model].attacks[unit.attack].passes;
            before += unit.count;
            let each = forward.saturating_add(backward).saturating_add(2);
            if before > done { each.saturating_mul(unit.count as u64) } else { 0 }
        };
        self.units().into_iter().map(of).fold(0, u64::saturating_add)
    }

    /// The content-derived name of a unit: equal names, equal outcomes, whatever plan the unit is part of.
    pub fn unit_id(&self, unit: &Unit) -> Result<String> {
        let (model, ids) = (&self.models[unit.model], &self.ids[unit.start..unit.start + unit.count]);
        let facts = serde_json::json!({
            "outcome": robust_core::SCHEMA, "robust": self.robust, "model": model.digest, "attack": model.attacks[unit.attack],
            "dataset": self.dataset.card.digest, "ids": ids, "seed": self.seed, "interpreter": self.interpreter,
        });
        Ok(blake3::hash(facts.to_string().as_bytes()).to_hex().to_string())
    }

    /// What decides the numbers, without paths: two runs with equal fingerprints have equal outcomes.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(blake3::hash(self.decisive()?.to_string().as_bytes()).to_hex().to_string())
    }

    fn decisive(&self) -> Result<Value> {
        let mut value = serde_json::to_value(self).map_err(|e| Error::internal(format!("plan: {e}")))?;
        let strip = |v: Option<&mut Value>| {
            if let Some(Value::Object(map)) = v {
                map.remove("source");
            }
        };
        if let Value::Object(map) = &mut value {
            map.remove("shard");
        }
        strip(value.get_mut("dataset"));
        if let Some(Value::Array(models)) = value.get_mut("models") {
            for model in models {
                strip(model.pointer_mut("/head/train"));
                strip(Some(model));
            }
        }
        Ok(value)
    }

    /// The parts in which two plans differ, as `part: theirs -> ours`, for the message that refuses a resume.
    pub fn differences(&self, ours: &Plan) -> Result<Vec<String>> {
        let mut found = vec![];
        compare("", &self.decisive()?, &ours.decisive()?, &mut found);
        Ok(found)
    }
}

fn compare(at: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    let join = |key: &str| if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys().filter(|k| !x.contains_key(*k))) {
                compare(&join(key), x.get(key).unwrap_or(&Value::Null), y.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() && x.first().is_some_and(Value::is_object) => {
            x.iter().zip(y).enumerate().for_each(|(i, (x, y))| compare(&join(&i.to_string()), x, y, found));
        }
        (a, b) if a != b => {
            let short = |v: &Value| match v.to_string() {
                s if s.chars().count() > 60 => format!("{}...", s.chars().take(60).collect::<String>()),
                s => s,
            };
            found.push(format!("{at}: {} -> {}", short(a), short(b)));
        }
        _ => {}
    }
}

/// Ids as text: `0-99,120`.
pub(crate) mod ranges {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(ids: &[u64], to: S) -> Result<S::Ok, S::Error> {
        let runs = ids.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        let text: Vec<String> = runs
            .filter_map(|run| match (run.first()?, run.last()?) {
                (a, b) if a == b => Some(a.to_string()),
                (a, b) => Some(format!("{a}-{b}")),
            })
            .collect();
        to.serialize_str(&text.join(","))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        robust_benchmarks::subset::parse_ids(&String::deserialize(from)?).map_err(|e| D::Error::custom(e.message))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use robust_core::Input;

    pub fn plan() -> Plan {
        let input = Input::image(1, 2, 2);
        let region = robust_core::Region::Ball { norm: robust_core::Norm::Linf, eps: 0.1 };
        let threat = ThreatModel { region, input, access: robust_core::Access::Gradient };
        let attack = |label: &str| PlannedAttack {
            label: label.into(),
            attack: "pgd".into(),
            threat: threat.clone(),
            queries: None,
            params: Map::new(),
            passes: (41, 40),
            eot: 1,
            votes: None,
            gradients: None,
            aim: None,
        };
        let model = PlannedModel {
            name: "m".into(),
            source: "here/m.onnx".into(),
            digest: "d".into(),
            preprocess: None,
            head: None,
            attacks: vec![attack("a"), attack("b")],
        };
        let card = DataCard { name: "data".into(), digest: "e".into(), samples: 200, classes: None };
        Plan {
            schema: SCHEMA.into(),
            robust: "0.1.0".into(),
            models: vec![model],
            dataset: PlannedData { source: "folder:data".into(), card, by_content: true },
            ids: (0..130).chain([150, 199]).collect(),
            pick: "ids".into(),
            seed: 0,
            unit: UNIT,
            evidence: Keep::Fooled,
            shard: None,
            interpreter: "reference".into(),
        }
    }

    #[test]
    fn units_cover_every_row_once_in_order() {
        let plan = plan();
        let rows: Vec<_> = plan
            .units()
            .iter()
            .flat_map(|u| (u.start..u.start + u.count).map(|i| (u.model, u.attack, plan.ids[i])))
            .collect();
        assert_eq!(rows.len(), plan.rows());
        assert!(rows.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn a_plan_survives_its_file() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert!(text.contains("\"0-129,150,199\""), "{text}");
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan());
    }

    #[test]
    fn paths_do_not_change_the_fingerprint_and_everything_else_does() {
        let (base, mut moved, mut other) = (plan(), plan(), plan());
        (moved.models[0].source, moved.dataset.source) = ("there".into(), "elsewhere".into());
        assert_eq!(base.fingerprint().unwrap(), moved.fingerprint().unwrap());
        other.models[0].attacks[1].params.insert("steps".into(), 3.into());
        assert_ne!(base.fingerprint().unwrap(), other.fingerprint().unwrap());
        assert_eq!(base.differences(&other).unwrap(), ["models.0.attacks.1.params.steps: null -> 3"]);
        assert!(base.differences(&moved).unwrap().is_empty());
    }
}
