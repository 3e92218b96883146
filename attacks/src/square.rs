//! Square (Andriushchenko et al. 2020, arXiv 1912.00049): random search with square patches, on scores alone.
//!
//! # Asks
//! Scores.
//!
//! # Steps
//! Start: Linf vertical stripes of plus and minus eps per channel; L2 and L1 (Croce and Hein 2021, arXiv 2103.01208) a
//! grid of bumps of random sign. Then `steps` proposals in windows whose area is a share of the image that falls by the
//! paper's schedule from `p` to `p` / 512. Linf: one random sign per channel in one window. L2 and L1: a bump added to one
//! window, paid for with what lies in it and in a second one, and put back onto the ball (L1: the exact projection onto
//! ball and box). A proposal stays when the margin falls or is lost. Restarts after the
//! first take the samples that held, in step (compat: in turn).
//!
//! # Parameters
//! `steps` (default 5000), the proposals. `restarts` (default 1). `p` (default 0.8). `rescale` (default false): stretch the
//! schedule, made for 10,000 proposals, to `steps`. `compat` (default false): the reference implementation's counts and
//! quirks.
//!
//! # Differs from the paper
//! Windows, signs and bumps are each sample's own, not the batch's, so that results do not depend on neighbours. Windows
//! reach the last row and column; in L2 what the box cuts off a proposal is made up for by the rest of it; where an image is not square, windows of the same area get as wide as it takes.
//! `compat=true` does as fra31/auto-attack does: no window starts at the last place, windows are cut to the shorter side,
//! and labels are asked three times more (twice here, once by `autoattack`).
//!
//! # Without labels
//! The margin is that of the similarity of embeddings.
//!
//! # Cost per sample
//! `restarts (steps + 1)` forwards when it holds; compat 1 more per restart and 1 more.

use crate::choice::{at_least_one, share};
use crate::host::{ask, ask_clean, classes, clean_rows, scores, targets};
use crate::square_moves::{Board, Move};
use rayon::prelude::*;
use robust_core::{
    Access, Attack, Budget, Built, Entry, Error, Goal, Noise, Norm, Oracle, Result, Spec, Stop, parameters,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Square {
    pub steps: u64,
    pub restarts: u64,
    pub p: f64,
    pub rescale: bool,
    pub compat: bool,
}

impl Default for Square {
    fn default() -> Self {
        Self { steps: 5000, restarts: 1, p: 0.8, rescale: false, compat: false }
    }
}

/// One sample's search.
#[derive(Clone)]
struct Row {
    clean: Vec<f32>,
    low: Vec<f32>,
    high: Vec<f32>,
    x: Vec<f32>,
    trial: Vec<f32>,
    margin: f64,
    noise: Noise,
}

impl Attack for Square {
    fn aim(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        targets(clean.first().map_or(0, Vec::len), None, 1)?;
        Ok(Goal::Untargeted(labels.to_vec()))
    }

    fn label_free(&self) -> Result<()> {
        match self.compat {
            false => Ok(()),
            true => Err(Error::usage("compat=true repeats a reference that attacks classes")),
        }
    }

    fn run(&self, oracle: &mut Oracle) -> Result<()> {
        if !oracle.goal().is_label_free() {
            targets(classes(oracle)?, None, 1)?;
        }
        if !self.compat {
            let labels: Vec<String> = (0..self.restarts).map(|r| format!("r{r}/search")).collect();
            return oracle.abreast(&labels, |o| self.search(o));
        }
        ask_clean(oracle)?;
        for restart in 0..self.restarts {
            oracle.stage(&format!("r{restart}"), Stop::Never, Budget::default(), |o| {
                // Inside a stage of its own the search may drop samples; the check after it asks all of them.
                o.stage("search", Stop::Never, Budget::default(), |o| self.search(o))?;
                o.recheck()
            })?;
        }
        Ok(())
    }

    fn passes(&self) -> (u64, u64) {
        let compat = u64::from(self.compat);
        (self.restarts * (self.steps + 1 + compat) + compat, 0)
    }
}

impl Square {
    fn search(&self, oracle: &mut Oracle) -> Result<()> {
        let threat = oracle.threat().clone();
        let board = Board::new(&threat, self.compat);
        let draw = oracle.draw(0);
        let make = |(clean, key): (Vec<f32>, _)| {
            let (low, high) = threat.bounds_row(&clean);
            let mut row = Row {
                low,
                high,
                x: clean.clone(),
                trial: clean.clone(),
                clean,
                margin: f64::INFINITY,
                noise: draw.noise(key),
            };
            row.propose(|m| board.start(m));
            row
        };
        let mut rows: Vec<Row> = clean_rows(oracle)?.into_iter().zip(draw.rows).map(make).collect();
        if !self.look(oracle, &mut rows)? {
            return Ok(());
        }
        for step in 0..self.steps {
            let area = self.p * fall(if self.rescale { step * 10_000 / self.steps } else { step });
            rows.par_iter_mut().for_each(|row| row.propose(|m| board.step(m, area)));
            if !self.look(oracle, &mut rows)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks the trials and keeps those that are better. False when nobody is left.
    fn look(&self, oracle: &mut Oracle, rows: &mut Vec<Row>) -> Result<bool> {
        let answer = ask(oracle, rows.iter().map(|r| &r.trial))?;
        let seen = scores(&answer)?;
        let goal = oracle.goal();
        for (i, row) in rows.iter_mut().enumerate() {
            let Some(pred) = goal.judge(i, &seen[i]).filter(|_| answer.granted[i]) else { continue };
            if pred.margin < row.margin || pred.margin <= 0. {
                row.margin = pred.margin;
                std::mem::swap(&mut row.x, &mut row.trial);
            }
        }
        if self.compat {
            let done: Vec<bool> = rows.iter().map(|r| r.margin <= 0.).collect();
            return oracle.retire(&done, &mut [rows]);
        }
        oracle.advance(&mut [rows])
    }
}

impl Row {
    fn propose(&mut self, change: impl Fn(&mut Move)) {
        let Row { clean, low, high, x, trial, noise, .. } = self;
        trial.copy_from_slice(x);
        change(&mut Move { clean, low, high, trial, noise });
    }
}

/// The schedule of 10,000 proposals: the share of `p` that is left at a proposal (from 0).
fn fall(step: u64) -> f64 {
    const FALLS: [u64; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];
    let halvings = FALLS.iter().filter(|f| step > **f).count() as i32;
    0.5f64.powi(halvings)
}

pub const ENTRY: Entry = Entry {
    name: "square",
    paper: "Andriushchenko et al. 2020, arXiv 1912.00049; L1: Croce and Hein 2021, arXiv 2103.01208",
    needs: Access::Scores,
    norms: &[Norm::Linf, Norm::L2, Norm::L1],
    source: include_str!("square.rs"),
    build,
};

fn build(spec: &Spec) -> Result<Built> {
    let (attack, params) = parameters::<Square>(spec)?;
    at_least_one("steps", attack.steps)?;
    at_least_one("restarts", attack.restarts)?;
    share("p", attack.p)?;
    Ok(Built { attack: Box::new(attack), params })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_falls_by_the_papers_schedule() {
        let at = [0, 10, 11, 50, 51, 201, 501, 1001, 2001, 4001, 4999, 6001, 8001, 9999];
        let falls = [1., 1., 2., 2., 4., 8., 16., 32., 64., 128., 128., 256., 512., 512.];
        for (step, by) in at.into_iter().zip(falls) {
            assert_eq!(fall(step), 1. / by, "{step}");
        }
    }
}
