//! What a data set is, without a model: for `robust inspect`.

use super::opener::found;
use super::query::Ask;
use super::reader::{Found, Natural};
use super::sources::SOURCES;
use crate::subset::{Pick, choose};
use robust_core::{Preprocess, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many samples the range of values is taken over, and how many pixels of images are decoded for it at most.
const LOOKED_AT: u64 = 32;
const BUDGET: usize = 16 << 20;

/// How often a class occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    pub label: u32,
    /// Where the source has names.
    pub name: Option<String>,
    pub samples: u64,
}

/// A data set's account of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// The kind of source, such as `folder`.
    pub format: String,
    pub name: String,
    pub digest: String,
    pub samples: u64,
    /// Every label that occurs, ascending.
    pub classes: Vec<ClassCount>,
    /// As stored, after the source's preprocessing: of arrays in their own order, of images `[3, height, width]`. `None`
    /// when the first sample cannot be read.
    pub shape: Option<Vec<usize>>,
    /// Least and greatest value of a few samples, always the same ones; bytes count as v / 255. Of images, as many as have
    /// 16 million pixels together.
    pub range: Option<(f32, f32)>,
    /// Of the samples looked at, those that cannot be read and why.
    pub unreadable: Vec<(u64, String)>,
    pub preprocess: Option<Preprocess>,
    pub notes: Vec<String>,
}

/// Opens a data set and looks at a few of its samples.
///
/// Errors: those of [`open`](super::open).
pub fn inspect(spec: &str) -> Result<DataFacts> {
    let Found { data, mut notes } = found(spec, Ask::default())?;
    let card = data.card().clone();
    let mut counts = BTreeMap::<u32, u64>::new();
    (0..card.samples).for_each(|id| *counts.entry(data.label(id)).or_default() += 1);
    let name = |label: u32| card.classes.as_ref()?.get(label as usize).filter(|name| !name.is_empty()).cloned();
    let classes = counts.into_iter().map(|(label, samples)| ClassCount { label, name: name(label), samples }).collect();
    let (mut range, mut unreadable, mut budget) = (None::<(f32, f32)>, vec![], BUDGET);
    let mut passed = 0;
    for id in choose(card.samples, &Pick::Limit(LOOKED_AT.min(card.samples)))? {
        match data.natural(id, &mut budget) {
            Ok(Natural { range: Some((low, high)), .. }) => {
                let (a, b) = range.unwrap_or((f32::INFINITY, f32::NEG_INFINITY));
                range = Some((a.min(low), b.max(high)));
            }
            Ok(_) => passed += 1,
            Err(why) => unreadable.push((id, why)),
        }
    }
    if passed > 0 {
        notes.push(format!("{passed} of the images looked at were not decoded: at most {BUDGET} pixels are, together"));
    }
    notes.extend(data.remarks());
    let scheme = card.name.split(':').next().unwrap_or_default();
    let format = SOURCES.iter().find(|source| source.scheme == scheme).map_or(scheme, |source| source.scheme);
    Ok(DataFacts {
        format: format.to_string(),
        shape: data.natural(0, &mut 0).ok().map(|found| found.shape),
        preprocess: data.preprocess(),
        name: card.name,
        digest: card.digest,
        samples: card.samples,
        classes,
        range,
        unreadable,
        notes,
    })
}
