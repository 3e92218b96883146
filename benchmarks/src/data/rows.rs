//! From single samples to a batch: read in parallel, kept in order, failures listed beside.

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use robust_core::{Batch, Error, Loaded, Result, View};

/// Why a sample has no pixels.
pub(crate) enum Bad {
    /// This one alone: it becomes a failed row.
    Sample(String),
    /// The data set does not fit the model.
    Set(Error),
}

/// Reads `ids` by `pixels` (each a row of the view's length), in the order asked for. Memory is that of the rows.
pub(crate) fn assemble(
    ids: &[u64],
    samples: u64,
    view: &View,
    device: &Device,
    label: impl Fn(u64) -> u32,
    pixels: impl Fn(u64) -> Result<Vec<f32>, Bad> + Sync,
) -> Result<Loaded> {
    if let Some(id) = ids.iter().find(|&&id| id >= samples) {
        return Err(Error::usage(format!("sample {id} of a data set of {samples}")).hint("ids start at 0"));
    }
    let rows: Vec<Result<Vec<f32>, Bad>> = ids.par_iter().map(|&id| pixels(id)).collect();
    let mut loaded = Loaded { batch: None, failed: vec![] };
    let (mut kept, mut flat) = (vec![], vec![]);
    for (&id, row) in ids.iter().zip(rows) {
        match row {
            Ok(row) => {
                kept.push(id);
                flat.extend(row);
            }
            Err(Bad::Sample(why)) => loaded.failed.push((id, why)),
            Err(Bad::Set(error)) => return Err(error),
        }
    }
    if !kept.is_empty() {
        let shape: Vec<usize> = [kept.len()].iter().chain(&view.input.shape).copied().collect();
        let labels = kept.iter().map(|&id| label(id)).collect();
        loaded.batch = Some(Batch::new(kept, Tensor::from_vec(flat, shape, device)?, Some(labels))?);
    }
    Ok(loaded)
}

/// What lies behind a data set is no longer what named it.
pub(crate) fn changed(what: &str) -> Error {
    Error::load(what, "it was changed after the data set was opened").hint(
        "what was computed before is of the old content: let nothing write to the data while a run reads it, and start a \
         new run with another --out",
    )
}

/// `3x32x32`
pub(crate) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "single numbers".to_string(),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}
