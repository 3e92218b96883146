//! Clean rows by their digests: whether the lines of one run, of two runs, and a data set as it is now speak of the same
//! images. A data set's own digest says so for all of it; the digest in a line says so for what the model was shown.

use crate::eval::clean::row_digest;
use crate::eval::plan::{Plan, PlannedModel, spread};
use candle_core::Device;
use robust_core::{Dataset, Error, Kind, Outcome, Result, View, to_host};
use std::collections::{BTreeMap, HashMap};

/// Values of clean rows read again when a run is continued, at most: 5,000 images of 3x32x32 are 15 million, all of
/// MNIST's test set 8 million.
pub const MOST: usize = 1 << 26;
/// Rows read again where more would be beyond [`MOST`], spread evenly.
pub const LEAST: usize = 512;

/// How a model sees the data set: models that see it alike have the same clean rows.
pub(crate) fn view(model: &PlannedModel) -> Option<View> {
    model.attacks.first().map(|attack| model.view(attack))
}

/// The clean rows that the lines of a run name, by how the model sees them.
pub struct Seen {
    views: Vec<Option<View>>,
    /// By model of the plan: which view.
    of: Vec<usize>,
    /// Sixteen bytes of each digest: a run may have millions.
    rows: HashMap<(usize, u64), [u8; 16]>,
}

impl Seen {
    pub fn new(plan: &Plan) -> Self {
        let (mut views, mut of): (Vec<Option<View>>, Vec<usize>) = (vec![], vec![]);
        for model in &plan.models {
            let view = view(model);
            let known = views.iter().position(|v| *v == view);
            of.push(known.unwrap_or(views.len()));
            if known.is_none() {
                views.push(view);
            }
        }
        Self { views, of, rows: HashMap::new() }
    }

    /// Takes in lines of the plan's model number `model`: all must name the rows that lines before them named.
    ///
    /// # Errors
    /// Kind `Evidence`, naming the first sample that has two clean rows.
    pub fn add<'a>(&mut self, model: usize, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<()> {
        let view = self.of.get(model).copied().unwrap_or(usize::MAX);
        // A sample that could not be read has no row.
        for o in outcomes.into_iter().filter(|o| !o.digest.is_empty()) {
            let mut short = [0; 16];
            let hash = blake3::hash(o.digest.as_bytes());
            short.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
            if *self.rows.entry((view, o.id)).or_insert(short) != short {
                return Err(Error::new(
                    Kind::Evidence,
                    format!("sample {} is not the same image in all lines of the run: its data changed", o.id),
                )
                .hint("its numbers mix two data sets: evaluate again into a new folder with --out"));
            }
        }
        Ok(())
    }
}

/// Whether every line names the same clean row of a sample, where models see the data alike.
///
/// # Errors
/// Kind `Evidence`, naming the first sample that has two.
pub fn consistent<'a>(plan: &Plan, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<()> {
    let places: HashMap<&str, usize> = plan.models.iter().map(|m| m.name.as_str()).zip(0..).collect();
    let mut seen = Seen::new(plan);
    for outcome in outcomes {
        let place = places.get(outcome.model.as_str()).copied().unwrap_or(usize::MAX);
        seen.add(place, [outcome])?;
    }
    Ok(())
}

/// Reads clean rows that a run has done once more from the data set as it is now, and compares their digests: all while they
/// are [`MOST`] values or fewer, else so many of them or [`LEAST`], spread evenly.
///
/// # Errors
/// Kind `Load`, naming the first sample that is another image now, and the way out.
pub fn still_there(plan: &Plan, outcomes: &[Outcome], data: &dyn Dataset) -> Result<()> {
    let seen = Seen::new(plan);
    let names: Vec<&str> = plan.models.iter().map(|m| m.name.as_str()).collect();
    for (number, view) in seen.views.iter().enumerate() {
        let Some(view) = view else { continue };
        let mine = |o: &&Outcome| names.iter().zip(&seen.of).any(|(name, of)| *of == number && o.model == *name);
        let known: BTreeMap<u64, &str> = outcomes.iter().filter(mine).map(|o| (o.id, o.digest.as_str())).collect();
        let ids: Vec<u64> = known.keys().copied().collect();
        let most = (MOST / view.input.len().max(1)).max(LEAST);
        for ids in spread(&ids, most).chunks(crate::eval::plan::UNIT) {
            let now = digests(data, ids, view)?;
            let differs = |id: &&u64| now.get(id).map_or("", String::as_str) != known.get(id).copied().unwrap_or("");
            if let Some(id) = ids.iter().find(differs) {
                return Err(altered(plan, *id));
            }
        }
    }
    Ok(())
}

/// Whether a run that is to be continued names its data set by the rule of today.
///
/// # Errors
/// Kind `Usage` where an earlier version named this very folder by names and sizes: nothing tells which content it saw.
pub fn same_rule(theirs: &Plan, data: &dyn Dataset) -> Result<()> {
    let dataset = &theirs.dataset;
    if data.formerly() != Some(dataset.card.digest.as_str()) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the run names `{}` by the names and sizes of its files, as earlier versions did; today's digest covers their content",
        dataset.card.name
    ))
    .hint("start a new run with another --out, or finish this one with the version that began it; `robust verify` reads it"))
}

fn altered(plan: &Plan, id: u64) -> Error {
    let name = &plan.dataset.card.name;
    Error::load(
        format!("data set `{name}`"),
        format!("sample {id} is another image than the one that this run has attacked"),
    )
    .hint("a run is of one data set: evaluate the images as they are now into a new folder with --out, or restore the old ones")
}

/// Digests of clean rows as they are now; of samples that cannot be read there is none.
fn digests(data: &dyn Dataset, ids: &[u64], view: &View) -> Result<HashMap<u64, String>> {
    let Some(batch) = data.load(ids, view, &Device::Cpu)?.batch else { return Ok(HashMap::new()) };
    let (flat, width) = to_host(&batch.x)?;
    Ok(batch.ids.iter().copied().zip(flat.chunks(width.max(1)).map(row_digest)).collect())
}

/// Names the clean rows of a model: how it sees the data, then a digest over the ids and rows of its first attack.
pub fn named(model: &PlannedModel, outcomes: &[Outcome]) -> Option<String> {
    let (view, first) = (view(model)?, model.attacks.first()?);
    let sees = serde_json::json!([view.input, view.preprocess]).to_string();
    let mut hasher = blake3::Hasher::new();
    for o in outcomes.iter().filter(|o| o.model == model.name && o.attack == first.label) {
        hasher.update(&o.id.to_le_bytes()).update(o.digest.as_bytes()).update(b"\n");
    }
    let sees: String = blake3::hash(sees.as_bytes()).to_hex().chars().take(16).collect();
    Some(format!("{sees}:{}", hasher.finalize().to_hex()))
}

/// Whether two names of [`named`] are of models that see the data alike and were shown other rows.
pub fn contradict(a: &str, b: &str) -> bool {
    let parts = |s: &'_ str| s.split_once(':').map(|(view, rows)| (view.to_string(), rows.to_string()));
    matches!((parts(a), parts(b)), (Some(a), Some(b)) if a.0 == b.0 && a.1 != b.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::attacked::unreadable;
    use crate::eval::plan::tests::plan;

    fn line(model: &str, attack: &str, id: u64, digest: &str) -> Outcome {
        Outcome { digest: digest.into(), ..unreadable(model, attack, id, "").outcome }
    }

    #[test]
    fn a_sample_with_two_clean_rows_is_named_where_models_see_it_alike() {
        let mut two = plan();
        let mut other = two.models[0].clone();
        other.name = "n".into();
        two.models.push(other);
        let lines = [line("m", "a", 3, "x"), line("m", "b", 3, "x"), line("n", "a", 3, "x"), line("n", "b", 4, "")];
        assert!(consistent(&two, &lines).is_ok());
        let mixed = [lines[0].clone(), line("n", "a", 3, "y")];
        assert!(consistent(&two, &mixed).unwrap_err().message.contains("sample 3"));
        // Of another size, the same image is another row.
        two.models[1].attacks.iter_mut().for_each(|a| a.threat.input.shape = vec![1, 4, 4]);
        assert!(consistent(&two, &mixed).is_ok());
        // A sample that could not be read once contradicts nothing.
        assert!(consistent(&two, &[line("m", "a", 5, ""), line("m", "b", 5, "z")]).is_ok());
    }

    #[test]
    fn rows_of_a_baseline_contradict_only_where_they_were_seen_alike() {
        assert!(contradict("v:1", "v:2") && !contradict("v:1", "v:1") && !contradict("v:1", "w:2"));
        assert!(!contradict("", "v:1"));
    }
}
