//! DDN (Rony et al. 2019, arXiv 1811.09600): the nearest success in L2, with the direction and the length of the perturbation
//! apart.
//!
//! # Asks
//! Gradients.
//!
//! # Steps
//! `steps` times from the clean point: the gradient of the cross-entropy, scaled to a length that falls from 1 to 0.01 along a
//! cosine, is added to the perturbation, which is then scaled to the present radius and cut by the domain. The radius shrinks
//! by `gamma` after a success and grows by as much otherwise. Where there is no gradient, a direction at random stands for it.
//!
//! # Parameters
//! `steps` (default 100). `gamma` (default 0.05). `init` (default 1), the first radius, in input units. `target` (default
//! none): `next`, `second`, `least` or a class number.
//!
//! # Epsilon
//! It takes none: it looks for the nearest success of every sample, and accuracy at any epsilon is read off one run. With
//! `eps`, a sample counts as fooled where its nearest success lies within, and the row stands beside other attacks at that epsilon.
//!
//! # Differs from the paper
//! The perturbation is not rounded to 8-bit levels. The point after the last step is asked too.
//!
//! # Cost per sample
//! `steps + 1` forwards and `steps` backwards. The judge is asked every tenth step where a nearer success was seen.

use crate::choice::{Toward, at_least_one, positive};
use crate::host::{ask, clean_rows, everyone, length, stacked, take_slopes};
use robust_core::{
    Access, Attack, Built, Draw, Entry, Error, Goal, Norm, Objective, Oracle, Result, Spec, ThreatModel, parameters,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ddn {
    steps: u64,
    gamma: f64,
    init: f64,
    target: Toward,
}

impl Default for Ddn {
    fn default() -> Self {
        Self { steps: 100, gamma: 0.05, init: 1., target: Toward::Anything }
    }
}

/// Lengths of the first and the last step.
const PACE: (f64, f64) = (1., 0.01);
/// Shorter gradients have no direction.
const TINY: f64 = 1e-12;
/// Steps between two words of the judge: what it refuses, it refuses before the walk has gone far.
const SETTLED: u64 = 10;

/// One sample's walk.
#[derive(Clone)]
struct Row {
    clean: Vec<f32>,
    x: Vec<f32>,
    slope: Vec<f32>,
    radius: f64,
    /// The distance of the farthest point of the domain.
    most: f64,
}

impl Row {
    fn new(clean: Vec<f32>, threat: &ThreatModel, init: f64) -> Self {
        let (low, high) = threat.domain();
        let room = |c: &f32| (f64::from(*c) - f64::from(low)).max(f64::from(high) - f64::from(*c));
        let most = clean.iter().map(|c| room(c).powi(2)).sum::<f64>().sqrt();
        Self { x: clean.clone(), slope: vec![0.; clean.len()], clean, radius: init.min(most), most }
    }

    /// Along the slope by `pace`, then onto the radius and into the domain.
    fn step(&mut self, pace: f64, (low, high): (f32, f32)) {
        let size = length(Norm::L2, &self.slope).max(TINY);
        let moved = |((x, c), s): ((&f32, &f32), &f32)| f64::from(*x) - f64::from(*c) + pace * f64::from(*s) / size;
        let delta: Vec<f64> = self.x.iter().zip(&self.clean).zip(&self.slope).map(moved).collect();
        let long = delta.iter().map(|d| d * d).sum::<f64>().sqrt().max(TINY);
        for ((x, c), d) in self.x.iter_mut().zip(&self.clean).zip(&delta) {
            *x = ((f64::from(*c) + d * self.radius / long) as f32).clamp(low, high);
        }
    }
}

impl Ddn {
    /// Length of step `step`, from 0.
    fn pace(&self, step: u64) -> f64 {
        let turn = std::f64::consts::PI * step as f64 / self.steps as f64;
        PACE.1 + 0.5 * (PACE.0 - PACE.1) * (1. + libm::cos(turn))
    }

    /// Asks gradients at the rows' places and moves them; rows that the budget does not pay for stay.
    fn walk(&self, oracle: &mut Oracle, rows: &mut [Row], step: u64) -> Result<()> {
        let x = stacked(oracle, rows.iter().map(|r| &r.x))?;
        let slope = oracle.gradient(&x, &everyone(oracle), &Objective::Ce)?;
        take_slopes(&slope, rows.iter_mut().map(|r| &mut r.slope))?;
        let scores = slope.out.to_vec2::<f32>()?;
        let (goal, domain) = (oracle.goal(), oracle.threat().domain());
        let draw = oracle.draw(step + 1);
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| slope.granted[*i]) {
            let fooled = goal.judge(i, &scores[i]).is_some_and(|p| goal.reached(p));
            row.radius = (row.radius * if fooled { 1. - self.gamma } else { 1. + self.gamma }).min(row.most);
            if length(Norm::L2, &row.slope) < TINY {
                at_random(&draw, i, &mut row.slope);
            }
            row.step(self.pace(step), domain);
        }
        Ok(())
    }
}

fn at_random(draw: &Draw, row: usize, slope: &mut [f32]) {
    let mut noise = draw.noise(&draw.rows[row]);
    slope.iter_mut().for_each(|s| *s = noise.normal());
}

impl Attack for Ddn {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        self.target.aim(labels, clean)
    }

    fn minimises(&self) -> bool {
        true
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        let threat = oracle.threat().clone();
        let mut rows: Vec<Row> =
            clean_rows(oracle)?.into_iter().map(|clean| Row::new(clean, &threat, self.init)).collect();
        for step in 0..self.steps {
            self.walk(oracle, &mut rows, step)?;
            if (step + 1) % SETTLED == 0 && !oracle.advance(&mut [&mut rows])? {
                return Ok(());
            }
        }
        ask(oracle, rows.iter().map(|r| &r.x))?;
        oracle.advance(&mut [])?;
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        (self.steps + 1, self.steps)
    }
}

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<Ddn>(spec)?;
    at_least_one("steps", attack.steps)?;
    positive("init", Some(attack.init))?;
    if !(attack.gamma > 0. && attack.gamma < 1.) {
        return Err(Error::usage(format!("gamma must be above 0 and below 1, got {}", attack.gamma)));
    }
    Ok(Built { attack: Box::new(attack), params })
}

pub const ENTRY: Entry = Entry {
    name: "ddn",
    paper: "Rony et al. 2019, arXiv 1811.09600",
    needs: Access::Gradient,
    norms: &[Norm::L2],
    source: include_str!("ddn.rs"),
    build,
};
