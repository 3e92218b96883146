//! Weights that a file keeps in parts, as one tensor each: weight norm, spectral norm and pruning masks of `torch.nn.utils`. In
//! evaluation their layers compute what the plain weight computes.

use crate::weights::StateDict;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};

/// The parts of one kind, as endings of the names of parts; the first is as large as the whole.
struct PartsKind {
    what: &'static str,
    /// What each part's name has in place of the whole's ending.
    parts: &'static [&'static str],
    /// What is before the parts in the whole's name.
    whole: &'static str,
    fold: fn(&[Part]) -> Option<Vec<f64>>,
}

/// Masks first: a part of another kind may be pruned.
const KINDS: &[PartsKind] = &[
    PartsKind { what: "pruning masks", parts: &["_orig", "_mask"], whole: "", fold: masked },
    PartsKind { what: "weight norm", parts: &["weight_v", "weight_g"], whole: "weight", fold: scaled },
    PartsKind {
        what: "weight norm",
        parts: &["parametrizations.weight.original1", "parametrizations.weight.original0"],
        whole: "weight",
        fold: scaled,
    },
    PartsKind {
        what: "spectral norm",
        parts: &["weight_orig", "weight_u", "weight_v"],
        whole: "weight",
        fold: spectral,
    },
    PartsKind {
        what: "spectral norm",
        parts: &["parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"],
        whole: "weight",
        fold: spectral,
    },
];

struct Part {
    dims: Vec<usize>,
    values: Vec<f64>,
}

/// The same weights with everything folded that is known here, and a note of it.
///
/// # Errors
/// Kind `Load` for parts that do not fit each other.
pub(crate) fn plain(dict: &StateDict) -> Result<StateDict> {
    let mut dict = dict.clone();
    for kind in KINDS {
        let [first, rest @ ..] = kind.parts else { continue };
        let stem = |n: &str| n.strip_suffix(first).map(String::from);
        let stems: Vec<String> = dict.names().filter_map(stem).collect();
        let mut folded = 0;
        for stem in stems {
            let whole = format!("{stem}{}", kind.whole);
            if dict.contains(&whole) || !rest.iter().all(|part| dict.contains(&format!("{stem}{part}"))) {
                continue;
            }
            let value = one(&dict, kind, &stem)?;
            kind.parts.iter().for_each(|part| dict.remove(&format!("{stem}{part}")));
            dict.insert(whole, value);
            folded += 1;
        }
        if folded > 0 {
            dict.note(format!("{folded} weights are made of their parts ({}), in double precision", kind.what));
        }
    }
    Ok(dict)
}

fn one(dict: &StateDict, kind: &PartsKind, stem: &str) -> Result<Tensor> {
    let read = |part: &&str| -> Result<Part> {
        let name = format!("{stem}{part}");
        let tensor = dict.tensor(&name).ok_or_else(|| Error::internal(format!("`{name}` is gone")))?;
        let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Part { dims: tensor.dims().to_vec(), values })
    };
    let parts = kind.parts.iter().map(read).collect::<Result<Vec<_>>>()?;
    let first = format!("{stem}{}", kind.parts[0]);
    let dtype = dict.tensor(&first).map_or(DType::F32, Tensor::dtype);
    let dims = parts[0].dims.clone();
    let values = (kind.fold)(&parts).filter(|values| values.len() == parts[0].values.len());
    let values = values.ok_or_else(|| {
        let shapes: Vec<_> = parts.iter().map(|p| &p.dims).collect();
        Error::load(format!("`{first}`"), format!("the shapes {shapes:?} are not those of {}", kind.what))
    })?;
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(dtype)?)
}

fn masked(parts: &[Part]) -> Option<Vec<f64>> {
    let [orig, mask] = parts else { return None };
    (orig.dims == mask.dims).then(|| orig.values.iter().zip(&mask.values).map(|(w, m)| w * m).collect())
}

/// `v g / |v|`, the norm over the axes that `g` has one entry of; one number `g` is for all.
fn scaled(parts: &[Part]) -> Option<Vec<f64>> {
    let [v, g] = parts else { return None };
    let fits = g.dims.len() == v.dims.len() && g.dims.iter().zip(&v.dims).all(|(g, v)| *g == 1 || g == v);
    if !fits && g.values.len() != 1 {
        return None;
    }
    let which = |at: usize| place(at, &v.dims, if fits { &g.dims } else { &[] });
    let mut squares = vec![0.; g.values.len()];
    v.values.iter().enumerate().for_each(|(at, w)| squares[which(at)] += w * w);
    let scales: Vec<f64> = squares.iter().zip(&g.values).map(|(s, g)| g / s.sqrt()).collect();
    Some(v.values.iter().enumerate().map(|(at, w)| w * scales[which(at)]).collect())
}

/// Where entry `at` of a tensor is in one whose other axes have one entry.
fn place(mut at: usize, dims: &[usize], kept: &[usize]) -> usize {
    let (mut index, mut stride) = (0, 1);
    for (dim, kept) in dims.iter().zip(kept).rev() {
        if *kept != 1 {
            index += at % dim * stride;
            stride *= kept;
        }
        at /= dim;
    }
    index
}

/// `w / (u W v)`, with `W` the weight as a matrix of one row per entry of `u`: its first axis, or of transposed convolutions the second.
fn spectral(parts: &[Part]) -> Option<Vec<f64>> {
    let [w, u, v] = parts else { return None };
    let (rows, columns) = (u.values.len(), v.values.len());
    let axis = w.dims.iter().take(2).position(|d| *d == rows)?;
    if rows.checked_mul(columns)? != w.values.len() {
        return None;
    }
    let inner: usize = w.dims[axis + 1..].iter().product();
    let mut sigma = 0.;
    for (at, value) in w.values.iter().enumerate() {
        let row = at / inner % rows;
        let column = at / (inner * rows) * inner + at % inner;
        sigma += u.values[row] * value * v.values[column];
    }
    Some(w.values.iter().map(|value| value / sigma).collect())
}
