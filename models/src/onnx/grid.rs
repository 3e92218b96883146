//! Values of an image at places (spatial transformers), and the places an affine map makes.

use super::arithmetic::Steps;
use super::call::{Call, Graph, Value, one};
use crate::compose::MADE;
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{Edge, Op, Shape};

/// Places of `theta` `[n, 2, 3]` on a grid of an image: x and y from -1 to 1.
pub fn affine_grid(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let size = call.known_nums(1)?;
    let sides: Option<Vec<usize>> =
        size.iter().skip(2).map(|n| n.value().and_then(|v| usize::try_from(v).ok()).filter(|v| *v > 0)).collect();
    let (&[2, 3], Some(&[h, w])) = (&shape.row[..], sides.as_deref()) else {
        return Err(call.fail("only grids of images (theta [n, 2, 3] and a size of 4 axes) are supported"));
    };
    graph.spend(call, &[h, w, 3])?;
    let corners = call.int("align_corners", 0)? != 0;
    let place = |i: usize, n: usize| match (corners, n) {
        (true, 1) => 0.,
        (true, _) => -1. + 2. * i as f64 / (n - 1) as f64,
        (false, _) => -1. + (2. * i as f64 + 1.) / n as f64,
    };
    let base: Vec<f64> = (0..h * w).flat_map(|at| [place(at % w, w), place(at / w, h), 1.]).collect();
    let base = Tensor::from_vec(base, (1, h * w, 3), &Device::Cpu)?;
    let param = graph.derived(&format!("{MADE}{}", call.out()), ".grid", base);
    let mut s = Steps::new(graph, call);
    let base = s.node(Op::Param(param), &[])?;
    let turned = s.node(Op::Transpose { axes: vec![0, 2, 1] }, &[id])?;
    let places = s.node(Op::MatMul, &[base, turned])?;
    one(s.node(Op::Reshape { row: vec![h, w, 2] }, &[places])?)
}

/// Values of an image at places that a constant or another value says.
pub fn grid_sample(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let mode = call.text("mode", "linear")?;
    let nearest = match mode.as_str() {
        "linear" | "bilinear" => false,
        "nearest" => true,
        other => return Err(call.fail(format!("mode `{other}` is not supported; linear and nearest are"))),
    };
    let edge = match call.text("padding_mode", "zeros")?.as_str() {
        "zeros" => Edge::Zeros,
        "border" => Edge::Border,
        "reflection" => Edge::Reflection,
        other => return Err(call.fail(format!("padding_mode `{other}` is unknown"))),
    };
    let corners = call.int("align_corners", 0)? != 0;
    let pair = [graph.any(call, 0)?, graph.any(call, 1)?];
    for id in pair {
        let Shape { row, batched } = graph.builder.shape(id);
        if row.len() + usize::from(*batched) != 4 {
            return Err(call.fail("only images [n, c, h, w] and places [n, h, w, 2] are supported"));
        }
    }
    one(graph.node(call, Op::GridSample { nearest, edge, corners }, &pair)?)
}
