//! Adversarial points of a run as files for people and other tools, and whether they survive being 8-bit images.

use crate::disk::{publish, write_atomic};
use crate::encoder::label_free;
use crate::eval::clean::{Clean, stack};
use crate::eval::plan::{PlannedAttack, Unit};
use crate::eval::record::RunRecord;
use crate::eval::{evidence, journal};
use candle_core::Device;
use robust_core::{
    Batch, Dataset, Draw, Error, Goal, Near, Outcome, Result, RowKey, Target, Verdict, files, stream, to_host,
};
use robust_imaging::{interleaved, level, png};
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// One 8-bit PNG per sample, named by its id: [`to_levels`].
    Png,
    /// `x.npy` (f32 `[n, ...]`), `y.npy` and `ids.npy` (i64).
    Npy,
    /// `points.safetensors` with `x`, `y`, `ids`: `--attack file:` and `--dataset safetensors:` read it.
    Safetensors,
    /// `sheet.png`: clean, adversarial and ten times their difference, a row per sample.
    Sheet,
}

/// What one (model, attack) left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub model: String,
    pub attack: String,
    pub folder: String,
    pub points: u64,
    /// Points of fooled samples.
    pub fooled: u64,
    /// Of these, still fooled and still legal once every pixel is one of 256 levels: by levels where the clean image is
    /// 8-bit too, else up to rounding (see `robust explain file`, which judges such files in the same way).
    pub survive_8bit: u64,
    /// Of these, still fooled but pushed out of the region by the rounding.
    pub illegal_8bit: u64,
}

/// One point with all that belongs to it.
struct Point {
    outcome: Outcome,
    clean: Vec<f32>,
    x: Vec<f32>,
}

/// The 256-level copy of a point: the nearest level, or the next one toward the clean pixel where the nearest is further
/// from it than the point was. Between 8-bit clean images and their points no distance grows, so legal points stay legal, but
/// for the rounding of f32.
pub fn to_levels(x: &[f32], clean: &[f32]) -> Vec<f32> {
    let level_of = |(&x, &clean): (&f32, &f32)| {
        let nearest = level(x);
        let gap = (f32::from(nearest) / 255. - clean).abs();
        let inward = match f32::from(nearest) / 255. > clean {
            true => nearest.saturating_sub(1),
            false => nearest.saturating_add(1),
        };
        f32::from(if gap > (x - clean).abs() { inward } else { nearest }) / 255.
    };
    x.iter().zip(clean).map(level_of).collect()
}

/// Rows of the contact sheet.
const SHEET_ROWS: usize = 16;

/// Writes the kept points of a run below `out`, one folder per model and attack, and judges their 8-bit copies.
///
/// # Errors
/// Kind `Load` when the run kept no points, kind `Write` when files cannot be written.
pub fn export(
    root: &Path,
    record: &RunRecord,
    targets: &[Target],
    data: &dyn Dataset,
    out: &Path,
    kinds: &[As],
) -> Result<Vec<Exported>> {
    let outcomes = journal::read_outcomes(root, &record.plan)?.outcomes;
    let mut all = vec![];
    let mut groups: Vec<((usize, usize), Vec<Point>)> = vec![];
    for (unit, lines) in journal::by_unit(&record.plan, &outcomes).filter(|(unit, mine)| mine.len() == unit.count) {
        let points = load(root, record, unit, lines, data)?;
        let key = (unit.model, unit.attack);
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, group)) => group.extend(points),
            None => groups.push((key, points)),
        }
    }
    let mut taken: Vec<String> = vec![];
    for ((model, attack), points) in groups.iter().filter(|(_, p)| !p.is_empty()) {
        let (planned, attack) = (&record.plan.models[*model], &record.plan.models[*model].attacks[*attack]);
        let name = free(plain(&format!("{}--{}", planned.name, attack.label)), &mut taken);
        let dir = out.join(&name);
        std::fs::create_dir_all(&dir).map_err(|e| Error::write(dir.display(), e))?;
        files::sweep(&dir);
        for kind in kinds {
            write(*kind, &dir, attack, points)?;
        }
        let mut done =
            Exported { model: planned.name.clone(), attack: attack.label.clone(), folder: name, ..Exported::default() };
        survival(&targets[*model], (data, record.plan.seed), attack, points, &mut done)?;
        all.push(done);
    }
    if all.is_empty() {
        return Err(Error::load(root.display(), "the run kept no adversarial points")
            .hint("run it with --evidence all or fooled"));
    }
    let text = serde_json::json!({ "schema": "robust.export/1", "results": all }).to_string();
    publish(&out.join("export.json"), text.as_bytes())?;
    Ok(all)
}

/// A name that no other has, also where systems do not tell large letters from small ones: the later one is numbered.
fn free(name: String, taken: &mut Vec<String>) -> String {
    let mut free = name.clone();
    let mut n = 1;
    while taken.contains(&free.to_lowercase()) {
        n += 1;
        free = format!("{name}-{n}");
    }
    taken.push(free.to_lowercase());
    free
}

/// Names of files that any system takes.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-.=_".contains(c) { c } else { '_' }).collect()
}

fn load(root: &Path, record: &RunRecord, unit: Unit, lines: &[Outcome], data: &dyn Dataset) -> Result<Vec<Point>> {
    let planned = &record.plan.models[unit.model];
    let attack = &planned.attacks[unit.attack];
    let mut points = evidence::read(root, &unit.name(), &planned.name, &attack.label)?;
    let ids: Vec<u64> = lines.iter().map(|o| o.id).filter(|id| points.contains_key(id)).collect();
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let loaded = data.load(&ids, &planned.view(attack), &Device::Cpu)?;
    let mut clean: HashMap<u64, Vec<f32>> = HashMap::new();
    if let Some(batch) = loaded.batch {
        let (flat, width) = to_host(&batch.x)?;
        clean.extend(batch.ids.iter().copied().zip(flat.chunks(width.max(1)).map(<[f32]>::to_vec)));
    }
    let point = |o: &Outcome| Some(Point { outcome: o.clone(), clean: clean.remove(&o.id)?, x: points.remove(&o.id)? });
    Ok(lines.iter().filter_map(point).collect())
}

fn survival(
    target: &Target,
    (data, seed): (&dyn Dataset, u64),
    attack: &PlannedAttack,
    points: &[Point],
    into: &mut Exported,
) -> Result<()> {
    into.points = points.len() as u64;
    let fooled: Vec<&Point> = points.iter().filter(|p| p.outcome.verdict == Verdict::Fooled).collect();
    into.fooled = fooled.len() as u64;
    for part in fooled.chunks(crate::eval::plan::UNIT) {
        let anchors = match attack.aim {
            None => None,
            Some(aim) => {
                let clean: Vec<Vec<f32>> = part.iter().map(|p| p.clean.clone()).collect();
                let x = stack(&clean, &attack.threat.input.shape)?;
                let batch = Batch::new(part.iter().map(|p| p.outcome.id).collect(), x, None)?;
                let judged = label_free::judge_clean(target, data, &batch, aim, seed)?;
                let anchor = |c: Clean| Some((c.id, c.anchor?.embedding(&c.scores)));
                Some((aim, judged.into_iter().filter_map(anchor).collect::<HashMap<u64, Vec<f32>>>()))
            }
        };
        let rounded: Vec<Vec<f32>> = part.iter().map(|p| to_levels(&p.x, &p.clean)).collect();
        let keys: Vec<RowKey> = part.iter().map(|p| RowKey::of(p.outcome.id)).collect();
        let draw = Draw { seed: 0, stream: stream("export"), turn: 0, rows: &keys };
        let scores = target.deployed.exact(&stack(&rounded, &attack.threat.input.shape)?, &draw)?.to_vec2::<f32>()?;
        for ((point, x), scores) in part.iter().zip(&rounded).zip(&scores) {
            let goal = match (point.outcome.target, &anchors) {
                (Some(class), _) => Goal::Targeted(vec![class]),
                (None, None) => Goal::Untargeted(point.outcome.label.into_iter().collect()),
                (None, Some((aim, anchors))) => match anchors.get(&point.outcome.id) {
                    Some(anchor) => aim.goal(vec![anchor.clone()]),
                    None => continue,
                },
            };
            if goal.judge(0, scores).is_some_and(|p| goal.reached(p)) {
                // Files of whole levels are compared by levels: 8/255 apart is 8/255, whatever f32 makes of it.
                let legal = !matches!(attack.threat.near(&point.clean, x), Near::Outside(_));
                into.survive_8bit += u64::from(legal);
                into.illegal_8bit += u64::from(!legal);
            }
        }
    }
    Ok(())
}

fn write(kind: As, dir: &Path, attack: &PlannedAttack, points: &[Point]) -> Result<()> {
    let shape = &attack.threat.input.shape;
    match kind {
        As::Png => {
            let [c, h, w] = image(shape)?;
            points.iter().try_for_each(|p| {
                write_atomic(
                    &dir.join(format!("{:08}.png", p.outcome.id)),
                    &png(&interleaved(&to_levels(&p.x, &p.clean), c), h, w, c)?,
                )
            })
        }
        As::Npy => arrays(points).into_iter().try_for_each(|(name, bytes, dtype)| {
            let dims = if name == "x" { with_rows(points.len(), shape) } else { vec![points.len()] };
            let path: PathBuf = dir.join(format!("{name}.npy"));
            write_atomic(&path, &npy(&bytes, if dtype == Dtype::F32 { "<f4" } else { "<i8" }, &dims))
        }),
        As::Safetensors => {
            let broken = |e: safetensors::SafeTensorError| Error::internal(format!("export: {e}"));
            let arrays = arrays(points);
            let views = arrays.iter().map(|(name, bytes, dtype)| {
                let dims = if *name == "x" { with_rows(points.len(), shape) } else { vec![points.len()] };
                Ok((*name, TensorView::new(*dtype, dims, bytes).map_err(broken)?))
            });
            let views = views.collect::<Result<Vec<_>>>()?;
            write_atomic(&dir.join("points.safetensors"), &safetensors::serialize(views, None).map_err(broken)?)
        }
        As::Sheet => sheet(dir, image(shape)?, points),
    }
}

fn with_rows(rows: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(rows).chain(shape.iter().copied()).collect()
}

fn image(shape: &[usize]) -> Result<[usize; 3]> {
    <[usize; 3]>::try_from(shape).map_err(|_| {
        Error::usage(format!("inputs of shape {shape:?} are not images")).hint("export them as npy or safetensors")
    })
}

fn arrays(points: &[Point]) -> [(&'static str, Vec<u8>, Dtype); 3] {
    let x = points.iter().flat_map(|p| p.x.iter().flat_map(|v| v.to_le_bytes())).collect();
    let y = points.iter().flat_map(|p| i64::from(p.outcome.label.unwrap_or_default()).to_le_bytes()).collect();
    let ids = points.iter().flat_map(|p| p.outcome.id.to_le_bytes()).collect();
    [("x", x, Dtype::F32), ("y", y, Dtype::I64), ("ids", ids, Dtype::I64)]
}

/// NumPy's format 1.0: magic, version, header length, a Python dict padded to 64 bytes, the values.
fn npy(bytes: &[u8], descr: &str, dims: &[usize]) -> Vec<u8> {
    let list: String = dims.iter().map(|d| format!("{d}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", list.trim_end());
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(bytes);
    out
}

/// Clean, adversarial, difference: small images are enlarged so that a person sees their pixels.
fn sheet(dir: &Path, [c, h, w]: [usize; 3], points: &[Point]) -> Result<()> {
    let zoom = (128 / h.max(w).max(1)).max(1);
    let gap = 4;
    let rows = points.len().min(SHEET_ROWS);
    let (height, width) = (rows * (h * zoom + gap), 3 * (w * zoom + gap));
    let mut bytes = vec![255u8; height * width * c];
    for (row, point) in points.iter().take(rows).enumerate() {
        let difference: Vec<f32> = point.x.iter().zip(&point.clean).map(|(x, c)| 0.5 + 10. * (x - c)).collect();
        for (column, pixels) in [&point.clean, &point.x, &difference].into_iter().enumerate() {
            let tile = interleaved(pixels, c);
            for y in 0..h * zoom {
                for x in 0..w * zoom {
                    let from = ((y / zoom) * w + x / zoom) * c;
                    let to = ((row * (h * zoom + gap) + y) * width + column * (w * zoom + gap) + x) * c;
                    bytes[to..to + c].copy_from_slice(&tile[from..from + c]);
                }
            }
        }
    }
    write_atomic(&dir.join("sheet.png"), &png(&bytes, height, width, c)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_never_move_away_from_an_8_bit_clean_image() {
        for clean in 0..=255u8 {
            for step in -40..=40 {
                let clean = f32::from(clean) / 255.;
                let x = (clean + step as f32 * 0.0077).clamp(0., 1.);
                let q = to_levels(&[x], &[clean])[0];
                assert!(
                    (q - clean).abs() <= (x - clean).abs() + 1e-7 && (q - x).abs() < 1. / 255. + 1e-6,
                    "{clean} {x} {q}"
                );
                assert_eq!(f32::from(level(q)) / 255., q);
            }
        }
    }

    #[test]
    fn names_that_become_the_same_have_folders_of_their_own() {
        let mut taken = vec![];
        let names: Vec<String> = ["a b", "a_b", "A_B", "c"].iter().map(|n| free(plain(n), &mut taken)).collect();
        assert_eq!(names, ["a_b", "a_b-2", "A_B-3", "c"]);
    }

    #[test]
    fn the_npy_header_is_numpys() {
        let file = npy(&[1, 2, 3, 4], "<f4", &[1, 1]);
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        assert_eq!(file.len(), 64 + 64 + 4);
        assert!(String::from_utf8_lossy(&file[10..]).contains("'shape': (1, 1,), }"));
    }
}
