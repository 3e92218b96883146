//! What embeddings tell without labels. All take `[n, d]` tensors of embeddings, rows in the same order where there are two.

use super::features::{Features, TINY};
use crate::heads::head::Head;
use candle_core::{DType, Tensor};
use robust_core::{Error, Result};

/// Entries of the smaller side of a matrix whose singular values are asked for: the work grows with its cube.
const MAX_SIDE: usize = 4096;
/// Rounds of rotations; five or six are the rule.
const SWEEPS: usize = 40;

fn directions(x: &Tensor) -> Result<Tensor> {
    Features { x: x.to_dtype(DType::F64)?, labels: vec![] }.directions()
}

fn pair(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    match a.dims() == b.dims() && a.dims().len() == 2 && a.elem_count() > 0 {
        true => Ok((a.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?)),
        false => Err(Error::usage(format!("embeddings of shapes {:?} and {:?} are not pairs", a.dims(), b.dims()))),
    }
}

/// Mean over pairs of the squared distance of their directions (Wang and Isola 2020, exponent 2): 0 to 4.
pub fn alignment(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = pair(a, b)?;
    Ok((directions(&a)? - directions(&b)?)?.sqr()?.sum(1)?.mean_all()?.to_scalar::<f64>()?)
}

/// `log mean exp(-2 |u - v|²)` over all pairs of different rows' directions (Wang and Isola 2020): -8 to 0, lower is more
/// uniform.
pub fn uniformity(x: &Tensor) -> Result<f64> {
    let u = directions(x)?;
    let (n, _) = u.dims2()?;
    if n < 2 {
        return Err(Error::usage("uniformity needs two embeddings"));
    }
    let mut sum = 0.;
    // Row by row: a matrix of all pairs would not fit.
    for i in 0..n - 1 {
        let rest = u.narrow(0, i + 1, n - 1 - i)?;
        let gaps = rest.broadcast_sub(&u.narrow(0, i, 1)?)?.sqr()?.sum(1)?;
        sum += (gaps * -2.)?.exp()?.sum_all()?.to_scalar::<f64>()?;
    }
    Ok((sum / (n * (n - 1) / 2) as f64).ln())
}

/// Mean cosine of pairs of different rows of one class (Wang and Liu 2021): -1 to 1.
pub fn tolerance(features: &Features) -> Result<f64> {
    let sums = features.members()?.matmul(&features.directions()?)?.sqr()?.sum(1)?.to_vec1::<f64>()?;
    let mut counts = vec![0f64; features.classes()];
    // What is zero has no direction and adds nothing to the sums.
    let pointed = features.labels.iter().zip(lengths(&features.x)?).filter(|(_, length)| *length > TINY);
    pointed.for_each(|(&l, _)| counts[l as usize] += 1.);
    // The squared length of a sum of unit vectors is their number plus twice the cosines of all pairs.
    let (mut cosines, mut pairs) = (0., 0.);
    for (square, n) in sums.iter().zip(&counts) {
        cosines += (square - n) / 2.;
        pairs += n * (n - 1.) / 2.;
    }
    match pairs > 0. {
        true => Ok(cosines / pairs),
        false => Err(Error::usage("no two embeddings are of one class")),
    }
}

/// `exp` of the entropy of the singular values' shares (Roy and Vetterli 2007; RankMe, Garrido et al. 2023): 1 to
/// `min(n, d)`. The embeddings are taken as they are, not centred.
pub fn effective_rank(x: &Tensor) -> Result<f64> {
    let x = x.to_dtype(DType::F64)?;
    let (n, d) = x.dims2()?;
    let side = n.min(d);
    if side == 0 || side > MAX_SIDE {
        return Err(Error::usage(format!("the smaller side of [{n}, {d}] is not 1 to {MAX_SIDE}")));
    }
    let gram = if n < d { x.matmul(&x.t()?)? } else { x.t()?.matmul(&x)? };
    let values: Vec<f64> = eigenvalues(gram.flatten_all()?.to_vec1()?, side).iter().map(|v| v.max(0.).sqrt()).collect();
    let sum: f64 = values.iter().sum();
    if sum <= TINY {
        return Err(Error::usage("all embeddings are zero"));
    }
    let entropy: f64 = values.iter().map(|v| v / sum).filter(|p| *p > 0.).map(|p| -p * p.ln()).sum();
    Ok(entropy.exp())
}

/// Of a symmetric matrix, by Jacobi's rotations.
fn eigenvalues(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let all: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off <= 1e-24 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, n, p, q);
            }
        }
    }
    (0..n).map(|i| a[i * n + i]).collect()
}

/// Turns rows and columns `p` and `q` so that their common entry is zero.
fn rotate(a: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0. {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2. * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.).sqrt());
    let t = if theta == 0. { 1. } else { t };
    let c = 1. / (t * t + 1.).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
    }
}

/// How far embeddings of changed images lie from those of the clean ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Displacement {
    /// Mean of `|b - a| / |a|` over embeddings `a` that are not zero; `None` where all are.
    pub relative: Option<f64>,
    /// Mean cosine, -1 to 1, over pairs of which neither is zero; `None` where there are none.
    pub cosine: Option<f64>,
}

/// From clean embeddings `a` to those of changed images `b`.
pub fn displacement(a: &Tensor, b: &Tensor) -> Result<Displacement> {
    let (a, b) = pair(a, b)?;
    let (from, to) = (lengths(&a)?, lengths(&b)?);
    let moved = lengths(&(&b - &a)?)?;
    let cosines = (directions(&a)? * directions(&b)?)?.sum(1)?.to_vec1::<f64>()?;
    let relative = moved.iter().zip(&from).filter(|(_, a)| **a > TINY).map(|(m, a)| m / a);
    let both = from.iter().zip(&to).map(|(a, b)| *a > TINY && *b > TINY);
    let cosines = cosines.into_iter().zip(both).filter_map(|(c, both)| both.then_some(c));
    Ok(Displacement { relative: mean(relative), cosine: mean(cosines) })
}

/// Of each row.
fn lengths(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.sqr()?.sum(1)?.sqrt()?.to_vec1()?)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0., 0u32), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// How embeddings move as a disturbance grows by equal steps. After RMQM, whose exact formula we have not seen: this one is
/// ours, "RMQM-style".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    /// Mean length of a step over the mean length of clean embeddings.
    pub length: f64,
    /// Mean over samples of the steps' coefficient of variation: 0 for steps of one length.
    pub variation: f64,
    /// Mean over samples of `mean / (1 + coefficient of variation)` of the step lengths, relative as above: grows with the
    /// size of the steps and with their constancy.
    pub summary: f64,
}

/// Of embeddings at each level, the clean ones first; at least one step. The unit is the mean length of all clean embeddings, not each
/// sample's own as in [`displacement`].
pub fn steps(levels: &[Tensor]) -> Result<Steps> {
    let [first, .., _] = levels else { return Err(Error::usage("steps need two levels at least")) };
    let size = first.to_dtype(DType::F64)?.sqr()?.sum(1)?.sqrt()?.mean_all()?.to_scalar::<f64>()?;
    if size <= TINY {
        return Err(Error::usage("all clean embeddings are zero: there is no length to measure steps by"));
    }
    let mut lengths: Vec<Vec<f64>> = vec![];
    for two in levels.windows(2) {
        let (a, b) = pair(&two[0], &two[1])?;
        lengths.push(((b - a)?.sqr()?.sum(1)?.sqrt()? / size)?.to_vec1()?);
    }
    let (n, k) = (lengths[0].len(), lengths.len() as f64);
    let mut total = Steps { length: 0., variation: 0., summary: 0. };
    for i in 0..n {
        let mean = lengths.iter().map(|l| l[i]).sum::<f64>() / k;
        let deviation = (lengths.iter().map(|l| (l[i] - mean).powi(2)).sum::<f64>() / k).sqrt();
        let variation = if mean > TINY { deviation / mean } else { 0. };
        total.length += mean / n as f64;
        total.variation += variation / n as f64;
        total.summary += mean / (1. + variation) / n as f64;
    }
    Ok(total)
}

/// Shares of samples whose surroundings change when their image does; the others' embeddings are the clean ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flips {
    /// The nearest other sample by cosine is another one.
    pub nearest: f64,
    /// The class that the `k` nearest others vote for is another one; `None` without labels.
    pub votes: Option<f64>,
}

/// From clean embeddings `a` to those of changed images `b`. Each of the `k` nearest votes with `exp(cos / temperature)`.
///
/// # Errors
/// Kind `Usage` for fewer than two samples, labels that do not fit, and a `k` or temperature that is not positive.
pub fn flips(a: &Tensor, b: &Tensor, labels: Option<&[u32]>, k: usize, temperature: f64) -> Result<Flips> {
    let (a, b) = pair(a, b)?;
    let (n, _) = a.dims2()?;
    if n < 2 || k == 0 || !(temperature > 0. && temperature.is_finite()) || labels.is_some_and(|l| l.len() != n) {
        let why = format!("flips of {n} samples among {k} neighbours at temperature {temperature} are not defined");
        return Err(Error::usage(why));
    }
    let (bank, moved) = (directions(&a)?, directions(&b)?);
    let turned = bank.t()?.contiguous()?;
    let (mut nearest, mut votes) = (0usize, 0usize);
    // Row by row: a matrix of all pairs would not fit.
    for i in 0..n {
        let mut before = bank.narrow(0, i, 1)?.matmul(&turned)?.flatten_all()?.to_vec1::<f64>()?;
        let mut after = moved.narrow(0, i, 1)?.matmul(&turned)?.flatten_all()?.to_vec1::<f64>()?;
        (before[i], after[i]) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let (was, is) = (ranked(&before, k.min(n - 1)), ranked(&after, k.min(n - 1)));
        nearest += usize::from(was.first() != is.first());
        if let Some(labels) = labels {
            let vote = |order: &[usize], cosines: &[f64]| elected(order, cosines, labels, temperature);
            votes += usize::from(vote(&was, &before) != vote(&is, &after));
        }
    }
    let share = |count: usize| count as f64 / n as f64;
    Ok(Flips { nearest: share(nearest), votes: labels.map(|_| share(votes)) })
}

/// The first `k` by falling cosine, ties by rising place.
fn ranked(cosines: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cosines.len()).collect();
    order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

/// The class of most votes, the smaller of equals.
fn elected(order: &[usize], cosines: &[f64], labels: &[u32], temperature: f64) -> Option<u32> {
    let top = cosines[*order.first()?];
    let mut sums = std::collections::BTreeMap::<u32, f64>::new();
    order.iter().for_each(|&i| *sums.entry(labels[i]).or_default() += ((cosines[i] - top) / temperature).exp());
    sums.into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(label, _)| label)
}

/// How far a linear head's boundaries are tilted against the data (Tanay and Griffin 2016, arXiv 1608.07690), over all
/// pairs of classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tilting {
    /// Mean angle between a boundary's normal and the line through the two classes' means, in degrees, 0 to 90.
    pub angle: f64,
    /// Mean of `1 / cos(angle)`: how much nearer than the mirror image in the other class the boundary's mirror image is. 1
    /// is the least.
    pub strength: f64,
    /// Mean distance of rightly classified embeddings to the nearest boundary, in units of the embedding.
    pub distance: f64,
}

/// Of a linear head on the embeddings it was fitted on.
///
/// # Errors
/// Kind `Usage` for other heads, and classes that differ from the embeddings'.
pub fn tilting(head: &Head, features: &Features) -> Result<Tilting> {
    let Head::Linear { weight, .. } = head else {
        return Err(Error::usage(format!("a {} head has no flat boundaries to be tilted", head.name())));
    };
    let weight = weight.to_dtype(DType::F64)?;
    let classes = weight.dims()[0];
    if classes < 2 || features.classes() != classes {
        return Err(Error::usage(format!("the head has {classes} classes, the embeddings {}", features.classes())));
    }
    let members = features.members()?;
    let means = members.matmul(&features.x)?.broadcast_div(&members.sum_keepdim(1)?.maximum(1.)?)?;
    let rows = |t: &Tensor| -> Result<Vec<Vec<f64>>> { Ok(t.to_vec2::<f64>()?) };
    let (weight, means) = (rows(&weight)?, rows(&means)?);
    let gap = |m: &[Vec<f64>], i: usize, j: usize| -> Vec<f64> { m[i].iter().zip(&m[j]).map(|(a, b)| a - b).collect() };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut angle, mut strength, mut pairs) = (0., 0., 0.);
    let mut lengths = vec![0.; classes * classes];
    for i in 0..classes {
        for j in 0..i {
            let (normal, line) = (gap(&weight, i, j), gap(&means, i, j));
            let (own, other) = (dot(&normal, &normal).sqrt(), dot(&line, &line).sqrt());
            (lengths[i * classes + j], lengths[j * classes + i]) = (own, own);
            let cosine = (dot(&normal, &line).abs() / (own * other).max(TINY)).clamp(TINY, 1.);
            angle += cosine.acos().to_degrees();
            strength += cosine.recip();
            pairs += 1.;
        }
    }
    let scores = head.scores(&features.x)?.to_vec2::<f64>()?;
    let (mut distance, mut right) = (0., 0.);
    for (z, &label) in scores.iter().zip(&features.labels) {
        let own = label as usize;
        let others = (0..classes).filter(|j| *j != own);
        let least =
            others.map(|j| (z[own] - z[j]) / f64::max(lengths[own * classes + j], TINY)).fold(f64::INFINITY, f64::min);
        if least > 0. {
            distance += least;
            right += 1.;
        }
    }
    Ok(Tilting { angle: angle / pairs, strength: strength / pairs, distance: distance / f64::max(right, 1.) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn rows(values: &[[f64; 2]]) -> Tensor {
        Tensor::from_vec(values.concat(), (values.len(), 2), &Device::Cpu).unwrap()
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn directions_on_a_cross_have_the_measures_of_one() {
        let cross = rows(&[[2., 0.], [0., 3.], [-1., 0.], [0., -5.]]);
        near(alignment(&cross, &cross).unwrap(), 0.);
        near(alignment(&cross, &(&cross * -2.).unwrap()).unwrap(), 4.);
        // Four pairs at a right angle (squared distance 2), two opposite ones (4).
        near(uniformity(&cross).unwrap(), ((4. * (-4f64).exp() + 2. * (-8f64).exp()) / 6.).ln());
        let two = |labels: Vec<u32>| tolerance(&Features { x: cross.clone(), labels }).unwrap();
        near(two(vec![0, 1, 0, 1]), -1.);
        near(two(vec![0, 0, 1, 1]), 0.);
        assert!(tolerance(&Features { x: cross.clone(), labels: vec![0, 1, 2, 3] }).is_err());
        let zeros = rows(&[[2., 0.], [0., 3.], [0., 0.], [0., 0.]]);
        near(tolerance(&Features { x: zeros.clone(), labels: vec![0, 0, 0, 1] }).unwrap(), 0.);
        assert!(tolerance(&Features { x: zeros, labels: vec![0, 1, 0, 1] }).is_err());
    }

    #[test]
    fn the_effective_rank_counts_directions_by_their_share() {
        near(effective_rank(&rows(&[[1., 2.], [2., 4.], [-3., -6.]])).unwrap(), 1.);
        near(effective_rank(&rows(&[[3., 0.], [0., 3.]])).unwrap(), 2.);
        // Singular values 3 and 1, turned by 30 degrees: shares 3/4 and 1/4.
        let (c, s) = (0.75f64.sqrt(), 0.5);
        let turned = rows(&[[3. * c, 3. * s], [-s, c]]);
        let entropy = -(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln());
        near(effective_rank(&turned).unwrap(), entropy.exp());
        // Fewer rows than entries: the same from the other side.
        let wide = Tensor::cat(&[&turned, &Tensor::zeros((2, 5), DType::F64, &Device::Cpu).unwrap()], 1).unwrap();
        near(effective_rank(&wide).unwrap(), entropy.exp());
    }

    #[test]
    fn displacement_is_measured_against_the_clean_length() {
        let found = displacement(&rows(&[[1., 0.], [0., 2.]]), &rows(&[[0., 1.], [0., 4.]])).unwrap();
        near(found.relative.unwrap(), (2f64.sqrt() + 1.) / 2.);
        near(found.cosine.unwrap(), 0.5);
        // An embedding of zero has no length to measure by and no direction; the others are measured alone.
        let some =
            displacement(&rows(&[[0., 0.], [0., 2.], [1., 0.]]), &rows(&[[5., 1.], [0., 4.], [0., 0.]])).unwrap();
        near(some.relative.unwrap(), 1.);
        near(some.cosine.unwrap(), 1.);
        let none = displacement(&rows(&[[0., 0.]]), &rows(&[[5., 1.]])).unwrap();
        assert_eq!((none.relative, none.cosine), (None, None));
        assert!(displacement(&rows(&[[1., 0.]]), &rows(&[[1., 0.], [1., 0.]])).is_err());
    }

    #[test]
    fn steps_of_one_length_count_in_full_and_uneven_ones_less() {
        let level = |a: f64, b: f64| rows(&[[3. + a, 4.], [0., 5. + b]]);
        let even = steps(&[level(0., 0.), level(1., 1.), level(2., 2.), level(3., 3.)]).unwrap();
        near(even.length, 0.2);
        near(even.variation, 0.);
        near(even.summary, 0.2);
        // One sample steps by 2 and 0: mean 1, deviation 1; the other by 1 and 1.
        let uneven = steps(&[level(0., 0.), level(2., 1.), level(2., 2.)]).unwrap();
        near(uneven.length, 0.2);
        near(uneven.variation, 0.5);
        near(uneven.summary, 0.5 * (0.2 / 2. + 0.2));
        let still = steps(&[level(0., 0.), level(0., 0.)]).unwrap();
        assert_eq!((still.length, still.summary), (0., 0.));
        assert!(steps(&[level(0., 0.)]).is_err());
    }

    #[test]
    fn flips_are_counted_among_the_others() {
        let at = |degrees: f64| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let clean = rows(&[at(0.), at(10.), at(90.), at(100.)]);
        let labels = [0, 0, 1, 1];
        let none = flips(&clean, &clean, Some(&labels), 1, 0.1).unwrap();
        assert_eq!((none.nearest, none.votes), (0., Some(0.)));
        // The first turns toward the second pair; the second past the first, its nearest all the same.
        let moved = rows(&[at(80.), at(-5.), at(90.), at(100.)]);
        let some = flips(&clean, &moved, Some(&labels), 1, 0.1).unwrap();
        assert_eq!((some.nearest, some.votes), (0.25, Some(0.25)));
        assert_eq!(flips(&clean, &moved, None, 3, 0.1).unwrap(), Flips { nearest: 0.25, votes: None });
        assert!(
            flips(&clean, &moved, Some(&labels[..2]), 1, 0.1).is_err() && flips(&clean, &moved, None, 0, 1.).is_err()
        );
    }

    #[test]
    fn a_tilted_boundary_has_its_angle_strength_and_distance() {
        // Means at (-1, 0) and (1, 0); the boundary's normal is turned by 60 degrees.
        let features = Features { x: rows(&[[-1., 1.], [-1., -1.], [1., 1.], [1., -1.]]), labels: vec![0, 0, 1, 1] };
        let head = |angle: f64| {
            let (c, s) = (angle.to_radians().cos(), angle.to_radians().sin());
            let bias = Tensor::from_vec(vec![0f64, 0.], 2, &Device::Cpu).unwrap();
            Head::Linear { weight: rows(&[[-c, -s], [c, s]]), bias, centre: None }
        };
        let flat = tilting(&head(0.), &features).unwrap();
        near(flat.angle, 0.);
        near(flat.strength, 1.);
        near(flat.distance, 1.);
        let tilted = tilting(&head(60.), &features).unwrap();
        near(tilted.angle, 60.);
        near(tilted.strength, 2.);
        // Two of four are right, at sin 60 + cos 60.
        near(tilted.distance, 0.75f64.sqrt() + 0.5);
        assert!(tilting(&Head::Cosine { weight: rows(&[[1., 0.]]), scale: 1., bias: 0. }, &features).is_err());
    }
}
