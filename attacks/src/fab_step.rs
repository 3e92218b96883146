//! The engine of FAB and FAB-T: hyperplanes, projections, and the walk between them.

use crate::choice::{at_least_one, share};
use crate::host::{ask, ask_clean, classes, clean_rows, dot_gap, everyone, length, radius, runners_up, stacked};
use candle_core::Tensor;
use rayon::prelude::*;
use robust_core::{
    Answer, Budget, Error, Hyperplane, Norm, Oracle, Result, Stop, ThreatModel, readable, take, to_host,
};
use serde::{Deserialize, Serialize};

/// Which boundary a run goes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// The closest one, chosen at every step.
    Closest,
    /// That of the class of this rank among the others by clean score, from 0.
    Rank(u64),
}

/// One run: its boundary, and which restart it is.
#[derive(Debug, Clone, Copy)]
struct Walk(Toward, u64);

impl Walk {
    fn label(&self) -> String {
        match self.0 {
            Toward::Closest => format!("r{}", self.1),
            Toward::Rank(t) => format!("t{t}/r{}", self.1),
        }
    }
}

/// The parameters of FAB, which FAB-T shares; see `fab`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fab {
    pub steps: u64,
    pub restarts: u64,
    pub alpha: f64,
    pub eta: f64,
    pub beta: f64,
    pub nearest: bool,
    pub compat: bool,
}

/// Gradients of at most so many entries are held at once: many classes times large images would not fit in memory.
const MOST_ENTRIES: usize = 1 << 26;

/// The distances that weigh iterate against clean point are at least this.
const LEAST_DISTANCE: f64 = 1e-8;

impl Default for Fab {
    fn default() -> Self {
        Self { steps: 100, restarts: 1, alpha: 0.1, eta: 1.05, beta: 0.9, nearest: false, compat: false }
    }
}

impl Fab {
    /// # Errors
    /// Kind `Usage` for numbers that make no sense.
    pub fn checked(self) -> Result<Self> {
        at_least_one("steps", self.steps)?;
        at_least_one("restarts", self.restarts)?;
        share("alpha", self.alpha)?;
        share("beta", self.beta)?;
        if !(1. ..=2.).contains(&self.eta) {
            return Err(Error::usage(format!("eta must be between 1 and 2, got {}", self.eta)));
        }
        if self.nearest && self.compat {
            return Err(Error::usage("nearest=true and compat=true exclude each other").hint("drop one of them"));
        }
        Ok(self)
    }

    /// Every restart of every boundary on the samples not found yet: the first alone and the others abreast, or in the
    /// reference's order; all in one stage when `nearest`, where a restart begins as far away as the last one came.
    pub fn attack(&self, oracle: &mut Oracle, boundaries: &[Toward]) -> Result<()> {
        let all: Vec<Walk> = boundaries.iter().flat_map(|b| (0..self.restarts).map(|r| Walk(*b, r))).collect();
        if self.nearest {
            return oracle.stage("nearest", Stop::Nearest, Budget::default(), |o| {
                let mut best = vec![f64::INFINITY; o.len()];
                all.iter().try_for_each(|walk| self.run(o, &[*walk], &mut best))
            });
        }
        let run = |o: &mut Oracle, walks: &[Walk]| self.run(o, walks, &mut vec![f64::INFINITY; o.len()]);
        let labels: Vec<String> = all.iter().map(Walk::label).collect();
        if !self.compat {
            return oracle.abreast(&labels, |o| run(o, &all));
        }
        ask_clean(oracle)?;
        for (label, walk) in labels.iter().zip(&all) {
            oracle.stage(label, Stop::Never, Budget::default(), |o| run(o, &[*walk]))?;
        }
        Ok(())
    }

    /// Passes of a sample that holds, for this many boundaries; `seeds` is 2 for one class, else the number of classes.
    pub fn passes(&self, boundaries: u64, seeds: u64, draws: u64) -> (u64, u64) {
        let runs = boundaries * self.restarts;
        let pulled = if self.compat && seeds > 2 { seeds } else { seeds - 1 };
        let backward = runs * self.steps * draws * pulled;
        if self.compat {
            let looks = if seeds > 2 { 2 } else { 3 };
            return (1 + runs * (self.steps * (draws + 1) + looks), backward);
        }
        (runs * (self.steps * draws + 1), backward)
    }

    /// One restart toward one boundary for every live row: that of its run among `walks`. `best` holds the distance of the
    /// nearest success so far.
    fn run(&self, oracle: &mut Oracle, walks: &[Walk], best: &mut [f64]) -> Result<()> {
        let Some(&Walk(toward, _)) = walks.first() else { return Ok(()) };
        if self.compat {
            ask_clean(oracle)?;
            if matches!(toward, Toward::Rank(_)) {
                ask_clean(oracle)?;
            }
        }
        let threat = oracle.threat().clone();
        let mut rows = start(oracle, &threat, walks, best)?;
        for _ in 0..self.steps {
            self.linearise(oracle, &mut rows, toward, &threat)?;
            if !self.compat && !self.nearest && !oracle.advance(&mut [&mut rows])? {
                return Ok(());
            }
            if self.compat {
                let answer = ask(oracle, rows.iter().map(|r| &r.x))?;
                self.retreat(&mut rows, &answer, &threat);
            } else {
                rows.par_iter_mut().for_each(|row| std::mem::swap(&mut row.x, &mut row.next));
            }
        }
        if self.compat {
            oracle.recheck()?;
        } else {
            let answer = ask(oracle, rows.iter().map(|r| &r.x))?;
            self.retreat(&mut rows, &answer, &threat);
            if !self.nearest {
                oracle.advance(&mut [])?;
            }
        }
        if self.nearest {
            best.iter_mut().zip(&rows).for_each(|(b, r)| *b = r.best);
        }
        Ok(())
    }

    /// Asks gradients where the rows are and writes to `next` where they go, in parts that fit in memory.
    fn linearise(&self, oracle: &mut Oracle, rows: &mut [Row], toward: Toward, threat: &ThreatModel) -> Result<()> {
        let classes = classes(oracle)?;
        let width = rows.first().map_or(1, |r| r.x.len());
        let seeds = if toward == Toward::Closest { classes } else { 1 };
        let at_once = whole_samples(oracle, MOST_ENTRIES / (width * seeds).max(1));
        let x = stacked(oracle, rows.iter().map(|r| &r.x))?;
        let everyone = everyone(oracle);
        for (of, rows) in everyone.chunks(at_once).zip(rows.chunks_mut(at_once)) {
            let x = if of.len() == everyone.len() { x.clone() } else { take(&x, of)? };
            let seeds = self.seeds(rows, toward, classes, &x)?;
            let jacobian = oracle.jacobian(&x, of, &seeds)?;
            let scores = jacobian.out.to_vec2::<f32>()?;
            let pulled = jacobian.pulled.iter().map(|p| Ok(to_host(p)?.0)).collect::<Result<Vec<_>>>()?;
            rows.par_iter_mut().enumerate().for_each(|(i, row)| {
                let gradients: Vec<&[f32]> = pulled.iter().map(|p| &p[i * width..][..width]).collect();
                row.next.copy_from_slice(&row.x);
                if jacobian.granted[i] {
                    row.walk(self, threat, &scores[i], &gradients);
                }
            });
        }
        Ok(())
    }

    /// Which differences of scores are pulled back: `pulled[j]` is the gradient of class `others[j]` minus the label's.
    fn seeds(&self, rows: &[Row], toward: Toward, classes: usize, x: &Tensor) -> Result<Vec<Tensor>> {
        // The reference pulls back the label's own score too.
        let count = if toward == Toward::Closest { classes - usize::from(!self.compat) } else { 1 };
        (0..count)
            .map(|j| {
                let mut seed = vec![0f32; rows.len() * classes];
                for (row, seed) in rows.iter().zip(seed.chunks_mut(classes)) {
                    let other = row.other(j, classes);
                    seed[other] += 1.;
                    seed[row.label as usize] -= 1.;
                }
                Ok(Tensor::from_vec(seed, (rows.len(), classes), x.device())?)
            })
            .collect()
    }

    /// Books successes at the answered points, which become the rows' places, pulled back.
    fn retreat(&self, rows: &mut [Row], answer: &Answer, threat: &ThreatModel) {
        for ((row, label), granted) in rows.iter_mut().zip(&answer.labels).zip(&answer.granted) {
            if *granted && *label != row.label {
                row.pull_back(self.beta, threat);
            }
        }
    }
}

/// At most so many rows, but all rows of a sample, which follow each other: the noise of a random model counts them by the ask.
fn whole_samples(oracle: &Oracle, most: usize) -> usize {
    let runs = oracle.runs();
    let lanes = runs.iter().skip(1).position(|run| Some(run) == runs.first()).map_or(runs.len(), |at| at + 1).max(1);
    (most / lanes).max(1) * lanes
}

/// The clean points, or for restarts points at random beside them.
fn start(oracle: &Oracle, threat: &ThreatModel, walks: &[Walk], best: &[f64]) -> Result<Vec<Row>> {
    let ranks = runners_up(oracle)?;
    let labels = oracle.goal().classes();
    let norm = threat.norm().unwrap_or(Norm::L2);
    let make = |(i, clean): (usize, Vec<f32>)| {
        let Walk(toward, restart) = walks.get(oracle.runs()[i] as usize).copied().unwrap_or(walks[0]);
        let target = match toward {
            Toward::Closest => vec![],
            Toward::Rank(t) => ranks[i].get(t as usize).or(ranks[i].last()).copied().into_iter().collect(),
        };
        let mut x = clean.clone();
        if restart > 0 {
            let draw = oracle.draw(restart);
            let mut noise = draw.noise(&draw.rows[i]);
            let cube = norm == Norm::Linf;
            let raw: Vec<f32> =
                clean.iter().map(|_| if cube { 2. * noise.unit() - 1. } else { noise.normal() }).collect();
            let scale = 0.5 * best[i].min(radius(threat)) / length(norm, &raw).max(LEAST_DISTANCE);
            let (low, high) = threat.domain();
            x.iter_mut().zip(&raw).for_each(|(x, r)| *x = (*x + (scale * f64::from(*r)) as f32).clamp(low, high));
        }
        Row { next: x.clone(), x, clean, label: labels[i], target, best: best[i] }
    };
    Ok(clean_rows(oracle)?.into_iter().enumerate().map(make).collect())
}

/// One sample's walk.
#[derive(Clone)]
struct Row {
    clean: Vec<f32>,
    x: Vec<f32>,
    /// Where it goes next.
    next: Vec<f32>,
    label: u32,
    /// The class gone for; empty for all.
    target: Vec<u32>,
    /// Distance of the nearest success that search saw.
    best: f64,
}

impl Row {
    /// The class of pullback `j`; the label itself comes last.
    fn other(&self, j: usize, classes: usize) -> usize {
        match self.target.first() {
            Some(&target) => target as usize,
            None => (self.label as usize + 1 + j) % classes,
        }
    }

    /// Books a success at `x` and goes back to a share of its distance.
    fn pull_back(&mut self, beta: f64, threat: &ThreatModel) {
        let distance = threat.distance(threat.norm().unwrap_or(Norm::L2), &self.clean, &self.x);
        self.best = self.best.min(distance);
        let beta = beta as f32;
        self.x.iter_mut().zip(&self.clean).for_each(|(x, c)| *x = c + (*x - c) * beta);
    }

    /// From scores and gradients of differences at `x` to the next point.
    fn walk(&mut self, fab: &Fab, threat: &ThreatModel, z: &[f32], gradients: &[&[f32]]) {
        let label = self.label as usize;
        if !readable(z) {
            return;
        }
        let seen = self.x.clone();
        if !fab.compat && (0..z.len()).any(|k| k != label && z[k] >= z[label]) {
            self.pull_back(fab.beta, threat);
        }
        let norm = threat.norm().unwrap_or(Norm::L2);
        let dual = match norm {
            Norm::Linf => Norm::L1,
            Norm::L2 => Norm::L2,
            _ => Norm::Linf,
        };
        let mut closest: Option<(f64, f64, &[f32])> = None;
        for (j, w) in gradients.iter().enumerate() {
            let other = self.other(j, z.len());
            // No boundary leads to a class that is masked.
            if other == label || z[other] == f32::NEG_INFINITY || w.iter().any(|v| !v.is_finite()) {
                continue;
            }
            // How far the linearised difference is from 0, at `x` as it is now.
            let rise = f64::from(z[other]) - f64::from(z[label]) + dot_gap(w, &self.x, &seen);
            let away = rise.abs() / (length(dual, w) + 1e-12);
            if closest.is_none_or(|(least, ..)| away < least) {
                closest = Some((away, rise, w));
            }
        }
        if let Some((_, rise, w)) = closest {
            self.cross(fab, threat, w, rise);
        }
    }

    /// Between the projections of iterate and clean point onto the hyperplane `rise` above which `x` lies.
    fn cross(&mut self, fab: &Fab, threat: &ThreatModel, w: &[f32], rise: f64) {
        let norm = threat.norm().unwrap_or(Norm::L2);
        let domain = threat.domain();
        let floor = if fab.compat && norm != Norm::Linf { 1e-8 } else { 0. };
        let plane = Hyperplane::new(w, norm, domain, floor);
        let (mut from_x, mut from_clean) = (vec![0f32; w.len()], vec![0f32; w.len()]);
        plane.toward(&self.x, rise, &mut from_x);
        plane.toward(&self.clean, rise + dot_gap(w, &self.clean, &self.x), &mut from_clean);
        let (a, b) = (length(norm, &from_x).max(LEAST_DISTANCE), length(norm, &from_clean).max(LEAST_DISTANCE));
        let share = (a / (a + b)).min(fab.alpha) as f32;
        let eta = fab.eta as f32;
        let places = self.x.iter().zip(&from_x).zip(self.clean.iter().zip(&from_clean));
        for (next, ((x, d), (clean, e))) in self.next.iter_mut().zip(places) {
            *next = ((x + eta * d) * (1. - share) + (clean + eta * e) * share).clamp(domain.0, domain.1);
        }
        if fab.compat {
            std::mem::swap(&mut self.x, &mut self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_of_a_run_are_the_references() {
        let fab = Fab { compat: true, ..Fab::default() };
        assert_eq!(fab.passes(9, 2, 1), (1828, 900));
        assert_eq!(fab.passes(1, 10, 1), (203, 1000));
    }
}
