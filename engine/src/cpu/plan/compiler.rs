//! What compiling keeps, and the ways to add a step.

use super::conv::Choice;
use super::layout::Layout;
use super::step::{Cell, CellId, CellPlace, Step, StepKind, Steps, Weighed};
use crate::cpu::kernels::{Grid, Isa, Links, Slide};
use crate::graph::{Network, NodeId, ParamId, Window};
use crate::reference::Single;
use robust_core::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct Compiler<'a> {
    pub(super) net: &'a Arc<Network>,
    pub(super) reference: &'a Single,
    pub(super) isa: Isa,
    pub(super) exposed: Vec<bool>,
    pub(super) readers: Vec<Vec<usize>>,
    pub(super) places: Vec<Option<CellPlace>>,
    pub(super) steps: Steps,
    pub(super) choice: Choice,
    /// Of linear layers as the network has them, by weight: what repeats a layer shares its memory.
    pub(super) dense: HashMap<ParamId, Weighed>,
}

impl Compiler<'_> {
    pub(super) fn row(&self, i: usize) -> &[usize] {
        &self.net.shapes()[i].row
    }

    pub(super) fn place(&self, i: NodeId) -> Result<CellPlace> {
        self.places[i.0].clone().ok_or_else(|| Error::internal(format!("node {} has no value yet", i.0)))
    }

    /// The value of a node in memory with its axes in `order`, copied if it is not.
    pub(super) fn ordered(&mut self, i: NodeId, order: &[usize]) -> Result<CellId> {
        let (place, row) = (self.place(i)?, self.row(i.0).to_vec());
        if place.layout.is(&row, order) {
            return Ok(place.cell);
        }
        let plain: Vec<usize> = (0..row.len()).collect();
        let layout = Layout::ordered(&row, order);
        let channels = order.last().map_or(1, |&a| row[a]);
        let made = match (order == plain, place.layout.is_plain()) {
            (_, true) => self.copied(&place, layout, channels),
            (true, false) => self.copied(&place, layout, channels),
            (false, false) => {
                let plain = self.copied(&place, Layout::plain(&row), row.last().copied().unwrap_or(1));
                self.copied(&plain, layout, channels)
            }
        };
        // Later readers find the copy in the order they most likely want.
        self.places[i.0] = Some(made.clone());
        Ok(made.cell)
    }

    /// A copy between the plain order and another; one of the two is plain.
    pub(super) fn copied(&mut self, from: &CellPlace, layout: Layout, channels: usize) -> CellPlace {
        let (there, back) = match from.layout.is_plain() {
            true => (layout.write(), layout.read()),
            false => (from.layout.read(), from.layout.write()),
        };
        let len = self.steps.cells[from.cell.0].len();
        let out = self.cell(len / channels.max(1), channels);
        self.push(StepKind::Permute { there, back }, vec![from.cell], out, None, false);
        CellPlace { cell: out, layout }
    }

    pub(super) fn set_place(&mut self, i: usize, place: CellPlace) {
        self.places[i] = Some(place);
    }

    pub(super) fn cell(&mut self, pixels: usize, channels: usize) -> CellId {
        self.steps.cells.push(Cell { pixels, channels });
        CellId(self.steps.cells.len() - 1)
    }

    pub(super) fn push(&mut self, kind: StepKind, inputs: Vec<CellId>, out: CellId, add: Option<CellId>, relu: bool) {
        self.steps.list.push(Step { kind, inputs, out, add, relu, next: None });
    }

    /// A step that makes the value of node `i`.
    pub(super) fn made(
        &mut self,
        i: usize,
        kind: StepKind,
        inputs: Vec<CellId>,
        channels: usize,
        layout: Layout,
    ) -> Result<()> {
        let out = self.cell(self.row(i).iter().product::<usize>() / channels, channels);
        self.push(kind, inputs, out, None, false);
        self.places[i] = Some(CellPlace { cell: out, layout });
        Ok(())
    }

    /// A step over the last axis.
    pub(super) fn by_last(&mut self, i: usize, kind: StepKind) -> Result<()> {
        let (input, row) = (self.net.nodes()[i].inputs[0], self.row(i).to_vec());
        let c = row.last().copied().unwrap_or(1);
        let place = self.place(input)?;
        let (cell, layout) = match place.layout.with_last(&row, c) {
            Some(layout) => (place.cell, layout),
            None => {
                let plain: Vec<usize> = (0..row.len()).collect();
                (self.ordered(input, &plain)?, Layout::plain(&row))
            }
        };
        self.made(i, kind, vec![cell], c, layout)
    }

    /// The value of node `i`: a pool of the image in cell `x`.
    pub(super) fn pooled(
        &mut self,
        i: usize,
        x: CellId,
        [c, h, wi]: [usize; 3],
        w: Window,
        average: Option<bool>,
    ) -> Result<()> {
        let grid = pool_grid(w, [h, wi], average)?;
        let counts = [pool_windows(&w, h, 0)?, pool_windows(&w, wi, 1)?];
        let out = self.cell(counts[0] * counts[1], c);
        let back = grid.reversed();
        let kind = if average.is_some() { StepKind::Average { grid, back } } else { StepKind::Maximum { grid, back } };
        self.push(kind, vec![x], out, None, false);
        let layout = Layout::ordered(&[c, counts[0], counts[1]], &[1, 2, 0]);
        self.places[i] = Some(CellPlace { cell: out, layout });
        Ok(())
    }

    /// The cell of a node in the layout of `place`, which has the same row.
    pub(super) fn alike(&mut self, i: NodeId, place: &CellPlace) -> Result<CellId> {
        let other = self.place(i)?;
        if other.layout.logical_eq(&place.layout) {
            return Ok(other.cell);
        }
        let row = self.row(i.0).to_vec();
        let plain = match other.layout.is_plain() {
            true => other,
            false => self.copied(&other, Layout::plain(&row), row.last().copied().unwrap_or(1)),
        };
        if place.layout.is_plain() {
            return Ok(plain.cell);
        }
        let channels = self.steps.cells[place.cell.0].channels;
        Ok(self.copied(&plain, place.layout.clone(), channels).cell)
    }
}

/// Windows of a pool along an axis of `size` entries.
pub(super) fn pool_windows(w: &Window, size: usize, a: usize) -> Result<usize> {
    crate::graph::windows(size, w.kernel[a], w.stride[a], (w.pads[a], w.pads[a + 2]), w.ceil)
}

/// The links of a pool over an image; averages count pads or do not.
pub(super) fn pool_grid(w: Window, size: [usize; 2], average: Option<bool>) -> Result<Grid> {
    let axis = |a: usize| {
        let (size, count, stride) = (size[a], pool_windows(&w, size[a], a)?, w.stride[a].min(crate::graph::MAX_ROW));
        let slide = Slide { size, count, kernel: w.kernel[a], stride, dilation: 1, lead: w.pads[a] };
        Ok::<_, Error>(Links::forward(slide, |o, inside| {
            let padded = (o * stride + w.kernel[a]).min(size + w.pads[a] + w.pads[a + 2]) - o * stride;
            1. / if average == Some(true) { padded } else { inside.max(1) } as f32
        }))
    };
    Ok(Grid { rows: axis(0)?, columns: axis(1)? })
}
