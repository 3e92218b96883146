//! Where the entries of a row are in memory: reshapes and transposes cost nothing until an op needs another order.

/// The logical row split into `dims`, which memory holds in `order`, the last one innermost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    dims: Vec<usize>,
    order: Vec<usize>,
}

/// A layout whose dims are split so that each logical axis is a range of them.
struct Refined {
    layout: Layout,
    axes: Vec<std::ops::Range<usize>>,
}

impl Layout {
    pub(super) fn plain(row: &[usize]) -> Self {
        Self { dims: row.to_vec(), order: (0..row.len()).collect() }
    }

    /// The axes of `row` in the given memory order.
    pub(super) fn ordered(row: &[usize], order: &[usize]) -> Self {
        Self { dims: row.to_vec(), order: order.to_vec() }
    }

    /// Splits dims at the boundaries of `row`; `None` where they do not nest.
    fn refine(&self, row: &[usize]) -> Option<Refined> {
        let (mut layout, mut axes, mut next) = (self.clone(), vec![], 0);
        for &size in row {
            let (start, mut left) = (next, size);
            while left > 1 {
                let dim = *layout.dims.get(next)?;
                if dim > left {
                    if dim % left != 0 {
                        return None;
                    }
                    layout.split(next, left);
                } else if left % dim != 0 {
                    return None;
                }
                left /= layout.dims[next];
                next += 1;
            }
            axes.push(start..next);
        }
        Some(Refined { layout, axes })
    }

    fn split(&mut self, at: usize, first: usize) {
        let rest = self.dims[at] / first;
        self.dims[at] = first;
        self.dims.insert(at + 1, rest);
        self.order.iter_mut().filter(|o| **o > at).for_each(|o| *o += 1);
        if let Some(place) = self.order.iter().position(|&o| o == at) {
            self.order.insert(place + 1, at + 1);
        }
    }

    /// Whether memory holds the axes of `row` in this order.
    pub(super) fn is(&self, row: &[usize], order: &[usize]) -> bool {
        let Some(r) = self.refine(row) else { return false };
        let real = |i: &usize| r.layout.dims[*i] > 1;
        let wanted = order.iter().flat_map(|&a| r.axes[a].clone()).filter(real);
        r.layout.order.iter().copied().filter(real).eq(wanted)
    }

    /// Whether two layouts of one row hold it in the same order.
    pub(super) fn logical_eq(&self, other: &Self) -> bool {
        self == other || self.merged() == other.merged()
    }

    /// Without dims of 1, and with dims joined that are neighbours both in the row and in memory.
    fn merged(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize, usize)> = vec![];
        for &i in self.order.iter().filter(|i| self.dims[**i] > 1) {
            let next = |last: usize| self.dims[last + 1..i].iter().all(|d| *d == 1);
            match runs.last_mut() {
                Some((_, last, size)) if *last < i && next(*last) => (*last, *size) = (i, *size * self.dims[i]),
                _ => runs.push((i, i, self.dims[i])),
            }
        }
        // Where each run begins in the row, and its size.
        let strides = Self::plain(&self.dims).strides();
        runs.into_iter().map(|(_, last, size)| (strides[last], size)).collect()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.order.iter().filter(|i| self.dims[**i] > 1).is_sorted()
    }

    /// The layout of the same memory with the axes of `row` transposed; `None` where the layout must be copied first.
    pub(super) fn transposed(&self, row: &[usize], axes: &[usize]) -> Option<Self> {
        let r = self.refine(row)?;
        let mut place = vec![0; r.layout.dims.len()];
        let mut dims = vec![];
        for i in axes.iter().flat_map(|&a| r.axes[a].clone()) {
            place[i] = dims.len();
            dims.push(r.layout.dims[i]);
        }
        // Dims of 1 beyond all axes have no place of their own.
        let order = r.layout.order.iter().filter(|i| r.axes.iter().any(|a| a.contains(i))).map(|&i| place[i]).collect();
        Some(Self { dims, order })
    }

    /// With the last axis of `row` innermost: the layout after it was replaced by one of `size`.
    pub(super) fn with_last(&self, row: &[usize], size: usize) -> Option<Self> {
        let r = self.refine(row)?;
        let last = r.axes.last()?.clone();
        let (order, inner) = r.layout.order.split_at(r.layout.order.len().checked_sub(last.len())?);
        if !inner.iter().copied().eq(last.clone()) {
            return None;
        }
        let mut dims = r.layout.dims[..last.start].to_vec();
        let order = order.iter().copied().filter(|&i| i < last.start).chain([dims.len()]).collect();
        dims.push(size);
        Some(Self { dims, order })
    }

    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![0; self.dims.len()];
        let mut stride = 1;
        for &i in self.order.iter().rev() {
            strides[i] = stride;
            stride *= self.dims[i];
        }
        strides
    }

    /// A walk over the row in logical order that reads memory.
    pub(super) fn read(&self) -> Walk {
        Walk { dims: self.dims.clone(), strides: self.strides() }
    }

    /// A walk over memory that reads the logical row.
    pub(super) fn write(&self) -> Walk {
        let plain = Self::plain(&self.dims).strides();
        let pick = |v: &[usize]| self.order.iter().map(|&i| v[i]).collect();
        Walk { dims: pick(&self.dims), strides: pick(&plain) }
    }

    /// For each place in memory, its index in the logical row.
    pub(super) fn logical(&self) -> Vec<usize> {
        let walk = self.write();
        let mut all = Vec::with_capacity(walk.len());
        walk.each(|from, len, step| all.extend((0..len).map(|i| from + i * step)));
        all
    }
}

/// Nested loops over source offsets.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Walk {
    fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Calls `visit(first offset, count, step)` for every innermost line.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let Some((&last, outer)) = self.dims.split_last() else { return visit(0, 1, 1) };
        let step = self.strides[outer.len()];
        let mut index = vec![0; outer.len()];
        let mut offset = 0;
        loop {
            visit(offset, last, step);
            let mut axis = outer.len();
            loop {
                let Some(a) = axis.checked_sub(1) else { return };
                axis = a;
                index[a] += 1;
                offset += self.strides[a];
                if index[a] < outer[a] {
                    break;
                }
                offset -= self.strides[a] * outer[a];
                index[a] = 0;
            }
        }
    }

    /// Copies `n` rows.
    pub(super) fn copy(&self, n: usize, x: &[f32], out: &mut [f32]) {
        use rayon::prelude::*;
        let row = self.len();
        out[..n * row].par_chunks_mut(row).zip(x[..n * row].par_chunks(row)).for_each(|(out, x)| {
            let mut out = out;
            self.each(|from, len, step| {
                let (line, rest) = std::mem::take(&mut out).split_at_mut(len);
                out = rest;
                match step {
                    1 => line.copy_from_slice(&x[from..][..len]),
                    _ => line.iter_mut().enumerate().for_each(|(i, o)| *o = x[from + i * step]),
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flattening_and_splitting_channels_last_memory_moves_nothing() {
        let x = Layout::ordered(&[2, 3, 4], &[1, 2, 0]);
        assert!(x.is(&[2, 3, 4], &[1, 2, 0]) && x.is(&[2, 12], &[1, 0]) && !x.is(&[24], &[0]));
        let tokens = x.transposed(&[2, 12], &[1, 0]).unwrap();
        assert!(tokens.is_plain() && tokens.is(&[12, 2], &[0, 1]));
        assert_eq!(tokens.with_last(&[12, 2], 5).unwrap(), Layout::plain(&[3, 4, 5]));
        assert!(x.with_last(&[2, 12], 5).is_none());
        assert!(Layout::plain(&[6]).transposed(&[4, 2], &[1, 0]).is_none());
    }

    #[test]
    fn walks_there_and_back_give_the_row_again() {
        for (row, order) in [(vec![2, 3, 4], vec![1, 2, 0]), (vec![5, 1, 2], vec![2, 1, 0]), (vec![7], vec![0])] {
            let layout = Layout::ordered(&row, &order);
            let len: usize = row.iter().product();
            let x: Vec<f32> = (0..2 * len).map(|i| i as f32).collect();
            let (mut memory, mut back) = (vec![0.; 2 * len], vec![0.; 2 * len]);
            layout.write().copy(2, &x, &mut memory);
            layout.read().copy(2, &memory, &mut back);
            assert_eq!(x, back);
            let logical: Vec<f32> = layout.logical().into_iter().map(|i| i as f32).collect();
            assert_eq!(logical, memory[..len]);
        }
    }
}
