//! Normalised gradient ascent: the plainest iterated attack there is, as an example of how to write one.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! `steps` times: the gradient of the margin, divided by its largest entry, times `step`, then projection onto the ball
//! and the domain.
//!
//! # Parameters
//! `steps` (default 20). `step` in input units (default 0.01).
//!
//! # Differs from the paper
//! There is none: this is folklore.
//!
//! # Cost per sample
//! `steps + 1` forwards and `steps` backwards when it holds.

use robust_core::{Access, Attack, Built, Entry, Error, Norm, Objective, Oracle, Result, Spec, parameters};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GradientDescent {
    steps: u64,
    step: f64,
}

impl Default for GradientDescent {
    fn default() -> Self {
        Self { steps: 20, step: 0.01 }
    }
}

impl Attack for GradientDescent {
    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let threat = oracle.threat().clone();
        let mut x = oracle.x().clone();
        for _ in 0..self.steps {
            let of: Vec<u32> = (0..oracle.len() as u32).collect(); // row i belongs to live sample i
            let mut slope = oracle.gradient(&x, &of, &Objective::Margin)?.dx;
            // Drops the samples that are done from the batch and from our state alike.
            if !oracle.advance(&mut [&mut x, &mut slope])? {
                return Ok(());
            }
            let largest = slope.abs()?.flatten_from(1)?.max_keepdim(1)?.affine(1., 1e-30)?;
            let unit = slope.flatten_from(1)?.broadcast_div(&largest)?.reshape(slope.dims())?;
            x = threat.project(&(x + (unit * self.step)?)?, oracle.x())?;
        }
        let of: Vec<u32> = (0..oracle.len() as u32).collect();
        oracle.ask(&x, &of)?; // the last point has not been judged yet
        oracle.advance(&mut [])?;
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        (self.steps + 1, self.steps)
    }
}

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<GradientDescent>(spec)?;
    if attack.steps == 0 || !(attack.step > 0. && attack.step.is_finite()) {
        return Err(Error::usage(format!("steps and step must be positive, got {} and {}", attack.steps, attack.step)));
    }
    Ok(Built { attack: Box::new(attack), params })
}

pub const ENTRY: Entry = Entry {
    name: "gradient-descent",
    paper: "folklore",
    needs: Access::Gradient,
    norms: &[Norm::Linf, Norm::L2],
    source: include_str!("gradient_descent.rs"),
    build,
};
