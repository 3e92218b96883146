//! Maps brought to another size: each axis by a matrix that is known when the network is built.

use super::stack::Stack;
use crate::compose::{Kind, MADE, along_both, resampling};
use candle_core::{Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{NodeId, Op, ParamId, Window};

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
        let mut matrix = |axis: &str, size: usize| -> Result<ParamId> {
            let weight = Tensor::from_vec(weights(size, side), (side, size), &Device::Cpu)?;
            Ok(self.net.param(format!("{MADE}{name}.{axis}"), weight))
        };
        let both = [matrix("columns", width)?, matrix("rows", height)?];
        along_both(self.net, x, name, both)
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

/// `[side, size]`: entry `i` lies at `(i + 1/2) size / side - 1/2`.
fn bilinear(size: usize, side: usize) -> Vec<f64> {
    resampling(size, side, |i| (i + 0.5) * size as f64 / side as f64 - 0.5, &Kind::Linear)
}

#[cfg(test)]
mod tests {
    use super::windows;

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
}
