//! Shape inference against PyTorch's rules and against hostile sizes.

use super::*;
use crate::graph::{Binary, Reduction};
use candle_core::{DType, Device, Tensor};

fn weight(dims: &[usize]) -> Param {
    Param { name: "w".into(), value: Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap() }
}

fn of(op: Op, inputs: &[Shape], params: &[Param]) -> Result<Shape> {
    infer(&op, &inputs.iter().collect::<Vec<_>>(), params)
}

fn conv_op(stride: Pair, dilation: Pair, pads: [usize; 4], groups: usize) -> Op {
    Op::Conv2d { weight: ParamId(0), bias: None, stride, dilation, pads, groups }
}

#[test]
fn convolutions_have_pytorchs_sizes() {
    let x = Shape::rows([6, 13, 10]);
    let w = [weight(&[8, 3, 3, 2])];
    let shape = of(conv_op([2, 3], [2, 1], [1, 0, 2, 1], 2), std::slice::from_ref(&x), &w).unwrap();
    assert_eq!(shape, Shape::rows([8, 6, 4]));
    for wrong in [
        conv_op([0, 1], [1, 1], [0; 4], 2),
        conv_op([1, 1], [0, 1], [0; 4], 2),
        conv_op([1, 1], [1, 1], [0; 4], 1),
        conv_op([1, 1], [1, 1], [0; 4], 0),
        conv_op([1, 1], [usize::MAX, 1], [0; 4], 2),
        conv_op([1, 1], [1, 1], [usize::MAX, 0, 1, 0], 2),
        conv_op([1, 1], [7, 1], [0; 4], 2),
    ] {
        let error = of(wrong.clone(), std::slice::from_ref(&x), &w).expect_err(&format!("{wrong:?}"));
        assert_eq!(error.kind, Kind::Load);
    }
}

#[test]
fn a_ceil_pool_drops_the_window_that_starts_in_the_trailing_pad() {
    // Sizes from PyTorch 2.15's max_pool2d.
    assert_eq!(windows(5, 2, 2, (0, 0), true).unwrap(), 3);
    assert_eq!(windows(5, 2, 2, (0, 0), false).unwrap(), 2);
    assert_eq!(windows(4, 2, 5, (1, 1), true).unwrap(), 1);
    assert_eq!(windows(6, 3, 4, (1, 1), true).unwrap(), 2);
    assert_eq!(windows(1, 1, usize::MAX, (0, 0), true).unwrap(), 1);
}

#[test]
fn the_batch_never_meets_a_constants_axis() {
    let add = || Op::Binary(Binary::Add);
    let x = Shape::rows([3, 4]);
    let with = |c: &[usize]| of(add(), &[x.clone(), Shape::constant(c)], &[]);
    assert_eq!(with(&[4]).unwrap(), x);
    assert_eq!(with(&[3, 1]).unwrap(), x);
    assert_eq!(with(&[1, 1, 4]).unwrap(), x);
    assert_eq!(with(&[]).unwrap(), x);
    assert!(with(&[2, 3, 4]).is_err(), "an axis of 2 would be the batch");
    assert!(with(&[1, 1, 3, 4]).is_err(), "the batch would become axis 1");
    assert!(with(&[5]).is_err());
    assert!(of(add(), &[x.clone(), Shape::rows([4])], &[]).is_err(), "the second batch would meet axis 1");
    assert_eq!(of(add(), &[Shape::constant([2, 3]), Shape::constant([3])], &[]).unwrap(), Shape::constant([2, 3]));
}

#[test]
fn matrix_products_never_sum_over_the_batch() {
    let product = |a: Shape, b: Shape| of(Op::MatMul, &[a, b], &[]);
    assert_eq!(product(Shape::rows([5]), Shape::constant([5, 2])).unwrap(), Shape::rows([2]));
    assert_eq!(product(Shape::rows([7, 5]), Shape::constant([5, 2])).unwrap(), Shape::rows([7, 2]));
    assert_eq!(product(Shape::rows([2, 7, 5]), Shape::rows([2, 5, 3])).unwrap(), Shape::rows([2, 7, 3]));
    assert_eq!(product(Shape::constant([7, 5]), Shape::rows([5, 3])).unwrap(), Shape::rows([7, 3]));
    assert!(product(Shape::constant([5, 2]), Shape::rows([3])).is_err());
    assert!(product(Shape::rows([5]), Shape::rows([5])).is_err());
    assert!(product(Shape::rows([7, 5]), Shape::rows([2, 5, 3])).is_err());
    assert!(product(Shape::rows([7, 5]), Shape::constant([3, 5, 2])).is_err());
}

#[test]
fn axes_are_checked_and_the_batch_axis_is_refused() {
    let x = Shape::rows([2, 3, 4]);
    let one = |op| of(op, std::slice::from_ref(&x), &[]);
    let mean = |axes: &[usize], keep| one(Op::Reduce { kind: Reduction::Mean, axes: axes.to_vec(), keep });
    assert_eq!(mean(&[2, 3], false).unwrap(), Shape::rows([2]));
    assert_eq!(mean(&[2, 3], true).unwrap(), Shape::rows([2, 1, 1]));
    assert!(mean(&[0], true).is_err() && mean(&[4], true).is_err() && mean(&[1, 1], true).is_err());
    assert!(mean(&[], true).is_err());
    assert!(one(Op::Softmax { axis: 0 }).is_err() && one(Op::Softmax { axis: 3 }).is_ok());
    assert!(one(Op::Transpose { axes: vec![1, 0, 2, 3] }).is_err());
    assert_eq!(one(Op::Transpose { axes: vec![0, 3, 1, 2] }).unwrap(), Shape::rows([4, 2, 3]));
    assert_eq!(one(Op::Reshape { row: vec![24] }).unwrap(), Shape::rows([24]));
    assert!(one(Op::Reshape { row: vec![23] }).is_err());
    assert!(one(Op::Reshape { row: vec![usize::MAX, 2] }).is_err());
    assert_eq!(one(Op::Slice { axis: 3, start: 1, end: 4, step: 2 }).unwrap(), Shape::rows([2, 3, 2]));
    assert!(one(Op::Slice { axis: 3, start: 1, end: 5, step: 1 }).is_err());
    assert!(one(Op::Slice { axis: 3, start: 1, end: 2, step: 0 }).is_err());
    assert_eq!(one(Op::Pad { pads: vec![(0, 0), (1, 2), (3, 0)], value: 0. }).unwrap(), Shape::rows([2, 6, 7]));
    assert!(one(Op::Pad { pads: vec![(usize::MAX, 1), (0, 0), (0, 0)], value: 0. }).is_err());
    assert!(one(Op::MatMul).is_err(), "one input only");
}

#[test]
fn a_class_token_joins_every_row() {
    let parts = [Shape::constant([1, 1, 8]), Shape::rows([4, 8])];
    assert_eq!(of(Op::Concat { axis: 1 }, &parts, &[]).unwrap(), Shape::rows([5, 8]));
    let parts = [Shape::constant([2, 1, 8]), Shape::rows([4, 8])];
    assert!(of(Op::Concat { axis: 1 }, &parts, &[]).is_err());
}

#[test]
fn a_variance_below_minus_eps_is_refused() {
    let var = Param { name: "v".into(), value: Tensor::new(&[1f32, -1.], &Device::Cpu).unwrap() };
    let op = Op::BatchNorm { mean: ParamId(0), var: ParamId(1), gamma: None, beta: None, eps: 1e-5 };
    assert!(of(op, &[Shape::rows([2])], &[weight(&[2]), var]).is_err());
}

#[test]
fn a_bias_of_attention_is_a_constant_that_may_be_shared() {
    let op = Op::Attention { heads: 2, scale: 1. };
    let shape = |lead: &[usize], bias: Shape| {
        let tokens = |t: usize| Shape::rows([lead, &[t, 8]].concat());
        of(op.clone(), &[tokens(3), tokens(5), tokens(5), bias], &[])
    };
    for dims in [[1, 2, 3, 5], [1, 1, 3, 5]] {
        assert_eq!(shape(&[], Shape::constant(dims)).unwrap(), Shape::rows([3, 8]));
    }
    for dims in [[1, 4, 2, 3, 5], [1, 1, 1, 3, 5]] {
        assert_eq!(shape(&[4], Shape::constant(dims)).unwrap(), Shape::rows([4, 3, 8]));
    }
    let wrong: [Shape; 4] = [
        Shape::rows([2, 3, 5]),
        Shape::constant([2, 3, 5]),
        Shape::constant([1, 3, 3, 5]),
        Shape::constant([2, 2, 3, 5]),
    ];
    for bias in wrong {
        assert!(shape(&[], bias.clone()).unwrap_err().message.contains("[1, 2 or 1, 3, 5]"), "{bias:?}");
    }
    assert!(shape(&[4], Shape::constant([1, 3, 2, 3, 5])).is_err());
}
