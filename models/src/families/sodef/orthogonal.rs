//! Weights with orthonormal columns, as geotorch parametrises them: `base exp(A)`, of which the first columns count.

use super::finite::finite;
use super::norms::{length, spectral};
use crate::layers::stack::Stack;
use crate::layers::tokens::last;
use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op};

/// A matrix whose norm is up to this is left to the series at once; a larger one is divided first.
const REACH: f64 = 4.;
/// Terms of the series: the next one, `4^35 / 35!`, and all behind it are below 1e-18.
const TERMS: usize = 34;
/// A term of this size (as the root of the sum of squares) is the last that counts beside columns of length 1.
const NOTHING: f64 = 1e-18;
/// Times the series is applied: a norm of 4,096.
const LONGEST: f64 = 1024.;
/// Products one weight may cost; the published one's are about 3e9 for a matrix of norm 40.
const MOST: f64 = (1u64 << 33) as f64;

/// A linear layer without bias whose weight `[inputs, out]` is kept as itself or as its parametrisation.
pub(crate) fn lay(stack: &mut Stack, x: NodeId, name: &str) -> Result<NodeId> {
    let (inputs, weight) = (last(stack, x), format!("{name}.weight"));
    if stack.dict.contains(&weight) {
        let [_, out] = stack.dict.sizes(&weight)?;
        return stack.times(x, &weight, out, name);
    }
    let part = |part: &str| format!("{name}.parametrizations.weight.{part}");
    let names = [part("original"), part("0.base")];
    let [_, out] = stack.dict.sizes(&names[0])?;
    let original = stack.dict.take(&names[0], &[inputs, out])?;
    let base = stack.dict.take(&names[1], &[inputs, inputs])?;
    if out > inputs {
        let why = format!("{inputs} inputs have no {out} orthonormal columns");
        return Err(Error::load(format!("`{}`", names[0]), why));
    }
    let within = |e: Error| e.within(format!("`{}`", names[0]));
    bearable(inputs, out, 1.).map_err(within)?;
    let original = finite(&original, &names[0], &[inputs, out])?;
    let columns = exponential(&original, inputs, out).map_err(within)?;
    // Linear layers keep a row for each output.
    let mut rows = vec![0.; out * inputs];
    for i in 0..inputs {
        // The base is as large as all else: a row at a time.
        let row = base.narrow(0, i, 1).map_err(|_| Error::load(format!("`{}`", names[1]), "it has another shape"))?;
        let base = finite(&row, &names[1], &[1, inputs])?;
        let mut sums = vec![0.; out];
        base.iter().zip(columns.chunks(out)).for_each(|(b, c)| add(&mut sums, *b, c));
        sums.iter().enumerate().for_each(|(j, s)| rows[j * inputs + i] = *s);
    }
    let weight = stack.net.param(weight, Tensor::from_vec(rows, (out, inputs), &Device::Cpu)?);
    stack.net.node(name, Op::Linear { weight, bias: None }, &[x])
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

/// Whether so many rounds are no more work than a file may ask for.
fn bearable(n: usize, k: usize, times: f64) -> Result<()> {
    let cost = times * TERMS as f64 * 2. * (n * k) as f64 * k as f64 + (n * n) as f64 * k as f64;
    if cost <= MOST && times <= LONGEST {
        return Ok(());
    }
    let size = if times == 1. { String::new() } else { format!(" and norm {:.1e}", times * REACH) };
    let why = format!("the exponential of a matrix of {n} rows, {k} free columns{size} is too much work");
    Err(Error::load("the orthonormal weight", why).hint("does the file come from where you think?"))
}

/// The first `k` columns of `exp(A)`, `[n, k]` like `original`, of which only what is below the diagonal counts: it is that of
/// `A`, which is skew-symmetric and 0 outside of its first `k` columns and rows.
///
/// `A` is divided by a whole number `s` until its norm is at most [`REACH`], and the Taylor series of `exp(A / s)` is applied to
/// the columns `s` times (Al-Mohy and Higham 2011). All these exponentials are rotations, so that errors add up and no more.
///
/// # Errors
/// Kind `Load` for matrices so large that this would take more than [`MOST`] products or [`LONGEST`] rounds.
fn exponential(original: &[f64], n: usize, k: usize) -> Result<Vec<f64>> {
    bearable(n, k, 1.)?;
    let times = (norm(original, n, k) / REACH).ceil().max(1.);
    bearable(n, k, times)?;
    let mut columns = vec![0.; n * k];
    (0..k).for_each(|i| columns[i * k + i] = 1.);
    for _ in 0..times as usize {
        let mut term = columns.clone();
        for p in 1..=TERMS {
            term = skew(original, &term, n, k, 1. / (times * p as f64));
            add(&mut columns, 1., &term);
            if length(&term) <= NOTHING {
                break;
            }
        }
    }
    Ok(columns)
}

/// A bound on the spectral norm of `A`: the Frobenius norm, the greatest sum of sizes in a row, or the norms of the square on top and
/// of what is below it, whichever is least.
fn norm(original: &[f64], n: usize, k: usize) -> f64 {
    let (mut sums, mut squares) = (vec![0.; n], 0.);
    let mut top = vec![0.; k * k];
    for i in 0..n {
        for j in 0..i.min(k) {
            let v = original[i * k + j];
            sums[i] += v.abs();
            sums[j] += v.abs();
            squares += 2. * v * v;
            if i < k {
                (top[i * k + j], top[j * k + i]) = (v, -v);
            }
        }
    }
    let parts = spectral(&top, k) + spectral(&original[k * k..], k);
    sums.into_iter().fold(0., f64::max).min(squares.sqrt()).min(parts)
}

/// `factor A x` for `x` of shape `[n, k]`.
fn skew(original: &[f64], x: &[f64], n: usize, k: usize, factor: f64) -> Vec<f64> {
    let mut out = vec![0.; n * k];
    for i in 0..n {
        let (above, rest) = out.split_at_mut(i * k);
        for j in 0..i.min(k) {
            let v = factor * original[i * k + j];
            add(&mut rest[..k], v, &x[j * k..][..k]);
            add(&mut above[j * k..][..k], -v, &x[i * k..][..k]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::norms::tests::numbers;
    use super::*;

    fn products(a: &[f64], k: usize) -> Vec<f64> {
        let column = |j: usize| a.iter().skip(j).step_by(k);
        (0..k * k).map(|at| column(at / k).zip(column(at % k)).map(|(x, y)| x * y).sum()).collect()
    }

    #[test]
    fn rotations_in_a_plane_are_closed_forms() {
        for angle in [0., 1e-9, 0.3, 2., 40., -700.] {
            let turned = exponential(&[7., angle], 2, 1).unwrap();
            assert!(
                (turned[0] - f64::cos(angle)).abs() < 1e-12 && (turned[1] - f64::sin(angle)).abs() < 1e-12,
                "{angle}"
            );
        }
        // Rodrigues' formula for a rotation of the first axis towards (0, a, b).
        let (a, b) = (1.2, -3.4);
        let r = f64::hypot(a, b);
        let turned = exponential(&[0., a, b], 3, 1).unwrap();
        for (got, wanted) in turned.iter().zip([r.cos(), a * r.sin() / r, b * r.sin() / r]) {
            assert!((got - wanted).abs() < 1e-14, "{got} {wanted}");
        }
    }

    #[test]
    fn columns_are_orthonormal_and_add_up() {
        for (n, k, size) in [(9, 9, 1.), (40, 7, 0.3), (40, 7, 20.), (12, 1, 3.)] {
            let original: Vec<f64> = numbers(n * k).iter().map(|v| v * size).collect();
            let columns = exponential(&original, n, k).unwrap();
            for (at, p) in products(&columns, k).into_iter().enumerate() {
                let wanted = f64::from(u8::from(at / k == at % k));
                assert!((p - wanted).abs() < 1e-12, "{n} {k} {size}: {p}");
            }
            // Its bound is one: A and its powers stretch nothing by more.
            let stretched = skew(&original, &columns, n, k, 1.);
            assert!(length(&stretched) <= norm(&original, n, k) * (k as f64).sqrt() * (1. + 1e-12));
        }
        // exp(A) = exp(A / 2)^2, for a square matrix.
        let whole = exponential(&numbers(25), 5, 5).unwrap();
        let half = exponential(&numbers(25).iter().map(|v| v / 2.).collect::<Vec<_>>(), 5, 5).unwrap();
        for (i, j) in (0..25).map(|at| (at / 5, at % 5)) {
            let twice: f64 = (0..5).map(|l| half[i * 5 + l] * half[l * 5 + j]).sum();
            assert!((twice - whole[i * 5 + j]).abs() < 1e-14);
        }
    }

    #[test]
    fn matrices_of_absurd_norms_are_refused() {
        for size in [1e9, 1e200, f64::MAX] {
            let error = exponential(&vec![size; 640], 64, 10).unwrap_err();
            assert!(error.message.contains("too much work"), "{error}");
        }
        // Too large whatever its norm.
        assert!(exponential(&vec![0.; 600 * 500], 600, 500).unwrap_err().message.contains("600 rows"));
    }
}
