//! What embeddings tell without labels. All take `[n, d]` tensors of embeddings, rows in the same order where there are two.

use super::{Features, TINY};
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
        false => Err(Error::usage(format!("embeddings of shapes {:?} and {:?} are no pairs", a.dims(), b.dims()))),
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
    features.labels.iter().for_each(|&l| counts[l as usize] += 1.);
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
    /// Mean of `|b - a| / |a|`.
    pub relative: f64,
    /// Mean cosine, -1 to 1.
    pub cosine: f64,
}

/// From clean embeddings `a` to those of changed images `b`.
pub fn displacement(a: &Tensor, b: &Tensor) -> Result<Displacement> {
    let (a, b) = pair(a, b)?;
    let lengths = a.sqr()?.sum(1)?.sqrt()?.maximum(TINY)?;
    let moved = (&b - &a)?.sqr()?.sum(1)?.sqrt()?;
    let cosine = (directions(&a)? * directions(&b)?)?.sum(1)?.mean_all()?.to_scalar::<f64>()?;
    Ok(Displacement { relative: (moved / lengths)?.mean_all()?.to_scalar::<f64>()?, cosine })
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
        near(found.relative, (2f64.sqrt() + 1.) / 2.);
        near(found.cosine, 0.5);
        assert!(displacement(&rows(&[[1., 0.]]), &rows(&[[1., 0.], [1., 0.]])).is_err());
    }
}
