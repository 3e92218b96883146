//! Which nodes become one step: a layer with the affine maps after it, a residual sum, a ReLU and a maximum pool.

use super::compiler::Compiler;
use super::conv::floats;
use super::precision::LINKS;
use crate::cpu::kernels::MAX_AREA;
use crate::graph::{Activation, Binary, NodeId, Op, Window};
use robust_core::{Error, Result};

/// `x * scale + shift` along one axis of a row; one value for all when the axis is `None`.
pub(super) struct Affine {
    pub(super) input: NodeId,
    pub(super) axis: Option<usize>,
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// Nodes that run as one step: a head, affine maps after it, another value added, a ReLU, a maximum pool of a convolution
/// (after its ReLU or before it, which is the same).
pub(super) struct Chain {
    pub(super) head: usize,
    pub(super) affine: Vec<usize>,
    pub(super) add: Option<usize>,
    pub(super) relu: bool,
    pub(super) pool: Option<Window>,
    /// Every node of it, the last one at the end.
    pub(super) nodes: Vec<usize>,
}

impl Chain {
    pub(super) fn last(&self) -> usize {
        self.nodes.last().copied().unwrap_or(self.head)
    }
}

impl Compiler<'_> {
    /// The only node that reads `i`, where nothing else needs its value.
    pub(super) fn sole_reader(&self, i: usize) -> Option<usize> {
        match self.readers[i][..] {
            [one] if !self.exposed[i] => Some(one),
            _ => None,
        }
    }

    /// The per-channel map of a node, if it is one.
    pub(super) fn affine(&self, i: usize) -> Result<Option<Affine>> {
        let (node, row) = (&self.net.nodes()[i], self.row(i));
        if let &Op::BatchNorm { mean, var, gamma, beta, eps } = &node.op {
            let or = |p: Option<_>, v: f64| p.map_or_else(|| Ok(vec![v; row[0]]), |p| floats(self.net, p));
            let (mean, var) = (floats(self.net, mean)?, floats(self.net, var)?);
            let (gamma, beta) = (or(gamma, 1.)?, or(beta, 0.)?);
            let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + eps).sqrt()).collect();
            let shift = scale.iter().zip(&mean).zip(&beta).map(|((s, m), b)| b - s * m).collect();
            return Ok(Some(Affine { input: node.inputs[0], axis: Some(0), scale, shift }));
        }
        let Op::Binary(kind) = node.op else { return Ok(None) };
        let batched = |j: usize| self.net.shapes()[node.inputs[j].0].batched;
        let (x, c) = match (batched(0), batched(1)) {
            (true, false) => (node.inputs[0], node.inputs[1]),
            (false, true) if matches!(kind, Binary::Add | Binary::Mul) => (node.inputs[1], node.inputs[0]),
            _ => return Ok(None),
        };
        let Some((dims, values)) = self.reference.constant(c) else { return Ok(None) };
        if self.row(x.0) != row || dims.len() > row.len() + 1 {
            return Ok(None);
        }
        // Aligned at the end; only one axis may vary.
        let lead = row.len() + 1 - dims.len();
        let vary: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] > 1).map(|a| a + lead).collect();
        let axis = match vary[..] {
            [] => None,
            [a] if a > 0 => Some(a - 1),
            _ => return Ok(None),
        };
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        let n = values.len();
        let (scale, shift) = match kind {
            Binary::Add => (vec![1.; n], values),
            Binary::Sub => (vec![1.; n], values.iter().map(|v| -v).collect()),
            Binary::Mul => (values, vec![0.; n]),
            Binary::Div if values.iter().all(|v| *v != 0.) => (values.iter().map(|v| 1. / v).collect(), vec![0.; n]),
            _ => return Ok(None),
        };
        Ok(Some(Affine { input: x, axis, scale, shift }))
    }

    /// Whether a node adds two values of one shape.
    pub(super) fn adds(&self, i: usize) -> bool {
        let node = &self.net.nodes()[i];
        let same = |j: &NodeId| self.net.shapes()[j.0] == self.net.shapes()[i];
        node.op == Op::Binary(Binary::Add) && node.inputs.iter().all(same) && node.inputs[0] != node.inputs[1]
    }

    pub(super) fn chain(&self, head: usize, taken: &[bool]) -> Result<Option<Chain>> {
        let node = &self.net.nodes()[head];
        let own = self.affine(head)?;
        let (mut cur, mut add) = (head, None);
        // Along which axis the head can scale.
        let mut axis = match &node.op {
            Op::Conv2d { .. } => Some(0),
            Op::Linear { .. } => Some(self.row(head).len() - 1),
            Op::Act(Activation::Relu) => {
                return Ok(Some(Chain { head, affine: vec![], add: None, relu: true, pool: None, nodes: vec![head] }));
            }
            _ if own.is_some() => own.and_then(|a| a.axis),
            _ if self.adds(head) => {
                add = Some(node.inputs[1].0);
                None
            }
            _ => return Ok(None),
        };
        let (mut affine, mut nodes) = (vec![], vec![head]);
        while add.is_none()
            && let Some(next) = self.sole_reader(cur).filter(|n| !taken[*n])
            && let Some(map) = self.affine(next)?.filter(|m| m.axis.is_none() || axis.is_none() || m.axis == axis)
        {
            axis = axis.or(map.axis);
            affine.push(next);
            nodes.push(next);
            cur = next;
        }
        if add.is_none()
            && let Some(next) = self.sole_reader(cur).filter(|n| !taken[*n] && self.adds(*n))
        {
            add = self.net.nodes()[next].inputs.iter().map(|j| j.0).find(|j| *j != cur);
            nodes.push(next);
            cur = next;
        }
        let after = |cur: usize| self.sole_reader(cur).filter(|n| !taken[*n]);
        let relu = |n: &usize| self.net.nodes()[*n].op == Op::Act(Activation::Relu);
        let mut relus = after(cur).filter(relu);
        nodes.extend(relus);
        cur = relus.unwrap_or(cur);
        let pools = add.is_none() && matches!(node.op, Op::Conv2d { .. });
        let pool = after(cur).filter(|_| pools).and_then(|n| Some((n, self.small_pool(n)?)));
        if let Some((pool, _)) = pool {
            nodes.push(pool);
            if relus.is_none() {
                relus = after(pool).filter(relu);
                nodes.extend(relus);
            }
        }
        Ok(Some(Chain { head, affine, add, relu: relus.is_some(), pool: pool.map(|(_, window)| window), nodes }))
    }

    /// The window of a maximum pool with a kernel.
    fn small_pool(&self, i: usize) -> Option<Window> {
        match self.net.nodes()[i].op {
            Op::MaxPool(w) if w.kernel[0].saturating_mul(w.kernel[1]) <= MAX_AREA => {
                self.row(i)[1..].iter().all(|c| *c <= LINKS).then_some(w)
            }
            _ => None,
        }
    }

    /// Scale and shift of a chain's affine maps for `n` channels; `None` when there are none.
    pub(super) fn composed(&self, nodes: &[usize], n: usize) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
        let (mut scale, mut shift) = (vec![1.; n], vec![0.; n]);
        for &i in nodes {
            let Some(map) = self.affine(i)? else { return Err(Error::internal("a chain lost its map")) };
            let at = |v: &[f64], c: usize| v[if v.len() == 1 { 0 } else { c }];
            for (c, (scale, shift)) in scale.iter_mut().zip(&mut shift).enumerate() {
                *shift = *shift * at(&map.scale, c) + at(&map.shift, c);
                *scale *= at(&map.scale, c);
            }
        }
        Ok((!nodes.is_empty()).then_some((scale, shift)))
    }
}

/// Scale and shift of a layer's affine maps with its own bias inside.
pub(super) fn with_bias(
    maps: Option<(Vec<f64>, Vec<f64>)>,
    bias: Option<Vec<f64>>,
    n: usize,
) -> (Vec<f64>, Option<Vec<f64>>) {
    match (maps, bias) {
        (None, bias) => (vec![1.; n], bias),
        (Some((scale, shift)), None) => (scale, Some(shift)),
        (Some((scale, shift)), Some(bias)) => {
            let shift = scale.iter().zip(&bias).zip(&shift).map(|((s, b), t)| s * b + t).collect();
            (scale, Some(shift))
        }
    }
}
