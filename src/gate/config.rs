//! `robust.toml`: what the gate runs and what it asks of the results.

use crate::eval::Evaluation;
use crate::eval::judging::{Judging, parse_votes};
use crate::runs::stats::Interval;
use robust_benchmarks::subset::Pick;
use robust_core::{Error, Result, files};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::{Path, PathBuf};

/// The configuration's file name, looked for in the current folder and above.
pub const FILE: &str = "robust.toml";

/// The name of the check that judges clean accuracy.
pub const CLEAN: &str = "clean";

/// What `robust init` writes.
pub const STARTER: &str = include_str!("starter.toml");

/// The largest configuration that is read.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub gate: Settings,
    #[serde(rename = "suite")]
    pub suites: Vec<Suite>,
    #[serde(skip)]
    text: String,
}

/// How it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The committed baseline, beside `robust.toml`.
    pub baseline: PathBuf,
    /// The chance that a gate over models that did not change fails on any `max_drop`.
    pub alpha: f64,
    pub policy: Policy,
    pub interval: Interval,
    /// Two-sided, of all intervals.
    pub confidence: f64,
    /// Whether `inconclusive` fails.
    pub strict: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            baseline: "robust.baseline.json".into(),
            alpha: 0.05,
            policy: Policy::Point,
            interval: Interval::Wilson,
            confidence: 0.95,
            strict: false,
        }
    }
}

/// What must reach a floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The measured rate.
    Point,
    /// The lower end of its interval.
    LowerBound,
}

/// Which results of a suite are judged, besides clean accuracy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// Every attack by itself.
    #[default]
    Attacks,
    /// All attacks of one threat model together.
    WorstCase,
    Both,
}

/// Models and attacks on one data set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    pub name: String,
    pub models: Vec<String>,
    pub attacks: Vec<String>,
    #[serde(default)]
    pub dataset: Option<String>,
    #[serde(default)]
    pub limit: Option<u64>,
    #[serde(default)]
    pub seed: u64,
    #[serde(default = "one")]
    pub eot: u32,
    #[serde(default)]
    pub votes: Option<String>,
    #[serde(default)]
    pub judge: Judged,
    /// Samples that may fail to be judged.
    #[serde(default)]
    pub allow_failed: u64,
    #[serde(default)]
    pub min_clean_accuracy: Option<Share>,
    #[serde(default)]
    pub max_clean_drop: Option<Share>,
    #[serde(default)]
    pub min_robust_accuracy: Option<Share>,
    #[serde(default)]
    pub max_drop: Option<Share>,
    #[serde(default)]
    pub max_drop_hard: Option<Share>,
    /// Other bounds for some of the results.
    #[serde(default, rename = "check")]
    pub checks: Vec<Override>,
}

fn one() -> u32 {
    1
}

/// Bounds for one model, one attack, or both; what is not given stays as the suite has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    #[serde(default)]
    pub model: Option<String>,
    /// As the suite writes it, as tables show it, `worst-case`, or `clean`.
    #[serde(default)]
    pub attack: Option<String>,
    #[serde(default)]
    pub min_accuracy: Option<Share>,
    #[serde(default)]
    pub max_drop: Option<Share>,
    #[serde(default)]
    pub max_drop_hard: Option<Share>,
}

/// What one check must keep, as shares of 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Bounds {
    pub min_accuracy: Option<f64>,
    pub max_drop: Option<f64>,
    pub max_drop_hard: Option<f64>,
}

/// A share of 1: `0.4`, `"40 %"`, `"2pp"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let wrong =
            |text: String| serde::de::Error::custom(format!("`{text}` is not a share: write 0.02, \"2pp\" or \"2 %\""));
        let share = match Written::deserialize(from)? {
            Written::Number(v) => v,
            Written::Text(text) => {
                let number = text.strip_suffix("pp").or_else(|| text.strip_suffix('%'));
                let number = number.and_then(|n| n.trim().parse::<f64>().ok());
                number.ok_or_else(|| wrong(text))? / 100.
            }
        };
        if (0. ..=1.).contains(&share) { Ok(Self(share)) } else { Err(wrong(share.to_string())) }
    }
}

/// An attack's text with an epsilon added, for hints.
pub(super) fn with_epsilon(attack: &str) -> String {
    format!("{attack}{}eps=0.5", if attack.contains(':') { ',' } else { ':' })
}

impl Config {
    /// # Errors
    /// Kind `Usage` with the place and the reason.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |e: toml::de::Error| {
            let message = crate::escape::line(e.message());
            let place = e
                .span()
                .map_or(String::new(), |s| format!(" line {}", text[..s.start.min(text.len())].lines().count().max(1)));
            Error::usage(format!("{FILE}{place}: {message}"))
                .hint("`robust init` writes a configuration with every key explained")
        };
        let mut config: Config = toml::from_str(text).map_err(wrong)?;
        config.text = text.to_string();
        config.check()?;
        Ok(config)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// Kind `Usage` when it is missing or wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = |e: std::io::Error| {
            Error::usage(format!("cannot read {}: {e}", path.display())).hint("`robust init` writes one to start from")
        };
        Self::parse(&files::read_text(path, MOST_BYTES).map_err(cannot)?)
    }

    fn check(&self) -> Result<()> {
        let g = &self.gate;
        if !(g.alpha > 0. && g.alpha <= 0.5) {
            return Err(Error::usage(format!("{FILE}: alpha = {} is not in (0, 0.5]", g.alpha)));
        }
        if !(g.confidence >= 0.5 && g.confidence < 1.) {
            return Err(Error::usage(format!("{FILE}: confidence = {} is not in [0.5, 1)", g.confidence)));
        }
        if self.suites.is_empty() {
            return Err(Error::usage(format!("{FILE} has no [[suite]]")).hint("`robust init` writes one to start from"));
        }
        for (i, suite) in self.suites.iter().enumerate() {
            let within =
                |why: String| Error::usage(format!("{FILE}: suite `{}` {why}", crate::escape::line(&suite.name)));
            if suite.name.is_empty() || self.suites[..i].iter().any(|s| s.name == suite.name) {
                return Err(within("needs a name of its own".to_string()));
            }
            for (what, list) in [("models", &suite.models), ("attacks", &suite.attacks)] {
                if list.is_empty() {
                    return Err(within(format!("has no {what}")));
                }
            }
            let free = |a: &&String| robust_attacks::is_without_epsilon(a).unwrap_or(false);
            if let Some(attack) = suite.attacks.iter().find(free) {
                let why = "which has no epsilon, so there is no share of samples to hold to a floor";
                let attack_text = crate::escape::line(attack);
                return Err(within(format!("asks for attack `{attack_text}`, {why}"))
                    .hint(format!("write {}, say", with_epsilon(&attack_text))));
            }
            let soft = suite.max_drop.map_or(0., |s| s.0);
            if suite.max_drop_hard.is_some_and(|hard| hard.0 < soft) {
                return Err(within("has a max_drop_hard below its max_drop".to_string()));
            }
        }
        Ok(())
    }

    /// The line of the file, from 1, where a suite asks for something; where the suite begins if that is not written.
    pub fn line_of(&self, suite: usize, written: Option<&str>) -> usize {
        let lines = || self.text.lines().zip(1..);
        let heads: Vec<usize> = lines().filter(|(l, _)| l.trim().starts_with("[[suite]]")).map(|(_, n)| n).collect();
        let from = heads.get(suite).copied().unwrap_or(1);
        let to = heads.get(suite + 1).copied().unwrap_or(usize::MAX);
        let mut inside = lines().filter(|(_, n)| (from..to).contains(n));
        let found = written.and_then(|w| inside.find(|(l, _)| !l.trim_start().starts_with('#') && l.contains(w)));
        found.map_or(from, |(_, n)| n)
    }
}

impl Suite {
    /// What measures this suite.
    ///
    /// # Errors
    /// Kind `Usage` for votes that are not `K/M`.
    pub fn evaluation(&self) -> Result<Evaluation> {
        let wrong =
            |why: String| Error::usage(format!("{FILE}: suite `{}`: votes: {why}", crate::escape::line(&self.name)));
        let votes = self.votes.as_deref().map(parse_votes).transpose().map_err(wrong)?;
        Ok(Evaluation {
            models: self.models.clone(),
            data: self.dataset.clone(),
            attacks: self.attacks.clone(),
            pick: self.limit.map_or(Pick::All, Pick::Limit),
            seed: self.seed,
            judging: Judging { eot: Some(self.eot), votes, ..Judging::default() },
            ..Evaluation::default()
        })
    }

    /// The arguments of `robust eval` that measure this suite, or one part of it, for people to repeat it.
    pub fn arguments(&self, model: Option<&str>, attack: Option<&str>) -> Vec<String> {
        let mut args = vec![];
        let some = |all: &[String], one: Option<&str>| one.map_or(all.to_vec(), |o| vec![o.to_string()]);
        args.extend(some(&self.models, model).iter().map(|m| format!("--model={m}")));
        args.extend(self.dataset.iter().map(|d| format!("--dataset={d}")));
        args.extend(some(&self.attacks, attack).iter().map(|a| format!("--attack={a}")));
        args.extend(self.limit.iter().map(|n| format!("--limit={n}")));
        args.extend([format!("--seed={}", self.seed), format!("--eot={}", self.eot)]);
        args.extend(self.votes.iter().map(|v| format!("--votes={v}")));
        args
    }

    /// What a check of this suite must keep. `names` are the attack's: as written and as tables show it.
    pub fn bounds(&self, model: &str, names: &[&str]) -> Bounds {
        let share = |s: Option<Share>| s.map(|s| s.0);
        let mut bounds = match names.contains(&CLEAN) {
            true => Bounds {
                min_accuracy: share(self.min_clean_accuracy),
                max_drop: share(self.max_clean_drop),
                max_drop_hard: None,
            },
            false => Bounds {
                min_accuracy: share(self.min_robust_accuracy),
                max_drop: share(self.max_drop),
                max_drop_hard: share(self.max_drop_hard),
            },
        };
        for o in &self.checks {
            // An override without an attack is for all of them, but clean accuracy is not an attack.
            let attack = o.attack.as_deref().map_or(!names.contains(&CLEAN), |a| names.contains(&a));
            if attack && o.model.as_deref().is_none_or(|m| m == model) {
                bounds.min_accuracy = share(o.min_accuracy).or(bounds.min_accuracy);
                bounds.max_drop = share(o.max_drop).or(bounds.max_drop);
                bounds.max_drop_hard = share(o.max_drop_hard).or(bounds.max_drop_hard);
            }
        }
        bounds
    }
}
