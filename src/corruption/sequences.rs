//! How steady a model is along the sequences of ImageNet-P and CIFAR-10-P (Hendrycks and Dietterich 2019): one image under a
//! perturbation that grows frame by frame, made here, judged by the exact path, written down sample by sample.

use crate::corruption::calibration::exact;
use crate::disk::write_atomic;
use candle_core::Device;
use rayon::prelude::*;
use robust_benchmarks::corruptions::{Random, sequences};
use robust_benchmarks::metrics::flips::{flip_probability, pairs_of, top5_distance, zipf_distance};
use robust_core::{Dataset, Error, Input, Kind, Model, Result, View, argmax, files, to_host};
use robust_imaging::{Bytes, interleaved};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const SCHEMA: &str = "robust.sequences/1";

/// Rows asked at once.
const PART: usize = 64;
/// The side of the images that ImageNet-P starts from.
const WHOLE: usize = 256;

/// What decides every number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub schema: String,
    /// `cifar-p` or `imagenet-p`.
    pub suite: String,
    pub model: String,
    pub model_digest: String,
    pub dataset_digest: String,
    pub seed: u64,
    pub sequences: Vec<String>,
    pub ids: Vec<u64>,
}

/// One sample along one sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Walk {
    /// Predicted class of every frame.
    pub classes: Vec<u32>,
    /// Share of compared frames whose class differs.
    pub flips: f64,
    /// Unnormalised top-5 distance, 0 to 15, and the distance of whole rankings; `None` below five classes.
    pub top5: Option<f64>,
    pub zipf: Option<f64>,
}

/// One sample along all sequences, in the order of [`Identity::sequences`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub id: u64,
    pub walks: Vec<Walk>,
}

/// Means over samples of one sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub sequence: String,
    pub frames: usize,
    pub flip_probability: f64,
    pub top5_distance: Option<f64>,
    pub zipf_distance: Option<f64>,
}

/// One model on the sequences of one data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    #[serde(flatten)]
    pub identity: Identity,
    pub lines: Vec<Line>,
    /// Means over the lines.
    pub mean_flip_probability: f64,
    pub mean_top5_distance: Option<f64>,
    /// Mean flip rate and mean top-5 distance relative to a reference, sequence by sequence.
    pub relative: Option<(f64, Option<f64>)>,
}

/// What to ask.
pub struct Job<'a> {
    pub model: &'a dyn Model,
    pub data: &'a dyn Dataset,
    pub ids: &'a [u64],
    pub names: &'a [String],
    pub seed: u64,
}

impl Job<'_> {
    /// # Errors
    /// Kind `Load` for a model of another input than the two suites have.
    pub fn identity(&self) -> Result<Identity> {
        let card = self.model.card();
        let suite = match card.input.shape.as_slice() {
            [3, 32, 32] => "cifar-p",
            [3, 224, 224] => "imagenet-p",
            other => {
                return Err(Error::load(format!("model `{}`", card.name), format!("it takes rows of {other:?}"))
                    .hint("the sequences are those of CIFAR-10-P (3x32x32) and ImageNet-P (3x224x224)"));
            }
        };
        Ok(Identity {
            schema: SCHEMA.to_string(),
            suite: suite.to_string(),
            model: card.name.clone(),
            model_digest: card.digest.clone(),
            dataset_digest: self.data.card().digest.clone(),
            seed: self.seed,
            sequences: self.names.to_vec(),
            ids: self.ids.to_vec(),
        })
    }

    /// Makes the frames of one sample and asks the model.
    ///
    /// # Errors
    /// Those of loading, of making frames and of asking.
    pub fn walk(&self, identity: &Identity, id: u64) -> Result<Sample> {
        let x = self.image(id, &identity.suite)?;
        let path = |name: &str| format!("{}/{name}", identity.suite);
        let frames = |name: &String| sequences::frames(name, &x, &mut Random::native(self.seed, &path(name), id));
        let made: Vec<Vec<Bytes>> = self.names.par_iter().map(frames).collect::<Result<_>>()?;
        let one = |(name, frames): (&String, &Vec<Bytes>)| judge(name, self.ask(frames, id)?);
        Ok(Sample { id, walks: self.names.iter().zip(&made).map(one).collect::<Result<_>>()? })
    }

    fn image(&self, id: u64, suite: &str) -> Result<Bytes> {
        let sample = || format!("sample {id}");
        let card = self.model.card();
        let large = suite == "imagenet-p";
        let view = match large {
            true => View::from(Input { shape: vec![3, WHOLE, WHOLE], ..card.input.clone() }),
            false => card.view(),
        };
        let hint = "ImageNet-P starts from 256x256: --dataset 'folder:DIR?resize=256&crop=256'";
        let advised = |e: Error| if large { e.hint(hint) } else { e };
        let loaded = self.data.load(&[id], &view, &Device::Cpu).map_err(advised)?;
        if let Some((_, why)) = loaded.failed.first() {
            return Err(advised(Error::load(sample(), why)));
        }
        let batch = loaded.batch.ok_or_else(|| Error::load(sample(), "the data set gave no image"))?;
        let (row, _) = to_host(&batch.x)?;
        let &[c, h, w] = &batch.x.dims()[1..] else {
            return Err(Error::load(sample(), "it is not an image"));
        };
        Bytes::new(h, w, c, interleaved(&row, c))
    }

    fn ask(&self, frames: &[Bytes], id: u64) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(frames.len());
        for part in frames.chunks(PART) {
            let planes: Vec<Vec<f32>> = part.iter().map(Bytes::planes).collect();
            let x = crate::eval::clean::stack(&planes, &self.model.card().input.shape)?;
            rows.extend(exact(self.model, &x, &vec![id; part.len()], self.seed)?);
        }
        Ok(rows)
    }
}

fn judge(name: &str, rows: Vec<Vec<f32>>) -> Result<Walk> {
    let how = pairs_of(name);
    let finite = || Error::load(name, "the model gave NaN or infinite scores");
    let classes: Vec<u32> = rows.iter().map(|row| argmax(row).ok_or_else(finite)).collect::<Result<_>>()?;
    let flips = flip_probability(std::slice::from_ref(&classes), how)?;
    let ranked = rows.first().is_some_and(|row| row.len() >= 5);
    let rows = [rows];
    let top5 = ranked.then(|| top5_distance(&rows, how)).transpose()?;
    let zipf = ranked.then(|| zipf_distance(&rows, how)).transpose()?;
    Ok(Walk { classes, flips, top5, zipf })
}

/// Bytes that a file of sequences may have.
const MAX_BYTES: u64 = 1 << 30;

/// The samples done so far, a line each, after a line that says of what.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Starts `sequences.jsonl` in `root`, or goes on with it: then with the samples that are there.
    ///
    /// # Errors
    /// Kind `Usage` when there is one and `resume` is not set, or it is of another job; kind `Load` for a damaged line that
    /// is not the last; kind `Write`.
    pub fn open(root: &Path, identity: &Identity, resume: bool) -> Result<(Self, Vec<Sample>)> {
        let path = root.join("sequences.jsonl");
        let fail = |e: std::io::Error| Error::write(path.display(), e);
        std::fs::create_dir_all(root).map_err(fail)?;
        let mut samples = vec![];
        if path.symlink_metadata().is_ok_and(|m| !m.is_file()) {
            return Err(
                Error::write(path.display(), "it is not a file of ours").hint("choose another folder with --out")
            );
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        let busy = "another process is writing there: wait for it, or choose another --out";
        file.try_lock().map_err(|e| fail(e.into()).hint(busy))?;
        files::sweep(root);
        let text = files::read_text(&path, MAX_BYTES).map_err(|e| Error::load(path.display(), e))?;
        // An empty one is what a start leaves that was killed at once.
        if !resume && !text.is_empty() {
            return Err(Error::usage(format!("{} exists", path.display()))
                .hint("--resume continues it, another --out starts anew"));
        }
        // A line without its end was torn: it is made again.
        let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
        let mut lines = whole.lines();
        if let Some(first) = lines.next() {
            let there: Identity = serde_json::from_str(first).map_err(|e| Error::load(path.display(), e))?;
            if there != *identity {
                return Err(Error::usage(format!("{} is of another job", path.display()))
                    .hint("the same model, data, samples, sequences and seed continue it"));
            }
        }
        for (n, line) in lines.enumerate() {
            let damaged = |e| Error::load(format!("{} line {}", path.display(), n + 2), e);
            samples.push(serde_json::from_str(line).map_err(damaged)?);
        }
        file.set_len(whole.len() as u64).map_err(fail)?;
        let mut journal = Self { path, file };
        if whole.is_empty() {
            journal.line(identity)?;
        }
        Ok((journal, samples))
    }

    /// # Errors
    /// Kind `Write`.
    pub fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| Error::internal(format!("sequences: {e}")))? + "\n";
        self.file.write_all(text.as_bytes()).map_err(|e| Error::write(self.path.display(), e))
    }
}

/// The means over all samples.
pub fn report(identity: Identity, samples: &[Sample]) -> Report {
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len().max(1) as f64;
    let line = |(i, name): (usize, &String)| {
        let walks: Vec<&Walk> = samples.iter().filter_map(|s| s.walks.get(i)).collect();
        let all = |of: fn(&Walk) -> Option<f64>| walks.iter().map(|w| of(w)).collect::<Option<Vec<f64>>>();
        Line {
            sequence: name.clone(),
            frames: walks.first().map_or(0, |w| w.classes.len()),
            flip_probability: mean(&walks.iter().map(|w| w.flips).collect::<Vec<_>>()),
            top5_distance: all(|w| w.top5).map(|v| mean(&v)),
            zipf_distance: all(|w| w.zipf).map(|v| mean(&v)),
        }
    };
    let lines: Vec<Line> = identity.sequences.iter().enumerate().map(line).collect();
    let flips: Vec<f64> = lines.iter().map(|l| l.flip_probability).collect();
    let distances: Option<Vec<f64>> = lines.iter().map(|l| l.top5_distance).collect();
    Report {
        mean_flip_probability: mean(&flips),
        mean_top5_distance: distances.map(|d| mean(&d)),
        relative: None,
        identity,
        lines,
    }
}

impl Report {
    /// # Errors
    /// Kind `Load` when the folder has no `sequences.json`.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("sequences.json");
        let bytes = files::read(&path, MAX_BYTES).map_err(|e| {
            Error::load(path.display(), e).hint("--reference takes the folder that `robust sequences --out` has filled")
        })?;
        serde_json::from_slice(&bytes).map_err(|e| Error::load(path.display(), e))
    }

    /// # Errors
    /// Kind `Write`.
    pub fn write(&self, root: &Path) -> Result<()> {
        write_atomic(&root.join("sequences.json"), self.json()?.as_bytes())
    }

    /// # Errors
    /// None in practice.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self).map_err(|e| Error::internal(format!("sequences: {e}")))? + "\n")
    }

    /// Flip rate and top-5 distance over those of `reference`, averaged over the sequences.
    ///
    /// # Errors
    /// Kind `Usage` when it is of other samples, another seed or other sequences, or never flips.
    pub fn against(&mut self, reference: &Report) -> Result<()> {
        let refuse = |why: String| Error::new(Kind::Usage, format!("the reference is not comparable: {why}"));
        let (own, other) = (&self.identity, &reference.identity);
        if (&own.suite, &own.dataset_digest, &own.ids) != (&other.suite, &other.dataset_digest, &other.ids) {
            return Err(refuse("it is of other samples".to_string()));
        }
        if own.seed != other.seed {
            return Err(refuse(format!("it has seed {}, this one {}", other.seed, own.seed)));
        }
        let (mut rates, mut distances) = (vec![], vec![]);
        for line in &self.lines {
            let other = reference.lines.iter().find(|l| l.sequence == line.sequence);
            let other = other.ok_or_else(|| refuse(format!("it lacks {}", line.sequence)))?;
            if other.flip_probability == 0. {
                return Err(refuse(format!("it never flips along {}", line.sequence)));
            }
            rates.push(line.flip_probability / other.flip_probability);
            distances.push(line.top5_distance.zip(other.top5_distance.filter(|d| *d > 0.)).map(|(a, b)| a / b));
        }
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        let distances: Option<Vec<f64>> = distances.into_iter().collect();
        self.relative = Some((mean(&rates), distances.map(|d| mean(&d))));
        Ok(())
    }

    /// A row per sequence.
    pub fn text(&self) -> String {
        let distance = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.3}"));
        let own = &self.identity;
        let mut text = format!("{} on {}, {} samples, seed {}\n\n", own.model, own.suite, own.ids.len(), own.seed);
        text += &format!("{:<18}{:>7}{:>9}{:>8}{:>8}\n", "sequence", "frames", "flips", "top 5", "zipf");
        for l in &self.lines {
            let flips = format!("{:.2} %", 100. * l.flip_probability);
            let (top, zipf) = (distance(l.top5_distance), distance(l.zipf_distance));
            text += &format!("{:<18}{:>7}{flips:>9}{top:>8}{zipf:>8}\n", l.sequence, l.frames);
        }
        text += &format!("\nmean flip probability {:.2} %", 100. * self.mean_flip_probability);
        if let Some(d) = self.mean_top5_distance {
            text += &format!(", mean top-5 distance {d:.3}");
        }
        if let Some((rate, distance)) = self.relative {
            text += &format!("\nmFR {:.1}", 100. * rate);
            if let Some(d) = distance {
                text += &format!(", mT5D {:.1}", 100. * d);
            }
            text += " (reference = 100)";
        }
        text + "\n"
    }
}
