//! Run folders made up from a rule instead of an evaluation: any size, any names, any verdicts.

use robust::core::{Access, Cost, DataCard, Input, Norm, Outcome, Passes, Pred, Region, SCHEMA, ThreatModel, Verdict};
use robust::eval::plan::{self, Keep, Plan, PlannedAttack, PlannedData, PlannedModel};
use robust::eval::record::{self, RECORD_SCHEMA, RunRecord, Session};
use std::fmt::Write;
use std::path::Path;

/// What a made-up run is made of.
pub struct Made {
    pub models: Vec<String>,
    /// Label and epsilon (Linf).
    pub attacks: Vec<(String, f64)>,
    pub classes: Vec<String>,
    pub n: u64,
    pub data: String,
}

impl Made {
    pub fn new(models: &[&str], attacks: &[(&str, f64)], n: u64) -> Self {
        Self {
            models: models.iter().map(|m| m.to_string()).collect(),
            attacks: attacks.iter().map(|(l, e)| (l.to_string(), *e)).collect(),
            classes: (0..10).map(|c| format!("class-{c}")).collect(),
            n,
            data: "made-up".to_string(),
        }
    }

    fn plan(&self) -> Plan {
        let attack = |(label, eps): &(String, f64)| PlannedAttack {
            label: label.clone(),
            attack: if label.starts_with("file-") { "file".into() } else { "pgd".into() },
            threat: ThreatModel {
                region: Region::Ball { norm: Norm::Linf, eps: *eps },
                input: Input::image(3, 4, 4),
                access: Access::Gradient,
            },
            queries: None,
            params: serde_json::Map::new(),
            passes: (41, 40),
            eot: 1,
            votes: None,
            gradients: None,
            aim: None,
        };
        let model = |name: &String| PlannedModel {
            name: name.clone(),
            source: format!("{name}.onnx"),
            digest: format!("digest of {name}"),
            preprocess: None,
            head: None,
            attacks: self.attacks.iter().map(attack).collect(),
        };
        let card = DataCard {
            name: self.data.clone(),
            digest: format!("digest of {}", self.data),
            samples: self.n,
            classes: Some(self.classes.clone()),
        };
        Plan {
            schema: plan::SCHEMA.into(),
            robust: "0.1.0".into(),
            models: self.models.iter().map(model).collect(),
            dataset: PlannedData { source: "npz:nowhere.npz".into(), card, by_content: false },
            ids: (0..self.n).collect(),
            pick: "all".into(),
            seed: 0,
            unit: plan::UNIT,
            evidence: Keep::None,
            shard: None,
            interpreter: "reference".into(),
        }
    }

    /// Writes the folder; `verdict` of (model, attack, sample).
    pub fn write(&self, root: &Path, verdict: impl Fn(usize, usize, u64) -> Verdict) {
        let plan = self.plan();
        std::fs::create_dir_all(root).unwrap();
        let mut text = String::new();
        for (m, model) in plan.models.iter().enumerate() {
            for (a, attack) in model.attacks.iter().enumerate() {
                for id in 0..self.n {
                    let line = self.outcome(&model.name, &attack.label, id, verdict(m, a, id));
                    writeln!(text, "{}", serde_json::to_string(&line).unwrap()).unwrap();
                }
            }
        }
        let session = Session {
            started: 1_700_000_000,
            seconds: 12.5,
            threads: 2,
            batch_size: 64,
            machine: "made up".into(),
            command: vec!["robust".into(), "eval".into(), format!("--model={}", self.models[0])],
            attack_seconds: vec![1.5; self.models.len() * self.attacks.len()],
            network_seconds: 0.,
            stages: vec![],
            doctor: vec![],
        };
        let fingerprint = plan.fingerprint().unwrap();
        let record = RunRecord { schema: RECORD_SCHEMA.into(), fingerprint, plan, sessions: vec![session] };
        record::write_record(root, &record).unwrap();
        std::fs::write(root.join("outcomes.jsonl"), text).unwrap();
    }

    fn outcome(&self, model: &str, attack: &str, id: u64, verdict: Verdict) -> Outcome {
        let label = (id % self.classes.len() as u64) as u32;
        let miss = verdict == Verdict::CleanMiss;
        let fooled = verdict == Verdict::Fooled;
        let clean = Pred { label: Some(label + u32::from(miss)), margin: if miss { -1. } else { 2. }, rejected: false };
        let best =
            Pred { label: Some(label + u32::from(fooled)), margin: if fooled { -0.5 } else { 0.5 }, rejected: false };
        Outcome {
            schema: SCHEMA.into(),
            model: model.into(),
            attack: attack.into(),
            id,
            digest: format!("{id:064x}"),
            label: Some(label),
            clean: (verdict != Verdict::Failed).then_some(clean),
            target: None,
            anchor: None,
            verdict,
            why: (verdict == Verdict::Failed).then(|| "<b>NaN</b>".to_string()),
            best: (!miss && verdict != Verdict::Failed).then_some(best),
            fragile: false,
            distance: fooled.then_some(0.03),
            nearest: None,
            votes: None,
            drawn: None,
            place: None,
            queries: fooled.then_some(1 + id % 40),
            stage: None,
            cost: Cost { search: Passes { forward: 41, backward: 40 }, clean: 1, confirm: 1 },
            evidence: (!miss).then(|| format!("{:064x}", id + 1)),
        }
    }
}
