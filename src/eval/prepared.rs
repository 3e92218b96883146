//! An evaluation that is ready to run: everything is read and checked, and the plan is made.

use super::clean;
use super::evaluation::{Evaluation, Models, Opened};
use super::judging::OpenJudging;
use super::meter::{Meter, Metered};
use super::plan::{self, Plan, PlannedData, PlannedModel};
use super::trial::Trial;
use super::units::Subject;
use super::watcher::Watcher;
use super::{memory_estimate, points_file};
use crate::encoder::label_free;
use crate::{doctor, escape};
use robust_attacks::{self as attacks, Ready};
use robust_core::{AimSpec, Dataset, Error, Result};
use robust_engine::Network;
use robust_models::LoadedModel;
use std::sync::Arc;

/// Everything that a run needs but its folder.
pub struct Prepared {
    pub plan: Plan,
    pub(super) evaluation: Evaluation,
    pub(super) subjects: Vec<Subject>,
    pub(super) data: Box<dyn Dataset>,
    pub(super) meter: Arc<Meter>,
    /// Samples attacked at once, as memory allows.
    pub(super) batch_size: usize,
    /// Of each model, for the doctor.
    pub(super) networks: Vec<Option<Arc<Network>>>,
    pub(super) heads: Vec<(plan::PlannedHead, robust_models::Head)>,
}

impl Evaluation {
    /// Checks everything, loads models and data, and makes the plan. Nothing is written.
    ///
    /// # Errors
    /// Kind `Usage` for settings that make no sense, kind `Load` for what cannot be read or does not fit.
    pub fn prepare(self, watcher: &mut dyn Watcher) -> Result<Prepared> {
        self.check()?;
        if self.models.is_empty() {
            return Err(Error::usage("no --model").hint("such as --model net.onnx or --model builtin:mnist-at"));
        }
        let models = Models::open(&self, self.wanted(), watcher)?;
        self.plan(models, watcher)
    }

    /// [`Evaluation::prepare`] for models that are in memory; those named by specs are not loaded.
    ///
    /// # Errors
    /// As there.
    pub fn prepare_with(self, models: Models, watcher: &mut dyn Watcher) -> Result<Prepared> {
        self.check()?;
        if models.loaded.is_empty() {
            return Err(Error::usage("no models are given"));
        }
        self.plan(models, watcher)
    }

    fn plan(self, models: Models, watcher: &mut dyn Watcher) -> Result<Prepared> {
        let opened = self.open_with(models, false, watcher)?;
        // Before anything is attacked: a label in the last unit would end the run there.
        opened.check_labels(&opened.ids)?;
        let Opened { models: Models { loaded, sources, heads }, source, data, ids, pick } = opened;
        let meter = Arc::new(Meter::default());
        let subjects = self.subjects(&loaded, &meter, (data.as_ref(), &ids), watcher)?;
        check_fit(&subjects, data.as_ref(), &ids)?;
        let planned = |(i, ((model, source), subject)): (usize, ((&LoadedModel, &String), &Subject))| {
            Ok(PlannedModel {
                name: model.name.clone(),
                source: source.clone(),
                digest: model.card.digest.clone(),
                preprocess: model.card.preprocess,
                head: heads.get(i).map(|(planned, _)| planned.clone()),
                attacks: subject.planned()?,
            })
        };
        let plan = Plan {
            schema: plan::SCHEMA.to_string(),
            robust: env!("CARGO_PKG_VERSION").to_string(),
            models: loaded.iter().zip(&sources).zip(&subjects).enumerate().map(planned).collect::<Result<_>>()?,
            ids,
            dataset: PlannedData::of(&source, data.as_ref()),
            pick,
            seed: self.seed,
            unit: plan::UNIT,
            evidence: self.evidence,
            shard: self.shard,
            interpreter: interpreters(&loaded),
        };
        doctor::foresee(&plan).iter().for_each(|f| watcher.warning(&escape::line(&f.evidence), &f.advice));
        let batch_size = memory_estimate::batch(self.memory, self.batch_size, &loaded, watcher)?;
        let networks = loaded.iter().map(|m| m.network.clone()).collect();
        Ok(Prepared { plan, evaluation: self, subjects, data, meter, batch_size, networks, heads })
    }

    /// Spelling comes first: models and data may take minutes to load.
    fn check(&self) -> Result<()> {
        if self.batch_size == 0 || self.batch_size > plan::UNIT {
            let why = format!("--batch-size {} is not between 1 and {}", self.batch_size, plan::UNIT);
            return Err(Error::usage(why));
        }
        if self.attacks.is_empty() && self.corruptions.specs.is_empty() {
            return Err(Error::usage("no --attack")
                .hint("such as --attack pgd-linf:eps=8/255; `robust list attacks` shows all"));
        }
        self.attacks.iter().try_for_each(|spec| points_file::check(spec))?;
        self.corruptions.check()
    }

    fn subjects(
        &self,
        loaded: &[LoadedModel],
        meter: &Arc<Meter>,
        on: (&dyn Dataset, &[u64]),
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<Subject>> {
        let judging = self.judging.open()?;
        loaded.iter().map(|model| self.subject(model, meter, &judging, on, watcher)).collect()
    }

    fn subject(
        &self,
        model: &LoadedModel,
        meter: &Arc<Meter>,
        judging: &OpenJudging,
        (data, ids): (&dyn Dataset, &[u64]),
        watcher: &mut dyn Watcher,
    ) -> Result<Subject> {
        let samples = data.card().samples;
        let resolve = |spec: &String| match points_file::is_file(spec) {
            true => points_file::resolve(spec, &model.card, samples, ids),
            false => attacks::resolve(spec, &model.card),
        };
        let mut ready: Vec<Ready> = self.attacks.iter().map(resolve).collect::<Result<_>>()?;
        if let Some(spec) = self.goal {
            ready = aimed(spec, ready, model, (data, ids), self.seed, watcher)?;
        }
        let mut trials: Vec<Trial> = ready.into_iter().map(Trial::Attack).collect();
        trials.extend(self.corruptions.resolve(&model.card, samples)?.into_iter().map(Trial::Corruption));
        one_table(&trials)?;
        let target = judging.target(Arc::new(Metered::new(model.model.clone(), meter.clone())))?;
        Ok(Subject::new(target, trials, judging.gradients()))
    }
}

/// The attacks on a model turned to the goal of `spec`; a threshold that comes from the data is told.
fn aimed(
    spec: AimSpec,
    ready: Vec<Ready>,
    model: &LoadedModel,
    (data, ids): (&dyn Dataset, &[u64]),
    seed: u64,
    watcher: &mut dyn Watcher,
) -> Result<Vec<Ready>> {
    let aim = label_free::aim(spec, model.model.as_ref(), data, ids, seed)?;
    if spec.threshold.is_none() {
        let name = escape::line(&model.name);
        watcher.note(&format!("{name}: the goal is {aim}, by what is usual among its embeddings of different samples"));
    }
    ready.into_iter().map(|r| r.aimed(aim)).collect()
}

/// What computes the models, each way once.
fn interpreters(loaded: &[LoadedModel]) -> String {
    let mut names: Vec<&str> = vec![];
    for model in loaded {
        if !names.contains(&model.card.interpreter.as_str()) {
            names.push(&model.card.interpreter);
        }
    }
    names.join(" + ")
}

/// Whether these may stand in one table.
fn one_table(trials: &[Trial]) -> Result<()> {
    let label = Trial::label;
    if let Some((_, twice)) = trials.iter().enumerate().find(|(i, t)| trials[..*i].iter().any(|q| label(q) == label(t)))
    {
        return Err(Error::usage(format!("attack `{}` is given twice", label(twice))));
    }
    let compat = |t: &&Trial| t.is_compat();
    if let (Some(same), Some(other)) = (trials.iter().find(compat), trials.iter().find(|t| !compat(t))) {
        return Err(Error::usage(format!("`{}` and `{}` do not belong in one table", label(same), label(other)))
            .hint("compat=true is for comparison with the reference's numbers: evaluate the others apart"));
    }
    Ok(())
}

/// Images that do not fit a model are refused before there is a folder for the run.
fn check_fit(subjects: &[Subject], data: &dyn Dataset, ids: &[u64]) -> Result<()> {
    for Subject { target, .. } in subjects {
        let first = data.load(&ids[..ids.len().min(1)], &target.deployed.card().view(), &candle_core::Device::Cpu)?;
        first.batch.map_or(Ok(()), |batch| clean::check_fit(target, &batch))?;
    }
    Ok(())
}
