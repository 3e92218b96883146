//! MeanSparse (Amini et al. 2024) on channels-last memory.

use super::compiler::Compiler;
use super::conv::floats;
use super::layout::Layout;
use super::step::StepKind;
use crate::graph::Op;
use crate::reference::{Bands, within};
use rayon::prelude::*;
use robust_core::{Error, Result};

/// Entries one parallel task handles.
const CHUNK: usize = 1 << 14;

impl Compiler<'_> {
    pub(super) fn mean_sparse(&mut self, i: usize) -> Result<()> {
        let (node, row) = (&self.net.nodes()[i], self.row(i).to_vec());
        let (&Op::MeanSparse { mean, var, threshold, axis }, input) = (&node.op, node.inputs[0]) else {
            return Err(Error::internal("not a MeanSparse"));
        };
        let narrow = |p| Ok::<_, Error>(floats(self.net, p)?.into_iter().map(|v| v as f32).collect::<Vec<f32>>());
        let threshold = narrow(threshold)?.first().copied().unwrap_or(0.);
        let kind = StepKind::Sparse(Bands::new(narrow(mean)?, &narrow(var)?, threshold));
        match row.len() {
            n if axis == n => self.by_last(i, kind),
            3 if axis == 1 => {
                let cell = self.ordered(input, &[1, 2, 0])?;
                self.made(i, kind, vec![cell], row[0], Layout::ordered(&row, &[1, 2, 0]))
            }
            _ => self.fallback(i),
        }
    }
}

impl Bands<f32> {
    /// Calls `f(other, mean, held)` for each entry of `out`, `[pixels, channels]`; `held` is whether that of `x` becomes the
    /// mean.
    fn each(&self, x: &[f32], other: &[f32], out: &mut [f32], f: impl Fn(f32, f32, bool) -> f32 + Sync) {
        let channels = self.mean.len();
        let chunk = (CHUNK / channels).max(1) * channels;
        let parts = out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).zip(other.par_chunks(chunk));
        parts.for_each(|((out, x), other)| {
            let pixels = out.chunks_mut(channels).zip(x.chunks(channels)).zip(other.chunks(channels));
            for ((out, x), other) in pixels {
                let bands = self.mean.iter().zip(&self.reach);
                for (((out, x), other), (mean, reach)) in out.iter_mut().zip(x).zip(other).zip(bands) {
                    *out = f(*other, *mean, within(*x, *mean, *reach));
                }
            }
        });
    }

    pub(super) fn forward(&self, x: &[f32], out: &mut [f32]) {
        self.each(x, x, out, |v, mean, held| if held { mean } else { v });
    }

    /// `x` is what went in.
    pub(super) fn pull(&self, x: &[f32], grad: &[f32], out: &mut [f32]) {
        self.each(x, grad, out, |g, _, held| if held { 0. } else { g });
    }
}
