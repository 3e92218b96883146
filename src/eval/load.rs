//! Models and data sets by their specs: by what they give, under names of their own, and again for a finished run.

use super::bounds;
use super::classes::{self, Scores};
use super::plan::{Plan, PlannedModel};
use super::verify::check_identity;
use super::watcher::Watcher;
use crate::encoder::heads;
use crate::escape;
use robust_benchmarks::data;
use robust_core::{Dataset, Error, Kind, Output, Result};
use robust_models::{LoadedModel, class_names};
use std::path::Path;

/// What models must give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Scores of classes.
    #[default]
    Scores,
    /// Embeddings.
    Embeddings,
}

/// A model that scores classes.
///
/// # Errors
/// Those of [`robust_models::load`], and kind `Usage` for an encoder.
pub fn classifier(spec: &str) -> Result<LoadedModel> {
    let model = robust_models::load(spec)?;
    let Output::Embedding { d } = model.card.output else { return Ok(model) };
    let sign = if spec.contains('?') { '&' } else { '?' };
    Err(Error::usage(format!("`{}` gives an embedding of {d} entries, not scores of classes", model.name)).hint(
        format!(
            "fit a head (`robust probe --model {} --train DATA -o head.safetensors`), then use {}; or attack the \
             embedding itself, without labels: --goal away",
            escape::shell(spec),
            escape::shell(&format!("{spec}{sign}head=head.safetensors"))
        ),
    ))
}

/// A model that gives embeddings.
///
/// # Errors
/// Those of [`robust_models::load`], and kind `Usage` for a classifier.
pub fn encoder(spec: &str) -> Result<LoadedModel> {
    let model = robust_models::load(spec)?;
    let Output::Logits { k } = model.card.output else { return Ok(model) };
    Err(Error::usage(format!("`{}` gives scores of {k} classes, not an embedding", model.name)).hint(format!(
        "what its last layer reads is one: --model {}; `?output=embedding` says that the output itself is one",
        escape::shell(&format!("{spec}{}output=features", if spec.contains('?') { '&' } else { '?' }))
    )))
}

/// Loads every model; names must differ, since they name rows.
///
/// # Errors
/// Those of [`classifier`] and [`encoder`], and kind `Usage` for two models of one name.
pub fn models(specs: &[String], wanted: Wanted, watcher: &mut dyn Watcher) -> Result<Vec<LoadedModel>> {
    let mut loaded: Vec<LoadedModel> = vec![];
    for spec in specs {
        let model = match wanted {
            Wanted::Scores => classifier(spec)?,
            Wanted::Embeddings => encoder(spec)?,
        };
        tell_notes(&model, watcher);
        if loaded.iter().any(|m| m.name == model.name) {
            return Err(Error::usage(format!("two models are called `{}`", model.name))
                .hint(format!("name one of them: --model {}", escape::shell(&format!("other={spec}")))));
        }
        loaded.push(model);
    }
    Ok(loaded)
}

/// What is known of the classes of each model; `specs` are their own. Encoders have none.
pub fn scores<'a>(loaded: &'a [LoadedModel], specs: &[String]) -> Vec<Scores<'a>> {
    let pairs = loaded.iter().zip(specs);
    let classifiers = pairs.filter_map(|(model, spec)| Some((model, spec, model.card.output.scored()?)));
    let scores = |(model, spec, outputs): (&'a LoadedModel, &String, usize)| {
        let names = class_names(spec).filter(|found| found.names.len() == outputs);
        Scores { model: &model.name, outputs, names }
    };
    classifiers.map(scores).collect()
}

/// The data set that these models are to be measured on, with labels that are their classes, and the name under which it opens
/// again; models that know no range of their inputs get that of the data. `lenient`: classes that do not fit are told, not
/// refused.
///
/// # Errors
/// Those of [`classes::open`] and [`bounds::settle`].
pub fn data_for(
    source: &str,
    loaded: &mut [LoadedModel],
    specs: &[String],
    lenient: bool,
    watcher: &mut dyn Watcher,
) -> Result<(String, Box<dyn Dataset>)> {
    let (source, opened) = classes::open(source, &scores(loaded, specs), lenient)?;
    opened.notes.iter().for_each(|note| watcher.note(&escape::line(note)));
    settle(loaded, opened.data.as_ref(), watcher)?;
    Ok((source, opened.data))
}

/// Gives models that know no range of their inputs that of the data.
///
/// # Errors
/// Those of [`bounds::settle`].
pub fn settle(loaded: &mut [LoadedModel], data: &dyn Dataset, watcher: &mut dyn Watcher) -> Result<()> {
    for model in loaded {
        if let Some(note) = bounds::settle(model, data)? {
            watcher.note(&escape::line(&note));
        }
    }
    Ok(())
}

/// What was met while samples were loaded.
pub fn tell_remarks(data: &dyn Dataset, watcher: &mut dyn Watcher) {
    data.remarks().iter().for_each(|remark| watcher.note(&escape::line(remark)));
}

/// What loading a model noticed.
pub fn tell_notes(model: &LoadedModel, watcher: &mut dyn Watcher) {
    let told = |note: &String| format!("{}: {}", escape::line(&model.name), escape::line(note));
    model.notes.iter().for_each(|note| watcher.note(&told(note)));
}

/// A run names its models as it was given them, and relative paths start where it was started.
fn moved(error: Error, planned: &[(&str, String)]) -> Error {
    if error.kind != Kind::Load {
        return error;
    }
    let each: Vec<String> =
        planned.iter().map(|(_, name)| format!("--model {}", escape::shell(&format!("{name}=PATH")))).collect();
    let hint = match each.len() {
        0..=3 => format!("say where the run's models are now: {}", each.join(" ")),
        n => format!("say where the run's {n} models are now, all in its order: {} ...", each[0]),
    };
    let hint = error.hint.as_ref().map_or(hint.clone(), |first| format!("{hint}; {first}"));
    error.hint(hint)
}

/// The models and the data set of a finished run, from where it found them or from where they are now.
///
/// # Errors
/// Kind `Load` when one of them is not what the run attacked.
pub fn reopen(
    root: &Path,
    plan: &Plan,
    models: &[String],
    dataset: Option<&String>,
    watcher: &mut dyn Watcher,
) -> Result<(Vec<LoadedModel>, Box<dyn Dataset>)> {
    // Models that share an encoder share its file.
    let mut planned: Vec<(&str, String)> = vec![];
    let own = |m: &'_ PlannedModel| m.head.as_ref().map_or(m.name.clone(), |h| h.encoder.clone());
    for model in &plan.models {
        if !planned.iter().any(|(_, name)| *name == own(model)) {
            planned.push((&model.source, own(model)));
        }
    }
    if !models.is_empty() && models.len() != planned.len() {
        return Err(Error::usage(format!("the run has {} models, {} are given", planned.len(), models.len())));
    }
    let aimed = plan.models.iter().any(|m| m.attacks.iter().any(|a| a.aim.is_some()));
    let headed = plan.models.iter().any(|m| m.head.is_some());
    let wanted = if aimed || headed { Wanted::Embeddings } else { Wanted::Scores };
    let sources: Vec<String> = planned.iter().map(|(source, _)| source.to_string()).collect();
    let mut loaded = match models.is_empty() {
        true => self::models(&sources, wanted, watcher).map_err(|e| moved(e, &planned))?,
        false => self::models(models, wanted, watcher)?,
    };
    if headed {
        let put = |m: &PlannedModel| {
            let at = planned.iter().position(|(_, name)| *name == own(m)).unwrap_or(0);
            match &m.head {
                Some(head) => heads::reopen(&loaded[at], head, &m.name, root),
                None => Err(Error::load("run.json", format!("model `{}` has no head", m.name))),
            }
        };
        loaded = plan.models.iter().map(put).collect::<Result<_>>()?;
    }
    let data = match dataset {
        Some(source) => data::open_proven(source)?,
        None => data::open_proven(&plan.dataset.source).map_err(|e| {
            let hint = format!(
                "--dataset says where the run's data set is now{}",
                e.hint.as_ref().map_or(String::new(), |h| format!("; {h}"))
            );
            e.hint(hint)
        })?,
    };
    // As the run did, which told of it then.
    loaded.iter_mut().try_for_each(|model| bounds::settle(model, data.as_ref()).map(|_| ()))?;
    if let Some(note) = check_identity(plan, &loaded, data.as_ref())? {
        watcher.note(&escape::line(&note));
    }
    Ok((loaded, data))
}
