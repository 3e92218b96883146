//! How well a score tells strangers (positives, ImageNet-O) from acquaintances (negatives).

use robust_core::{Error, Result};

/// Of the curve over all thresholds, ties taken together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    pub auroc: f64,
    /// Average precision.
    pub aupr: f64,
    /// False positive rate where the recall comes nearest to 95 %.
    pub fpr95: f64,
}

/// `positives` should score higher than `negatives`.
///
/// # Errors
/// Kind `Usage` when either side is empty or holds NaN.
pub fn detection(positives: &[f64], negatives: &[f64]) -> Result<Detection> {
    if positives.is_empty() || negatives.is_empty() || positives.iter().chain(negatives).any(|v| v.is_nan()) {
        return Err(Error::usage("detection needs scores of both sides, all numbers"));
    }
    let mut all: Vec<(f64, bool)> = positives.iter().map(|v| (*v, true)).collect();
    all.extend(negatives.iter().map(|v| (*v, false)));
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (p, n) = (positives.len() as f64, negatives.len() as f64);
    let (mut hits, mut alarms, mut auroc, mut aupr) = (0., 0., 0., 0.);
    let mut nearest = (f64::INFINITY, 1.);
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let more = group.iter().filter(|g| g.1).count() as f64;
        let wrong = group.len() as f64 - more;
        auroc += wrong / n * (hits + more / 2.) / p;
        hits += more;
        alarms += wrong;
        aupr += more / p * (hits / (hits + alarms));
        let off = (hits / p - 0.95).abs();
        if off < nearest.0 {
            nearest = (off, alarms / n);
        }
    }
    Ok(Detection { auroc, aupr, fpr95: nearest.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_score_separates_and_a_constant_one_guesses() {
        let perfect = detection(&[3., 4.], &[1., 2.]).unwrap();
        assert_eq!(perfect, Detection { auroc: 1., aupr: 1., fpr95: 0. });
        let constant = detection(&[0.; 2], &[0.; 10]).unwrap();
        assert!((constant.auroc - 0.5).abs() < 1e-12 && (constant.aupr - 2. / 12.).abs() < 1e-12);
        assert_eq!(constant.fpr95, 1.);
    }

    #[test]
    fn areas_are_those_by_hand() {
        // Down the list: + - + -: precision 1 at recall 1/2, 2/3 at recall 1; one of four pairs is the wrong way round.
        let d = detection(&[4., 2.], &[3., 1.]).unwrap();
        assert!((d.auroc - 0.75).abs() < 1e-12 && (d.aupr - (0.5 + 0.5 * 2. / 3.)).abs() < 1e-12);
        assert!(detection(&[], &[1.]).is_err() && detection(&[f64::NAN], &[1.]).is_err());
    }
}
