//! Maps brought to another size: each axis by a matrix that is known when the network is built.

use super::Stack;
use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op, Window};

/// Begins the names of matrices that no training made.
pub(crate) const RESAMPLING: &str = "resampling.";

impl Stack<'_> {
    /// Means over `side` x `side` windows that cover the map evenly, torch's `AdaptiveAvgPool2d`.
    pub fn mean_to(&mut self, x: NodeId, name: &str, side: usize) -> Result<NodeId> {
        let [height, width] = self.map(x, name)?;
        if [height, width] != [side; 2] && height % side == 0 && width % side == 0 {
            let kernel = [height / side, width / side];
            let window = Window { kernel, stride: kernel, pads: [0; 4], ceil: false };
            return self.net.node(name, Op::AvgPool { window, count_pads: false }, &[x]);
        }
        self.resampled(x, name, side, windows)
    }

    /// A map of `side` x `side` by bilinear interpolation, torch's `interpolate` with `align_corners=False` and without
    /// anti-aliasing.
    pub fn interpolated(&mut self, x: NodeId, name: &str, side: usize) -> Result<NodeId> {
        self.resampled(x, name, side, bilinear)
    }

    /// Height and width.
    fn map(&self, x: NodeId, name: &str) -> Result<[usize; 2]> {
        match self.net.shape(x).row[..] {
            [_, height, width] => Ok([height, width]),
            _ => Err(Error::load(format!("`{name}`"), "a map is needed where one is brought to another size")),
        }
    }

    /// One matrix for the columns, one for the rows; `weights` makes one, `[side, size]`, of a size and the new side.
    fn resampled(
        &mut self,
        x: NodeId,
        name: &str,
        side: usize,
        weights: fn(usize, usize) -> Vec<f64>,
    ) -> Result<NodeId> {
        let [height, width] = self.map(x, name)?;
        if [height, width] == [side; 2] {
            return Ok(x);
        }
        let mut out = x;
        for (axis, size) in [("columns", width), ("rows", height)] {
            let weight = Tensor::from_vec(weights(size, side), (side, size), &Device::Cpu)?;
            let weight = self.net.param(format!("{RESAMPLING}{name}.{axis}"), weight);
            out = self.net.node(format!("{name}.{axis}"), Op::Linear { weight, bias: None }, &[out])?;
            out = self.net.node(format!("{name}.{axis}.turned"), Op::Transpose { axes: vec![0, 1, 3, 2] }, &[out])?;
        }
        Ok(out)
    }
}

/// `[side, size]`: row `i` averages from `floor(i size / side)` to `ceil((i + 1) size / side)`.
fn windows(size: usize, side: usize) -> Vec<f64> {
    let row = |i: usize| {
        let (start, end) = (i * size / side, ((i + 1) * size).div_ceil(side));
        (0..size).map(move |j| if (start..end).contains(&j) { 1. / (end - start) as f64 } else { 0. })
    };
    (0..side).flat_map(row).collect()
}

/// `[side, size]`: row `i` lies at `(i + 1/2) size / side - 1/2`, at 0 where that is before the first entry, and mixes its
/// neighbours by their distance; beyond the last there is the last again.
fn bilinear(size: usize, side: usize) -> Vec<f64> {
    let mut all = vec![0.; side * size];
    for (i, row) in all.chunks_mut(size.max(1)).enumerate() {
        let at = ((i as f64 + 0.5) * size as f64 / side as f64 - 0.5).max(0.);
        let before = (at as usize).min(size - 1);
        let share = at - before as f64;
        row[before] += 1. - share;
        row[(before + 1).min(size - 1)] += share;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{bilinear, windows};

    #[test]
    fn windows_are_those_of_torchs_adaptive_pool() {
        let (half, none) = (0.5, 0.);
        let four_to_six = [
            [1., none, none, none],
            [half, half, none, none],
            [none, 1., none, none],
            [none, none, 1., none],
            [none, none, half, half],
            [none, none, none, 1.],
        ];
        assert_eq!(windows(4, 6), four_to_six.concat());
        assert_eq!(windows(1, 3), [1.; 3]);
        assert_eq!(windows(5, 2), [[1. / 3.; 3].as_slice(), &[0.; 4], &[1. / 3.; 3]].concat());
        for (size, side) in [(13, 6), (7, 7), (29, 7), (12, 6)] {
            let all = windows(size, side);
            assert!(all.chunks(size).all(|row| (row.iter().sum::<f64>() - 1.).abs() < 1e-12));
        }
    }

    #[test]
    fn interpolation_is_that_of_torch() {
        // torch.nn.functional.interpolate of the unit vectors.
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
