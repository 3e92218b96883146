//! Bare encoders: clean embeddings, the anchors they are held against, and thresholds taken from the data.

use crate::eval::clean::{Anchor, Clean, check_fit, exact, out_of_domain, row_digest};
use crate::eval::plan::spread;
use candle_core::Device;
use robust_core::{
    Aim, AimKind, AimSpec, Batch, Dataset, Draw, Error, Model, Result, RowKey, Similarity, Target, fragile, stream,
    to_host,
};
use std::collections::HashMap;

/// The sample of the data set (of `samples`) that sample `id` is driven toward: any other one, a function of seed and id.
///
/// # Errors
/// Kind `Usage` for a data set without another sample.
pub fn other(seed: u64, id: u64, samples: u64) -> Result<u64> {
    if samples < 2 {
        return Err(Error::usage("the data set has no other sample to go towards").hint("use --goal away"));
    }
    let draw = Draw { seed, stream: stream("anchor"), turn: 0, rows: &[] };
    let most = u32::try_from(samples - 1).unwrap_or(u32::MAX);
    let pick = u64::from(draw.noise(&RowKey::of(id)).index(most));
    Ok(if pick >= id { pick + 1 } else { pick })
}

/// Embeddings of a batch, one row each.
fn embed(model: &dyn Model, batch: &Batch, seed: u64) -> Result<Vec<Vec<f32>>> {
    Ok(exact(model, &batch.ids, &batch.x, seed)?.to_vec2::<f32>()?)
}

/// A sample that another is driven toward, and its clean embedding or why there is none.
type Approached = (u64, Result<Vec<f32>, String>);

/// The clean embeddings of the samples that those of a batch are driven toward, by the id of the one that is driven; the
/// reason where one cannot be read.
fn anchors(target: &Target, data: &dyn Dataset, ids: &[u64], seed: u64) -> Result<HashMap<u64, Approached>> {
    let samples = data.card().samples;
    let wanted: Vec<(u64, u64)> = ids.iter().map(|id| Ok((*id, other(seed, *id, samples)?))).collect::<Result<_>>()?;
    let mut unique: Vec<u64> = wanted.iter().map(|(_, other)| *other).collect();
    unique.sort_unstable();
    unique.dedup();
    let loaded = data.load(&unique, &target.deployed.card().view(), &Device::Cpu)?;
    let mut known: HashMap<u64, Result<Vec<f32>, String>> = HashMap::new();
    if let Some(batch) = &loaded.batch {
        let rows = embed(target.deployed.as_ref(), batch, seed)?;
        known.extend(batch.ids.iter().copied().zip(rows.into_iter().map(Ok)));
    }
    known.extend(loaded.failed.into_iter().map(|(id, why)| (id, Err(why))));
    let find = |other: u64| known.get(&other).cloned().unwrap_or_else(|| Err("the data set gave no row for it".into()));
    Ok(wanted.into_iter().map(|(id, other)| (id, (other, find(other)))).collect())
}

/// One exact forward for each row of a batch, and one more for the sample it is driven toward, where there is one. Labels
/// are not looked at. A row that is at its goal already counts as missed.
///
/// # Errors
/// Kind `Load` when the rows do not fit the model.
pub fn judge_clean(target: &Target, data: &dyn Dataset, batch: &Batch, aim: Aim, seed: u64) -> Result<Vec<Clean>> {
    check_fit(target, batch)?;
    let card = target.deployed.card();
    let embeddings = embed(target.deployed.as_ref(), batch, seed)?;
    let mut others = if aim.is_towards() { anchors(target, data, &batch.ids, seed)? } else { HashMap::new() };
    let (pixels, width) = to_host(&batch.x)?;
    let rows = batch.ids.iter().zip(embeddings).zip(pixels.chunks(width.max(1)));
    Ok(rows
        .map(|((&id, scores), x)| {
            let (anchor, lost) = match others.remove(&id) {
                None => (Anchor::Own, None),
                Some((id, Ok(embedding))) => (Anchor::Other { id, embedding }, None),
                Some((id, Err(why))) => (Anchor::Other { id, embedding: vec![] }, Some((id, why))),
            };
            let goal = aim.goal(vec![anchor.embedding(&scores)]);
            let pred = goal.judge(0, &scores).filter(|_| lost.is_none());
            let fault = match (out_of_domain(x, card.input.domain), lost, pred) {
                (Some(why), ..) => Some(why),
                (_, Some((id, why)), _) => Some(format!("sample {id}, toward which it goes, cannot be read: {why}")),
                (_, _, None) => Some("the clean embedding is not finite, or has no direction".to_string()),
                _ => None,
            };
            let fragile = pred.is_some_and(|p| fragile(p.margin, goal.scale(0, &scores)));
            Clean { id, label: None, digest: row_digest(x), pred, fragile, scores, fault, anchor: Some(anchor) }
        })
        .collect())
}

/// Images that are embedded at once for a threshold.
const PART: usize = 16;

/// Samples whose embeddings say what is alike for an encoder.
const SAMPLES: usize = 128;

/// The aim of a spec. A threshold that is left open comes from up to 128 samples spread over `ids`: away, the median
/// similarity of two different samples (the image has become a stranger to itself); towards, the median similarity of a
/// sample to its nearest other one (it is taken for a neighbour).
///
/// # Errors
/// Kind `Load` when there are no two samples to compare, kind `Usage` when all embeddings are one, or so nearly of
/// one direction that their cosines say nothing.
pub fn aim(spec: AimSpec, model: &dyn Model, data: &dyn Dataset, ids: &[u64], seed: u64) -> Result<Aim> {
    if let Some(threshold) = spec.threshold {
        return Ok(Aim::new(spec.kind, spec.by, threshold));
    }
    let few = || Error::load("the data set", "it has no two samples to take a threshold from").hint(OWN);
    let mut z = vec![];
    for part in spread(ids, SAMPLES).chunks(PART) {
        if let Some(batch) = data.load(part, &model.card().view(), &Device::Cpu)?.batch {
            z.extend(embed(model, &batch, seed)?);
        }
    }
    let mut values = vec![];
    for (i, a) in z.iter().enumerate() {
        let others = z.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, b)| spec.by.of(b, a));
        match spec.kind {
            AimKind::Away => values.extend(others),
            AimKind::Towards => values.extend(others.reduce(f64::max)),
        }
    }
    values.sort_by(f64::total_cmp);
    let median = *values.get(values.len() / 2).ok_or_else(few)?;
    Ok(Aim::new(spec.kind, spec.by, threshold(median, spec.by)?))
}

const OWN: &str = "say the threshold yourself, such as --goal away:cosine=0.5";

/// Nearer to 1 a cosine cannot be told from that of a sample with itself: such margins count as fragile.
const NEAREST: f64 = 1. - 1e-4;

/// The threshold at what is usual among different samples.
fn threshold(median: f64, by: Similarity) -> Result<f64> {
    let value = rounded(median, by);
    match by {
        Similarity::L2 if value == 0. => Err(Error::usage("different samples have the same embedding").hint(OWN)),
        Similarity::Cosine if value >= NEAREST => {
            let what = format!("embeddings of different samples have one direction (median cosine {median:.7})");
            Err(Error::usage(what).hint("measure by distance instead: --goal away:l2 or towards:l2"))
        }
        _ => Ok(value),
    }
}

/// Cosines to three decimals, near 1 to two digits of the rest to it; distances to three digits: what a person can read and
/// type again.
fn rounded(value: f64, by: Similarity) -> f64 {
    let decimals = match by {
        Similarity::Cosine if value >= 1. => 3,
        Similarity::Cosine => (1 - (1. - value).log10().floor() as i32).clamp(3, 12),
        Similarity::L2 if value == 0. => 0,
        Similarity::L2 => (2 - value.abs().log10().floor() as i32).clamp(0, 12),
    };
    let unit = 10f64.powi(decimals);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sample_is_never_oneself_and_every_one_is_someones() {
        let mut seen = std::collections::BTreeSet::new();
        for (seed, id) in (0..20).flat_map(|seed| (0..20).map(move |id| (seed, id))) {
            let picked = other(seed, id, 20).unwrap();
            assert!(picked < 20 && picked != id, "{id} -> {picked}");
            assert_eq!(picked, other(seed, id, 20).unwrap());
            seen.insert(picked);
        }
        assert_eq!(seen.len(), 20);
        assert!((0..20).any(|id| other(3, id, 20).unwrap() != other(4, id, 20).unwrap()));
        assert_eq!(other(0, 0, 2).unwrap(), 1);
        assert!(other(0, 0, 1).is_err());
    }

    #[test]
    fn encoders_of_a_narrow_cone_get_a_threshold_that_can_be_reached_or_none() {
        let by = Similarity::Cosine;
        for (median, usual) in [(0.9953, 0.9953), (0.99951234, 0.99951), (0.9998765, 0.99988), (-1., -1.)] {
            assert_eq!(threshold(median, by).unwrap(), usual);
        }
        for (median, by) in [(0.99995, by), (1., by), (1. + 1e-12, by), (0., Similarity::L2)] {
            let error = threshold(median, by).unwrap_err();
            assert!(error.kind == robust_core::Kind::Usage && error.hint.is_some(), "{median}: {error}");
        }
    }

    #[test]
    fn thresholds_are_short() {
        assert_eq!(rounded(0.123456, Similarity::Cosine), 0.123);
        assert_eq!(rounded(0.98765, Similarity::Cosine), 0.988);
        assert_eq!(rounded(-12.3456, Similarity::L2), -12.3);
        assert_eq!(rounded(-0.00123456, Similarity::L2), -0.00123);
        assert_eq!(rounded(-98765., Similarity::L2), -98765.);
    }
}
