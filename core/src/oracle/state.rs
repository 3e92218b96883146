//! The oracle itself: what it holds, and what an attack may look at without asking a model.

use super::live::Live;
use super::record::Record;
use super::{Lap, Question, Stop};
use crate::{Access, Draw, Error, Goal, Result, RowKey, Target, ThreatModel, stream, to_host};
use candle_core::Tensor;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The only thing an attack may ask. Every row asked is booked to its sample, judged, and the best legal point kept; a
/// success that search saw is a candidate until the judge, the deployed model's exact path, confirms it.
pub struct Oracle<'a> {
    pub(super) target: &'a Target,
    pub(super) threat: &'a ThreatModel,
    pub(super) seed: u64,
    pub(super) path: String,
    /// Length of the path outside all stages.
    pub(super) root: usize,
    pub(super) stop: Stop,
    /// Per record: the count of search forwards it may not pass.
    pub(super) limits: Vec<u64>,
    pub(super) records: Vec<Record>,
    /// All samples of the question, for the end.
    pub(super) whole: Live,
    pub(super) live: Live,
    pub(super) done: Vec<bool>,
    /// Gradient draws averaged per ask.
    pub(super) eot: u32,
    /// Whether a row counts as fooled by its last draw instead of by its mean scores.
    pub(super) last_draw: bool,
    /// Names of the runs that go abreast, by `Live::runs`; none elsewhere.
    pub(super) labels: Arc<[String]>,
    /// Maximum rows per model call.
    pub(super) at_once: usize,
    pub(super) watch: Option<&'a dyn Fn(&Lap)>,
    pub(super) leave: Option<&'a AtomicBool>,
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

    pub(super) fn lap(&self, stage: &str, ends: bool) {
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

    /// Whether no sample is live.
    pub fn is_empty(&self) -> bool {
        self.live.of.is_empty()
    }

    /// Ids of the live samples.
    pub fn ids(&self) -> Vec<u64> {
        self.live.keys.iter().map(|k| k.id).collect()
    }

    /// What counts as fooled, an entry per live sample.
    pub fn goal(&self) -> &Goal {
        &self.live.goal
    }

    /// Where points may lie, and what may be asked.
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

    pub(super) fn allow(&self, access: Access) -> Result<()> {
        if self.threat.access >= access {
            return Ok(());
        }
        Err(Error::usage(format!(
            "this threat model grants {:?} access, the attack asked for {access:?}",
            self.threat.access
        )))
    }
}
