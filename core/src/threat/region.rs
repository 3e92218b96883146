//! The threat model: a region around each clean point, and what the attacker may ask.

use crate::{Access, Error, Input, Norm, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where adversarial points may lie. Every region is also cut by the input's domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// Within `eps` of the clean point.
    Ball { norm: Norm, eps: f64 },
    /// Anywhere; the attack looks for the nearest success under `norm`.
    Nearest { norm: Norm },
    /// Anywhere in the domain.
    Box,
    /// One point per sample, made by a recipe (a corruption, say) from the clean point, the seed and the sample's id. The
    /// attack's parameters hold the recipe; here the point need only lie in the domain, since whoever checks it makes
    /// it again.
    Recipe { id: String },
}

/// A region around points of a given input, and what the attacker may ask the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreatModel {
    pub region: Region,
    pub input: Input,
    pub access: Access,
}

impl ThreatModel {
    /// Refuses epsilons that cannot be meant: see [`check_epsilon`].
    pub fn new(region: Region, input: Input, access: Access) -> Result<Self> {
        if let Region::Ball { norm, eps } = region {
            check_epsilon(norm, eps, &input)?;
        }
        Ok(Self { region, input, access })
    }

    /// What distances are measured in; `None` where nothing limits them.
    pub fn norm(&self) -> Option<Norm> {
        match self.region {
            Region::Ball { norm, .. } | Region::Nearest { norm } => Some(norm),
            Region::Box | Region::Recipe { .. } => None,
        }
    }

    /// The radius of a ball, infinity for the others.
    pub fn eps(&self) -> f64 {
        match self.region {
            Region::Ball { eps, .. } => eps,
            _ => f64::INFINITY,
        }
    }

    /// The range of every entry; all finite numbers when the input is unbounded.
    pub fn domain(&self) -> (f32, f32) {
        self.input.domain.unwrap_or((f32::MIN, f32::MAX))
    }
}

impl fmt::Display for ThreatModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.region {
            Region::Ball { norm, eps } => write!(f, "{norm} {eps:.6}"),
            Region::Nearest { norm } => write!(f, "nearest {norm}"),
            Region::Box => f.write_str("unbounded"),
            Region::Recipe { ref id } => f.write_str(id),
        }
    }
}

/// Linf up to the width of the domain, L2 up to its diagonal, L1 up to the sum of widths, L0 a whole number of sites.
pub fn check_epsilon(norm: Norm, eps: f64, input: &Input) -> Result<()> {
    let refuse = |why: String, hint: &str| Err(Error::usage(format!("eps={eps} for {norm} {why}")).hint(hint));
    if !eps.is_finite() || eps < 0. {
        return refuse("is not a distance".into(), "give a finite number that is not negative, such as eps=8/255");
    }
    let width = input.domain.map_or(f64::INFINITY, |(low, high)| f64::from(high) - f64::from(low));
    let entries = input.len() as f64;
    let most = match norm {
        Norm::Linf => width,
        Norm::L2 => width * entries.sqrt(),
        Norm::L1 => width * entries,
        Norm::L0 => input.sites() as f64,
    };
    if norm == Norm::L0 && eps.fract() != 0. {
        return refuse("is not a whole number".into(), "L0 counts pixels (or entries): give eps=10, say");
    }
    if eps > most {
        let hint = match norm {
            Norm::Linf if eps <= 255. => format!("pixels are in [0,1] here: did you mean eps={eps}/255?"),
            Norm::Linf => "pixels are in [0,1] here, before any normalisation".to_string(),
            _ => format!("the whole input space has {norm} diameter {most}; epsilon is in units of pixels in [0,1]"),
        };
        return refuse(format!("is beyond the largest possible distance {most}"), &hint);
    }
    Ok(())
}
