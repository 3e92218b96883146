//! Auto-PGD (Croce and Hein 2020, arXiv 2003.01690), the engine of APGD-CE, APGD-DLR and APGD-T in Linf and L2: ascent
//! with momentum whose step halves at checkpoints where progress has stalled, from the best point so far.

use crate::apgd_l1;
use crate::climb::{Apgd, Climb};
use crate::host::{ask, ask_clean, clean_rows, length, radius, runners_up, stacked, take_slopes};
use rayon::prelude::*;
use robust_core::{Budget, Norm, Oracle, Result, Stop, ThreatModel};

/// Momentum: the share of a step that is new.
const NEW: f32 = 0.75;

impl Apgd {
    /// Runs on the samples not found yet: the first alone and the others abreast, or in the reference's order.
    pub fn attack(&self, oracle: &mut Oracle, runs: impl Iterator<Item = (String, Climb)>) -> Result<()> {
        let (labels, climbs): (Vec<String>, Vec<Climb>) = runs.unzip();
        if !self.compat {
            return oracle.abreast(&labels, |o| self.run(o, &climbs));
        }
        ask_clean(oracle)?;
        for (label, climb) in labels.iter().zip(climbs) {
            oracle.stage(label, Stop::Never, Budget::default(), |o| self.run(o, &[climb]))?;
        }
        Ok(())
    }

    /// `climbs` by the oracle's number of a row's run.
    fn run(&self, oracle: &mut Oracle, climbs: &[Climb]) -> Result<()> {
        let Some(&first) = climbs.first() else { return Ok(()) };
        if self.compat && matches!(first, Climb::Toward(_)) {
            ask_clean(oracle)?;
        }
        let targets = targets(climbs, oracle)?;
        oracle.judge_last_draw(self.compat);
        let result = match oracle.threat().norm() {
            Some(Norm::L1) => apgd_l1::run(self, oracle, first, &targets),
            _ => self.ascend(oracle, first, &targets),
        };
        oracle.judge_last_draw(false);
        result
    }

    /// Passes of one run of a sample that holds: forwards and backwards, each gradient from `draws` passes.
    pub fn passes(&self, norm: Norm, draws: u64) -> (u64, u64) {
        let starts = if norm == Norm::L1 && self.larger { apgd_l1::PARTS.len() as u64 } else { 1 };
        let gradients = self.steps + starts;
        if self.compat {
            (gradients * draws, gradients * draws)
        } else {
            ((gradients - 1) * draws + 1, (gradients - 1) * draws)
        }
    }

    fn ascend(&self, oracle: &mut Oracle, climb: Climb, targets: &[u32]) -> Result<()> {
        let threat = oracle.threat().clone();
        let mut rows = self.start(oracle, &threat, targets)?;
        if !self.evaluate(oracle, &mut rows, climb)? {
            return Ok(());
        }
        rows.iter_mut().for_each(Row::begin);
        let mut checks = Checkpoints::new(self.steps);
        for step in 0..self.steps {
            let new = if step == 0 { 1. } else { NEW };
            rows.par_iter_mut().for_each(|row| row.step(&threat, new, self.compat));
            if !self.compat && step + 1 == self.steps {
                // The last gradient would never be used.
                ask(oracle, rows.iter().map(|r| &r.x))?;
                oracle.advance(&mut [])?;
                return Ok(());
            }
            if !self.evaluate(oracle, &mut rows, climb)? {
                return Ok(());
            }
            let check = checks.after(step);
            rows.par_iter_mut().for_each(|row| {
                row.compare(self.compat && step == 0);
                if let Some(interval) = check {
                    row.check(self.rho, interval);
                }
            });
        }
        Ok(())
    }

    /// Losses and slopes where the rows are now. False when nobody is left.
    fn evaluate(&self, oracle: &mut Oracle, rows: &mut Vec<Row>, climb: Climb) -> Result<bool> {
        let x = stacked(oracle, rows.iter().map(|r| &r.x))?;
        let objective = climb.objective(oracle, rows.iter().map(|r| r.target), self.compat)?;
        let slope = oracle.gradient(&x, &crate::host::everyone(oracle), &objective)?;
        take_slopes(&slope, rows.iter_mut().map(|r| &mut r.slope))?;
        let losses = if self.compat { &slope.last_loss } else { &slope.loss };
        rows.iter_mut().zip(losses).for_each(|(row, loss)| row.loss = *loss);
        if self.compat { Ok(true) } else { oracle.advance(&mut [rows]) }
    }

    /// Linf: uniform, stretched until an entry touches the ball's face. L2: a random direction of full length.
    fn start(&self, oracle: &Oracle, threat: &ThreatModel, targets: &[u32]) -> Result<Vec<Row>> {
        let eps = radius(threat);
        let draw = oracle.draw(0);
        let make = |((clean, key), &target): ((Vec<f32>, _), _)| {
            let mut noise = draw.noise(key);
            let round = threat.norm() == Some(Norm::L2);
            let raw: Vec<f32> =
                clean.iter().map(|_| if round { noise.normal() } else { 2. * noise.unit() - 1. }).collect();
            let size = length(if round { Norm::L2 } else { Norm::Linf }, &raw) + 1e-12;
            let mut x: Vec<f32> =
                clean.iter().zip(&raw).map(|(c, r)| c + (eps * f64::from(*r) / size) as f32).collect();
            threat.project_row(&mut x, &clean);
            let (low, high) = threat.bounds_row(&clean);
            let blank = vec![0f32; clean.len()];
            Row {
                low,
                high,
                before: x.clone(),
                best: x.clone(),
                x,
                slope: blank.clone(),
                best_slope: blank,
                clean,
                target,
                pace: 2. * eps,
                loss: f64::NAN,
                last: f64::NAN,
                best_loss: f64::NAN,
                checked: f64::NAN,
                rises: 0,
                halved: true,
            }
        };
        Ok(clean_rows(oracle)?.into_iter().zip(draw.rows).zip(targets).map(make).collect())
    }
}

/// The class every live row is driven toward by the climb of its run (0 where that means nothing).
fn targets(climbs: &[Climb], oracle: &Oracle) -> Result<Vec<u32>> {
    if !climbs.iter().any(|c| matches!(c, Climb::Toward(_))) {
        return Ok(vec![0; oracle.len()]);
    }
    let pick = |(order, run): (&Vec<u32>, &u32)| match climbs.get(*run as usize) {
        Some(Climb::Toward(rank)) => order.get(*rank as usize).or(order.last()).copied().unwrap_or(0),
        _ => 0,
    };
    Ok(runners_up(oracle)?.iter().zip(oracle.runs()).map(pick).collect())
}

/// One sample's ascent.
#[derive(Clone)]
struct Row {
    clean: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    x: Vec<f32>,
    /// The iterate before `x`.
    before: Vec<f32>,
    slope: Vec<f32>,
    best: Vec<f32>,
    best_slope: Vec<f32>,
    target: u32,
    /// Length of a step.
    pace: f64,
    loss: f64,
    /// The loss one step ago.
    last: f64,
    best_loss: f64,
    /// The best loss at the last checkpoint.
    checked: f64,
    /// Steps since the last checkpoint that raised the loss.
    rises: u64,
    /// Whether the step was halved at the last checkpoint.
    halved: bool,
}

impl Row {
    /// Takes the start's loss as best.
    fn begin(&mut self) {
        self.best_slope.copy_from_slice(&self.slope);
        (self.last, self.best_loss, self.checked) = (self.loss, self.loss, self.loss);
    }

    fn step(&mut self, threat: &ThreatModel, new: f32, compat: bool) {
        if threat.norm() == Some(Norm::L2) {
            return self.step_round(threat, new, compat);
        }
        let pace = self.pace as f32;
        let bounds = self.low.iter().zip(&self.high);
        for (((x, before), slope), (&low, &high)) in
            self.x.iter_mut().zip(&mut self.before).zip(&self.slope).zip(bounds)
        {
            let sign = if *slope > 0. { 1. } else { 0. } - if *slope < 0. { 1. } else { 0. };
            let there = (*x + pace * sign).clamp(low, high);
            let next = *x + (there - *x) * new + (*x - *before) * (1. - new);
            *before = *x;
            *x = next.clamp(low, high);
        }
    }

    fn step_round(&mut self, threat: &ThreatModel, new: f32, compat: bool) {
        // Ball first and box second leaves part of the radius unused wherever the box cuts.
        let project = |x: &mut [f32], clean: &[f32]| match compat {
            true => threat.project_row(x, clean),
            false => threat.project_exact_row(x, clean),
        };
        let size = length(Norm::L2, &self.slope);
        let pace = if size > 0. { self.pace / size } else { 0. };
        let mut there: Vec<f32> =
            self.x.iter().zip(&self.slope).map(|(x, s)| (f64::from(*x) + pace * f64::from(*s)) as f32).collect();
        project(&mut there, &self.clean);
        for ((there, x), before) in there.iter_mut().zip(&self.x).zip(&mut self.before) {
            *there = *x + (*there - *x) * new + (*x - *before) * (1. - new);
            *before = *x;
        }
        project(&mut there, &self.clean);
        self.x = there;
    }

    /// Books the loss just seen. The reference compares the first one with 0 instead of the start's loss: `to_zero`.
    fn compare(&mut self, to_zero: bool) {
        let last = if to_zero { 0. } else { self.last };
        self.rises += u64::from(self.loss > last);
        self.last = self.loss;
        if self.loss > self.best_loss || self.best_loss.is_nan() && !self.loss.is_nan() {
            self.best.copy_from_slice(&self.x);
            self.best_slope.copy_from_slice(&self.slope);
            self.best_loss = self.loss;
        }
    }

    /// Halves the step and goes back to the best point where the last `interval` steps led nowhere.
    fn check(&mut self, rho: f64, interval: u64) {
        let few_rises = self.rises as f64 <= rho * interval as f64;
        let no_better = !self.halved && self.checked >= self.best_loss;
        self.halved = few_rises || no_better;
        (self.checked, self.rises) = (self.best_loss, 0);
        if self.halved {
            self.pace /= 2.;
            self.x.copy_from_slice(&self.best);
            self.slope.copy_from_slice(&self.best_slope);
        }
    }
}

/// When progress is checked: after 22 % of the steps, then at intervals that shrink by 3 % down to 6 %.
struct Checkpoints {
    steps: u64,
    interval: u64,
    next: u64,
}

impl Checkpoints {
    fn new(steps: u64) -> Self {
        let first = percent(steps, 22);
        Self { steps, interval: first, next: first }
    }

    /// The interval that ends after this step (from 0), if one does.
    fn after(&mut self, step: u64) -> Option<u64> {
        if step + 1 != self.next {
            return None;
        }
        let ended = self.interval;
        self.interval = ended.saturating_sub(percent(self.steps, 3)).max(percent(self.steps, 6));
        self.next += self.interval;
        Some(ended)
    }
}

fn percent(steps: u64, share: u64) -> u64 {
    (steps * share / 100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_100_steps_are_the_papers() {
        let mut checks = Checkpoints::new(100);
        let at: Vec<u64> = (0..100).filter(|&s| checks.after(s).is_some()).map(|s| s + 1).collect();
        assert_eq!(at, [22, 41, 57, 70, 80, 87, 93, 99]);
    }
}
