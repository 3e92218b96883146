//! Images brought to another size: a matrix along each axis, known when the network is built.

use super::call::{Call, Graph, Value, one};
use candle_core::{Device, Tensor};
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Where entry `i` of `side` lies among `size`, `scale` times fewer.
type Place = fn(i: f64, size: f64, side: f64, scale: f64) -> f64;

/// As ONNX calls them.
const PLACES: [(&str, Place); 4] = [
    ("half_pixel", |i, _, _, scale| (i + 0.5) / scale - 0.5),
    ("pytorch_half_pixel", |i, _, side, scale| if side > 1. { (i + 0.5) / scale - 0.5 } else { 0. }),
    ("align_corners", |i, size, side, _| if side > 1. { i * (size - 1.) / (side - 1.) } else { 0. }),
    ("asymmetric", |i, _, _, scale| i / scale),
];

/// The entry nearest to a place.
type Nearest = fn(f64) -> f64;

const NEAREST: [(&str, Nearest); 4] = [
    ("round_prefer_floor", |x| (x - 0.5).ceil()),
    ("round_prefer_ceil", |x| (x + 0.5).floor()),
    ("floor", f64::floor),
    ("ceil", f64::ceil),
];

const MAX_SIDE: usize = 1 << 12;

pub fn resize(graph: &mut Graph, call: &Call) -> Result<Vec<Value>> {
    let (id, shape) = graph.rows(call, 0)?;
    let [_, height, width] = shape.row[..] else {
        return Err(call.fail(format!("its input has {} axes; only images [n, c, h, w] are supported", shape.rank())));
    };
    let weights = Weights::of(call)?;
    let sides = sides(call, [height, width])?;
    // Along the last axis, the width first, with the other one turned there.
    let mut out = id;
    for (what, size, (side, scale)) in [("columns", width, sides[1]), ("rows", height, sides[0])] {
        graph.spend(call, &[side, size])?;
        let matrix = Tensor::from_vec(weights.matrix(size, side, scale), (side, size), &Device::Cpu)?;
        out = along(graph, call, out, what, matrix)?;
    }
    one(out)
}

/// The matrix over the last axis, which then trades places with the one before.
fn along(graph: &mut Graph, call: &Call, x: NodeId, what: &str, matrix: Tensor) -> Result<NodeId> {
    let weight = graph.derived(call.out(), &format!("/{what}"), matrix);
    let made = graph.step(call, what, Op::Linear { weight, bias: None }, &[x])?;
    let turned = Op::Transpose { axes: vec![0, 1, 3, 2] };
    // The second turn ends the node.
    if what == "rows" { graph.node(call, turned, &[made]) } else { graph.step(call, "turned", turned, &[made]) }
}

/// New height and width, each with its factor: as sizes or as factors, for all axes or those that `axes` names.
fn sides(call: &Call, image: [usize; 2]) -> Result<[(usize, f64); 2]> {
    if call.text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(call.fail("only keep_aspect_ratio_policy `stretch` is supported"));
    }
    let axes = call.ints("axes")?.map_or(vec![0, 1, 2, 3], <[i64]>::to_vec);
    let axes = axes.iter().map(|&a| call.axis(a, 4)).collect::<Result<Vec<_>>>()?;
    let empty = |i: usize| matches!(call.input(i), Some(Value::Known(a)) if a.dims.contains(&0));
    let given = |i: usize| call.input(i).is_some() && !empty(i);
    let wrong =
        |what: &str| call.fail(format!("its {what} are not supported: one for each axis, none for batch and channels"));
    let mut sides = image.map(|size| (size, 1.));
    if given(3) {
        let sizes = call.known_nums(3)?;
        for (&axis, size) in axes.iter().zip(&sizes).filter(|(axis, _)| **axis >= 2) {
            let side = size.value().and_then(|s| usize::try_from(s).ok()).unwrap_or(0);
            sides[axis - 2] = (side, side as f64 / image[axis - 2] as f64);
        }
        if sizes.len() != axes.len() {
            return Err(wrong("sizes"));
        }
    } else {
        let factors = call.known(2)?.values().unwrap_or_default();
        let fits = |axis: usize, factor: f64| factor > 0. && factor.is_finite() && (axis >= 2 || factor == 1.);
        if factors.len() != axes.len() || !axes.iter().zip(&factors).all(|(&axis, &factor)| fits(axis, factor)) {
            return Err(wrong("factors"));
        }
        for (&axis, &factor) in axes.iter().zip(&factors).filter(|(axis, _)| **axis >= 2) {
            sides[axis - 2] = ((image[axis - 2] as f64 * factor) as usize, factor);
        }
    }
    match sides.iter().find(|(side, _)| !(1..=MAX_SIDE).contains(side)) {
        Some((side, _)) => Err(call.fail(format!("a side of {side} is not between 1 and {MAX_SIDE}"))),
        None => Ok(sides),
    }
}

/// How a new entry is made of old ones.
enum Kind {
    Nearest(Nearest),
    Linear,
    /// With the polynomial's coefficient (-0.75 in PyTorch).
    Cubic(f64),
}

struct Weights {
    kind: Kind,
    place: Place,
}

impl Weights {
    fn of(call: &Call) -> Result<Self> {
        let named = |what: &str, name: &str| call.fail(format!("{what} `{name}` is not supported"));
        if call.int("antialias", 0)? != 0 || call.int("exclude_outside", 0)? != 0 {
            return Err(call.fail("`antialias` and `exclude_outside` are not supported"));
        }
        let place = call.text("coordinate_transformation_mode", "half_pixel")?;
        let known = PLACES.iter().find(|(name, _)| *name == place).map(|(_, place)| *place);
        let place = known.ok_or_else(|| named("coordinate_transformation_mode", &place))?;
        let kind = match call.text("mode", "nearest")?.as_str() {
            "linear" => Kind::Linear,
            "cubic" => Kind::Cubic(call.float("cubic_coeff_a", -0.75)?),
            "nearest" => {
                let mode = call.text("nearest_mode", "round_prefer_floor")?;
                let known = NEAREST.iter().find(|(name, _)| *name == mode).map(|(_, nearest)| *nearest);
                Kind::Nearest(known.ok_or_else(|| named("nearest_mode", &mode))?)
            }
            other => return Err(named("mode", other)),
        };
        Ok(Self { kind, place })
    }

    /// `[side, size]`; what lies outside is the outermost entry.
    fn matrix(&self, size: usize, side: usize, scale: f64) -> Vec<f64> {
        let mut all = vec![0.; side * size];
        for (i, row) in all.chunks_mut(size).enumerate() {
            let x = (self.place)(i as f64, size as f64, side as f64, scale);
            let inside = |at: f64| at.clamp(0., (size - 1) as f64) as usize;
            let (floor, share) = (x.floor(), x - x.floor());
            match self.kind {
                Kind::Nearest(nearest) => row[inside(nearest(x))] = 1.,
                Kind::Linear => {
                    row[inside(floor)] += 1. - share;
                    row[inside(floor + 1.)] += share;
                }
                Kind::Cubic(a) => {
                    for tap in -1..=2 {
                        row[inside(floor + f64::from(tap))] += cubic((f64::from(tap) - share).abs(), a);
                    }
                }
            }
        }
        all
    }
}

/// The weight at a distance (Keys 1981).
fn cubic(d: f64, a: f64) -> f64 {
    match d {
        d if d <= 1. => ((a + 2.) * d - (a + 3.)) * d * d + 1.,
        d if d < 2. => ((a * d - 5. * a) * d + 8. * a) * d - 4. * a,
        _ => 0.,
    }
}
