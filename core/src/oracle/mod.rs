//! The only thing an attack may ask. Every row asked is booked to its sample, judged, and the best legal point kept; a
//! success that search saw is a candidate until the judge, the deployed model's exact path, confirms it.

mod abreast;
mod judge;
mod made;
mod record;
#[cfg(test)]
mod tests;

pub use record::Confirmed;

use crate::{
    Access, Batch, Cost, Draw, Error, Goal, Objective, Place, Result, RowKey, Rows, Target, ThreatModel, stream, take,
    to_host,
};
use candle_core::Tensor;
use record::Record;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// When a sample is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At its first confirmed success.
    AtFirst,
    /// When the attack ends; successes of lower margin replace earlier ones.
    Never,
    /// When the attack ends; nearer successes replace earlier ones, and the nearest success outside the ball is kept
    /// too.
    Nearest,
}

/// Search forwards one sample may cost; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    pub queries: Option<u64>,
}

/// Everything that defines one attack on one batch of clean-correct samples.
pub struct Question<'a> {
    pub target: &'a Target,
    pub threat: &'a ThreatModel,
    pub batch: &'a Batch,
    /// One entry per row of `batch`.
    pub goal: Goal,
    /// Clean scores, one row per row of `batch`, as the judge saw them.
    pub clean: &'a [Vec<f32>],
    pub seed: u64,
    /// Names the noise: `pgd-linf`, say.
    pub path: &'a str,
    pub stop: Stop,
    pub budget: Budget,
    /// Rows that a model is given at once, at most.
    pub at_once: usize,
}

/// Scores `[m, k]` where access allows them, predicted classes, and which rows the budget still paid for. Rows that
/// were not granted hold zeros.
pub struct Answer {
    pub scores: Option<Tensor>,
    pub labels: Vec<u32>,
    pub granted: Vec<bool>,
}

/// Scores `[m, k]`, the objective per row, its gradient `[m, ...]` in the input as `dx * exp(log_scale)`, and which rows
/// were granted. Over EOT draws and surrogates they are averages. Rows that were not granted hold zeros and a NaN loss.
///
/// The scale is apart because a confident model's gradient underflows f32, which would mask it; steps that normalise
/// need `dx` alone.
pub struct Slope {
    pub out: Tensor,
    pub loss: Vec<f64>,
    pub dx: Tensor,
    pub log_scale: Vec<f64>,
    /// The objective on the last draw alone.
    pub last_loss: Vec<f64>,
    pub granted: Vec<bool>,
}

/// Scores `[m, k]`, one gradient `[m, ...]` per seed, and which rows were granted. Averages over EOT draws and
/// surrogates. Rows that were not granted hold zeros.
pub struct Jacobian {
    pub out: Tensor,
    pub pulled: Vec<Tensor>,
    pub granted: Vec<bool>,
}

/// What became of one sample.
#[derive(Debug, Clone)]
pub struct Finding {
    pub id: u64,
    /// The confirmed success, if any.
    pub found: Option<Confirmed>,
    /// Without a success: the lowest-margin legal point as the judge sees it.
    pub held: Option<Confirmed>,
    pub queries: Option<u64>,
    /// The stage that reached the first confirmed success, such as `apgd-t`; `None` for attacks without stages.
    pub stage: Option<String>,
    /// Distance of the nearest confirmed success anywhere in the domain, where a stage looked for it.
    pub nearest: Option<f64>,
    /// Some legal point gave scores that are not numbers.
    pub broken: bool,
    /// How a point made elsewhere was moved; without any legal point, how far outside the nearest lay.
    pub place: Option<Place>,
    /// What the attack had to say of its point.
    pub remark: Option<String>,
    pub cost: Cost,
}

/// The beginning or the end of a part of an attack that has parts.
pub struct Lap<'a> {
    /// `apgd-t`, say.
    pub stage: &'a str,
    pub ends: bool,
    /// Samples it takes.
    pub samples: usize,
    /// Search passes of all samples so far.
    pub forward: u64,
    pub backward: u64,
}

/// The samples still under attack, one entry per row; `of` maps rows to records. Where runs go abreast, a sample has a row
/// for each of them.
#[derive(Clone)]
struct Live {
    of: Vec<u32>,
    x: Tensor,
    goal: Goal,
    keys: Vec<RowKey>,
    clean: Vec<Vec<f32>>,
    /// Which run of the attack a row belongs to.
    runs: Vec<u32>,
}

impl Rows for Live {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        self.of.keep(rows)?;
        self.x.keep(rows)?;
        self.goal.keep(rows)?;
        self.keys.keep(rows)?;
        self.runs.keep(rows)?;
        self.clean.keep(rows)
    }
}

pub struct Oracle<'a> {
    target: &'a Target,
    threat: &'a ThreatModel,
    seed: u64,
    path: String,
    /// Length of the path outside all stages.
    root: usize,
    stop: Stop,
    /// Per record: the count of search forwards it may not pass.
    limits: Vec<u64>,
    records: Vec<Record>,
    /// All samples of the question, for the end.
    whole: Live,
    live: Live,
    done: Vec<bool>,
    /// Gradient draws averaged per ask.
    eot: u32,
    /// Whether a row counts as fooled by its last draw instead of by its mean scores.
    last_draw: bool,
    /// Names of the runs that go abreast, by `Live::runs`; none elsewhere.
    labels: Arc<[String]>,
    /// Rows that a model is given at once, at most.
    at_once: usize,
    watch: Option<&'a dyn Fn(&Lap)>,
    leave: Option<&'a AtomicBool>,
}

impl<'a> Oracle<'a> {
    /// Checks that goal, scores and rows agree.
    pub fn new(question: Question<'a>) -> Result<Self> {
        let Question { target, threat, batch, goal, clean, seed, path, stop, budget, at_once } = question;
        if goal.len() != batch.len() || clean.len() != batch.len() {
            return Err(Error::internal("a question needs one goal and one row of clean scores per sample"));
        }
        let (flat, width) = to_host(&batch.x)?;
        let rows = flat.chunks(width.max(1));
        let records: Vec<Record> = batch.ids.iter().zip(rows).map(|(&id, x)| Record::new(id, x.to_vec())).collect();
        let keys = batch.ids.iter().copied().map(RowKey::of).collect();
        let of = (0..batch.len() as u32).collect();
        let runs = vec![0; batch.len()];
        let live = Live { of, x: batch.x.clone(), goal, keys, clean: clean.to_vec(), runs };
        let limits = vec![budget.queries.unwrap_or(u64::MAX); records.len()];
        let done = vec![false; records.len()];
        let (whole, path, root) = (live.clone(), path.to_string(), path.len());
        let (eot, last_draw) = (target.eot.max(1), false);
        let (watch, leave, labels, at_once) = (None, None, Arc::default(), at_once.max(1));
        Ok(Self {
            target,
            threat,
            seed,
            path,
            root,
            stop,
            limits,
            records,
            whole,
            live,
            done,
            eot,
            last_draw,
            labels,
            at_once,
            watch,
            leave,
        })
    }

    /// Tells `watch` of every stage that is not inside another one, so that time can be told apart.
    pub fn watch(&mut self, watch: &'a dyn Fn(&Lap)) {
        self.watch = Some(watch);
    }

    /// From when `flag` is set, everything that asks a model returns an error of kind `Interrupted`: an attack is left
    /// between two passes.
    pub fn leave_when(&mut self, flag: &'a AtomicBool) {
        self.leave = Some(flag);
    }

    fn lap(&self, stage: &str, ends: bool) {
        let Some(watch) = self.watch else { return };
        let total = |of: fn(&Record) -> u64| self.records.iter().map(of).sum();
        let (forward, backward) = (total(|r| r.cost.search.forward), total(|r| r.cost.search.backward));
        watch(&Lap { stage, ends, samples: self.len(), forward, backward });
    }

    /// Clean rows `[n, ...]` of the live samples.
    pub fn x(&self) -> &Tensor {
        &self.live.x
    }

    /// Live samples; where runs go abreast, a sample counts once for each of them.
    pub fn len(&self) -> usize {
        self.live.of.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.of.is_empty()
    }

    /// Ids of the live samples.
    pub fn ids(&self) -> Vec<u64> {
        self.live.keys.iter().map(|k| k.id).collect()
    }

    pub fn goal(&self) -> &Goal {
        &self.live.goal
    }

    pub fn threat(&self) -> &ThreatModel {
        self.threat
    }

    /// Gradient draws averaged per ask.
    pub fn eot(&self) -> u32 {
        self.eot
    }

    /// Averages gradients over this many draws from here on (at least one).
    pub fn set_eot(&mut self, draws: u32) {
        self.eot = draws.max(1);
    }

    /// With EOT, lets the last draw alone say whether an iterate is fooled, as the reference AutoAttack does. The mean
    /// of the scores says it otherwise.
    pub fn judge_last_draw(&mut self, yes: bool) {
        self.last_draw = yes;
    }

    /// Score rows of the clean live samples (booked to the clean pass).
    pub fn clean_scores(&self) -> Result<&[Vec<f32>]> {
        self.allow(Access::Scores)?;
        Ok(&self.live.clean)
    }

    /// Noise for the attack itself: one row per live sample, lane 0.
    pub fn draw(&self, turn: u64) -> Draw<'_> {
        Draw { seed: self.seed, stream: stream(&self.path), turn, rows: &self.live.keys }
    }

    /// Noise for a population: keys for rows owned by live samples `of`, lanes counted per sample.
    pub fn keys(&self, of: &[u32]) -> Vec<RowKey> {
        let mut lanes = vec![0u32; self.records.len()];
        of.iter()
            .map(|&o| {
                let lane = &mut lanes[self.live.of[o as usize] as usize];
                *lane += 1;
                RowKey { lane: *lane - 1, run: 0, ..self.live.keys[o as usize] }
            })
            .collect()
    }

    /// One forward for each row of `x` `[m, ...]`; `of[i]` is the live sample that owns row `i`.
    pub fn ask(&mut self, x: &Tensor, of: &[u32]) -> Result<Answer> {
        self.allow(Access::Label)?;
        let granted = self.grant(x, of, self.target.search().len() as u64)?;
        let width = self.target.deployed.card().output.width();
        let mut scores = vec![0f32; of.len() * width];
        let asked = positions(&granted);
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let (seen, _) = to_host(&self.forward(&rows, &owners)?)?;
            self.note(&rows, &owners, &seen, width)?;
            asked.iter().zip(seen.chunks(width)).for_each(|(&i, z)| row_mut(&mut scores, i, width).copy_from_slice(z));
        }
        let labels = scores.chunks(width).map(|z| crate::argmax(z).unwrap_or(0)).collect();
        let scores = match self.threat.access {
            Access::Scores | Access::Gradient => Some(Tensor::from_vec(scores, (of.len(), width), x.device())?),
            _ => None,
        };
        Ok(Answer { scores, labels, granted })
    }

    /// One forward and one backward per row, EOT draw and surrogate.
    pub fn gradient(&mut self, x: &Tensor, of: &[u32], objective: &Objective) -> Result<Slope> {
        self.allow(Access::Gradient)?;
        let width = self.target.deployed.card().output.width();
        objective.check(&self.live.goal, width)?;
        let granted = self.grant(x, of, self.draws())?;
        let asked = positions(&granted);
        let row = x.elem_count() / of.len().max(1);
        let (mut out, mut loss) = (vec![0f32; of.len() * width], vec![f64::NAN; of.len()]);
        let mut last_loss = loss.clone();
        let mut log_scale = vec![f64::NEG_INFINITY; of.len()];
        let mut dx = vec![0f32; x.elem_count()];
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let climbed = self.climb(&rows, &owners, &asked, objective)?;
            self.note(&rows, &owners, if self.last_draw { &climbed.last_out } else { &climbed.out }, width)?;
            for (n, &i) in asked.iter().enumerate() {
                row_mut(&mut out, i, width).copy_from_slice(&climbed.out[n * width..][..width]);
                row_mut(&mut dx, i, row).copy_from_slice(&climbed.dx[n * row..][..row]);
                loss[i as usize] = climbed.loss[n];
                last_loss[i as usize] = climbed.last_loss[n];
                log_scale[i as usize] = climbed.log_scale[n];
            }
        }
        let out = Tensor::from_vec(out, (of.len(), width), x.device())?;
        Ok(Slope { out, loss, dx: Tensor::from_vec(dx, x.dims(), x.device())?, log_scale, last_loss, granted })
    }

    /// One forward, and one backward for each of `seeds` (`[m, k]` each), per row, EOT draw and surrogate: scores and
    /// `seed^T d scores / d x` per seed.
    pub fn jacobian(&mut self, x: &Tensor, of: &[u32], seeds: &[Tensor]) -> Result<Jacobian> {
        self.allow(Access::Gradient)?;
        let width = self.target.deployed.card().output.width();
        let granted = self.grant(x, of, self.draws())?;
        let row = x.elem_count() / of.len().max(1);
        let mut out = vec![0f32; of.len() * width];
        let mut pulled = vec![vec![0f32; x.elem_count()]; seeds.len()];
        let asked = positions(&granted);
        if !asked.is_empty() {
            let (rows, owners) = subset(x, of, &asked)?;
            let seeds = seeds.iter().map(|s| Ok(subset(s, of, &asked)?.0)).collect::<Result<Vec<_>>>()?;
            let (scores, gradients) = self.pull(&rows, &owners, &seeds)?;
            self.note(&rows, &owners, &scores, width)?;
            for (n, &i) in asked.iter().enumerate() {
                row_mut(&mut out, i, width).copy_from_slice(&scores[n * width..][..width]);
                for (to, from) in pulled.iter_mut().zip(&gradients) {
                    row_mut(to, i, row).copy_from_slice(&from[n * row..][..row]);
                }
            }
        }
        let out = Tensor::from_vec(out, (of.len(), width), x.device())?;
        let pulled =
            pulled.into_iter().map(|p| Ok(Tensor::from_vec(p, x.dims(), x.device())?)).collect::<Result<_>>()?;
        Ok(Jacobian { out, pulled, granted })
    }

    /// One forward for each live sample at the point that stands for it: its success, or its clean row.
    pub fn recheck(&mut self) -> Result<()> {
        let mut flat = Vec::with_capacity(self.live.x.elem_count());
        for &r in &self.live.of {
            let record = &self.records[r as usize];
            let pending = record.candidate.as_ref().map(|p| &p.x);
            flat.extend_from_slice(pending.or(record.found.as_ref().map(|f| &f.x)).unwrap_or(&record.clean));
        }
        let x = Tensor::from_vec(flat, self.live.x.dims(), self.live.x.device())?;
        let of: Vec<u32> = (0..self.len() as u32).collect();
        self.ask(&x, &of).map(|_| ())
    }

    /// Forwards that one gradient of one row costs.
    fn draws(&self) -> u64 {
        u64::from(self.eot) * self.target.search().len() as u64
    }

    /// Confirms pending successes and says which live samples are done: found (when that is the stop) or out of budget.
    pub fn settle(&mut self) -> Result<&[bool]> {
        let pending: Vec<u32> =
            self.live.of.iter().copied().filter(|&r| self.records[r as usize].candidate.is_some()).collect();
        self.confirm_pending(&pending)?;
        let finished = |r: &u32| {
            let record = &self.records[*r as usize];
            (self.stop == Stop::AtFirst && record.found.is_some())
                || record.cost.search.forward >= self.limits[*r as usize]
        };
        self.done = self.live.of.iter().map(finished).collect();
        Ok(&self.done)
    }

    /// Drops `done` samples from the live batch and from the attack's `state`. Pending successes of the dropped are
    /// confirmed first. False when nobody is left; the state is then untouched, since no tensor has zero rows.
    pub fn retire(&mut self, done: &[bool], state: &mut [&mut dyn Rows]) -> Result<bool> {
        if done.len() != self.len() {
            return Err(Error::internal(format!("{} flags for {} live samples", done.len(), self.len())));
        }
        let leaving = self.live.of.iter().zip(done).filter(|(_, d)| **d).map(|(r, _)| *r);
        let pending: Vec<u32> = leaving.filter(|&r| self.records[r as usize].candidate.is_some()).collect();
        self.confirm_pending(&pending)?;
        let keep: Vec<u32> = (0..done.len() as u32).filter(|&i| !done[i as usize]).collect();
        if keep.is_empty() {
            self.live.of.clear();
            return Ok(false);
        }
        if keep.len() < done.len() {
            self.live.keep(&keep)?;
            state.iter_mut().try_for_each(|s| s.keep(&keep))?;
        }
        Ok(true)
    }

    /// Settles, then retires what is done: the usual end of an attack's step.
    pub fn advance(&mut self, state: &mut [&mut dyn Rows]) -> Result<bool> {
        let done = self.settle()?.to_vec();
        self.retire(&done, state)
    }

    /// Runs a part of an attack (a restart, a member of an ensemble) on the live samples not found yet, from their clean
    /// points, with noise of its own; afterwards the live samples are those of before. `budget` counts from here.
    pub fn stage(
        &mut self,
        label: &str,
        stop: Stop,
        budget: Budget,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.settle()?;
        let rows: Vec<u32> = (0..self.len() as u32).filter(|&i| self.open(self.live.of[i as usize])).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut inner = self.live.clone();
        inner.keep(&rows)?;
        let outer = std::mem::replace(&mut self.live, inner);
        let outermost = self.path.len() == self.root;
        if outermost {
            self.lap(label, false);
        }
        let path = format!("{}/{label}", self.path);
        let (path, stop) = (std::mem::replace(&mut self.path, path), std::mem::replace(&mut self.stop, stop));
        let limits = self.limits.clone();
        if let Some(queries) = budget.queries {
            for (limit, record) in self.limits.iter_mut().zip(&self.records) {
                *limit = (*limit).min(record.cost.search.forward.saturating_add(queries));
            }
        }
        let result = run(self).and_then(|()| self.settle().map(|_| ()));
        if outermost {
            self.lap(label, true);
        }
        (self.path, self.stop, self.limits, self.live) = (path, stop, limits, outer);
        result
    }

    /// Neither found nor out of budget.
    fn open(&self, record: u32) -> bool {
        let r = &self.records[record as usize];
        r.found.is_none() && r.cost.search.forward < self.limits[record as usize]
    }

    fn allow(&self, access: Access) -> Result<()> {
        if self.threat.access >= access {
            return Ok(());
        }
        Err(Error::usage(format!(
            "this threat model grants {:?} access, the attack asked for {access:?}",
            self.threat.access
        )))
    }
}

fn positions(granted: &[bool]) -> Vec<u32> {
    (0..granted.len() as u32).filter(|&i| granted[i as usize]).collect()
}

fn subset(x: &Tensor, of: &[u32], rows: &[u32]) -> Result<(Tensor, Vec<u32>)> {
    if rows.len() == of.len() {
        return Ok((x.clone(), of.to_vec()));
    }
    Ok((take(x, rows)?, rows.iter().map(|&i| of[i as usize]).collect()))
}

fn row_mut(flat: &mut [f32], row: u32, width: usize) -> &mut [f32] {
    &mut flat[row as usize * width..][..width]
}
