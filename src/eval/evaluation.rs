//! What is to be evaluated: models, data, attacks, and how.

use super::classes::check_labels;
use super::device::Device;
use super::judging::Judging;
use super::load::{self, Wanted};
use super::plan::{Keep, PlannedHead, UNIT};
use super::selection;
use super::shard::Shard;
use super::watcher::Watcher;
use crate::corruption::suites::Suites;
use crate::encoder::heads::{self, HeadRequest, Training};
use crate::escape;
use robust_benchmarks::data;
use robust_benchmarks::subset::Pick;
use robust_core::{AimSpec, Dataset, Error, Model, Result};
use robust_models::{Head, LoadedModel};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a run is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Folder {
    /// `runs/`, then a name made of models, data and settings: the same evaluation finds its own folder again, and goes on.
    #[default]
    Named,
    /// A new folder.
    New(PathBuf),
    /// The folder of an unfinished run, which goes on.
    Resume(PathBuf),
}

impl Folder {
    /// The folder, unless the plan names it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Named => None,
            Self::New(path) | Self::Resume(path) => Some(path),
        }
    }
}

/// Heads that a run fits on its encoders.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSet {
    pub heads: Vec<HeadRequest>,
    /// Labelled images to fit on, by their spec.
    pub train: String,
    /// Fit on so many of them, chosen as [`Pick::Limit`] does.
    pub limit: Option<u64>,
}

/// An evaluation, before anything is read. [`Evaluation::new`] has the defaults of the command; fields may be set one by
/// one or through the methods of their names.
///
/// Specs of models, data sets, attacks and corruptions are those of `robust eval`: `net.onnx?mean=imagenet`,
/// `folder:val`, `pgd-linf:eps=8/255,steps=40`, `imagenet-c`.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub models: Vec<String>,
    /// Built-in models have one of their own.
    pub data: Option<String>,
    pub attacks: Vec<String>,
    pub corruptions: Suites,
    /// For bare encoders, without labels.
    pub goal: Option<AimSpec>,
    pub heads: Option<HeadSet>,
    pub judging: Judging,
    pub pick: Pick,
    pub seed: u64,
    pub device: Device,
    /// Samples attacked at once, 1 to [`UNIT`]; never changes a result.
    pub batch_size: usize,
    /// Bytes to stay within; batches shrink to fit. Without it, what is free.
    pub memory: Option<u64>,
    pub folder: Folder,
    pub evidence: Keep,
    /// The part of the work that this run does.
    pub shard: Option<Shard>,
    /// Begin no unit of work after so many minutes.
    pub max_minutes: Option<f64>,
    /// Whether the doctor looks at a few samples; the grade is `unchecked` otherwise.
    pub doctor: bool,
    /// What `run.json` says the run was started with.
    pub command: Vec<String>,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            models: vec![],
            data: None,
            attacks: vec![],
            corruptions: Suites::default(),
            goal: None,
            heads: None,
            judging: Judging::default(),
            pick: Pick::All,
            seed: 0,
            device: Device::Auto,
            batch_size: UNIT,
            memory: None,
            folder: Folder::Named,
            evidence: Keep::Fooled,
            shard: None,
            max_minutes: None,
            doctor: true,
            command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        }
    }
}

impl Evaluation {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model.
    #[must_use]
    pub fn model(mut self, spec: impl Into<String>) -> Self {
        self.models.push(spec.into());
        self
    }

    #[must_use]
    pub fn data(mut self, spec: impl Into<String>) -> Self {
        self.data = Some(spec.into());
        self
    }

    /// Adds an attack.
    #[must_use]
    pub fn attack(mut self, spec: impl Into<String>) -> Self {
        self.attacks.push(spec.into());
        self
    }

    /// Adds a suite of corruptions.
    #[must_use]
    pub fn corruption(mut self, spec: impl Into<String>) -> Self {
        self.corruptions.specs.push(spec.into());
        self
    }

    #[must_use]
    pub fn pick(mut self, pick: Pick) -> Self {
        self.pick = pick;
        self
    }

    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    #[must_use]
    pub fn folder(mut self, folder: Folder) -> Self {
        self.folder = folder;
        self
    }

    #[must_use]
    pub fn evidence(mut self, keep: Keep) -> Self {
        self.evidence = keep;
        self
    }

    /// What its models must give.
    pub(super) fn wanted(&self) -> Wanted {
        if self.goal.is_some() { Wanted::Embeddings } else { Wanted::Scores }
    }

    /// The data set, where it is said or known.
    ///
    /// # Errors
    /// Kind `Usage` when it is neither.
    pub(super) fn data_spec(&self, loaded: &[LoadedModel]) -> Result<String> {
        match &self.data {
            Some(source) => Ok(source.clone()),
            None if !loaded.is_empty() && loaded.iter().all(|m| m.format == "builtin") => {
                Ok("builtin:mnist".to_string())
            }
            None => Err(Error::usage("no --dataset")
                .hint("such as --dataset folder:val; `robust list datasets` shows what can be read")),
        }
    }

    /// Loads the models and the data set, holds them against each other, and chooses the samples: what an evaluation, the
    /// doctor and measurements of a model begin with. `wanted` is what the models must give; with `lenient`, classes that do
    /// not fit are told and not refused.
    ///
    /// # Errors
    /// Kind `Usage` for specs that make no sense, kind `Load` for what cannot be read or does not fit.
    pub fn open(&self, wanted: Wanted, lenient: bool, watcher: &mut dyn Watcher) -> Result<Opened> {
        let models = Models::open(self, wanted, watcher)?;
        self.open_with(models, lenient, watcher)
    }

    /// [`Evaluation::open`] with models that are loaded already.
    pub(super) fn open_with(&self, mut opened: Models, lenient: bool, watcher: &mut dyn Watcher) -> Result<Opened> {
        let source = self.data_spec(&opened.loaded)?;
        // Heads of a run's own score the classes of the data they were fitted on.
        let specs: &[String] = if opened.heads.is_empty() { &opened.sources } else { &[] };
        let (source, data) = load::data_for(&source, &mut opened.loaded, specs, lenient, watcher)?;
        let (ids, pick) = selection::choose(&self.pick, data.as_ref())?;
        if opened.heads.iter().any(|(head, _)| head.train.card.digest == data.card().digest) {
            watcher.warning(
                "the heads are fitted on the data set that is attacked: accuracies are those on training images",
                "give --train other images than --dataset, such as the training split",
            );
        }
        Ok(Opened { models: opened, source, data, ids, pick })
    }
}

/// The models of an evaluation, where they come from, and the heads that it made.
pub struct Models {
    pub loaded: Vec<LoadedModel>,
    pub sources: Vec<String>,
    /// One for each model, or none at all.
    pub heads: Vec<(PlannedHead, Head)>,
}

/// Models, data and samples that fit each other, but for the labels: [`Opened::check_labels`].
pub struct Opened {
    pub models: Models,
    /// The spec under which the data set opens again.
    pub source: String,
    pub data: Box<dyn Dataset>,
    /// Ascending.
    pub ids: Vec<u64>,
    /// How they were chosen.
    pub pick: String,
}

impl Opened {
    /// Whether the labels of the samples `ids` are classes of every model that scores classes.
    ///
    /// # Errors
    /// Those of [`check_labels`].
    pub fn check_labels(&self, ids: &[u64]) -> Result<()> {
        let scores = load::scores(&self.models.loaded, &self.models.sources);
        scores.iter().try_for_each(|scores| check_labels(self.data.as_ref(), ids, scores))
    }
}

impl Models {
    /// Models of one's own, such as candle modules ([`robust_engine::ModuleModel`]) or whatever answers elsewhere. Rows have
    /// their cards' names, runs their cards' digests. The command cannot load them: [`verify`](mod@super::verify) takes them from the
    /// program that has them.
    ///
    /// # Errors
    /// Kind `Usage` for two models of one name, and for cards without a digest.
    pub fn own(models: Vec<Arc<dyn Model>>) -> Result<Self> {
        let loaded: Vec<LoadedModel> = models.into_iter().map(LoadedModel::own).collect();
        for (i, model) in loaded.iter().enumerate() {
            if loaded[..i].iter().any(|m| m.name == model.name) {
                return Err(
                    Error::usage(format!("two models are called `{}`", model.name)).hint("name their cards apart")
                );
            }
        }
        if let Some(model) = loaded.iter().find(|m| m.card.digest.is_empty()) {
            let why = format!(
                "the card of model `{}` has no digest, so a run of it could not be told from another's",
                model.name
            );
            return Err(Error::usage(why).hint("give the card a digest of everything that decides the model's answers"));
        }
        let sources = loaded.iter().map(|m| format!("own:{}", m.name)).collect();
        Ok(Self { loaded, sources, heads: vec![] })
    }

    /// With heads to be fitted, every encoder becomes one model for each head. Heads that lie in the run's folder already are
    /// not fitted again.
    pub(super) fn open(evaluation: &Evaluation, wanted: Wanted, watcher: &mut dyn Watcher) -> Result<Self> {
        let specs = &evaluation.models;
        let Some(set) = &evaluation.heads else {
            let loaded = load::models(specs, wanted, watcher)?;
            return Ok(Self { loaded, sources: specs.clone(), heads: vec![] });
        };
        if wanted == Wanted::Embeddings {
            return Err(Error::usage("--goal attacks bare encoders, --probe puts heads on them: choose one"));
        }
        let encoders = load::models(specs, Wanted::Embeddings, watcher)?;
        let data = data::open(&set.train)?;
        let on = Training { source: &set.train, data: data.as_ref(), limit: set.limit };
        let mut opened = Self { loaded: vec![], sources: vec![], heads: vec![] };
        for (spec, encoder) in specs.iter().zip(&encoders) {
            watcher.note(&format!("fitting heads on {}", escape::line(&encoder.name)));
            for headed in heads::put_on(encoder, &set.heads, &on, evaluation.folder.path())? {
                let name = escape::line(&headed.model.name);
                headed.notes.iter().for_each(|note| watcher.note(&format!("{name}: {}", escape::line(note))));
                opened.loaded.push(headed.model);
                opened.sources.push(spec.clone());
                opened.heads.push((headed.planned, headed.head));
            }
        }
        Ok(opened)
    }
}
