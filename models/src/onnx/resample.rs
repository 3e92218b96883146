//! Images brought to another size: a matrix along each axis, known when the network is built.

use super::array::{Array, Data, Num};
use super::call::{Call, Graph, Value, one};
use crate::compose::{Kind, MADE, along_both, resampling};
use candle_core::{DType, Device, Tensor};
use robust_core::Result;
use std::rc::Rc;

/// Where entry `i` of `side` lies among `size`, `scale` times fewer. Each step is rounded: see [`Weights::round`].
type Place = fn(i: f64, size: f64, side: f64, scale: f64, round: Round) -> f64;
type Round = fn(f64) -> f64;

/// As ONNX calls them.
const PLACES: [(&str, Place); 4] = [
    ("half_pixel", half_pixel),
    (
        "pytorch_half_pixel",
        |i, size, side, scale, round| if side > 1. { half_pixel(i, size, side, scale, round) } else { 0. },
    ),
    (
        "align_corners",
        |i, size, side, _, round| if side > 1. { round(round(i * (size - 1.)) / (side - 1.)) } else { 0. },
    ),
    ("asymmetric", asymmetric),
];

fn half_pixel(i: f64, _: f64, _: f64, scale: f64, round: Round) -> f64 {
    round(round(round(i + 0.5) / scale) - 0.5)
}

fn asymmetric(i: f64, _: f64, _: f64, scale: f64, round: Round) -> f64 {
    round(i / scale)
}

/// The entry nearest to a place.
type Nearest = fn(f64) -> f64;

/// What is as near as that to the middle between two entries counts as the middle, as ONNX Runtime has it.
const TIE: f64 = 1e-6;

const NEAREST: [(&str, Nearest); 4] = [
    ("round_prefer_floor", |x| (x - 0.5 - TIE).ceil()),
    ("round_prefer_ceil", |x| (x + 0.5 + TIE).floor()),
    ("floor", f64::floor),
    ("ceil", f64::ceil),
];

const MAX_SIDE: usize = 1 << 12;

pub fn resize(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let [channels, height, width] = shape.row[..] else {
        return Err(call.fail(format!("its input has {} axes; only images [n, c, h, w] are supported", shape.rank())));
    };
    let batch = graph.fixed_batch;
    let matrices = matrices(graph, call, (batch, channels), [height, width])?;
    let name = format!("{MADE}{}", call.out());
    let [rows, columns] = matrices.map(|(axis, matrix)| graph.derived(&name, &format!(".{axis}"), matrix));
    let image = along_both(&mut graph.builder, id, call.out(), [columns, rows]);
    one(image.map_err(|e| e.within("ONNX op Resize"))?)
}

/// The same of one constant image, such as learned places.
pub(super) fn resize_known(graph: &mut Graph, call: &Call) -> Result<Array> {
    let from = Rc::clone(call.known(0)?);
    let (Some(image), &[1, channels, height, width]) = (from.tensor(), from.dims.as_slice()) else {
        let why = format!("its input has shape {:?}; [1, channels, height, width] is supported", from.dims);
        return Err(call.fail(why));
    };
    let [(_, rows), (_, columns)] = matrices(graph, call, (Some(1), channels), [height, width])?;
    let (high, wide) = (rows.dims()[0], columns.dims()[0]);
    // Between the two steps, and after them.
    graph.spend(call, &[channels, height, wide])?;
    graph.spend(call, &[channels, high, wide])?;
    let lines = image.to_dtype(DType::F64)?.reshape((channels * height, width))?.matmul(&columns.t()?)?;
    let turned = lines.reshape((channels, height, wide))?.transpose(1, 2)?.contiguous()?;
    let made = turned.reshape((channels * wide, height))?.matmul(&rows.t()?)?;
    let made = made.reshape((1, channels, wide, high))?.transpose(2, 3)?.contiguous()?.to_dtype(image.dtype())?;
    Ok(Array::new(call.out(), vec![1, channels, high, wide], Data::Float(made)))
}

/// From old rows and columns to new ones, `[side, size]` each.
fn matrices(
    graph: &mut Graph,
    call: &Call,
    (batch, channels): (Option<usize>, usize),
    image: [usize; 2],
) -> Result<[(&'static str, Tensor); 2]> {
    let weights = Weights::of(call)?;
    let sides = sides(call, (batch, channels), image)?;
    let mut one = |i: usize| -> Result<Tensor> {
        let (size, (side, scale)) = (image[i], sides[i]);
        // Twice as wide as other numbers, and looked at once more when the network is done.
        graph.spend(call, &[4, side, size])?;
        let scale = (weights.round)(scale);
        let place = |i: f64| (weights.place)(i, size as f64, side as f64, scale, weights.round);
        let kind = weights.kind(scale);
        Ok(Tensor::from_vec(resampling(size, side, place, &kind), (side, size), &Device::Cpu)?)
    };
    Ok([("rows", one(0)?), ("columns", one(1)?)])
}

/// New height and width, each with its factor: as sizes or as factors, for all axes or those that `axes` names.
fn sides(call: &Call, (batch, channels): (Option<usize>, usize), image: [usize; 2]) -> Result<[(usize, f64); 2]> {
    if call.text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(call.fail("only keep_aspect_ratio_policy `stretch` is supported"));
    }
    let axes = call.ints("axes")?.map_or(vec![0, 1, 2, 3], <[i64]>::to_vec);
    let axes = axes.iter().map(|&a| call.axis(a, 4)).collect::<Result<Vec<_>>>()?;
    let empty = |i: usize| matches!(call.input(i), Some(Value::Known(a)) if a.is_empty());
    let given = |i: usize| call.input(i).is_some() && !empty(i);
    let wrong =
        |what: &str| call.fail(format!("its {what} are not supported: one for each axis, none for batch and channels"));
    let mut sides = image.map(|size| (size, 1.));
    if !old(call) && given(3) {
        let sizes = call.known_nums(3)?;
        for (&axis, size) in axes.iter().zip(&sizes).filter(|(axis, _)| **axis >= 2) {
            let side = size.value().and_then(|s| usize::try_from(s).ok()).unwrap_or(0);
            sides[axis - 2] = (side, side as f64 / image[axis - 2] as f64);
        }
        // Exporters that fix the batch write it here.
        let other = |(axis, size): (&usize, &Num)| match axis {
            0 => *size != Num::BATCH && size.value() != Some(batch.unwrap_or(1) as i64),
            1 => size.value() != Some(channels as i64),
            _ => false,
        };
        if sizes.len() != axes.len() || axes.iter().zip(&sizes).any(other) {
            return Err(wrong("sizes"));
        }
    } else {
        let factors = match call.floats("scales")?.filter(|_| old(call)) {
            Some(list) => list.iter().map(|&f| f64::from(f)).collect(),
            None => call.known(if old(call) { 1 } else { 2 })?.values().unwrap_or_default(),
        };
        let fits = |axis: usize, factor: f64| factor > 0. && factor.is_finite() && (axis >= 2 || factor == 1.);
        if factors.len() != axes.len() || !axes.iter().zip(&factors).all(|(&axis, &factor)| fits(axis, factor)) {
            return Err(wrong("factors"));
        }
        for (&axis, &factor) in axes.iter().zip(&factors).filter(|(axis, _)| **axis >= 2) {
            // In single precision, as runtimes do: 10 pixels times 0.7 are 7.
            sides[axis - 2] = ((image[axis - 2] as f32 * factor as f32) as usize, factor);
        }
    }
    match sides.iter().find(|(side, _)| !(1..=MAX_SIDE).contains(side)) {
        Some((side, _)) => Err(call.fail(format!("a side of {side} is not between 1 and {MAX_SIDE}"))),
        None => Ok(sides),
    }
}

/// How new entries are made of old ones.
struct Weights {
    mode: Mode,
    place: Place,
    /// Ties between two entries fall as single precision has them, in which runtimes compute places: 3 / 0.6 is 5 in f32 and a
    /// little less in f64. Shares of a place are no matter of ties and stay exact.
    round: Round,
}

enum Mode {
    Nearest(Nearest),
    /// Before opset 11: the entry below when an image grows, the entry above when it shrinks.
    Simple,
    Linear,
    Cubic(f64),
}

impl Weights {
    fn kind(&self, scale: f64) -> Kind {
        match self.mode {
            Mode::Nearest(nearest) => Kind::Nearest(nearest),
            Mode::Simple if scale < 1. => Kind::Nearest(f64::ceil),
            Mode::Simple => Kind::Nearest(f64::floor),
            Mode::Linear => Kind::Linear,
            Mode::Cubic(a) => Kind::Cubic(a),
        }
    }

    fn of(call: &Call) -> Result<Self> {
        let named = |what: &str, name: &str| call.fail(format!("{what} `{name}` is not supported"));
        if call.int("antialias", 0)? != 0 || call.int("exclude_outside", 0)? != 0 {
            return Err(call.fail("`antialias` and `exclude_outside` are not supported"));
        }
        let mode = call.text("mode", "nearest")?;
        let single: Round = |x| f64::from(x as f32);
        if old(call) {
            let (mode, round) = match mode.as_str() {
                "nearest" => (Mode::Simple, single),
                "linear" => (Mode::Linear, (|x| x) as Round),
                other => return Err(named("mode", other)),
            };
            return Ok(Self { mode, place: asymmetric, round });
        }
        let place = call.text("coordinate_transformation_mode", "half_pixel")?;
        let known = PLACES.iter().find(|(name, _)| *name == place).map(|(_, place)| *place);
        let place = known.ok_or_else(|| named("coordinate_transformation_mode", &place))?;
        let mode = match mode.as_str() {
            "linear" => Mode::Linear,
            "cubic" => Mode::Cubic(call.float("cubic_coeff_a", -0.75)?),
            "nearest" => {
                let mode = call.text("nearest_mode", "round_prefer_floor")?;
                let known = NEAREST.iter().find(|(name, _)| *name == mode).map(|(_, nearest)| *nearest);
                Mode::Nearest(known.ok_or_else(|| named("nearest_mode", &mode))?)
            }
            other => return Err(named("mode", other)),
        };
        let round: Round = if matches!(mode, Mode::Nearest(_)) { single } else { |x| x };
        Ok(Self { mode, place, round })
    }
}

/// Upsample, and Resize before opset 11: factors come second, or as an attribute, and places are those of a grid that begins with
/// the first entry.
fn old(call: &Call) -> bool {
    call.op() == "Upsample" || call.opset < 11
}
