//! The points that prove the numbers: one safetensors file per unit of work, written and synced before the unit's
//! journal lines, addressed by (model, attack, sample id).

use crate::disk::{self, write_atomic};
use crate::eval::plan::{Keep, PlannedAttack};
use robust_core::{Error, Kind, Outcome, Result, Verdict, files};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Writes the points of one unit; nothing when there are none.
pub fn write(
    root: &Path,
    unit: &str,
    model: &str,
    attack: &str,
    shape: &[usize],
    points: &[(u64, Vec<f32>)],
) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let path = place(root, unit);
    let ids: Vec<u8> = points.iter().flat_map(|(id, _)| id.to_le_bytes()).collect();
    let x: Vec<u8> = points.iter().flat_map(|(_, x)| x.iter().flat_map(|v| v.to_le_bytes())).collect();
    let dims = std::iter::once(points.len()).chain(shape.iter().copied()).collect();
    let broken = |e: safetensors::SafeTensorError| Error::internal(format!("evidence of {unit}: {e}"));
    let ids = TensorView::new(Dtype::U64, vec![points.len()], &ids).map_err(broken)?;
    let x = TensorView::new(Dtype::F32, dims, &x).map_err(broken)?;
    let header = [("schema", "robust.evidence/1"), ("model", model), ("attack", attack)];
    // One string: the header is a map, and a map of several entries has no order to be byte-identical in.
    let text = serde_json::to_string(&header).map_err(|e| Error::internal(format!("evidence of {unit}: {e}")))?;
    let metadata = HashMap::from([("robust".to_string(), text)]);
    let bytes = safetensors::serialize([("ids", ids), ("x", x)], Some(metadata)).map_err(broken)?;
    write_atomic(&path, &bytes)
}

/// Whether a run of this plan keeps the point behind an outcome of this attack.
pub fn is_kept(keep: Keep, attack: &PlannedAttack, outcome: &Outcome) -> bool {
    outcome.evidence.is_some()
        && match keep {
            Keep::All => true,
            // Whoever checks it makes the point again: the digest in the line is evidence enough.
            Keep::Fooled => outcome.verdict == Verdict::Fooled && !attack.is_recipe(),
            Keep::None => false,
        }
}

/// Whether points of these outcomes of a unit were kept, and their file is gone.
pub fn is_missing(root: &Path, unit: &str, keep: Keep, attack: &PlannedAttack, outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|o| is_kept(keep, attack, o))
        && matches!(place(root, unit).symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound)
}

fn place(root: &Path, unit: &str) -> PathBuf {
    root.join("evidence").join(format!("{unit}.safetensors"))
}

/// Removes a unit's evidence that has no journal lines: it will be written again.
pub fn remove(root: &Path, unit: &str) -> Result<()> {
    match std::fs::remove_file(place(root, unit)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::write(root.display(), e)),
        _ => Ok(()),
    }
}

/// Bytes that the points of one unit may have.
const MAX_BYTES: u64 = 4 << 30;

/// The points of one unit by sample id.
pub type Points = HashMap<u64, Vec<f32>>;

/// Reads a unit's evidence back; empty when the unit left none.
///
/// # Errors
/// Kind `Evidence` when the file is damaged, or belongs to another model or attack.
pub fn read(root: &Path, unit: &str, model: &str, attack: &str) -> Result<Points> {
    let path = place(root, unit);
    let bytes = match files::read(&path, MAX_BYTES) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Points::new()),
        other => other.map_err(|e| Error::load(path.display(), e))?,
    };
    let broken =
        |why: String| Error::new(Kind::Evidence, format!("evidence file {} is damaged: {why}", disk::short(&path)));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get("robust")).cloned().unwrap_or_default();
    let pairs: Vec<(String, String)> = serde_json::from_str(&header).map_err(|e| broken(format!("its header: {e}")))?;
    let says = |key: &str| pairs.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v);
    if says("model") != model || says("attack") != attack {
        return Err(broken(format!("it belongs to {} under {}", says("model"), says("attack"))));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    let tensor = |name: &str| file.tensor(name).map_err(|e| broken(e.to_string()));
    let (ids, x) = (tensor("ids")?, tensor("x")?);
    let rows = ids.data().len() / 8;
    if ids.dtype() != Dtype::U64 || x.dtype() != Dtype::F32 || rows == 0 || x.shape().first() != Some(&rows) {
        return Err(broken(format!("{:?} ids for {:?} points", ids.shape(), x.shape())));
    }
    let word = |b: &[u8]| b.iter().rev().fold(0u64, |a, &b| a << 8 | u64::from(b));
    let values: Vec<f32> = x.data().chunks_exact(4).map(|b| f32::from_bits(word(b) as u32)).collect();
    let width = values.len() / rows;
    Ok(ids.data().chunks_exact(8).map(word).zip(values.chunks(width.max(1)).map(<[f32]>::to_vec)).collect())
}

/// The longest header that is believed: ours are a few hundred bytes.
const HEADER: u64 = 1 << 16;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    about: HashMap<String, String>,
    ids: Span,
    x: Span,
}

#[derive(Deserialize)]
struct Span {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The points of some samples of a unit, read without the others; those that are not there are left out.
///
/// # Errors
/// Kind `Evidence` when the file is damaged, or belongs to another model or attack.
pub fn read_some(root: &Path, unit: &str, model: &str, attack: &str, wanted: &[u64]) -> Result<Points> {
    let path = place(root, unit);
    let (mut file, all) = match files::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Points::new()),
        other => other.map_err(|e| Error::load(path.display(), e))?,
    };
    let broken =
        |why: &str| Error::new(Kind::Evidence, format!("evidence file {} is damaged: {why}", disk::short(&path)));
    let mut read = |at: u64, count: u64| -> Result<Vec<u8>> {
        if at.checked_add(count).is_none_or(|end| end > all) {
            return Err(broken("it ends too early"));
        }
        let mut bytes = vec![0; count as usize];
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
        read.map(|()| bytes).map_err(|e| Error::load(path.display(), e))
    };
    let word = |b: &[u8]| b.iter().rev().fold(0u64, |a, &b| a << 8 | u64::from(b));
    let length = word(&read(0, 8)?);
    if length > HEADER {
        return Err(broken("its header is too long"));
    }
    let header: Header = serde_json::from_slice(&read(8, length)?).map_err(|e| broken(&format!("its header: {e}")))?;
    let said: Vec<(String, String)> = serde_json::from_str(header.about.get("robust").map_or("", String::as_str))
        .map_err(|e| broken(&e.to_string()))?;
    let says = |key: &str, value: &str| said.iter().any(|(k, v)| k == key && v == value);
    if !says("model", model) || !says("attack", attack) {
        return Err(broken("it belongs to another model or attack"));
    }
    let size = |s: &Span| s.data_offsets.1.checked_sub(s.data_offsets.0);
    let rows = header.ids.shape.first().copied().unwrap_or(0);
    let entries = header.x.shape.iter().try_fold(1u64, |a, b| a.checked_mul(*b));
    let fits =
        header.ids.dtype == "U64" && header.x.dtype == "F32" && rows > 0 && header.x.shape.first() == Some(&rows);
    let contradiction = || broken("sizes that contradict each other");
    let ids_size = rows.checked_mul(8).filter(|s| fits && size(&header.ids) == Some(*s)).ok_or_else(contradiction)?;
    let x_size = entries.and_then(|e| e.checked_mul(4)).filter(|s| size(&header.x) == Some(*s));
    let (start, width) = (8 + length, x_size.ok_or_else(contradiction)? / rows);
    let ids = read(start.saturating_add(header.ids.data_offsets.0), ids_size)?;
    let mut points = Points::new();
    for (row, id) in (0u64..).zip(ids.chunks_exact(8).map(word)).filter(|(_, id)| wanted.contains(id)) {
        let bytes = read(start.saturating_add(header.x.data_offsets.0).saturating_add(row * width), width)?;
        points.insert(id, bytes.chunks_exact(4).map(|b| f32::from_bits(word(b) as u32)).collect());
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn some_rows_are_those_of_all_rows_and_hostile_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("evidence")).unwrap();
        let points: Vec<(u64, Vec<f32>)> = (0..9).map(|i| (10 * i, vec![i as f32, 0.5, -1.])).collect();
        write(root, "u", "m", "a", &[3], &points).unwrap();
        let all = read(root, "u", "m", "a").unwrap();
        let some = read_some(root, "u", "m", "a", &[70, 0, 5]).unwrap();
        assert_eq!((some.len(), &some[&70], &some[&0]), (2, &all[&70], &all[&0]));
        assert!(read_some(root, "none", "m", "a", &[0]).unwrap().is_empty());
        assert!(read_some(root, "u", "m", "b", &[0]).is_err());
        let whole = std::fs::read(root.join("evidence/u.safetensors")).unwrap();
        let huge = u64::MAX / 2;
        let about = r#""__metadata__":{"robust":"[[\"model\",\"m\"],[\"attack\",\"a\"]]"}"#;
        let span = |dtype: &str, rows: u64, from: u64, to: u64| {
            format!(r#"{{"dtype":"{dtype}","shape":[{rows}],"data_offsets":[{from},{to}]}}"#)
        };
        let file = |ids: String, x: String| raw(&format!(r#"{{{about},"ids":{ids},"x":{x}}}"#), &[0; 64]);
        let good = file(span("U64", 2, 0, 16), span("F32", 2, 16, 24));
        std::fs::write(root.join("evidence/v.safetensors"), good).unwrap();
        assert_eq!(read_some(root, "v", "m", "a", &[0]).unwrap()[&0], [0.]);
        for (name, bytes) in [
            ("nothing", vec![]),
            ("cut", whole[..whole.len() - 1].to_vec()),
            ("long header", raw(&" ".repeat(100_000), &[])),
            ("no header", raw("[]", &[])),
            ("rows beyond counting", file(span("U64", huge, 0, 16), span("F32", huge, 0, 16))),
            ("offsets that turn back", file(span("U64", huge, 16, 0), span("F32", huge, 16, 0))),
            ("offsets beyond the file", file(span("U64", 2, huge, huge + 16), span("F32", 2, 0, 8))),
            ("another type", file(span("F32", 2, 0, 16), span("F32", 2, 16, 24))),
        ] {
            std::fs::write(root.join("evidence/v.safetensors"), bytes).unwrap();
            assert!(read_some(root, "v", "m", "a", &[0, 80]).is_err(), "{name}");
        }
    }
}
