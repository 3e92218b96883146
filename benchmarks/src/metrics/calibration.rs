//! Whether confidence is what it says.

use robust_core::{Error, Result};

/// One judged sample: the confidence in the predicted class and whether it was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sure {
    pub confidence: f64,
    pub right: bool,
}

fn check(samples: &[Sure]) -> Result<()> {
    match samples.iter().find(|s| !(0. ..=1.).contains(&s.confidence)) {
        _ if samples.is_empty() => Err(Error::usage("no samples to calibrate")),
        Some(s) => Err(Error::usage(format!("confidence {} is not a probability", s.confidence))),
        None => Ok(()),
    }
}

/// Expected calibration error over `bins` of equal width (Naeini et al. 2015; 15 is usual).
///
/// # Errors
/// Kind `Usage` for no samples or confidences outside `[0,1]`; as all here.
pub fn expected(samples: &[Sure], bins: usize) -> Result<f64> {
    check(samples)?;
    let mut sums = vec![(0., 0.); bins.max(1)];
    for s in samples {
        // A bin holds its upper end.
        let at = ((s.confidence * bins as f64).ceil() as usize).clamp(1, bins.max(1)) - 1;
        sums[at].0 += s.confidence;
        sums[at].1 += f64::from(u8::from(s.right));
    }
    Ok(sums.iter().map(|(c, r)| (c - r).abs()).sum::<f64>() / samples.len() as f64)
}

/// Root mean square calibration error over bins of 100 samples of neighbouring confidence, the last one larger. The
/// published program of ImageNet-A skips its last, most confident bin: so does `compatible`.
pub fn rms(samples: &[Sure], compatible: bool) -> Result<f64> {
    const BIN: usize = 100;
    check(samples)?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let count = (sorted.len() / BIN).max(1);
    let bins = (0..count).map(|b| if b + 1 == count { &sorted[b * BIN..] } else { &sorted[b * BIN..(b + 1) * BIN] });
    let error = |bin: &[Sure]| {
        let gap: f64 = bin.iter().map(|s| s.confidence - f64::from(u8::from(s.right))).sum();
        gap * gap / bin.len() as f64
    };
    let kept = if compatible { count - 1 } else { count };
    Ok((bins.take(kept).map(error).sum::<f64>() / samples.len() as f64).sqrt())
}

/// Area under the response rate accuracy curve: the mean over k of the accuracy of the k most confident.
pub fn aurra(samples: &[Sure]) -> Result<f64> {
    check(samples)?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut right = 0.;
    let areas = sorted.iter().zip(1..).map(|(s, k)| {
        right += f64::from(u8::from(s.right));
        right / f64::from(k)
    });
    Ok(areas.sum::<f64>() / samples.len() as f64)
}

/// Brier score and mean negative log-likelihood of rows of logits under their labels.
///
/// # Errors
/// Kind `Usage` for no rows, a label beyond the classes or logits that are not finite.
pub fn scores(logits: &[Vec<f32>], labels: &[u32]) -> Result<(f64, f64)> {
    if logits.is_empty() || logits.len() != labels.len() {
        return Err(Error::usage(format!("{} rows of scores for {} labels", logits.len(), labels.len())));
    }
    let (mut brier, mut nll) = (0., 0.);
    for (row, &label) in logits.iter().zip(labels) {
        let p = softmax(row)?;
        let own = *p.get(label as usize).ok_or_else(|| Error::usage(format!("label {label} is beyond the classes")))?;
        brier += p.iter().map(|v| v * v).sum::<f64>() - 2. * own + 1.;
        let top = row.iter().fold(f64::NEG_INFINITY, |a, v| a.max(f64::from(*v)));
        let total: f64 = row.iter().map(|v| libm::exp(f64::from(*v) - top)).sum();
        nll += libm::log(total) + top - f64::from(row[label as usize]);
    }
    Ok((brier / logits.len() as f64, nll / logits.len() as f64))
}

/// Probabilities of one row of logits.
///
/// # Errors
/// Kind `Usage` for logits that are not finite.
pub fn softmax(row: &[f32]) -> Result<Vec<f64>> {
    if row.iter().any(|v| !v.is_finite()) {
        return Err(Error::usage("scores that are not finite have no probabilities"));
    }
    let top = row.iter().fold(f32::NEG_INFINITY, |a, v| a.max(*v));
    let raw: Vec<f64> = row.iter().map(|v| libm::exp(f64::from(*v - top))).collect();
    let sum: f64 = raw.iter().sum();
    Ok(raw.iter().map(|v| v / sum).collect())
}

/// What a row of logits is sure of; where `classes` are given, of these alone (ImageNet-A and -R have 200 of 1,000).
///
/// # Errors
/// Kind `Usage` for logits that are not finite and classes that are not there.
pub fn sure(row: &[f32], label: u32, classes: Option<&[u32]>) -> Result<Sure> {
    let kept: Vec<f32> = match classes {
        None => row.to_vec(),
        Some(classes) => classes
            .iter()
            .map(|c| {
                row.get(*c as usize).copied().ok_or_else(|| Error::usage(format!("no class {c} among {}", row.len())))
            })
            .collect::<Result<_>>()?,
    };
    let p = softmax(&kept)?;
    let top = robust_core::argmax(&kept).unwrap_or(0);
    let predicted = classes.map_or(Some(top), |c| c.get(top as usize).copied());
    Ok(Sure { confidence: p.get(top as usize).copied().unwrap_or(0.), right: predicted == Some(label) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(confidence: f64, right: usize, of: usize) -> Vec<Sure> {
        (0..of).map(|i| Sure { confidence, right: i < right }).collect()
    }

    #[test]
    fn a_calibrated_model_has_no_error_and_an_overconfident_one_its_gap() {
        let good = [many(0.75, 150, 200), many(0.25, 50, 200)].concat();
        assert!(expected(&good, 15).unwrap() < 1e-12);
        let bold = many(0.9, 100, 200);
        assert!((expected(&bold, 15).unwrap() - 0.4).abs() < 1e-12);
        let mixed = [many(0.5, 50, 100), many(1., 70, 100)].concat();
        assert!((rms(&mixed, false).unwrap() - (0.5f64 * 0.09).sqrt()).abs() < 1e-12);
        assert!(rms(&mixed, true).unwrap() < 1e-12); // the bad bin is the last one
        assert!(expected(&[], 15).is_err() && expected(&many(1.2, 0, 1), 15).is_err());
    }

    #[test]
    fn the_most_confident_count_most() {
        let order = [(0.9, true), (0.8, false), (0.7, true)].map(|(confidence, right)| Sure { confidence, right });
        assert!((aurra(&order).unwrap() - (1. + 0.5 + 2. / 3.) / 3.).abs() < 1e-12);
    }

    #[test]
    fn brier_and_likelihood_of_a_coin_are_a_half_and_ln_two() {
        let (brier, nll) = scores(&[vec![3., 3.], vec![-1., -1.]], &[0, 1]).unwrap();
        assert!((brier - 0.5).abs() < 1e-12 && (nll - 2f64.ln()).abs() < 1e-12);
        assert!(scores(&[vec![0., f32::NAN]], &[0]).is_err() && scores(&[vec![0.]], &[1]).is_err());
    }

    #[test]
    fn classes_outside_the_choice_do_not_count() {
        let row = [9., 1., 2., 0.];
        assert!(!sure(&row, 2, None).unwrap().right);
        let masked = sure(&row, 2, Some(&[1, 2])).unwrap();
        assert!(masked.right && (masked.confidence - 1. / (1. + (-1f64).exp())).abs() < 1e-9);
        assert!(sure(&row, 0, Some(&[9])).is_err());
    }
}
