//! Boxes of entries copied from rows to rows.

/// One box of entries: where it is in a row that is read and in one that is written.
#[derive(Debug, Clone)]
pub(super) struct Move {
    dims: Vec<usize>,
    from: Strided,
    to: Strided,
}

/// A first entry, and the distance of the next one along each dimension.
#[derive(Debug, Clone)]
pub(super) struct Strided {
    pub(super) start: usize,
    pub(super) steps: Vec<usize>,
}

impl Strided {
    /// The whole of a row of these dimensions.
    pub(super) fn whole(dims: &[usize]) -> Self {
        let mut steps = vec![1; dims.len()];
        for i in (1..dims.len()).rev() {
            steps[i - 1] = steps[i] * dims[i];
        }
        Self { start: 0, steps }
    }
}

impl Move {
    pub(super) fn new(dims: Vec<usize>, from: Strided, to: Strided) -> Self {
        let mut m = Self { dims: vec![], from: Strided { steps: vec![], ..from }, to: Strided { steps: vec![], ..to } };
        // Dimensions that lie side by side on both sides are one.
        for (i, &dim) in dims.iter().enumerate().filter(|(_, d)| **d > 1) {
            let steps = [from.steps[i], to.steps[i]];
            match (m.dims.last_mut(), m.from.steps.last_mut(), m.to.steps.last_mut()) {
                (Some(last), Some(a), Some(b)) if [*a, *b] == steps.map(|s| s * dim) => {
                    *last *= dim;
                    [*a, *b] = steps;
                }
                _ => {
                    m.dims.push(dim);
                    m.from.steps.push(steps[0]);
                    m.to.steps.push(steps[1]);
                }
            }
        }
        m
    }

    /// Entries of the box.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn reversed(&self) -> Self {
        Self { dims: self.dims.clone(), from: self.to.clone(), to: self.from.clone() }
    }

    /// Copies the box in each row of `x` to the same row of `out`, which has `[read, written]` entries; a single row of `x`
    /// goes to all.
    pub(super) fn copy(&self, [read, written]: [usize; 2], x: &[f32], out: &mut [f32]) {
        use rayon::prelude::*;
        let rows = x.len() / read;
        out.par_chunks_mut(written).enumerate().for_each(|(i, out)| {
            let x = &x[if rows == 1 { 0 } else { i * read }..][..read];
            self.along(0, [self.from.start, self.to.start], x, out);
        });
    }

    fn along(&self, axis: usize, [mut from, mut to]: [usize; 2], x: &[f32], out: &mut [f32]) {
        let Some(&count) = self.dims.get(axis) else { return out[to] = x[from] };
        let (a, b) = (self.from.steps[axis], self.to.steps[axis]);
        if axis + 1 == self.dims.len() && [a, b] == [1, 1] {
            return out[to..to + count].copy_from_slice(&x[from..from + count]);
        }
        for _ in 0..count {
            self.along(axis + 1, [from, to], x, out);
            (from, to) = (from + a, to + b);
        }
    }
}

pub(super) fn picked(row: &[usize], order: &[usize]) -> Vec<usize> {
    order.iter().map(|&a| row[a]).collect()
}
