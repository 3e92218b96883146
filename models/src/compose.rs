//! Layers that are made of others: images brought to another size, norms over groups of channels.

use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use robust_engine::{Builder, NodeId, Op, ParamId};

/// Begins the names of weights that no training made and no file holds: no exporter writes such a name.
pub(crate) const MADE: &str = "(made) ";

/// How a new entry of a line is made of old ones.
pub(crate) enum Kind {
    Nearest(fn(f64) -> f64),
    Linear,
    /// With the polynomial's coefficient (-0.75 in PyTorch).
    Cubic(f64),
}

/// `[side, size]`: new entry `i` lies at `place(i)` among `size` old ones; what lies outside is the outermost entry.
pub(crate) fn resampling(size: usize, side: usize, place: impl Fn(f64) -> f64, kind: &Kind) -> Vec<f64> {
    let mut all = vec![0.; side * size];
    for (i, row) in all.chunks_mut(size.max(1)).enumerate() {
        let x = place(i as f64);
        let inside = |at: f64| at.clamp(0., size.saturating_sub(1) as f64) as usize;
        let (floor, share) = (x.floor(), x - x.floor());
        match *kind {
            Kind::Nearest(nearest) => row[inside(nearest(x))] = 1.,
            Kind::Linear => {
                row[inside(floor)] += 1. - share;
                row[inside(floor + 1.)] += share;
            }
            Kind::Cubic(a) => {
                for tap in [-1., 0., 1., 2.] {
                    row[inside(floor + tap)] += cubic(tap - share, a);
                }
            }
        }
    }
    all
}

/// Keys' cubic kernel (1981).
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match () {
        () if x <= 1. => ((a + 2.) * x - (a + 3.)) * x * x + 1.,
        () if x < 2. => a * (((x - 5.) * x + 8.) * x - 4.),
        () => 0.,
    }
}

/// An image `[n, c, h, w]` times a matrix along its columns, then one along its rows; both are `[side, size]`.
pub(crate) fn along_both(net: &mut Builder, x: NodeId, name: &str, [columns, rows]: [ParamId; 2]) -> Result<NodeId> {
    let mut out = x;
    for (axis, weight) in [("columns", columns), ("rows", rows)] {
        out = net.node(format!("{name}.{axis}"), Op::Linear { weight, bias: None }, &[out])?;
        out = net.node(format!("{name}.{axis}.turned"), Op::Transpose { axes: vec![0, 1, 3, 2] }, &[out])?;
    }
    Ok(out)
}

/// Mean 0 and variance 1 over each of `groups` equal groups of channels and all places, then a scale and a shift per channel where
/// they are given (Wu and He 2018). `groups` divides the channels of `x`, `[n, c, ...]`.
pub(crate) fn group_norm(
    net: &mut Builder,
    x: NodeId,
    name: &str,
    (groups, eps): (usize, f64),
    affine: Option<[ParamId; 2]>,
) -> Result<NodeId> {
    let shape = net.shape(x);
    let (row, size) = (shape.row.clone(), shape.len() / groups.max(1));
    let channels = row.first().copied().unwrap_or(0);
    let lines = net.node(format!("{name}.lines"), Op::Reshape { row: vec![groups, size] }, &[x])?;
    let normed = net.node(format!("{name}.normed"), Op::LayerNorm { gamma: None, beta: None, eps }, &[lines])?;
    let Some([gamma, beta]) = affine else {
        return net.node(name, Op::Reshape { row }, &[normed]);
    };
    let map = net.node(format!("{name}.map"), Op::Reshape { row }, &[normed])?;
    let mut constant = |what: &str, value: f64| -> Result<ParamId> {
        let all = Tensor::full(value, channels, &Device::Cpu)?.to_dtype(DType::F64)?;
        Ok(net.param(format!("{MADE}{name}.{what}"), all))
    };
    let (mean, var) = (constant("mean", 0.)?, constant("variance", 1.)?);
    net.node(name, Op::BatchNorm { mean, var, gamma: Some(gamma), beta: Some(beta), eps: 0. }, &[map])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_is_that_of_torch() {
        // torch.nn.functional.interpolate of the unit vectors.
        let bilinear = |size: usize, side: usize| {
            resampling(size, side, |i| (i + 0.5) * size as f64 / side as f64 - 0.5, &Kind::Linear)
        };
        let two_to_four = [[1., 0.], [0.75, 0.25], [0.25, 0.75], [0., 1.]];
        assert_eq!(bilinear(2, 4), two_to_four.concat());
        assert_eq!(bilinear(4, 2), [[0.5, 0.5, 0., 0.], [0., 0., 0.5, 0.5]].concat());
        assert_eq!(bilinear(1, 3), [1.; 3]);
        // A line stays a line between the outermost centres.
        let (size, side) = (5, 13);
        let line: Vec<f64> = bilinear(size, side)
            .chunks(size)
            .map(|row| row.iter().enumerate().map(|(j, w)| w * (j as f64 + 0.5)).sum())
            .collect();
        for (i, y) in line.iter().enumerate() {
            let expected = ((i as f64 + 0.5) * size as f64 / side as f64).clamp(0.5, size as f64 - 0.5);
            assert!((y - expected).abs() < 1e-12, "{y} at {i}, not {expected}");
        }
    }
}
