//! Whether the labels of a data set are a model's classes: their number and names are compared before anything is attacked,
//! since labels that are one off give numbers that look right.

use robust_benchmarks::data::{self, Classes, Labelling, Opened};
use robust_core::{Dataset, Error, Result};
use robust_models::ClassNames;
use std::collections::HashSet;
use std::path::Path;

/// Names shown in messages.
const SHOWN: usize = 5;

/// What is known of a model's classes.
#[derive(Debug, Clone)]
pub struct Scores<'a> {
    pub model: &'a str,
    /// How many there are.
    pub outputs: usize,
    pub names: Option<ClassNames>,
}

/// How labels should be read for a model.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// As they are, with what the user should know of it.
    Keep(Option<String>),
    /// With `?classes=` saying this.
    Read(String, String),
}

/// Opens a data set whose labels are to be the classes of these models, and gives the name under which it opens again. Where
/// class folders are named as a model names its classes, labels are the model's; likewise ImageNet's for a part of its
/// folders. `lenient`: what does not fit is told, not refused.
///
/// # Errors
/// Those of opening; kind `Load` where the number or the names of classes do not fit, kind `Usage` where models need the
/// labels in different orders.
pub fn open(source: &str, models: &[Scores], lenient: bool) -> Result<(String, Opened)> {
    let mut opened = data::open_with_notes(source)?;
    let mut way: Option<(&str, Option<String>)> = None;
    let mut notes = vec![];
    for scores in models {
        let step = match decide(&opened, scores) {
            Err(e) if lenient => Step::Keep(Some(e.to_string())),
            step => step?,
        };
        let (wanted, note) = match step {
            Step::Keep(note) => (None, note),
            Step::Read(way, note) => (Some(way), Some(note)),
        };
        notes.extend(note);
        match &way {
            Some((other, known)) if *known != wanted => {
                return Err(Error::usage(format!(
                    "models `{other}` and `{}` have their classes in different orders, so the labels of one are wrong for the other",
                    scores.model
                ))
                .hint("evaluate them apart"));
            }
            _ => way = Some((scores.model, wanted)),
        }
    }
    let Some((_, Some(way))) = way else {
        opened.notes.extend(notes);
        return Ok((source.to_string(), opened));
    };
    let joint = if source.contains('?') && !Path::new(source).exists() { '&' } else { '?' };
    let source = format!("{source}{joint}classes={way}");
    opened = data::open_with_notes(&source)?;
    opened.notes.extend(notes);
    Ok((source, opened))
}

fn decide(opened: &Opened, scores: &Scores) -> Result<Step> {
    let card = opened.data.card();
    let Some(names) = &card.classes else { return Ok(Step::Keep(None)) };
    let (model, k) = (scores.model, scores.outputs);
    match opened.labelling {
        Labelling::Told => Ok(Step::Keep(None)),
        Labelling::Stored | Labelling::Listed if names.len() == k => Ok(Step::Keep(None)),
        Labelling::Stored | Labelling::Listed => Ok(Step::Keep(Some(format!(
            "the data set has {} classes, model `{model}` {k} outputs: label i is taken for output i (`?offset=1` if its first output \
             is not a class of the data)",
            names.len()
        )))),
        Labelling::Sorted | Labelling::Numbers => folders(&card.name, names, opened.labelling, scores),
    }
}

fn folders(data: &str, names: &[String], labelling: Labelling, scores: &Scores) -> Result<Step> {
    let (model, k) = (scores.model, scores.outputs);
    let there: Vec<&str> = names.iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
    let strangers = match &scores.names {
        Some(list) => match by_name(data, names, list, scores)? {
            Some(step) => return Ok(step),
            None => Some(format!(
                "class folders ({}) are not named as the classes of `{model}` ({}): label i, in the order of the folders, is taken for output i",
                some(&there),
                some(&list.names.iter().map(String::as_str).collect::<Vec<_>>())
            )),
        },
        None => None,
    };
    let number = |name: &str| name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse::<u64>().ok()).flatten();
    let numbers: Option<Vec<u64>> = there.iter().map(|name| number(name)).collect();
    let (count, misfit) = (there.len(), misfit(data, &there, scores));
    match (labelling, numbers) {
        (Labelling::Numbers, _) if names.len() <= k => Ok(Step::Keep(Some(format!(
            "the label of a class folder is its number: {} of the {k} outputs of `{model}` have no folder",
            k - count
        )))),
        (Labelling::Numbers, _) if count == k => {
            let note = format!(
                "there are as many class folders as outputs of `{model}`, so labels count the folders in the order of numbers"
            );
            Ok(Step::Read("natural".to_string(), note))
        }
        (Labelling::Numbers, _) => Err(misfit("`?offset=-1` if the numbers count from 1")),
        _ if count == k => Ok(Step::Keep(strangers)),
        (_, Some(numbers)) if count < k && numbers.iter().copied().eq(0..count as u64) => {
            Ok(Step::Keep(Some(format!(
                "the label of a class folder is its number: the last {} outputs of `{model}` have no folder",
                k - count
            ))))
        }
        (_, Some(_)) if count < k => Err(misfit("`?classes=numbers` if a folder's label is its number")),
        (_, None) if count < k && k == 1000 && are_imagenets(&there) => {
            let note = format!("class folders are {count} of ImageNet's 1,000 and have its labels");
            Ok(Step::Read("imagenet".to_string(), note))
        }
        _ if count < k => Err(misfit(
            "an empty folder for each missing class; `?offset=1` if the model's first output is not a class of the data (a background class); \
             `?output=embedding` after the model's name if its outputs are an embedding and no scores",
        )),
        _ => Err(misfit("remove folders that are not classes of the model (empty ones count too)")),
    }
}

/// Labels by the model's own names, where the folders have them; `None` where none of them has.
fn by_name(data: &str, names: &[String], list: &ClassNames, scores: &Scores) -> Result<Option<Step>> {
    let known = Classes::open(&list.file)?;
    let (mut labels, mut unknown) = (vec![], vec![]);
    for (place, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        match known.label(name) {
            Ok(label) => labels.push((place, label as usize)),
            Err(_) => unknown.push(name.as_str()),
        }
    }
    let model = scores.model;
    if labels.is_empty() {
        return Ok(None);
    }
    if !unknown.is_empty() {
        let why = format!(
            "class folders {} are not among the classes of `{model}`, {} others are",
            some(&unknown),
            labels.len()
        );
        return Err(Error::load(data, why).hint(format!(
            "rename or remove them; the model's names are in {}; `?classes=sorted` takes the folders' order for the labels",
            list.file.display()
        )));
    }
    if labels.iter().all(|(place, label)| place == label) {
        return Ok(Some(Step::Keep(None)));
    }
    let file = list.file.display().to_string();
    if file.contains('&') {
        return Err(Error::load(data, format!("its labels are those of {file}, whose name holds `&`"))
            .hint("copy the file elsewhere and name it: `?classes=FILE`"));
    }
    let note = format!(
        "class folders are {} of the {} classes of `{model}` and have its labels",
        labels.len(),
        scores.outputs
    );
    Ok(Some(Step::Read(file, note)))
}

fn misfit<'a>(data: &'a str, there: &'a [&'a str], scores: &'a Scores<'a>) -> impl Fn(&str) -> Error + 'a {
    move |way| {
        let (count, k) = (there.len(), scores.outputs);
        let why = format!("{count} class folders ({}), but model `{}` has {k} outputs", some(there), scores.model);
        let order = format!(
            "`?classes=sorted` if the labels 0 to {} in the order of the names are right",
            count.saturating_sub(1)
        );
        Error::load(data, why).hint(format!("{way}; {order}; `?classes=FILE` is a list of all classes"))
    }
}

fn are_imagenets(folders: &[&str]) -> bool {
    let all: HashSet<String> = data::wnids().collect();
    folders.iter().all(|folder| all.contains(*folder))
}

fn some(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ...") } else { shown }
}

/// Whether every label of these samples is one of the model's classes.
///
/// # Errors
/// Kind `Load` naming the first that is not.
pub fn check_labels(data: &dyn Dataset, ids: &[u64], scores: &Scores) -> Result<()> {
    let Some(labels) = data.labels(ids) else { return Ok(()) };
    let k = scores.outputs as u64;
    let beyond = |label: &u32| u64::from(*label) >= k;
    let Some(first) = labels.iter().position(beyond) else { return Ok(()) };
    let (count, label) = (labels.iter().filter(|label| beyond(label)).count(), labels[first]);
    let (least, most) = (labels.iter().min().copied().unwrap_or(0), labels.iter().max().copied().unwrap_or(0));
    let name = data.card().classes.as_ref().and_then(|names| names.get(label as usize)).filter(|name| !name.is_empty());
    let name = name.map_or(String::new(), |name| format!(" ({name})"));
    let why = format!(
        "label {label}{name} of sample {} is not one of the {k} classes of `{}`, 0 to {}: {count} of {} samples have such labels",
        ids[first],
        scores.model,
        k.saturating_sub(1),
        labels.len()
    );
    let hint = match () {
        () if least >= 1 && u64::from(most) == k => format!(
            "labels go from {least} to {most}, so they may count from 1: `?offset=-1` after the data set's name lowers every label by one"
        ),
        () => format!(
            "is it the data set of this model? A label such as {label} may mark samples without a class: leave them out with `--ids FILE`"
        ),
    };
    Err(Error::load(&data.card().name, why).hint(hint))
}

#[cfg(test)]
mod tests;
