//! How steady predictions are along a sequence of frames: flip probability and top-5 distance of ImageNet-P (Hendrycks
//! and Dietterich 2019).

use robust_core::{Error, Result};

/// Which frames are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Each with the one `stride` frames before it, in all interleaved subsequences.
    Neighbours { stride: usize },
    /// Each with the first: of noise, whose frames have no order.
    First,
}

/// How the frames of a named sequence are compared: noise with its first frame, all others with their neighbours.
pub fn pairs_of(sequence: &str) -> Pairs {
    if sequence.contains("noise") { Pairs::First } else { Pairs::Neighbours { stride: 1 } }
}

fn pairs(frames: usize, pairs: Pairs) -> Result<Vec<(usize, usize)>> {
    let all: Vec<(usize, usize)> = match pairs {
        Pairs::Neighbours { stride: 0 } => return Err(Error::usage("a stride of 0 compares frames with themselves")),
        Pairs::Neighbours { stride } => (stride..frames).map(|j| (j - stride, j)).collect(),
        Pairs::First => (1..frames).map(|j| (0, j)).collect(),
    };
    match all.is_empty() {
        true => Err(Error::usage(format!("{frames} frames are too few to compare"))),
        false => Ok(all),
    }
}

/// The share of compared frames whose predicted class differs, averaged over sequences of classes.
///
/// # Errors
/// Kind `Usage` for no sequences or too few frames.
pub fn flip_probability(sequences: &[Vec<u32>], how: Pairs) -> Result<f64> {
    mean(sequences, |classes| {
        let all = pairs(classes.len(), how)?;
        Ok(all.iter().filter(|(a, b)| classes[*a] != classes[*b]).count() as f64 / all.len() as f64)
    })
}

/// Unnormalised top-5 distance, averaged over sequences of score rows; 0 to 15.
///
/// # Errors
/// Kind `Usage` for no sequences, too few frames or fewer than 5 classes.
pub fn top5_distance(sequences: &[Vec<Vec<f32>>], how: Pairs) -> Result<f64> {
    over_ranks(sequences, how, |ranks, order| {
        let place = |r: usize| r.min(5) as f64; // ranks from 0: phi(r) = min(r - 1, 5)
        (0..5).map(|j| (place(j) - place(ranks[order[j]])).abs()).sum()
    })
}

/// Distance of whole rankings with weights 1/j.
///
/// # Errors
/// As [`top5_distance`].
pub fn zipf_distance(sequences: &[Vec<Vec<f32>>], how: Pairs) -> Result<f64> {
    over_ranks(sequences, how, |ranks, order| {
        let term = |(j, class): (usize, &usize)| {
            let (own, other) = (j as f64 + 1., ranks[*class] as f64 + 1.);
            (1. / own - 1. / other).abs() / own
        };
        order.iter().enumerate().map(term).sum()
    })
}

fn over_ranks(sequences: &[Vec<Vec<f32>>], how: Pairs, distance: impl Fn(&[usize], &[usize]) -> f64) -> Result<f64> {
    mean(sequences, |frames| {
        let orders: Vec<Vec<usize>> = frames.iter().map(|scores| order(scores)).collect::<Result<_>>()?;
        let all = pairs(frames.len(), how)?;
        let one = |(a, b): &(usize, usize)| {
            let mut ranks = vec![0; orders[*b].len()];
            orders[*b].iter().enumerate().for_each(|(rank, class)| ranks[*class] = rank);
            distance(&ranks, &orders[*a])
        };
        Ok(all.iter().map(one).sum::<f64>() / all.len() as f64)
    })
}

/// Classes from the highest score down, ties by index.
fn order(scores: &[f32]) -> Result<Vec<usize>> {
    if scores.len() < 5 {
        return Err(Error::usage(format!("{} classes have no top 5", scores.len())));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    Ok(order)
}

fn mean<T>(sequences: &[T], one: impl Fn(&T) -> Result<f64>) -> Result<f64> {
    if sequences.is_empty() {
        return Err(Error::usage("no sequences"));
    }
    let all: Vec<f64> = sequences.iter().map(one).collect::<Result<_>>()?;
    Ok(all.iter().sum::<f64>() / all.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_counted_against_neighbours_or_the_first_frame() {
        let classes = [vec![1, 1, 2, 1, 1]];
        let fp = |how| flip_probability(&classes, how).unwrap();
        assert_eq!(fp(Pairs::Neighbours { stride: 1 }), 2. / 4.);
        assert_eq!(fp(Pairs::Neighbours { stride: 2 }), 2. / 3.);
        assert_eq!(fp(Pairs::First), 1. / 4.);
        assert_eq!(pairs_of("gaussian_noise_2"), Pairs::First);
        assert!(flip_probability(&[vec![1]], Pairs::First).is_err() && flip_probability(&[], Pairs::First).is_err());
    }

    #[test]
    fn top_five_distance_runs_from_zero_to_fifteen() {
        let row = |order: [usize; 10]| {
            let mut scores = vec![0f32; 10];
            order.iter().enumerate().for_each(|(rank, class)| scores[*class] = -(rank as f32));
            scores
        };
        let same = row([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let d = |other: [usize; 10]| top5_distance(&[vec![same.clone(), row(other)]], Pairs::First).unwrap();
        assert_eq!(d([0, 1, 2, 3, 4, 9, 8, 7, 6, 5]), 0.);
        assert_eq!(d([5, 6, 7, 8, 9, 0, 1, 2, 3, 4]), 5. + 4. + 3. + 2. + 1.);
        assert_eq!(d([1, 0, 2, 3, 4, 5, 6, 7, 8, 9]), 2.);
        let z = zipf_distance(&[vec![same.clone(), row([1, 0, 2, 3, 4, 5, 6, 7, 8, 9])]], Pairs::First).unwrap();
        assert!((z - (0.5 + 0.5 / 2.)).abs() < 1e-12);
    }
}
