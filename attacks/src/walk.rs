//! Walks along a segment to the decision boundary, for attacks that are told labels alone.

use candle_core::Tensor;
use robust_core::{Error, Oracle, Result};

/// A segment between a point that has not reached the goal and one that has, and whose sample it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Index of the live sample.
    pub of: u32,
    /// Where the goal is not reached: the clean point, say.
    pub held: Vec<f32>,
    /// Where it is.
    pub reached: Vec<f32>,
}

impl Segment {
    fn middle(&self) -> Vec<f32> {
        self.held.iter().zip(&self.reached).map(|(a, b)| (f64::midpoint(f64::from(*a), f64::from(*b))) as f32).collect()
    }
}

/// Halves every segment up to `queries` times, one question for each of them a time: the part between a point that has not
/// reached the goal and one that has is kept, 2^-`queries` as long as before. A segment is left as it is from where the
/// budget of its sample is spent, and where its middle is one of its ends in f32. What its ends are is taken on trust.
///
/// Returns how many questions each segment took.
///
/// # Errors
/// Kind `Usage` where the threat model grants no labels; failures of models.
pub fn to_boundary(oracle: &mut Oracle, segments: &mut [Segment], queries: u64) -> Result<Vec<u64>> {
    let row = oracle.x().dims()[1..].to_vec();
    let width: usize = row.iter().product();
    if segments.iter().any(|s| s.held.len() != width || s.reached.len() != width) {
        return Err(Error::internal("a segment whose ends are not rows of the input"));
    }
    let mut taken = vec![0; segments.len()];
    let mut open: Vec<usize> = (0..segments.len()).collect();
    for _ in 0..queries {
        let middles: Vec<(usize, Vec<f32>)> = open.iter().map(|&i| (i, segments[i].middle())).collect();
        let halved = |(i, x): &(usize, Vec<f32>)| *x != segments[*i].held && *x != segments[*i].reached;
        let middles: Vec<(usize, Vec<f32>)> = middles.into_iter().filter(halved).collect();
        if middles.is_empty() {
            break;
        }
        let of: Vec<u32> = middles.iter().map(|(i, _)| segments[*i].of).collect();
        let flat: Vec<f32> = middles.iter().flat_map(|(_, x)| x.iter().copied()).collect();
        let dims: Vec<usize> = std::iter::once(middles.len()).chain(row.iter().copied()).collect();
        let answer = oracle.ask(&Tensor::from_vec(flat, dims, oracle.x().device())?, &of)?;
        open.clear();
        for ((i, x), (granted, reached)) in middles.into_iter().zip(answer.granted.into_iter().zip(answer.reached)) {
            if granted {
                taken[i] += 1;
                *(if reached { &mut segments[i].reached } else { &mut segments[i].held }) = x;
                open.push(i);
            }
        }
    }
    Ok(taken)
}
