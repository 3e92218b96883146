//! What the numbers of an array mean as values of a model's input. Bytes and other whole numbers are levels of 255 (of
//! 65,535 where 16 bits are used), true and false are 1 and 0, floats are as they are. A few rows, always the same ones,
//! tell whether floats are pixels in `[0,1]` or features, which know no bounds.

use super::array::Array;
use super::dtype::{Dtype, ElementKind};
use super::rows::Bad;
use robust_core::{Error, Result};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Values this far outside the range, in parts of its width, are rounding: normalising in single precision and back
/// leaves them.
pub(super) const ROUNDING: f32 = 1e-6;
/// Rows looked at when a set is opened, and how many bytes of them at most (one row, if it is larger).
const LOOKED_AT: usize = 64;
const LOOKED_BYTES: usize = 64 << 20;

/// What a few rows hold.
#[derive(Debug, Clone, Copy)]
struct Look {
    rows: usize,
    /// Rows with a value outside `[0,1]`, beyond rounding.
    outside: usize,
    low: f64,
    high: f64,
    whole: bool,
}

impl Look {
    /// At rows spread over the array. Values that are not finite are passed over.
    fn at(array: &Array) -> std::io::Result<Self> {
        let mut look = Self { rows: 0, outside: 0, low: f64::INFINITY, high: f64::NEG_INFINITY, whole: true };
        let rows = array.rows();
        let most = LOOKED_AT.min(LOOKED_BYTES / array.row_bytes().max(1)).clamp(1, rows.max(1));
        for i in 0..most {
            let raw = array.row((i * rows / most) as u64)?;
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for v in array.numbers(&raw).filter(|v| v.is_finite()) {
                (low, high) = (low.min(v), high.max(v));
                look.whole &= v.fract() == 0.;
            }
            look.rows += 1;
            look.outside += usize::from(low < -f64::from(ROUNDING) || high > 1. + f64::from(ROUNDING));
            (look.low, look.high) = (look.low.min(low), look.high.max(high));
        }
        Ok(look)
    }

    fn is_mostly_outside(&self) -> bool {
        2 * self.outside > self.rows
    }

    /// Whole numbers from 0 to 255 that are more than 0 and 1.
    fn is_levels(&self) -> bool {
        self.whole && self.low >= 0. && self.high > 1. && self.high <= 255.
    }
}

/// How stored numbers become values, and what the values are.
#[derive(Debug)]
pub(super) struct Values {
    /// What is divided by.
    pub top: f32,
    pub domain: Option<(f32, f32)>,
    /// Most rows looked at leave `[0,1]`, from least to greatest value: it is not a single row that is wrong.
    outside: Option<(f64, f64)>,
    /// Whether no row can leave its range.
    sure: bool,
    pub note: Option<String>,
    moved: Mutex<Moved>,
}

/// Samples whose values were moved into the range, and the value furthest outside.
#[derive(Debug, Default)]
struct Moved {
    ids: BTreeSet<u64>,
    worst: f32,
    by: f32,
}

impl Values {
    /// # Errors
    /// Kind `Load` for whole numbers that are not levels of a pixel, and for rows that cannot be read.
    pub fn of(subject: &str, array: &Array) -> Result<Self> {
        let pixels = |top: f32, sure: bool, note: Option<String>| Self {
            top,
            domain: Some((0., 1.)),
            outside: None,
            sure,
            note,
            moved: Mutex::default(),
        };
        let dtype = array.dtype();
        match dtype.kind {
            ElementKind::Unsigned if dtype.size == 1 => return Ok(pixels(255., true, None)),
            ElementKind::Bool => return Ok(pixels(1., true, Some("true and false are read as 1 and 0".to_string()))),
            _ => {}
        }
        let look = Look::at(array).map_err(|e| Error::load(subject, e))?;
        if dtype.kind == ElementKind::Float {
            // Pixels that were forgotten to be divided are pixels all the same; they are refused when they are loaded.
            let features = look.is_mostly_outside() && !look.is_levels();
            return Ok(Self {
                domain: if features { None } else { Some((0., 1.)) },
                outside: look.is_mostly_outside().then_some((look.low, look.high)),
                ..pixels(1., false, None)
            });
        }
        let told = |top: f32| pixels(top, false, Some(format!("whole numbers are divided by {top}")));
        match () {
            _ if look.low >= 0. && look.high <= 1. => {
                let note = "all whole numbers looked at are 0 or 1: they are read as they are, not as levels of 255";
                Ok(pixels(1., false, Some(note.to_string())))
            }
            _ if look.low >= 0. && look.high <= 255. => Ok(told(255.)),
            _ if dtype == (Dtype { kind: ElementKind::Unsigned, size: 2, ..dtype }) => Ok(told(65535.)),
            _ => Err(Error::load(subject, format!("whole numbers from {} to {} are not pixels", look.low, look.high))
                .hint("store pixels as uint8 in 0..255 or as float32 in 0..1, features as float32")),
        }
    }

    /// Checks a row against the range a model wants, and moves what rounding left outside.
    pub fn check(&self, name: &str, id: u64, row: &mut [f32], domain: Option<(f32, f32)>) -> Result<(), Bad> {
        if self.sure && domain == Some((0., 1.)) {
            return Ok(());
        }
        if let Some(v) = row.iter().find(|v| !v.is_finite()) {
            return Err(Bad::Sample(format!("holds {v}")));
        }
        let Some((low, high)) = domain else { return Ok(()) };
        let (min, max) = row.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        if min >= low && max <= high {
            return Ok(());
        }
        let room = ROUNDING * (high - low);
        if min >= low - room && max <= high + room {
            row.iter_mut().for_each(|v| *v = v.clamp(low, high));
            let (worst, by) = if low - min > max - high { (min, low - min) } else { (max, max - high) };
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.ids.insert(id);
            if by > moved.by {
                (moved.worst, moved.by) = (worst, by);
            }
            return Ok(());
        }
        let wants = format!("the model wants {low} to {high}");
        let Some((least, most)) = self.outside else {
            return Err(Bad::Sample(format!("has values from {min} to {max}, {wants}")));
        };
        let hint = match least >= 0. && most <= 255. {
            true => "divide by 255, or store the images as uint8",
            false => "undo the normalisation: pixels are wanted as they were, mean and std belong to the model",
        };
        let features = "; features that need no bounds: `?domain=none`";
        let why = format!("its values go from {least} to {most}, {wants} (sample {id}: {min} to {max})");
        Err(Bad::Set(Error::load(name, why).hint(format!("{hint}{features}"))))
    }

    /// What was moved so far.
    pub fn remark(&self) -> Option<String> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let first = moved.ids.first()?;
        Some(format!(
            "{} samples, the first of them sample {first}, held values up to {:.1e} outside the range by rounding (such as {}): \
             they were moved to its end",
            moved.ids.len(),
            moved.by,
            moved.worst
        ))
    }
}
