//! One model under one attack: every line of a unit, judged again.

use super::checked::Checked;
use super::margins::{ACROSS, Note, TOLERANCE, compare, fragility};
use super::votes::Seen;
use super::{fields, votes, words};
use crate::corruption::remade::recipe_of;
use crate::encoder::label_free::other;
use crate::eval::clean::{row_digest, row_keys, stack};
use crate::eval::evidence::{self, Points};
use crate::eval::plan::{Keep, PlannedAttack, PlannedModel, Unit};
use candle_core::{DType, Device, Tensor};
use robust_benchmarks::corruptions::Photos;
use robust_core::{
    Aim, Card, Dataset, Draw, Goal, Kind, Model, Outcome, Rejection, Result, RowKey, SCHEMA, Verdict, stream, to_host,
};
use std::collections::HashMap;
use std::path::Path;

/// Rows judged at once; other than a run's usual batch on purpose.
pub(super) const SLICE: usize = 24;

pub(super) struct Judge<'a> {
    pub judge: &'a dyn Model,
    pub card: &'a Card,
    pub data: &'a dyn Dataset,
    pub model: &'a PlannedModel,
    pub attack: &'a PlannedAttack,
    pub keep: Keep,
    pub seed: u64,
    pub frost: Option<&'a Photos>,
}

impl Judge<'_> {
    pub(super) fn unit(
        &self,
        root: &Path,
        unit: Unit,
        ids: &[u64],
        outcomes: &[Outcome],
        into: &mut Checked,
    ) -> Result<()> {
        let model = &self.model.name;
        let points = match evidence::read(root, &unit.name(), model, &self.attack.label) {
            Err(e) if e.kind == Kind::Evidence => {
                into.wrong.extend(outcomes.iter().map(|o| (o.id, e.message.clone())));
                return Ok(());
            }
            other => other?,
        };
        let strange = points.keys().filter(|id| !ids.contains(id));
        into.wrong.extend(strange.map(|id| (*id, "evidence of a sample that is not of its unit".to_string())));
        for part in outcomes.chunks(SLICE) {
            self.part(part, &points, into)?;
        }
        Ok(())
    }

    fn part(&self, outcomes: &[Outcome], kept: &Points, into: &mut Checked) -> Result<()> {
        let ids: Vec<u64> = outcomes.iter().map(|o| o.id).collect();
        let view = self.model.view(self.attack);
        let loaded = self.data.load(&ids, &view, &Device::Cpu)?;
        let unreadable: HashMap<u64, String> = loaded.failed.into_iter().collect();
        let mut rows: HashMap<u64, (Option<u32>, Vec<f32>)> = HashMap::new();
        if let Some(batch) = loaded.batch {
            let (flat, width) = to_host(&batch.x)?;
            // Without labels, none may be believed either.
            let labels = batch.labels.filter(|_| self.attack.aim.is_none());
            let label = |i: usize| labels.as_ref().and_then(|l| l.get(i).copied());
            let pairs = batch.ids.iter().zip(flat.chunks(width.max(1))).enumerate();
            rows.extend(pairs.map(|(i, (id, x))| (*id, (label(i), x.to_vec()))));
        }
        let remade: Points;
        let points = match recipe_of(self.attack, self.frost)? {
            None => kept,
            Some(recipe) => {
                let judged =
                    outcomes.iter().filter(|o| o.evidence.is_some()).filter_map(|o| Some((o.id, rows.get(&o.id)?)));
                let make = |(id, row): (u64, &(Option<u32>, Vec<f32>))| Ok((id, recipe.remake(self.seed, id, &row.1)?));
                remade = judged.map(make).collect::<Result<_>>()?;
                &remade
            }
        };
        let clean: Vec<Vec<f32>> = ids.iter().filter_map(|id| rows.get(id).map(|r| r.1.clone())).collect();
        let known: Vec<u64> = ids.iter().copied().filter(|id| rows.contains_key(id)).collect();
        let mut clean_scores = self.scores(&clean, &row_keys(&known), stream("clean"))?.into_iter();
        let mut anchors = self.anchors(&ids)?;
        let mut kept_scores = self.judged(outcomes, points)?;
        for outcome in outcomes {
            into.rows += 1;
            let row = rows.get(&outcome.id).and_then(|r| Some((r.0, r.1.as_slice(), clean_scores.next()?)));
            let point = points.get(&outcome.id).and_then(|x| Some((x.as_slice(), kept_scores.remove(&outcome.id)?)));
            into.evidence += u64::from(point.is_some());
            let verdict = match row {
                None => self.unread(outcome, unreadable.get(&outcome.id)),
                Some((label, x, scores)) => {
                    let sample = Sample { label, x, anchor: anchors.remove(&outcome.id), scores };
                    self.line(outcome, &sample, point)
                }
            };
            match verdict {
                Ok(Note::Holds) => {}
                Ok(Note::Unproven) => into.unproven += 1,
                Ok(Note::Fragile) => into.fragile.push(outcome.id),
                Err(why) => into.wrong.push((outcome.id, why)),
            }
        }
        Ok(())
    }

    /// Scores of every kept point, one row per draw of the judge.
    fn judged(&self, outcomes: &[Outcome], points: &Points) -> Result<HashMap<u64, Vec<Vec<f32>>>> {
        let there = || outcomes.iter().filter_map(|o| Some((o, points.get(&o.id)?)));
        let mut all = HashMap::new();
        if self.card.stochastic {
            for (outcome, point) in there() {
                let (rows, keys, stream) = votes::draws(outcome, point);
                all.insert(outcome.id, self.scores(&rows, &keys, stream)?);
            }
            return Ok(all);
        }
        let (ids, rows): (Vec<u64>, Vec<Vec<f32>>) = there().map(|(o, x)| (o.id, x.clone())).unzip();
        let scores = self.scores(&rows, &row_keys(&ids), 0)?;
        all.extend(ids.into_iter().zip(scores.into_iter().map(|z| vec![z])));
        Ok(all)
    }

    fn scores(&self, rows: &[Vec<f32>], keys: &[RowKey], stream: u64) -> Result<Vec<Vec<f32>>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let width: usize = self.attack.threat.input.len();
        // A point of the wrong size is judged by `line`; here it only must not break its neighbours.
        let sized: Vec<Vec<f32>> =
            rows.iter().map(|r| if r.len() == width { r.clone() } else { vec![0.; width] }).collect();
        let x: Tensor = stack(&sized, &self.attack.threat.input.shape)?;
        let draw = Draw { seed: self.seed, stream, turn: 0, rows: keys };
        Ok(self.judge.exact(&x, &draw)?.to_dtype(DType::F32)?.to_vec2::<f32>()?)
    }

    /// The clean embeddings of the samples that these had to approach; none where none had.
    fn anchors(&self, ids: &[u64]) -> Result<HashMap<u64, Approached>> {
        if !self.attack.aim.is_some_and(Aim::is_towards) {
            return Ok(HashMap::new());
        }
        let samples = self.data.card().samples;
        let others: Vec<u64> = ids.iter().map(|id| other(self.seed, *id, samples)).collect::<Result<_>>()?;
        let (mut unique, mut known) = (others.clone(), HashMap::new());
        unique.sort_unstable();
        unique.dedup();
        if let Some(batch) = self.data.load(&unique, &self.model.view(self.attack), &Device::Cpu)?.batch {
            let (flat, width) = to_host(&batch.x)?;
            let rows: Vec<Vec<f32>> = flat.chunks(width.max(1)).map(<[f32]>::to_vec).collect();
            let scores = self.scores(&rows, &row_keys(&batch.ids), stream("clean"))?;
            known.extend(batch.ids.iter().copied().zip(scores));
        }
        Ok(ids.iter().zip(others).map(|(id, other)| (*id, (other, known.get(&other).cloned()))).collect())
    }

    fn unread(&self, outcome: &Outcome, why: Option<&String>) -> Result<Note, String> {
        match (outcome.verdict, why) {
            (Verdict::Failed, Some(_)) if outcome.clean.is_none() && outcome.digest.is_empty() => {
                fields::check(self.attack, outcome).map(|()| Note::Holds)
            }
            (_, Some(why)) => Err(format!("the sample cannot be read: {why}")),
            (_, None) => Err("the data set does not hold this sample".to_string()),
        }
    }

    /// Checks one line against the clean row and the kept point.
    fn line(&self, outcome: &Outcome, sample: &Sample, point: Option<(&[f32], Vec<Vec<f32>>)>) -> Result<Note, String> {
        if outcome.schema != SCHEMA || outcome.digest != row_digest(sample.x) {
            return Err("the clean sample is not the one that was attacked".to_string());
        }
        if outcome.label != sample.label {
            let said = |l: Option<u32>| l.map_or("no label".to_string(), |l| format!("label {l}"));
            return Err(format!("the data set gives it {}, the line {}", said(sample.label), said(outcome.label)));
        }
        if outcome.anchor != sample.anchor.as_ref().map(|a| a.0) {
            return Err(format!(
                "it approached {}, which is not the sample it had to approach",
                words::optional(outcome.anchor)
            ));
        }
        fields::check(self.attack, outcome)?;
        self.target(outcome, sample)?;
        let Some(goal) = self.goal(sample) else {
            // The sample it had to approach cannot be read.
            return if outcome.verdict == Verdict::Failed {
                Ok(Note::Holds)
            } else {
                Err("it has no goal".to_string())
            };
        };
        let clean = compare(&goal, outcome.clean, &sample.scores, self.card.jumps, "clean")?;
        let attacked = self.attacked(outcome, &goal, sample);
        let point = point.map(|(x, seen)| (x, votes::count(&attacked, seen)));
        fragility(outcome, &goal, &sample.scores, point.as_ref().map(|(_, seen)| seen.typical.as_slice()))?;
        match outcome.verdict {
            Verdict::CleanMiss | Verdict::Fooled | Verdict::Held => {
                let missed = outcome.clean.is_none_or(|p| p.margin <= 0.);
                if missed != (outcome.verdict == Verdict::CleanMiss) {
                    return Err(format!(
                        "verdict {} contradicts the clean margin of its own line",
                        words::verdict(outcome.verdict)
                    ));
                }
            }
            Verdict::Failed => return Ok(clean),
        }
        if outcome.verdict == Verdict::Held && outcome.best.is_none() {
            return Err("it counts as held, but no point of it was ever judged".to_string());
        }
        if outcome.verdict == Verdict::CleanMiss && outcome.evidence.is_none() {
            return Ok(clean);
        }
        let expected = match self.keep {
            Keep::All => true,
            Keep::Fooled => outcome.verdict == Verdict::Fooled,
            Keep::None => false,
        };
        match (point, expected) {
            (Some((adversarial, seen)), _) => {
                let point = self.point(outcome, &attacked, sample.x, adversarial, &seen)?;
                Ok(if clean == Note::Fragile { clean } else { point })
            }
            (None, true) if outcome.evidence.is_some() => Err("its evidence is missing".to_string()),
            (None, _) if outcome.verdict == Verdict::Fooled && self.keep != Keep::None => {
                Err("a fooled sample without a point".to_string())
            }
            (None, _) => Ok(Note::Unproven),
        }
    }

    /// The class that a targeted attack had to reach, by its rule over the clean scores.
    fn target(&self, outcome: &Outcome, sample: &Sample) -> Result<(), String> {
        let expected = match (self.attack.aim, sample.label) {
            (None, Some(label)) => {
                let classes = sample.scores.get(..self.card.output.classes()).unwrap_or(&sample.scores);
                robust_attacks::target_of(&self.attack.params, label, classes)
            }
            _ => Ok(None),
        };
        let expected = expected.map_err(|e| e.message)?;
        let score = |class: u32| sample.scores.get(class as usize).map(|z| f64::from(*z));
        let room = if self.card.jumps { ACROSS } else { TOLERANCE };
        match (outcome.target, expected) {
            (None, None) => Ok(()),
            (None, Some(_)) if !fields::attacked(self.attack, outcome) || outcome.verdict == Verdict::Failed => Ok(()),
            (Some(says), Some(is)) if says == is => Ok(()),
            // Which of two classes with equal scores is the runner-up, rounding decides.
            (Some(says), Some(is)) if self.attack.ranks() && Some(says) != sample.label => {
                let finite = sample.scores.iter().filter(|z| z.is_finite());
                let scale = 1. + finite.fold(0., |a, z| f64::max(a, f64::from(z.abs())));
                let gap = score(says).zip(score(is)).map(|(a, b)| (a - b).abs());
                match gap.is_some_and(|gap| gap <= room * scale) {
                    true => Ok(()),
                    false => Err(format!("its target is {is}, the line says {says}")),
                }
            }
            (says, is) => Err(format!("its target is {is:?}, the line says {says:?}")),
        }
    }

    /// What the clean sample is judged by; `None` when the sample that it had to approach is missing.
    fn goal(&self, sample: &Sample) -> Option<Goal> {
        match (self.attack.aim, &sample.anchor) {
            (None, _) => Some(self.card.output.guard(Goal::Untargeted(vec![sample.label?]), Rejection::Unanswered)),
            (Some(aim), None) => Some(aim.goal(vec![sample.scores.clone()])),
            (Some(aim), Some((_, anchor))) => Some(aim.goal(vec![anchor.clone()?])),
        }
    }

    /// What the sample's adversarial point is judged by.
    fn attacked(&self, outcome: &Outcome, clean: &Goal, sample: &Sample) -> Goal {
        let rejection = if self.attack.is_corruption() { Rejection::Unanswered } else { Rejection::Caught };
        match (outcome.target, sample.label) {
            (Some(target), _) => self.card.output.guard(Goal::Targeted(vec![target]), rejection),
            (None, Some(label)) if self.attack.aim.is_none() => {
                self.card.output.guard(Goal::Untargeted(vec![label]), rejection)
            }
            _ => clean.clone(),
        }
    }

    fn point(&self, outcome: &Outcome, goal: &Goal, clean: &[f32], x: &[f32], seen: &Seen) -> Result<Note, String> {
        if outcome.evidence.as_deref() != Some(row_digest(x).as_str()) {
            return Err("its evidence is not the point whose digest the line holds".to_string());
        }
        let threat = &self.attack.threat;
        if !threat.admits(clean, x) {
            let far = words::optional(threat.norm().map(|n| threat.distance(n, clean, x)));
            return Err(format!("its evidence lies outside the threat model (distance {far}, {threat})"));
        }
        if outcome.distance != threat.norm().map(|n| threat.distance(n, clean, x)) {
            return Err(format!("its evidence is not {} away as the line says", words::optional(outcome.distance)));
        }
        let best = outcome.best.ok_or("the line holds no prediction for its point")?;
        if self.card.stochastic {
            // Which votes decide, the line's own fields have been held against.
            let counted = votes::check(outcome, goal, seen)?;
            let typical = compare(goal, Some(best), &seen.typical, self.card.jumps, "adversarial")?;
            return Ok(if counted == Note::Fragile { counted } else { typical });
        }
        let says = outcome.verdict == Verdict::Fooled;
        if outcome.verdict != Verdict::CleanMiss && goal.reached(best) != says {
            return Err(format!(
                "verdict {} contradicts the margin {} of its own line",
                words::verdict(outcome.verdict),
                best.margin
            ));
        }
        compare(goal, Some(best), &seen.typical, self.card.jumps, "adversarial")
    }
}

/// The sample that another had to approach, and its clean embedding where it can be read.
pub(super) type Approached = (u64, Option<Vec<f32>>);

/// A clean sample as the data set has it, and its scores in double precision.
pub(super) struct Sample<'a> {
    label: Option<u32>,
    x: &'a [f32],
    scores: Vec<f32>,
    anchor: Option<Approached>,
}
