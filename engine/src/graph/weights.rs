//! Which values weights may have: numbers, and minus infinity where it masks.

use super::digest::entries;
use super::node::Node;
use super::op::{Binary, Op};
use super::params::Param;
use candle_core::Tensor;
use robust_core::{Error, Result};

/// Refuses weights that are not numbers. Minus infinity passes in what is only ever added to a value or held against it by
/// a minimum, in what is chosen by a mask, and in biases of linear layers: that is how classes are masked that a data set does not have.
///
/// # Errors
/// Kind `Load`, naming the weight.
pub(super) fn check(nodes: &[Node], params: &[Param]) -> Result<()> {
    let masks = masks(nodes, params.len());
    for (param, may_mask) in params.iter().zip(masks) {
        match worst(&param.value) {
            Worst::Finite => {}
            Worst::Masked if may_mask => {}
            _ => {
                return Err(Error::load(format!("weight `{}`", param.name), "it holds NaN or infinite values")
                    .hint("the file is damaged or training diverged: export the checkpoint again"));
            }
        }
    }
    Ok(())
}

/// For every weight, whether all that reads it can take minus infinity.
fn masks(nodes: &[Node], params: usize) -> Vec<bool> {
    let mut added = vec![true; nodes.len()];
    for node in nodes.iter().filter(|n| !matches!(n.op, Op::Binary(Binary::Add | Binary::Min) | Op::Choose)) {
        for input in &node.inputs {
            added[input.0] = false;
        }
    }
    let mut may = vec![true; params];
    for (node, added) in nodes.iter().zip(added) {
        let bias = match node.op {
            Op::Linear { bias, .. } => bias,
            Op::Param(p) if added => Some(p),
            _ => None,
        };
        for p in node.op.params().into_iter().filter(|p| Some(*p) != bias) {
            if let Some(may) = may.get_mut(p.0) {
                *may = false;
            }
        }
    }
    may
}

enum Worst {
    Finite,
    /// Some are minus infinity, the others numbers.
    Masked,
    Other,
}

fn worst(value: &Tensor) -> Worst {
    let (mut other, mut masked) = (false, false);
    let read = entries(value, |some| {
        other |= some.iter().any(|x| x.is_nan() || *x == f64::INFINITY);
        masked |= some.contains(&f64::NEG_INFINITY);
    });
    match (read.is_err() || other, masked) {
        (true, _) => Worst::Other,
        (_, true) => Worst::Masked,
        _ => Worst::Finite,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Builder, NodeId};
    use candle_core::Device;

    const OFF: f32 = f32::NEG_INFINITY;

    /// A layer of two inputs and outputs, then `op` with a constant of two entries.
    fn network(bias: [f32; 2], op: Binary, constant: [f32; 2]) -> Result<()> {
        let mut b = Builder::default();
        let x = b.input("x", &[2])?;
        let weight = b.param("w", Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?);
        let bias = Some(b.param("b", Tensor::new(&bias, &Device::Cpu)?));
        let z = b.node("z", Op::Linear { weight, bias }, &[x])?;
        let p = b.param("mask", Tensor::new(&[constant], &Device::Cpu)?);
        let p = b.node("mask", Op::Param(p), &[])?;
        let out: NodeId = b.node("out", Op::Binary(op), &[z, p])?;
        let out = b.node("same", Op::Act(Activation::LeakyRelu(1.)), &[out])?;
        b.finish(out).map(|_| ())
    }

    #[test]
    fn minus_infinity_masks_classes_and_is_damage_elsewhere() {
        assert!(network([0., 1.], Binary::Add, [0., OFF]).is_ok());
        assert!(network([0., OFF], Binary::Add, [0., 1.]).is_ok());
        assert!(network([0., 1.], Binary::Min, [5., OFF]).is_ok());
        for (bias, op, constant) in [
            ([0., 1.], Binary::Add, [0., f32::INFINITY]),
            ([0., 1.], Binary::Add, [f32::NAN, OFF]),
            ([0., 1.], Binary::Mul, [1., OFF]),
            ([0., 1.], Binary::Max, [1., OFF]),
            ([f32::INFINITY, 0.], Binary::Add, [0., 0.]),
        ] {
            let error = network(bias, op, constant).unwrap_err();
            assert!(error.message.contains("NaN or infinite"), "{op:?} {constant:?}: {error}");
        }
    }
}
