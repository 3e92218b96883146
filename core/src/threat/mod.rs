//! Threat models: which points around a clean one the adversary may use. Geometry lives here, once: projections
//! round inward, [`ThreatModel::admits`] measures in f64 and gives the attacker no tolerance.

mod hyperplane;
mod near;
mod row;
#[cfg(test)]
mod tests;

pub use hyperplane::Hyperplane;
pub use near::{Near, ROUNDING, largest_gap};

use crate::{Access, Error, Input, Result, to_host};
use candle_core::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Norm {
    L0,
    L1,
    L2,
    Linf,
}

impl Norm {
    pub const ALL: [Norm; 4] = [Norm::L0, Norm::L1, Norm::L2, Norm::Linf];

    /// The suffix of attack names: `l0`, `l1`, `l2`, `linf`.
    pub fn suffix(self) -> &'static str {
        match self {
            Norm::L0 => "l0",
            Norm::L1 => "l1",
            Norm::L2 => "l2",
            Norm::Linf => "linf",
        }
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::str::FromStr for Norm {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Norm::ALL
            .into_iter()
            .find(|n| n.suffix() == text.to_lowercase())
            .ok_or_else(|| Error::usage(format!("unknown norm `{text}`")).hint("norms are l0, l1, l2 and linf"))
    }
}

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

    /// Rows of `x` moved into the region: onto the ball, then into the domain, so that `admits` holds. For Linf and L0
    /// this is the nearest point; for L1 and L2 see [`ThreatModel::project_exact`]. A NaN entry becomes the clean one.
    pub fn project(&self, x: &Tensor, clean: &Tensor) -> Result<Tensor> {
        self.each_row(x, clean, |x, clean| row::project(self, x, clean))
    }

    /// Rows of `x` moved to the nearest (Euclidean) point of ball and domain together.
    pub fn project_exact(&self, x: &Tensor, clean: &Tensor) -> Result<Tensor> {
        self.each_row(x, clean, |x, clean| row::project_exact(self, x, clean))
    }

    /// [`ThreatModel::project`] for one row on the host.
    pub fn project_row(&self, x: &mut [f32], clean: &[f32]) {
        row::project(self, x, clean);
    }

    /// [`ThreatModel::project_exact`] for one row on the host.
    pub fn project_exact_row(&self, x: &mut [f32], clean: &[f32]) {
        row::project_exact(self, x, clean);
    }

    /// The legal interval of every entry around one clean row, ends included: where clamping to it is all that
    /// projecting takes, as in Linf. Other norms bind entries together; for them it is the domain.
    pub fn bounds_row(&self, clean: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let edge = |from: f32| {
            let mut edges = vec![from; clean.len()];
            row::project(self, &mut edges, clean);
            edges
        };
        match self.region {
            Region::Ball { norm: Norm::Linf, .. } => (edge(f32::MIN), edge(f32::MAX)),
            _ => {
                let (low, high) = self.domain();
                (vec![low; clean.len()], vec![high; clean.len()])
            }
        }
    }

    /// The range of every entry; all finite numbers when the input is unbounded.
    pub fn domain(&self) -> (f32, f32) {
        self.input.domain.unwrap_or((f32::MIN, f32::MAX))
    }

    fn each_row(&self, x: &Tensor, clean: &Tensor, project: impl Fn(&mut [f32], &[f32]) + Sync) -> Result<Tensor> {
        if x.dims() != clean.dims() {
            return Err(Error::internal(format!("projecting {:?} around {:?}", x.dims(), clean.dims())));
        }
        let ((mut moved, width), (clean, _)) = (to_host(x)?, to_host(clean)?);
        moved.par_chunks_mut(width.max(1)).zip(clean.par_chunks(width.max(1))).for_each(|(x, c)| project(x, c));
        Ok(Tensor::from_vec(moved, x.dims(), x.device())?)
    }

    /// The distance of two rows under `norm`, in f64; L0 counts pixels of images and entries of anything else.
    pub fn distance(&self, norm: Norm, clean: &[f32], x: &[f32]) -> f64 {
        row::distance(norm, self.input.channels(), clean, x)
    }

    /// Whether `x` is a legal adversarial point for `clean`: finite, in the domain and in the region.
    pub fn admits(&self, clean: &[f32], x: &[f32]) -> bool {
        let (low, high) = self.input.domain.unwrap_or((f32::MIN, f32::MAX));
        x.len() == clean.len()
            && x.iter().all(|v| *v >= low && *v <= high)
            && match self.region {
                Region::Ball { norm, eps } => self.distance(norm, clean, x) <= eps,
                _ => true,
            }
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
