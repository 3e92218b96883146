//! APGD in L1 (Croce and Hein 2021, arXiv 2103.01208): steps along the signs of the steepest entries, whose share adapts
//! to the sparsity of the best point, and a ball that shrinks to its size in three parts.

use crate::climb::{Apgd, Climb};
use crate::host::{ask, clean_rows, everyone, radius, stacked, take_slopes};
use rayon::prelude::*;
use robust_core::{Norm, Oracle, Region, Result, ThreatModel};

/// Radius over epsilon, and the percentage of the steps spent there; the last part takes the rest.
pub const PARTS: [(f64, u64); 3] = [(3., 30), (2., 30), (1., 40)];

/// Share of the entries that move before the sparsity of the best point is known.
const FIRST_SHARE: f64 = 0.2;
/// The share is the best point's sparsity divided by this; steps that do not follow a sparser point shrink by it too.
const BELOW: f64 = 1.5;
/// The shortest step is the first one divided by this.
const SHORTEST: f64 = 10.;
/// A best point with at most this share of the entries it had at the last check counts as sparser.
const SPARSER: f64 = 0.95;

/// One run: random start, then every part of the schedule from the best point of the part before.
pub fn run(apgd: &Apgd, oracle: &mut Oracle, climb: Climb, targets: &[u32]) -> Result<()> {
    let whole = [(1., 100)];
    let parts: &[(f64, u64)] = if apgd.larger { &PARTS } else { &whole };
    let mut rows = start(oracle, targets)?;
    let mut left = apgd.steps;
    for (index, (factor, share)) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let steps = if last { left } else { apgd.steps * share / 100 };
        left -= steps;
        let threat = oracle.threat();
        let region = Region::Ball { norm: Norm::L1, eps: radius(threat) * factor };
        let part = Part { apgd, climb, steps, last, ball: ThreatModel { region, ..threat.clone() } };
        rows.par_iter_mut().for_each(|row| row.enter(&part.ball, apgd.larger));
        if !part.ascend(oracle, &mut rows)? {
            return Ok(());
        }
    }
    Ok(())
}

fn start(oracle: &Oracle, targets: &[u32]) -> Result<Vec<Row>> {
    let draw = oracle.draw(0);
    let make = |((clean, key), &target): ((Vec<f32>, _), _)| {
        let mut noise = draw.noise(key);
        let best: Vec<f32> = clean.iter().map(|c| c + noise.normal()).collect();
        let blank = vec![0f32; clean.len()];
        Row {
            x: best.clone(),
            slope: blank.clone(),
            best,
            best_slope: blank,
            clean,
            target,
            pace: 0.,
            share: 0.,
            entries: 0,
            loss: f64::NAN,
            best_loss: f64::NAN,
        }
    };
    Ok(clean_rows(oracle)?.into_iter().zip(draw.rows).zip(targets).map(make).collect())
}

/// One part of the schedule.
struct Part<'a> {
    apgd: &'a Apgd,
    climb: Climb,
    steps: u64,
    last: bool,
    ball: ThreatModel,
}

impl Part<'_> {
    fn ascend(&self, oracle: &mut Oracle, rows: &mut Vec<Row>) -> Result<bool> {
        if !self.evaluate(oracle, rows)? {
            return Ok(false);
        }
        rows.iter_mut().for_each(Row::remember);
        let interval = (self.steps * 4 / 100).max(1);
        for step in 0..self.steps {
            rows.par_iter_mut().for_each(|row| row.step(&self.ball));
            if !self.apgd.compat && self.last && step + 1 == self.steps {
                // The last gradient would never be used.
                ask(oracle, rows.iter().map(|r| &r.x))?;
                return oracle.advance(&mut []);
            }
            if !self.evaluate(oracle, rows)? {
                return Ok(false);
            }
            rows.par_iter_mut().for_each(|row| {
                if row.loss > row.best_loss || row.best_loss.is_nan() && !row.loss.is_nan() {
                    row.remember();
                }
                if (step + 1) % interval == 0 {
                    row.check(self.ball.eps());
                }
            });
        }
        Ok(true)
    }

    fn evaluate(&self, oracle: &mut Oracle, rows: &mut Vec<Row>) -> Result<bool> {
        let x = stacked(oracle, rows.iter().map(|r| &r.x))?;
        let objective = self.climb.objective(oracle, rows.iter().map(|r| r.target), self.apgd.compat)?;
        let slope = oracle.gradient(&x, &everyone(oracle), &objective)?;
        take_slopes(&slope, rows.iter_mut().map(|r| &mut r.slope))?;
        let losses = if self.apgd.compat { &slope.last_loss } else { &slope.loss };
        rows.iter_mut().zip(losses).for_each(|(row, loss)| row.loss = *loss);
        if self.apgd.compat { Ok(true) } else { oracle.advance(&mut [rows]) }
    }
}

/// One sample's ascent.
#[derive(Clone)]
struct Row {
    clean: Vec<f32>,
    x: Vec<f32>,
    slope: Vec<f32>,
    best: Vec<f32>,
    best_slope: Vec<f32>,
    target: u32,
    /// Length of a step.
    pace: f64,
    /// Share of the entries that a step moves.
    share: f64,
    /// Entries in which the best point differed from the clean one at the last check.
    entries: usize,
    loss: f64,
    best_loss: f64,
}

impl Row {
    /// Into a ball, from the best point so far; `sparse` when that point's sparsity means something.
    fn enter(&mut self, ball: &ThreatModel, sparse: bool) {
        self.x.copy_from_slice(&self.best);
        ball.project_exact_row(&mut self.x, &self.clean);
        let width = self.clean.len();
        self.entries = if sparse { self.changed(&self.x) } else { width };
        self.share = if sparse { self.entries as f64 / width as f64 / BELOW } else { FIRST_SHARE };
        (self.pace, self.best_loss) = (ball.eps(), f64::NAN);
    }

    fn changed(&self, x: &[f32]) -> usize {
        x.iter().zip(&self.clean).filter(|(a, b)| a != b).count()
    }

    fn remember(&mut self) {
        self.best.copy_from_slice(&self.x);
        self.best_slope.copy_from_slice(&self.slope);
        self.best_loss = self.loss;
    }

    fn step(&mut self, ball: &ThreatModel) {
        let width = self.slope.len();
        let mut sizes: Vec<f32> = self.slope.iter().map(|s| s.abs()).collect();
        let kept = ((1. - self.share) * width as f64).clamp(0., width as f64 - 1.) as usize;
        let (_, bar, _) = sizes.select_nth_unstable_by(kept, f32::total_cmp);
        // Zeros have no sign, so they neither move nor count.
        let bar = bar.max(f32::MIN_POSITIVE);
        let moving = self.slope.iter().filter(|s| s.abs() >= bar).count();
        if moving > 0 {
            let move_by = (self.pace / moving as f64) as f32;
            let steps = self.slope.iter().map(|s| if s.abs() >= bar { move_by.copysign(*s) } else { 0. });
            self.x.iter_mut().zip(steps).for_each(|(x, step)| *x += step);
        }
        ball.project_exact_row(&mut self.x, &self.clean);
    }

    /// A best point that became sparser starts over with long steps, any other gets shorter ones.
    fn check(&mut self, eps: f64) {
        let entries = self.changed(&self.best);
        self.share = entries as f64 / self.clean.len() as f64 / BELOW;
        let sparser = (entries as f64) < SPARSER * self.entries as f64;
        self.pace = if sparser { eps } else { (self.pace / BELOW).clamp(eps / SHORTEST, eps) };
        self.entries = entries;
        if sparser {
            self.x.copy_from_slice(&self.best);
            self.slope.copy_from_slice(&self.best_slope);
        }
    }
}
