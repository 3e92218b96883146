//! Parameters that several attacks share: which loss to climb, which class to reach.

use robust_core::{Error, Goal, Norm, Objective, Result, Spec};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    #[default]
    Ce,
    Margin,
    Dlr,
}

impl Loss {
    /// What is climbed toward `goal`: without labels, the similarity itself, whatever was chosen for classes.
    pub fn objective(self, goal: &Goal) -> Objective {
        match self {
            _ if goal.is_label_free() => Objective::Margin,
            Loss::Ce => Objective::Ce,
            Loss::Margin => Objective::Margin,
            Loss::Dlr => Objective::Dlr,
        }
    }
}

/// The class an attack must reach: none (any wrong one), a rule over the clean scores, or a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Toward {
    #[default]
    Anything,
    Rule(Rule),
    Class(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The first class after the label that is not masked.
    Next,
    /// The runner-up of the clean scores.
    Second,
    /// The class of lowest clean score that is not masked.
    Least,
}

impl<'de> Deserialize<'de> for Toward {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        let class = value.as_u64().and_then(|c| u32::try_from(c).ok());
        Ok(match (value.as_str(), class) {
            _ if value.is_null() => Toward::Anything,
            (Some("next"), _) => Toward::Rule(Rule::Next),
            (Some("second"), _) => Toward::Rule(Rule::Second),
            (Some("least"), _) => Toward::Rule(Rule::Least),
            (_, Some(class)) => Toward::Class(class),
            _ => return Err(D::Error::custom("expected next, second, least or the number of a class")),
        })
    }
}

impl Toward {
    /// The goal for samples with these labels and clean scores; a target that is the label itself moves to the next class.
    pub fn aim(self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        let pick = |label: u32, z: &[f32]| -> Result<u32> {
            let classes = z.len() as u32;
            // A class that is masked can never be reached.
            let open = |c: &u32| *c != label && z[*c as usize] > f32::NEG_INFINITY;
            let ranked = |best_first: bool| {
                let mut order: Vec<u32> = (0..classes).filter(open).collect();
                order.sort_by(|a, b| z[*b as usize].total_cmp(&z[*a as usize]));
                if best_first { order.first().copied() } else { order.last().copied() }
            };
            let after = |by: u32| ((u64::from(label) + u64::from(by)) % u64::from(classes.max(1))) as u32;
            let next = (1..classes).map(after).find(open).unwrap_or(after(1));
            match self {
                Toward::Rule(Rule::Second) => Ok(ranked(true).unwrap_or(next)),
                Toward::Rule(Rule::Least) => Ok(ranked(false).unwrap_or(next)),
                Toward::Class(c) if c >= classes => {
                    Err(Error::usage(format!("target={c} is out of range: the model has {classes} classes")))
                }
                Toward::Class(c) if c != label => Ok(c),
                _ => Ok(next),
            }
        };
        match self {
            Toward::Anything => Ok(Goal::Untargeted(labels.to_vec())),
            _ => Ok(Goal::Targeted(labels.iter().zip(clean).map(|(&y, z)| pick(y, z)).collect::<Result<_>>()?)),
        }
    }
}

/// Refuses a number of steps, restarts or draws that cannot be meant.
pub fn at_least_one(name: &str, value: u64) -> Result<u64> {
    match value {
        0 => Err(Error::usage(format!("{name} must be at least 1, got 0"))),
        v if v > 1_000_000 => Err(Error::usage(format!("{name}={v} is beyond 1000000"))),
        v => Ok(v),
    }
}

/// Refuses a step size that is not a positive distance.
pub fn positive(name: &str, value: Option<f64>) -> Result<Option<f64>> {
    match value {
        Some(v) if !v.is_finite() || v <= 0. => Err(Error::usage(format!("{name} must be positive, got {v}"))),
        v => Ok(v),
    }
}

/// Refuses a share outside `[0,1]`.
pub fn share(name: &str, value: f64) -> Result<f64> {
    if (0. ..=1.).contains(&value) {
        return Ok(value);
    }
    Err(Error::usage(format!("{name} must be between 0 and 1, got {value}")))
}

/// The norm at the end of a resolved spec's name: builders get `apgd-ce-l1`. Linf when there is none.
pub fn named_norm(spec: &Spec) -> Norm {
    spec.name.rsplit_once('-').and_then(|(_, suffix)| suffix.parse().ok()).unwrap_or(Norm::Linf)
}
