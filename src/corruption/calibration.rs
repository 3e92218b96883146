//! Calibration and out-of-distribution detection: one exact pass over
//! clean data, as the published protocols of ImageNet-A and ImageNet-O ask (Hendrycks et al. 2021, arXiv 1907.07174).

use crate::eval::clean;
use candle_core::{Device, Tensor};
use robust_benchmarks::metrics::calibration::{aurra, expected, rms, scores, sure};
use robust_benchmarks::metrics::detection::detection;
use robust_core::{DataCard, Dataset, Error, Model, Output, Result, View, to_host};
use serde::Serialize;

pub const SCHEMA: &str = "robust.calibration/1";

/// Bins of equal width of the expected calibration error.
const BINS: usize = 15;
/// Rows asked at once.
const PART: usize = 64;

/// What the judge's path says of one data set.
pub struct Judged {
    pub card: DataCard,
    pub rows: Vec<Vec<f32>>,
    pub labels: Vec<u32>,
    /// Samples that could not be read, and why.
    pub failed: Vec<(u64, String)>,
}

/// Scores `[n, k]` of one batch by the exact path, row by row.
///
/// # Errors
/// Kind `Load` for an encoder, or scores of another shape than the card says.
pub fn exact(model: &dyn Model, x: &Tensor, ids: &[u64], seed: u64) -> Result<Vec<Vec<f32>>> {
    let card = model.card();
    let Output::Logits { k } = card.output else {
        return Err(Error::load(format!("model `{}`", card.name), "it gives embeddings, not class scores")
            .hint("fit a head with `robust probe` and name it with ?head="));
    };
    let (flat, _) = to_host(&clean::exact(model, ids, x, seed)?)?;
    Ok(flat.chunks(k).map(<[f32]>::to_vec).collect())
}

/// Asks a model about samples of a data set. `tick` hears how many were done, and may stop it with an error.
///
/// # Errors
/// Those of loading and asking; kind `Load` for data without labels or of which nothing could be read.
pub fn judge(
    model: &dyn Model,
    data: &dyn Dataset,
    ids: &[u64],
    mut tick: impl FnMut(usize) -> Result<()>,
) -> Result<Judged> {
    let (view, card): (View, _) = (model.card().view(), data.card().clone());
    let mut all = Judged { card, rows: vec![], labels: vec![], failed: vec![] };
    for ids in ids.chunks(PART) {
        let loaded = data.load(ids, &view, &Device::Cpu)?;
        all.failed.extend(loaded.failed);
        if let Some(batch) = loaded.batch {
            let labels = batch.labels.ok_or_else(|| Error::load(&all.card.name, "it has no labels"))?;
            all.rows.extend(exact(model, &batch.x, &batch.ids, 0)?);
            all.labels.extend(labels);
        }
        tick(ids.len())?;
    }
    match (all.rows.is_empty(), all.failed.first()) {
        (true, Some((id, why))) => Err(Error::load(format!("sample {id} of {}", all.card.name), why)),
        _ => Ok(all),
    }
}

/// How the scores of strangers stand to those of acquaintances.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Strangers {
    pub dataset: String,
    pub digest: String,
    pub samples: usize,
    pub auroc: f64,
    pub aupr: f64,
    /// What a guess would give: the share of strangers.
    pub aupr_by_chance: f64,
    pub fpr95: f64,
}

/// All numbers of one model on one data set; shares, not percents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub schema: String,
    pub model: String,
    pub model_digest: String,
    pub dataset: String,
    pub dataset_digest: String,
    pub samples: usize,
    pub unreadable: usize,
    /// How many classes were scored, where it is not all of them.
    pub classes: Option<usize>,
    pub accuracy: f64,
    pub mean_confidence: f64,
    /// Expected calibration error, 15 bins of equal width.
    pub ece: f64,
    /// Root mean square calibration error over bins of 100.
    pub rms: f64,
    /// The same as the published program computes it, which leaves out the most confident bin.
    pub rms_published: f64,
    pub aurra: f64,
    pub brier: f64,
    pub nll: f64,
    pub strangers: Option<Strangers>,
}

/// Calibration over what was judged; with `seen`, over the classes alone that the labels name, as ImageNet-A, -O and -R
/// are scored. Strangers are told by a low confidence.
///
/// # Errors
/// Kind `Usage` for scores that are not finite, kind `Load` for labels beyond the classes.
pub fn report(model: &dyn Model, known: &Judged, strange: Option<&Judged>, seen: bool) -> Result<Report> {
    let mut classes = known.labels.clone();
    classes.sort_unstable();
    classes.dedup();
    let chosen = seen.then_some(classes.as_slice());
    let sure_of = |judged: &Judged| -> Result<Vec<_>> {
        judged.rows.iter().zip(&judged.labels).map(|(row, label)| sure(row, *label, chosen)).collect()
    };
    let all = sure_of(known)?;
    let (rows, labels) = match chosen {
        None => (known.rows.clone(), known.labels.clone()),
        Some(classes) => {
            let own = |row: &Vec<f32>| classes.iter().filter_map(|c| row.get(*c as usize).copied()).collect();
            let place = |l: &u32| classes.binary_search(l).unwrap_or(0) as u32;
            (known.rows.iter().map(own).collect(), known.labels.iter().map(place).collect())
        }
    };
    let (brier, nll) = scores(&rows, &labels)?;
    let mean = |of: &dyn Fn(&_) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let strangers = strange
        .map(|strange| -> Result<Strangers> {
            let unsure = |all: Vec<robust_benchmarks::metrics::calibration::Sure>| -> Vec<f64> {
                all.iter().map(|s| -s.confidence).collect()
            };
            let (positives, negatives) = (unsure(sure_of(strange)?), unsure(all.clone()));
            let found = detection(&positives, &negatives)?;
            Ok(Strangers {
                dataset: strange.card.name.clone(),
                digest: strange.card.digest.clone(),
                samples: positives.len(),
                auroc: found.auroc,
                aupr: found.aupr,
                aupr_by_chance: positives.len() as f64 / (positives.len() + negatives.len()) as f64,
                fpr95: found.fpr95,
            })
        })
        .transpose()?;
    Ok(Report {
        schema: SCHEMA.to_string(),
        model: model.card().name.clone(),
        model_digest: model.card().digest.clone(),
        dataset: known.card.name.clone(),
        dataset_digest: known.card.digest.clone(),
        samples: all.len(),
        unreadable: known.failed.len(),
        classes: chosen.map(<[u32]>::len),
        accuracy: mean(&|s| f64::from(u8::from(s.right))),
        mean_confidence: mean(&|s| s.confidence),
        ece: expected(&all, BINS)?,
        rms: rms(&all, false)?,
        rms_published: rms(&all, true)?,
        aurra: aurra(&all)?,
        brier,
        nll,
        strangers,
    })
}

/// A line per number.
pub fn to_text(r: &Report) -> String {
    let percent = |v: f64| format!("{:.2} %", 100. * v);
    let mut text = format!("{} on {}, {} samples", r.model, r.dataset, r.samples);
    if let Some(classes) = r.classes {
        text += &format!(", {classes} classes that occur");
    }
    if r.unreadable > 0 {
        text += &format!(", {} unreadable left out", r.unreadable);
    }
    text += "\n\n";
    let mut line = |name: &str, value: String| text += &format!("{name:<34}{value:>9}\n");
    line("accuracy", percent(r.accuracy));
    line("mean confidence", percent(r.mean_confidence));
    line("expected calibration error", percent(r.ece));
    line("RMS calibration error", percent(r.rms));
    line("  without the most confident bin", percent(r.rms_published));
    line("AURRA", percent(r.aurra));
    line("Brier score", format!("{:.4}", r.brier));
    line("negative log-likelihood", format!("{:.4}", r.nll));
    if let Some(s) = &r.strangers {
        text += &format!("\n{} strangers of {}, told by a low confidence\n\n", s.samples, s.dataset);
        let mut line = |name: &str, value: String| text += &format!("{name:<34}{value:>9}\n");
        line("AUROC", percent(s.auroc));
        line("AUPR", percent(s.aupr));
        line("  by chance", percent(s.aupr_by_chance));
        line("false positives at 95 % recall", percent(s.fpr95));
    }
    text
}
