//! The oracle's inner workings: granting and booking rows, asking models, and the judge.

use super::record::{Confirmed, Point, Record};
use super::{Finding, Oracle};
use crate::{Draw, Drawn, Error, Norm, Objective, Pred, Result, RowKey, Site, Trace, fragile, stream, to_host};
use candle_core::{DType, Tensor};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// Averages over EOT draws and surrogates, one entry per asked row; the gradient is `dx * exp(log_scale)`.
#[derive(Default)]
pub(super) struct Climbed {
    pub out: Vec<f32>,
    pub loss: Vec<f64>,
    pub dx: Vec<f32>,
    pub log_scale: Vec<f64>,
    /// Scores and losses of the last draw.
    pub last_out: Vec<f32>,
    pub last_loss: Vec<f64>,
}

impl Climbed {
    /// More rows of the same draw.
    fn extend(&mut self, more: Self) {
        self.out.extend(more.out);
        self.loss.extend(more.loss);
        self.dx.extend(more.dx);
        self.log_scale.extend(more.log_scale);
        self.last_out.extend(more.last_out);
        self.last_loss.extend(more.last_loss);
    }
}

impl Oracle<'_> {
    /// Which rows the budget still pays for, in order, each costing `passes` forwards.
    pub(super) fn grant(&mut self, x: &Tensor, of: &[u32], passes: u64) -> Result<Vec<bool>> {
        if x.dims().first() != Some(&of.len()) || of.is_empty() || of.iter().any(|&o| o as usize >= self.len()) {
            let dims = x.dims();
            return Err(Error::internal(format!(
                "rows {dims:?} with {} owners among {} live samples",
                of.len(),
                self.len()
            )));
        }
        let mut planned = vec![0u64; self.records.len()];
        let mut granted = Vec::with_capacity(of.len());
        for &o in of {
            let record = self.live.of[o as usize] as usize;
            let planned = &mut planned[record];
            let spent = self.records[record].cost.search.forward + *planned;
            let pays = spent.saturating_add(passes) <= self.limits[record];
            if pays {
                *planned += passes;
            } else {
                // What is left does not pay for one ask: the sample is done, `settle` says so.
                self.limits[record] = self.limits[record].min(spent);
            }
            granted.push(pays);
        }
        Ok(granted)
    }

    pub(super) fn book(&mut self, of: &[u32], forward: u64, backward: u64) {
        for &o in of {
            let cost = &mut self.records[self.live.of[o as usize] as usize].cost.search;
            cost.forward += forward;
            cost.backward += backward;
        }
    }

    /// Keys for the model's own randomness: `draw` counts the forwards this sample has had, so that neighbours and
    /// batching cannot shift it.
    pub(super) fn fresh_keys(&self, of: &[u32], ahead: u64) -> Vec<RowKey> {
        let mut keys = self.keys(of);
        for (key, &o) in keys.iter_mut().zip(of) {
            let spent = self.records[self.live.of[o as usize] as usize].cost.search.forward + ahead;
            key.draw = u32::try_from(spent).unwrap_or(u32::MAX);
        }
        keys
    }

    fn model_draw<'k>(&self, keys: &'k [RowKey]) -> Draw<'k> {
        Draw { seed: self.seed, stream: stream(&format!("{}/model", self.path)), turn: 0, rows: keys }
    }

    /// Whether nobody wants the attack to be left ([`Oracle::leave_when`]).
    fn stay(&self) -> Result<()> {
        if self.leave.is_some_and(|flag| flag.load(Relaxed)) { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// Runs `each` on as many rows at once as a model may be given, with their noise and their places.
    fn in_parts(
        &self,
        x: &Tensor,
        keys: &[RowKey],
        mut each: impl FnMut(&Tensor, &Draw, Range<usize>) -> Result<()>,
    ) -> Result<()> {
        for (i, keys) in keys.chunks(self.at_once).enumerate() {
            self.stay()?;
            let start = i * self.at_once;
            let rows = x.narrow(0, start, keys.len())?;
            each(&rows, &self.model_draw(keys), start..start + keys.len())?;
        }
        Ok(())
    }

    /// Mean scores of the search models, booked.
    pub(super) fn forward(&mut self, x: &Tensor, of: &[u32]) -> Result<Tensor> {
        let target = self.target;
        let keys = self.fresh_keys(of, 0);
        let models = target.search();
        let mut sum: Option<Tensor> = None;
        for model in models {
            let mut parts = vec![];
            self.in_parts(x, &keys, |x, draw, rows| {
                parts.push(checked(model.forward(x, draw)?, rows.len(), target)?);
                Ok(())
            })?;
            let out = Tensor::cat(&parts, 0)?;
            sum = Some(match sum {
                Some(sum) => (sum + out)?,
                None => out,
            });
        }
        self.book(of, models.len() as u64, 0);
        match (sum, models.len()) {
            (Some(out), 1) => Ok(out),
            (Some(sum), n) => Ok((sum / n as f64)?),
            (None, _) => Err(Error::internal("a target without models")),
        }
    }

    /// Scores, losses and input gradients averaged over surrogates and EOT draws, booked. `rows[i]` is the asked row
    /// that row `i` of `x` was.
    pub(super) fn climb(&mut self, x: &Tensor, of: &[u32], rows: &[u32], objective: &Objective) -> Result<Climbed> {
        let target = self.target;
        let models = target.search();
        let mut sum: Option<Climbed> = None;
        for model in models {
            for _ in 0..self.eot {
                let keys = self.fresh_keys(of, 0);
                let mut next = Climbed::default();
                self.in_parts(x, &keys, |x, draw, part| {
                    let trace = model.trace(x, draw, &[])?;
                    next.extend(self.climb_part(trace, x, &of[part.clone()], &rows[part], objective)?);
                    Ok(())
                })?;
                self.book(of, 1, 1);
                sum = Some(match sum {
                    Some(sum) => merge(sum, next),
                    None => next,
                });
            }
        }
        sum.ok_or_else(|| Error::internal("a target without models"))
    }

    /// One draw of one model on some of the rows: losses, slopes and scores by their share in the average.
    fn climb_part(
        &self,
        mut trace: Box<dyn Trace + '_>,
        x: &Tensor,
        of: &[u32],
        rows: &[u32],
        objective: &Objective,
    ) -> Result<Climbed> {
        let share = 1. / self.draws() as f64;
        let (mut out, width) = to_host(&checked(trace.output().clone(), of.len(), self.target)?)?;
        let (mut loss, mut last_loss, mut log_scale) = (vec![], vec![], vec![]);
        let mut seeds = Vec::with_capacity(out.len());
        for ((z, &o), &row) in out.chunks(width).zip(of).zip(rows) {
            let here = objective.climb(&self.live.goal, o as usize, row as usize, z);
            loss.push(here.loss * share);
            last_loss.push(here.loss);
            log_scale.push(here.log_scale + share.ln());
            seeds.extend(here.slope.iter().map(|s| *s as f32));
        }
        let seed = Tensor::from_vec(seeds, (of.len(), width), x.device())?;
        let dx = pulled(trace.as_mut(), seed)?;
        let last_out = if self.last_draw { out.clone() } else { vec![] };
        if share != 1. {
            out.iter_mut().for_each(|z| *z *= share as f32);
        }
        Ok(Climbed { out, loss, dx, log_scale, last_out, last_loss })
    }

    /// Mean scores and mean pullbacks of the seeds over surrogates and EOT draws, booked.
    pub(super) fn pull(&mut self, x: &Tensor, of: &[u32], seeds: &[Tensor]) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
        let target = self.target;
        let share = (1. / self.draws() as f64) as f32;
        let mut sum: Option<(Vec<f32>, Vec<Vec<f32>>)> = None;
        for model in target.search() {
            for _ in 0..self.eot {
                let keys = self.fresh_keys(of, 0);
                let (mut out, mut next) = (vec![], vec![vec![]; seeds.len()]);
                self.in_parts(x, &keys, |x, draw, part| {
                    let mut trace = model.trace(x, draw, &[])?;
                    out.extend(to_host(&checked(trace.output().clone(), part.len(), target)?)?.0);
                    for (gradient, seed) in next.iter_mut().zip(seeds) {
                        gradient.extend(pulled(trace.as_mut(), seed.narrow(0, part.start, part.len())?)?);
                    }
                    Ok(())
                })?;
                self.book(of, 1, seeds.len() as u64);
                let Some((scores, gradients)) = &mut sum else {
                    sum = Some((out, next));
                    continue;
                };
                let add = |a: &mut Vec<f32>, b: Vec<f32>| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                add(scores, out);
                gradients.iter_mut().zip(next).for_each(|(a, b)| add(a, b));
            }
        }
        let mut sum = sum.ok_or_else(|| Error::internal("a target without models"))?;
        if share != 1. {
            sum.0.iter_mut().chain(sum.1.iter_mut().flatten()).for_each(|v| *v *= share);
        }
        Ok(sum)
    }

    /// Judges asked rows by what search saw, and says which reached the goal.
    pub(super) fn note(&mut self, x: &Tensor, of: &[u32], scores: &[f32], width: usize) -> Result<Vec<bool>> {
        let (flat, row) = to_host(x)?;
        let mut all = Vec::with_capacity(of.len());
        for ((&o, z), x) in of.iter().zip(scores.chunks(width)).zip(flat.chunks(row.max(1))) {
            let seen = self.live.goal.judge(o as usize, z);
            let reached = seen.is_some_and(|p| self.live.goal.reached(p));
            let (record, run) = (self.live.of[o as usize] as usize, self.live.runs[o as usize]);
            self.records[record].note(self.threat, self.stop, reached, seen, (x, run));
            all.push(reached);
        }
        Ok(all)
    }

    /// Puts the pending successes of these records (live ones) before the judge; what is not confirmed is dropped.
    pub(super) fn confirm_pending(&mut self, records: &[u32]) -> Result<()> {
        let points: Vec<(u32, Point)> =
            records.iter().filter_map(|&r| self.records[r as usize].candidate.take().map(|p| (r, p))).collect();
        for (record, verdict) in self.judge(points)? {
            if let Some((confirmed, true)) = verdict {
                let part = self.path.get(self.root + 1..).unwrap_or_default();
                let stage = match self.labels.get(confirmed.run as usize) {
                    Some(run) => format!("{part}/{run}"),
                    None => part.to_string(),
                };
                self.records[record as usize].confirm(self.threat, &stage, confirmed);
            }
        }
        Ok(())
    }

    /// The exact path's word on points of live records: the mean-margin prediction over `m` fresh draws, and whether at
    /// least `k` of them were fooled. `None` when the scores were not finite.
    #[expect(clippy::type_complexity, reason = "a private pair of pairs, named here once")]
    fn judge(&mut self, points: Vec<(u32, Point)>) -> Result<Vec<(u32, Option<(Confirmed, bool)>)>> {
        if points.is_empty() {
            return Ok(vec![]);
        }
        let target = self.target;
        let owners: Vec<u32> =
            points.iter().filter_map(|(r, _)| self.live.of.iter().position(|l| l == r)).map(|p| p as u32).collect();
        let flat: Vec<f32> = points.iter().flat_map(|(_, p)| p.x.iter().copied()).collect();
        let dims: Vec<usize> = std::iter::once(points.len()).chain(self.live.x.dims()[1..].iter().copied()).collect();
        let x = Tensor::from_vec(flat, dims, self.live.x.device())?;
        let mut seen: Vec<Vec<Option<(Pred, bool)>>> = vec![vec![]; points.len()];
        let random = target.deployed.card().stochastic;
        let first = |(r, _): &(u32, Point)| u32::try_from(self.records[*r as usize].cost.confirm).unwrap_or(u32::MAX);
        let drawn: Vec<Option<Drawn>> =
            points.iter().map(|p| random.then(|| Drawn { path: self.path.clone(), first: first(p) })).collect();
        for _ in 0..target.votes.m.max(1) {
            self.stay()?;
            let keys = self.confirm_keys(&owners);
            let draw = Draw { seed: self.seed, stream: stream(&format!("{}/judge", self.path)), turn: 0, rows: &keys };
            let (scores, width) = to_host(&checked(target.deployed.exact(&x, &draw)?, points.len(), target)?)?;
            for ((z, &o), seen) in scores.chunks(width).zip(&owners).zip(&mut seen) {
                let goal = &self.live.goal;
                let scale = goal.scale(o as usize, z);
                seen.push(goal.judge(o as usize, z).map(|p| (p, fragile(p.margin, scale))));
            }
            points.iter().for_each(|(r, _)| self.records[*r as usize].cost.confirm += 1);
        }
        let counted = |(((r, point), seen), drawn): (((u32, Point), Vec<_>), _)| {
            let counted = self.count_votes(point, &seen);
            (r, counted.map(|(confirmed, fooled)| (Confirmed { drawn, ..confirmed }, fooled)))
        };
        Ok(points.into_iter().zip(seen).zip(drawn).map(counted).collect())
    }

    fn confirm_keys(&self, owners: &[u32]) -> Vec<RowKey> {
        let mut keys = self.keys(owners);
        for (key, &o) in keys.iter_mut().zip(owners) {
            let confirms = self.records[self.live.of[o as usize] as usize].cost.confirm;
            key.draw = u32::try_from(confirms).unwrap_or(u32::MAX);
        }
        keys
    }

    fn count_votes(&self, point: Point, seen: &[Option<(Pred, bool)>]) -> Option<(Confirmed, bool)> {
        let mut order: Vec<(Pred, bool)> = seen.iter().flatten().copied().collect();
        let fooled = order.iter().filter(|(p, _)| self.live.goal.reached(*p)).count() as u32;
        // The vote's typical draw speaks for it: the one of median margin.
        order.sort_by(|a, b| a.0.margin.total_cmp(&b.0.margin));
        let (pred, fragile) = *order.get(order.len().saturating_sub(1) / 2)?;
        let votes = (fooled, seen.len() as u32);
        let confirmed = Confirmed { x: point.x, pred, fragile, distance: None, votes, drawn: None, run: point.run };
        Some((confirmed, fooled >= self.target.votes.k.max(1)))
    }

    /// Ends the attack: pending successes are confirmed, and the strongest point of every sample that held is put
    /// before the judge too, so that every number in an outcome is the exact path's. One finding per row of the
    /// question.
    pub fn finish(mut self) -> Result<Vec<Finding>> {
        self.live = self.whole.clone();
        let all: Vec<u32> = self.live.of.clone();
        self.confirm_pending(&all)?;
        let mut points: Vec<(u32, Point)> = vec![];
        for (record, r) in all.iter().zip(&mut self.records) {
            if let (None, Some(point)) = (&r.found, r.strongest.take()) {
                points.push((*record, point));
            }
        }
        let near: Vec<(u32, Point)> =
            all.iter().zip(&mut self.records).filter_map(|(i, r)| Some((*i, r.outside()?))).collect();
        let mut nearest: Vec<Option<f64>> =
            self.records.iter().map(|r| r.found.as_ref().filter(|_| r.sought)?.distance).collect();
        for (record, verdict) in self.judge(near)? {
            if let Some((c, true)) = verdict {
                let norm = self.threat.norm().unwrap_or(Norm::L2);
                nearest[record as usize] = Some(self.threat.distance(norm, &self.records[record as usize].clean, &c.x));
            }
        }
        let mut held: Vec<Option<Confirmed>> = vec![None; self.records.len()];
        for (record, verdict) in self.judge(points)? {
            let slot = &mut self.records[record as usize];
            match verdict {
                Some((c, true)) => {
                    slot.confirm(self.threat, "", c);
                    // Search did not see it as a success: where the nearest is looked for, it is the nearest known.
                    if let (true, None) = (slot.sought, nearest[record as usize]) {
                        nearest[record as usize] = slot.found.as_ref().and_then(|f| f.distance);
                    }
                }
                Some((c, false)) => {
                    let distance = self.threat.norm().map(|n| self.threat.distance(n, &slot.clean, &c.x));
                    held[record as usize] = Some(Confirmed { distance, ..c });
                }
                None => slot.broken = true,
            }
        }
        let finding = |((r, held), nearest): ((Record, Option<Confirmed>), Option<f64>)| Finding {
            id: r.id,
            found: r.found,
            held,
            queries: r.queries,
            stage: r.stage.filter(|s| !s.is_empty()),
            nearest,
            broken: r.broken,
            place: r.place,
            remark: r.remark,
            cost: r.cost,
        };
        Ok(self.records.into_iter().zip(held).zip(nearest).map(finding).collect())
    }
}

/// A model that answers in another shape than its card says would be read past its end.
fn checked(out: Tensor, rows: usize, target: &crate::Target) -> Result<Tensor> {
    let card = target.deployed.card();
    if out.dims() != [rows, card.output.width()] {
        let (dims, width) = (out.dims(), card.output.width());
        return Err(Error::load(
            format!("model `{}`", card.name),
            format!("it answered {dims:?} for {rows} rows of {width}"),
        ));
    }
    Ok(out.to_dtype(DType::F32)?)
}

/// The gradient of `seed`, whatever float type the model computes in.
fn pulled(trace: &mut (dyn Trace + '_), seed: Tensor) -> Result<Vec<f32>> {
    let seed = seed.to_dtype(trace.output().dtype())?;
    Ok(to_host(&trace.pull(&[(Site::Output, seed)])?.to_dtype(DType::F32)?)?.0)
}

/// Adds two averages; gradients meet at the larger of their two scales, row by row.
fn merge(mut sum: Climbed, next: Climbed) -> Climbed {
    sum.out.iter_mut().zip(next.out).for_each(|(a, b)| *a += b);
    sum.loss.iter_mut().zip(next.loss).for_each(|(a, b)| *a += b);
    (sum.last_out, sum.last_loss) = (next.last_out, next.last_loss);
    let width = sum.dx.len() / sum.log_scale.len().max(1);
    let rows = sum.dx.chunks_mut(width.max(1)).zip(next.dx.chunks(width.max(1)));
    for ((a, b), (to, from)) in rows.zip(sum.log_scale.iter_mut().zip(next.log_scale)) {
        let most = to.max(from);
        let (keep, add) =
            if most.is_finite() { ((*to - most).exp() as f32, (from - most).exp() as f32) } else { (1., 1.) };
        a.iter_mut().zip(b).for_each(|(a, b)| *a = *a * keep + b * add);
        *to = most;
    }
    sum
}
