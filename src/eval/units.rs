//! A whole run: every unit of a plan, journalled as it ends.

use super::watcher::Watcher;
use crate::clock;
use crate::encoder::label_free;
use crate::eval::attacked::{Judged, TrialContext, attack_watched, unreadable};
use crate::eval::clean::{Clean, judge_clean};
use crate::eval::plan::{Gradients, Plan, PlannedAttack, Unit};
use crate::eval::stages::{Stage, Watch};
use crate::eval::trial::Trial;
use crate::eval::{evidence, journal, rows};
use candle_core::Device;
use robust_core::{Access, Aim, Batch, Dataset, Error, Kind, Lap, Outcome, Result, Target};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A model with what is planned for it.
pub struct Subject {
    pub target: Target,
    pub trials: Vec<Trial>,
    /// Where gradients come from, unless from the model.
    pub gradients: Option<Gradients>,
}

impl Subject {
    /// Attacks that follow gradients say in their names whose these are.
    pub fn new(target: Target, mut trials: Vec<Trial>, gradients: Option<Gradients>) -> Self {
        if let Some(gradients) = &gradients {
            for trial in &mut trials {
                if let Trial::Attack(attack) = trial
                    && attack.threat.access == Access::Gradient
                {
                    attack.label = format!("{} {gradients}", attack.label);
                }
            }
        }
        Self { target, trials, gradients }
    }

    /// The model's trials as the plan writes them down.
    ///
    /// # Errors
    /// Never in practice: parameters are names and numbers.
    pub fn planned(&self) -> Result<Vec<PlannedAttack>> {
        let gradients = |t: &Trial| self.gradients.clone().filter(|_| t.threat().access == Access::Gradient);
        let planned = |t: &Trial| Ok(PlannedAttack { gradients: gradients(t), ..PlannedAttack::new(t, &self.target)? });
        self.trials.iter().map(planned).collect()
    }
}

/// Everything a run needs besides its folder.
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub subjects: &'a [Subject],
    pub data: &'a dyn Dataset,
    /// Rows attacked at once; never changes a result.
    pub batch_size: usize,
    /// No unit is begun after this many seconds.
    pub max_seconds: Option<f64>,
}

/// One unit's samples as they were loaded and judged clean.
struct Loaded {
    batch: Option<Batch>,
    clean: Vec<Clean>,
    failed: Vec<(u64, String)>,
}

/// Clean samples by model and first sample, and what they were judged for.
type Known = HashMap<(usize, usize), (Option<Aim>, Vec<Clean>)>;

/// Where the time of a session went.
pub struct Times {
    /// Seconds per (model, attack), in the plan's order.
    pub attacks: Vec<f64>,
    pub stages: Vec<Stage>,
}

impl Times {
    pub fn new(plan: &Plan) -> Self {
        Self { attacks: vec![0.; plan.models.iter().map(|m| m.attacks.len()).sum()], stages: vec![] }
    }
}

impl Run<'_> {
    /// Does the units that `outcomes` does not hold yet, and adds up what they took.
    ///
    /// # Errors
    /// Kind `Interrupted` when the watcher stopped it: the journal then ends with a whole unit. Kind `Write` also when somebody
    /// else changed the journal meanwhile.
    pub fn go(
        &self,
        journal: &mut journal::Journal,
        outcomes: &mut Vec<Outcome>,
        times: &mut Times,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let mut clean = Known::new();
        let mut seen = rows::Seen::new(self.plan);
        journal::by_unit(self.plan, outcomes).try_for_each(|(unit, lines)| seen.add(unit.model, lines))?;
        let (mut before, mut current, mut first) = (0, (usize::MAX, usize::MAX), 0);
        let whole = clock::Stopwatch::start();
        for unit in self.plan.units() {
            let planned = &self.plan.models[unit.model];
            let label = &planned.attacks[unit.attack].label;
            if current != (unit.model, unit.attack) {
                if current.0 != unit.model {
                    clean.clear();
                }
                (current, first) = ((unit.model, unit.attack), before);
                watcher.attacking(&planned.name, &planned.attacks[unit.attack]);
            }
            before += unit.count;
            if before <= outcomes.len() {
                self.repair(journal, unit, &mut clean, &outcomes[before - unit.count..before], watcher)?;
                continue;
            }
            if watcher.stop().is_some_and(|stop| stop.load(Relaxed)) {
                return Err(Error::interrupted());
            }
            if self.max_seconds.is_some_and(|most| whole.seconds() >= most) {
                let (done, all) = (outcomes.len(), self.plan.rows());
                return Err(Error::new(Kind::Incomplete, format!("the time is up with {done} of {all} outcomes")));
            }
            let clock = clock::Stopwatch::start();
            let watch = Watch::new(&planned.name, label);
            let judged = self.unit(unit, &mut clean, &watch, watcher.stop())?;
            watch.into(&mut times.stages);
            seen.add(unit.model, judged.iter().map(|j| &j.outcome))?;
            self.keep(journal, unit, &judged)?;
            let lines: Vec<Outcome> = judged.into_iter().map(|j| j.outcome).collect();
            journal.append(&lines)?;
            outcomes.extend(lines);
            let slot = self.plan.models[..unit.model].iter().map(|m| m.attacks.len()).sum::<usize>() + unit.attack;
            if let Some(total) = times.attacks.get_mut(slot) {
                *total += clock.seconds();
            }
            watcher.judged(&outcomes[first..], unit.count);
        }
        journal.check()
    }

    fn unit(&self, unit: Unit, cache: &mut Known, watch: &Watch, stop: Option<&AtomicBool>) -> Result<Vec<Judged>> {
        let subject = &self.subjects[unit.model];
        let trial = &subject.trials[unit.attack];
        let name = &subject.target.deployed.card().name;
        let known = cache.get(&(unit.model, unit.start)).filter(|(aim, _)| *aim == trial.aim());
        let known = known.map(|(_, clean)| clean.clone());
        let Loaded { batch, clean, failed } = self.load(unit, known)?;
        let ids = &self.plan.ids[unit.start..unit.start + unit.count];
        let mut judged: HashMap<u64, Judged> = match &batch {
            Some(batch) => {
                let hear = |lap: &Lap| watch.hear(lap);
                let (target, seed) = (&subject.target, self.plan.seed);
                let at_once = self.batch_size;
                attack_watched(&TrialContext { target, trial, seed, at_once, watch: &hear, stop }, batch, &clean)?
            }
            None => vec![],
        }
        .into_iter()
        .map(|j| (j.outcome.id, j))
        .collect();
        judged.extend(failed.iter().map(|(id, why)| (*id, unreadable(name, trial.label(), *id, why))));
        cache.insert((unit.model, unit.start), (trial.aim(), clean));
        let missing = |id: &u64| Error::load("data set", format!("it gave no row for sample {id}"));
        ids.iter().map(|id| judged.remove(id).ok_or_else(|| missing(id))).collect()
    }

    fn load(&self, unit: Unit, known: Option<Vec<Clean>>) -> Result<Loaded> {
        let target = &self.subjects[unit.model].target;
        let view = target.deployed.card().view();
        let ids = &self.plan.ids[unit.start..unit.start + unit.count];
        let loaded = self.data.load(ids, &view, &Device::Cpu)?;
        let clean = match (&loaded.batch, known) {
            (Some(_), Some(known)) => known,
            (Some(batch), None) => match self.subjects[unit.model].trials[unit.attack].aim() {
                Some(aim) => label_free::judge_clean(target, self.data, batch, aim, self.plan.seed)?,
                None => judge_clean(target, batch, self.plan.seed)?,
            },
            (None, _) => vec![],
        };
        Ok(Loaded { batch: loaded.batch, clean, failed: loaded.failed })
    }

    fn keep(&self, journal: &journal::Journal, unit: Unit, judged: &[Judged]) -> Result<()> {
        let attack = &self.plan.models[unit.model].attacks[unit.attack];
        let wanted = |j: &&Judged| evidence::is_kept(self.plan.evidence, attack, &j.outcome);
        let points: Vec<(u64, Vec<f32>)> =
            judged.iter().filter(wanted).filter_map(|j| Some((j.outcome.id, j.point.clone()?))).collect();
        let (model, shape) = (&self.plan.models[unit.model].name, &attack.threat.input.shape);
        evidence::write(journal.root(), &unit.name(), model, &attack.label, shape, &points)
    }

    /// Attacks a unit again whose outcomes are there and whose points are gone.
    ///
    /// # Errors
    /// Kind `Evidence` when it comes out otherwise than the journal says.
    fn repair(
        &self,
        journal: &journal::Journal,
        unit: Unit,
        clean: &mut Known,
        there: &[Outcome],
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let planned = &self.plan.models[unit.model];
        let attack = &planned.attacks[unit.attack];
        if !evidence::is_missing(journal.root(), &unit.name(), self.plan.evidence, attack, there) {
            return Ok(());
        }
        let file = format!("evidence/{}.safetensors", unit.name());
        watcher.note(&format!("{file} is missing: its {} samples are attacked again", unit.count));
        let judged = self.unit(unit, clean, &Watch::new(&planned.name, &attack.label), watcher.stop())?;
        if let Some((_, old)) = judged.iter().zip(there).find(|(new, old)| new.outcome != **old) {
            let what = format!("sample {} of {} under {}", old.id, planned.name, attack.label);
            return Err(Error::new(Kind::Evidence, format!("{what} does not come out as outcomes.jsonl says"))
                .hint("the journal was changed, or made by another version: start a new run"));
        }
        self.keep(journal, unit, &judged)
    }
}
