//! Corrupted copies of a data set as files, and a sheet of all corruptions.

use crate::disk::{publish, write_atomic};
use candle_core::Device;
use rayon::prelude::*;
use robust_benchmarks::corruptions::{Random, Recipe};
use robust_core::files::{self, Draft};
use robust_core::{Batch, Dataset, Error, Result, View, to_host};
use robust_imaging::{interleaved, png};
use safetensors::{Dtype, tensor::TensorView};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// `SUITE/CORRUPTION/SEVERITY/CLASS/ID.png`, which `folder:` reads.
    Png,
    /// `SUITE/CORRUPTION.npy` (u8 `[severities * n, h, w, c]`) and `labels.npy`, which `npy:...?severity=` reads.
    Npy,
    /// `SUITE/CORRUPTION-SEVERITY.safetensors` with x (f32 `[n, c, h, w]`), y and ids.
    Safetensors,
}

/// What to corrupt.
pub struct Job<'a> {
    pub recipes: &'a [Recipe],
    pub data: &'a dyn Dataset,
    pub view: &'a View,
    pub ids: &'a [u64],
    pub seed: u64,
}

/// Images held at once.
const PART: usize = 256;

impl Job<'_> {
    /// # Errors
    /// Kind `Load` for a sample that cannot be read: a copy with holes would be another data set.
    fn load(&self, ids: &[u64]) -> Result<Batch> {
        let loaded = self.data.load(ids, self.view, &Device::Cpu)?;
        if let Some((id, why)) = loaded.failed.first() {
            return Err(Error::load(format!("sample {id}"), why).hint("leave it out with --ids"));
        }
        loaded.batch.ok_or_else(|| Error::load("data set", "it gave no images"))
    }

    /// Rows of a batch under one recipe, the same as `robust eval` makes with this seed.
    fn rows(&self, recipe: &Recipe, batch: &Batch) -> Result<Vec<Vec<f32>>> {
        let (flat, width) = to_host(&batch.x)?;
        let shape = &self.view.input.shape;
        let label = recipe.label();
        let one = |(row, id): (&[f32], &u64)| {
            let mut random = Random::native(self.seed, &label, *id);
            recipe.apply_row(row, shape, &mut random).map_err(|e| e.within(format!("sample {id}")))
        };
        flat.par_chunks(width.max(1)).zip(&batch.ids).map(one).collect()
    }
}

/// Arrays in the making, by where they will be.
type Arrays = BTreeMap<PathBuf, BufWriter<Draft>>;

/// Says in a folder what is being made there.
const MANIFEST: &str = "corrupt.json";
/// Bytes that it may have.
const MAX_MANIFEST: u64 = 1 << 26;

/// Takes a new folder for a job, or one where the same job was begun: its files are then made again, to the same bytes.
fn begin(job: &Job, out: &Path, kinds: &[As]) -> Result<()> {
    let path = out.join(MANIFEST);
    let recipes: Vec<String> = job.recipes.iter().map(|r| format!("{} {}", r.suite.name(), r.label())).collect();
    let ids: Vec<u8> = job.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let asked = serde_json::json!({
        "schema": "robust.corrupt/1", "robust": env!("CARGO_PKG_VERSION"), "recipes": recipes, "seed": job.seed,
        "dataset": job.data.card().name, "data_digest": job.data.card().digest, "samples": job.ids.len(),
        "ids_digest": blake3::hash(&ids).to_hex().to_string(), "size": job.view.input.shape,
        "kinds": kinds.iter().map(|k| format!("{k:?}").to_lowercase()).collect::<Vec<_>>(),
    });
    let text = format!("{asked}\n");
    if files::read(&path, MAX_MANIFEST).is_ok_and(|there| there == text.as_bytes()) {
        sweep_below(out, DEPTH);
        return Ok(());
    }
    // A manifest alone is of a job that wrote nothing.
    let ours = |name: &std::ffi::OsStr| files::is_draft(name) || name == MANIFEST;
    let foreign = |mut entries: std::fs::ReadDir| entries.any(|e| e.is_ok_and(|e| !ours(&e.file_name())));
    if out.read_dir().is_ok_and(foreign) {
        let hint = "choose a new one with --out: only the very same command goes on in its folder";
        return Err(Error::usage(format!("folder {} is not empty", out.display())).hint(hint));
    }
    std::fs::create_dir_all(out).map_err(|e| Error::write(out.display(), e))?;
    publish(&path, text.as_bytes())
}

/// Folders above a corrupted image: suite, corruption, severity, class.
const DEPTH: usize = 4;

/// Clears away what killed writers left in a folder and those below it.
fn sweep_below(folder: &Path, depth: usize) {
    files::sweep(folder);
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(entries) = folder.read_dir() else { return };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).for_each(|e| sweep_below(&e.path(), depth));
}

/// Writes every recipe of every sample below `out`; gives the number of images.
///
/// # Errors
/// Kind `Write` when a file cannot be written, kind `Usage` for a folder that holds something else, kind `Load` for samples that cannot be read.
pub fn write(job: &Job, out: &Path, kinds: &[As]) -> Result<u64> {
    let fail = |path: &Path, e: std::io::Error| Error::write(path.display(), e);
    begin(job, out, kinds)?;
    let mut arrays = Arrays::new();
    let mut count = 0;
    for recipe in job.recipes {
        let home = out.join(recipe.suite.name());
        std::fs::create_dir_all(&home).map_err(|e| fail(&home, e))?;
        let mut all = Whole::default();
        for ids in job.ids.chunks(PART) {
            let batch = job.load(ids)?;
            let rows = job.rows(recipe, &batch)?;
            count += rows.len() as u64;
            for kind in kinds {
                match kind {
                    As::Png => pngs(job, recipe, &home, &batch, &rows)?,
                    As::Npy => {
                        let path = home.join(format!("{}.npy", recipe.corruption.name));
                        append(job, recipe, &path, &rows, &mut arrays)?;
                    }
                    As::Safetensors => all.push(&batch, &rows),
                }
            }
        }
        if kinds.contains(&As::Safetensors) {
            let name = format!("{}-{}.safetensors", recipe.corruption.name, recipe.severity);
            write_atomic(&home.join(name), &all.serialise(&job.view.input.shape)?)?;
        }
    }
    for (path, file) in arrays {
        let finished = file.into_inner().map_err(std::io::Error::from).and_then(|draft| draft.finish(true));
        finished.map_err(|e| fail(&path, e))?;
    }
    if kinds.contains(&As::Npy)
        && let Some(first) = job.recipes.first()
    {
        labels(job, &out.join(first.suite.name()).join("labels.npy"))?;
    }
    Ok(count)
}

fn pngs(job: &Job, recipe: &Recipe, home: &Path, batch: &Batch, rows: &[Vec<f32>]) -> Result<()> {
    let [c, h, w] = <[usize; 3]>::try_from(job.view.input.shape.clone())
        .map_err(|_| Error::internal("a corruption of something that is not an image"))?;
    let names = job.data.card().classes.clone();
    let labels = batch.labels.clone().unwrap_or_default();
    let dir = home.join(recipe.corruption.name).join(recipe.severity.to_string());
    for (i, row) in rows.iter().enumerate() {
        let label = labels.get(i).copied().unwrap_or(0);
        let class = names.as_ref().and_then(|n| n.get(label as usize)).filter(|n| plain(n));
        let class = dir.join(class.cloned().unwrap_or_else(|| format!("{label:04}")));
        std::fs::create_dir_all(&class).map_err(|e| Error::write(class.display(), e))?;
        let path = class.join(format!("{:08}.png", batch.ids[i]));
        let bytes = png(&interleaved(row, c), h, w, c)?;
        // Whole or not there; a loss of power may take the last ones, and the same command makes them again.
        let write = || {
            let mut draft = Draft::new(&path)?;
            draft.write_all(&bytes)?;
            draft.finish(false)
        };
        write().map_err(|e| Error::write(path.display(), e))?;
    }
    Ok(())
}

/// Names that are one folder on any system.
fn plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_ ".contains(c))
}

fn header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(|d| format!("{d},")).collect();
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    let room = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((room as u16).to_le_bytes());
    bytes.extend(format!("{text:<width$}\n", width = room - 1).as_bytes());
    bytes
}

/// Severities of one corruption follow each other in one file; the recipes come in that order.
fn append(job: &Job, recipe: &Recipe, path: &Path, rows: &[Vec<f32>], files: &mut Arrays) -> Result<()> {
    let shape = &job.view.input.shape;
    let fail = |e: std::io::Error| Error::write(path.display(), e);
    if !files.contains_key(path) {
        let same = |r: &&Recipe| r.corruption.name == recipe.corruption.name;
        let severities = job.recipes.iter().filter(same).count();
        let mut file = BufWriter::new(Draft::new(path).map_err(fail)?);
        let dims = [severities * job.ids.len(), shape[1], shape[2], shape[0]];
        file.write_all(&header("|u1", if shape[0] == 1 { &dims[..3] } else { &dims })).map_err(fail)?;
        files.insert(path.to_path_buf(), file);
    }
    let Some(file) = files.get_mut(path) else { return Ok(()) };
    rows.iter().try_for_each(|row| file.write_all(&interleaved(row, shape[0])).map_err(fail))
}

fn labels(job: &Job, path: &Path) -> Result<()> {
    let mut all = vec![];
    for ids in job.ids.chunks(PART) {
        all.extend(job.load(ids)?.labels.unwrap_or_default());
    }
    let mut bytes = header("<i8", &[all.len()]);
    bytes.extend(all.iter().flat_map(|l| i64::from(*l).to_le_bytes()));
    write_atomic(path, &bytes)
}

/// One safetensors file in the making.
#[derive(Default)]
struct Whole {
    x: Vec<u8>,
    y: Vec<u8>,
    ids: Vec<u8>,
}

impl Whole {
    fn push(&mut self, batch: &Batch, rows: &[Vec<f32>]) {
        self.x.extend(rows.iter().flatten().flat_map(|v| v.to_le_bytes()));
        self.y.extend(batch.labels.iter().flatten().flat_map(|l| i64::from(*l).to_le_bytes()));
        self.ids.extend(batch.ids.iter().flat_map(|id| (*id as i64).to_le_bytes()));
    }

    fn serialise(&self, shape: &[usize]) -> Result<Vec<u8>> {
        let n = self.ids.len() / 8;
        let dims: Vec<usize> = std::iter::once(n).chain(shape.iter().copied()).collect();
        let broken = |e: safetensors::SafeTensorError| Error::internal(format!("corrupt: {e}"));
        let views = [
            ("x", TensorView::new(Dtype::F32, dims, &self.x).map_err(broken)?),
            ("y", TensorView::new(Dtype::I64, vec![self.y.len() / 8], &self.y).map_err(broken)?),
            ("ids", TensorView::new(Dtype::I64, vec![n], &self.ids).map_err(broken)?),
        ];
        safetensors::serialize(views, None).map_err(broken)
    }
}

/// A PNG of the first sample: the clean image, then a row per corruption with its severities side by side.
///
/// # Errors
/// Those of loading and applying.
pub fn sheet(job: &Job) -> Result<Vec<u8>> {
    const GAP: usize = 2;
    let batch = job.load(&job.ids[..1.min(job.ids.len())])?;
    let &[c, h, w] = job.view.input.shape.as_slice() else {
        return Err(Error::internal("a sheet of something that is not an image"));
    };
    let (clean, _) = to_host(&batch.x)?;
    let mut lines: Vec<(&str, Vec<Vec<f32>>)> = vec![("clean", vec![clean])];
    for recipe in job.recipes {
        let made = job.rows(recipe, &batch)?;
        match lines.last_mut() {
            Some((name, images)) if *name == recipe.corruption.name => images.extend(made),
            _ => lines.push((recipe.corruption.name, made)),
        }
    }
    let across = lines.iter().map(|l| l.1.len()).max().unwrap_or(1);
    let (tall, wide) = (lines.len() * (h + GAP), across * (w + GAP));
    let mut canvas = vec![255u8; tall * wide * c];
    for (row, (_, images)) in lines.iter().enumerate() {
        for (column, image) in images.iter().enumerate() {
            let bytes = interleaved(image, c);
            for (y, line) in bytes.chunks_exact(w * c).enumerate() {
                let to = ((row * (h + GAP) + y) * wide + column * (w + GAP)) * c;
                canvas[to..to + w * c].copy_from_slice(line);
            }
        }
    }
    png(&canvas, tall, wide, c)
}
