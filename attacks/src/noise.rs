//! Noise baselines: points of the ball drawn without looking at the model.
//!
//! What noise alone breaks is not adversarial robustness; an attack that breaks fewer samples than noise is broken
//! itself (Carlini et al. 2019, arXiv 1902.06705).
//!
//! # Asks
//! Labels.
//!
//! # Steps
//! `draws` times, one point each. `uniform-noise`: Linf uniform in the cube, L2 and L1 a random direction of full
//! length. `random-sign`: every entry plus or minus epsilon (Linf), the same signs scaled to the radius (L2, L1).
//! Points are cut by the domain.
//!
//! # Parameters
//! `draws` (default 10).
//!
//! # Differs from the paper
//! The checklist names the idea, not the numbers; ours are above.
//!
//! # Cost per sample
//! `draws` forwards when it holds.

use crate::ascent::normalised;
use crate::choice::at_least_one;
use candle_core::Tensor;
use robust_core::{Access, Attack, Built, Entry, Norm, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    draws: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { draws: 10 }
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Uniform,
    Sign,
}

struct Noise {
    draws: u64,
    shape: Shape,
}

impl Attack for Noise {
    fn label_free(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        for turn in 0..self.draws {
            let x = self.point(oracle, turn)?;
            let of: Vec<u32> = (0..oracle.len() as u32).collect();
            oracle.ask(&x, &of)?;
            if !oracle.advance(&mut [])? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        (self.draws, 0)
    }
}

impl Noise {
    fn point(&self, oracle: &Oracle, turn: u64) -> Result<Tensor> {
        let (threat, x) = (oracle.threat(), oracle.x());
        let (row, draw, device) = (&x.dims()[1..], oracle.draw(turn), x.device());
        let noise = match (self.shape, threat.norm()) {
            (Shape::Uniform, Some(norm @ (Norm::L1 | Norm::L2))) => normalised(&draw.normal(row, device)?, norm)?,
            (Shape::Uniform, _) => draw.uniform(-1., 1., row, device)?,
            (Shape::Sign, norm) => normalised(&draw.signs(row, device)?, norm.unwrap_or(Norm::Linf))?,
        };
        threat.project(&(x + noise.affine(threat.eps().min(f64::from(f32::MAX)), 0.)?)?, x)
    }
}

fn build(spec: &Spec, shape: Shape) -> Result<Built> {
    let (given, params) = parameters::<Parameters>(spec)?;
    let draws = at_least_one("draws", given.draws)?;
    Ok(Built { attack: Box::new(Noise { draws, shape }), params })
}

const NORMS: &[Norm] = &[Norm::Linf, Norm::L2, Norm::L1];
const PAPER: &str = "Carlini et al. 2019, arXiv 1902.06705";

pub const UNIFORM: Entry = Entry {
    name: "uniform-noise",
    paper: PAPER,
    needs: Access::Label,
    norms: NORMS,
    source: include_str!("noise.rs"),
    build: |spec| build(spec, Shape::Uniform),
};

pub const SIGN: Entry = Entry {
    name: "random-sign",
    paper: PAPER,
    needs: Access::Label,
    norms: NORMS,
    source: include_str!("noise.rs"),
    build: |spec| build(spec, Shape::Sign),
};
