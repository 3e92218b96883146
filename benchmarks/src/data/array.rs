//! Data sets that are one array of images and one of labels, in whatever file: rows are found by their position.

use super::blob::Blob;
use super::rows::{Bad, assemble, changed, shape_text};
use super::values::Values;
use super::{Natural, Reader};
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, Input, InputKind, Loaded, Result, View};
use std::io::Read;

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unsigned,
    Signed,
    Float,
    Bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtype {
    pub kind: Kind,
    /// Bytes: 1, 2, 4 or 8 for integers, 2, 4 or 8 for floats, 1 for booleans.
    pub size: usize,
    pub big_endian: bool,
}

impl Dtype {
    pub const U8: Self = Self { kind: Kind::Unsigned, size: 1, big_endian: false };

    pub fn little(kind: Kind, size: usize) -> Self {
        Self { kind, size, big_endian: false }
    }

    /// The low 64 bits, sign-extended where signed.
    fn bits(self, bytes: &[u8]) -> u64 {
        let mut wide = [0u8; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        if self.big_endian {
            wide[..self.size].reverse();
        }
        let bits = u64::from_le_bytes(wide);
        let unused = 64 - 8 * self.size as u32;
        if self.kind == Kind::Signed { ((bits << unused) as i64 >> unused) as u64 } else { bits }
    }

    /// One element as it was stored. Integers beyond 2^53 are rounded.
    pub fn number(self, bytes: &[u8]) -> f64 {
        match (self.kind, self.size) {
            (Kind::Float, 2) => half(self.bits(bytes) as u16),
            (Kind::Float, 4) => f64::from(f32::from_bits(self.bits(bytes) as u32)),
            (Kind::Float, _) => f64::from_bits(self.bits(bytes)),
            (Kind::Signed, _) => self.bits(bytes) as i64 as f64,
            (Kind::Bool, _) => f64::from(u8::from(self.bits(bytes) != 0)),
            (Kind::Unsigned, _) => self.bits(bytes) as f64,
        }
    }
}

/// An IEEE half: a sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF) / 1024.);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0. => f64::INFINITY,
        31 => f64::NAN,
        _ => (1. + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// A C-ordered array, checked against the bytes that are there.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    /// Whole rows each, with the number of the first.
    parts: Vec<(u64, Blob)>,
    /// With the number of rows first.
    shape: Vec<usize>,
    dtype: Dtype,
    row_bytes: usize,
    /// Bytes from row to row, of which the first `skip` are not the row's.
    stride: usize,
    skip: usize,
}

impl Array {
    /// `what` names the array in errors. The blob must hold exactly the elements the shape promises.
    pub fn new(what: &str, blob: Blob, shape: Vec<usize>, dtype: Dtype) -> Result<Self> {
        let row = shape.get(1..).unwrap_or_default();
        let row_bytes = row.iter().try_fold(dtype.size, |n, &d| n.checked_mul(d));
        let promised = row_bytes.and_then(|n| n.checked_mul(*shape.first()?));
        match (row_bytes, promised) {
            (Some(row_bytes), Some(bytes)) if bytes as u64 == blob.len() && bytes > 0 => {
                Ok(Self { parts: vec![(0, blob)], shape, dtype, row_bytes, stride: row_bytes, skip: 0 })
            }
            (_, Some(0)) => Err(Error::load(what, format!("shape {shape:?} holds no elements"))),
            (_, Some(bytes)) => {
                let held = blob.len();
                Err(Error::load(what, format!("shape {shape:?} needs {bytes} bytes, the file has {held}")))
            }
            _ if shape.is_empty() => {
                Err(Error::load(what, "a single number, an array with one row per sample is wanted"))
            }
            _ => Err(Error::load(what, format!("shape {shape:?} is not one of rows that fit in memory"))),
        }
    }

    /// Rows of bytes that lie in several blobs, `skip` other bytes before each.
    pub fn records(what: &str, blobs: Vec<Blob>, row: &[usize], skip: usize) -> Result<Self> {
        let row_bytes: usize = row.iter().product();
        let stride = skip + row_bytes;
        let (mut parts, mut rows) = (vec![], 0);
        for blob in blobs {
            if blob.len() == 0 || blob.len() % stride as u64 != 0 {
                return Err(Error::load(what, format!("{} bytes are not records of {stride}", blob.len())));
            }
            let first = rows;
            rows += blob.len() / stride as u64;
            parts.push((first, blob));
        }
        let shape = [&[rows as usize], row].concat();
        Ok(Self { parts, shape, dtype: Dtype::U8, row_bytes, stride, skip })
    }

    /// The bytes before each row of [`Array::records`].
    pub fn skipped(&self, what: &str) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::with_capacity(self.rows());
        for (_, blob) in &self.parts {
            let mut reader = blob.reader();
            for _ in 0..blob.len() / self.stride as u64 {
                let mut skipped = vec![0; self.skip];
                reader.read_exact(&mut skipped).map_err(|e| Error::load(what, e))?;
                all.push(skipped);
                reader.seek_relative(self.row_bytes as i64).map_err(|e| Error::load(what, e))?;
            }
        }
        Ok(all)
    }

    /// The `count` rows from `from` as an array of their own.
    pub fn range(&self, from: usize, count: usize) -> Option<Self> {
        let [(_, blob)] = self.parts.as_slice() else { return None };
        let blob = blob.slice((from * self.stride) as u64, (count * self.stride) as u64)?;
        let mut part = Self { parts: vec![(0, blob)], ..self.clone() };
        *part.shape.first_mut()? = count;
        Some(part)
    }

    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The one blob of an array that is no records.
    pub fn only_part(&self) -> Option<&Blob> {
        self.parts.first().map(|(_, blob)| blob)
    }

    /// The elements of a row's bytes.
    pub fn numbers<'a>(&self, raw: &'a [u8]) -> impl Iterator<Item = f64> + use<'a> {
        let dtype = self.dtype;
        raw.chunks_exact(dtype.size).map(move |element| dtype.number(element))
    }

    pub fn row(&self, id: u64) -> std::io::Result<Vec<u8>> {
        let mut raw = vec![0; self.row_bytes];
        let part = self.parts.partition_point(|(first, _)| *first <= id).checked_sub(1);
        let (first, blob) = part.and_then(|part| self.parts.get(part)).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        blob.read_at((id - first) * self.stride as u64 + self.skip as u64, &mut raw)?;
        Ok(raw)
    }
}

fn check_rows(subject: &str, images: usize, labels: usize) -> Result<()> {
    match images == labels {
        true => Ok(()),
        false => Err(Error::load(subject, format!("{images} images but {labels} labels"))),
    }
}

/// Images and labels that lie in arrays.
pub(crate) struct ArraySet {
    card: DataCard,
    images: Array,
    values: Values,
    labels: Vec<u32>,
    /// How labels and values were read.
    pub notes: Vec<String>,
}

impl ArraySet {
    /// `subject` names the source in errors. Without labels (points to judge) every row's is 0.
    pub fn new(subject: &str, card: DataCard, images: Array, labels: Option<&Array>) -> Result<Self> {
        let Some(labels) = labels else {
            let rows = images.rows();
            return Self::with_labels(subject, card, images, vec![0; rows]);
        };
        let (labels, note) = labels.labels(subject, images.rows())?;
        let mut set = Self::with_labels(subject, card, images, labels)?;
        set.notes.extend(note);
        Ok(set)
    }

    pub fn with_labels(subject: &str, mut card: DataCard, images: Array, labels: Vec<u32>) -> Result<Self> {
        check_rows(subject, images.rows(), labels.len())?;
        let values = Values::of(subject, &images)?;
        card.samples = images.rows() as u64;
        let notes = values.note.clone().into_iter().collect();
        Ok(Self { card, labels, images, values, notes })
    }

    pub fn all_labels(&self) -> &[u32] {
        &self.labels
    }

    pub fn with_classes(mut self, classes: Option<Vec<String>>) -> Self {
        self.card.classes = classes;
        self
    }

    /// A row's values as they lie in the array.
    fn stored(&self, id: u64) -> std::io::Result<Vec<f32>> {
        let (raw, dtype, top) = (self.images.row(id)?, self.images.dtype, self.values.top);
        Ok(match dtype {
            Dtype { kind: Kind::Unsigned, size: 1, .. } => raw.iter().map(|&v| f32::from(v) / top).collect(),
            Dtype { kind: Kind::Float, size: 4, .. } => {
                raw.chunks_exact(4).map(|v| f32::from_bits(dtype.bits(v) as u32)).collect()
            }
            _ => self.images.numbers(&raw).map(|v| v as f32 / top).collect(),
        })
    }

    fn pixels(&self, id: u64, order: Order, view: &View) -> Result<Vec<f32>, Bad> {
        let mut stored = self.stored(id).map_err(|e| Bad::Sample(format!("cannot be read: {e}")))?;
        self.values.check(&self.card.name, id, &mut stored, view.input.domain)?;
        Ok(match order {
            Order::AsStored => stored,
            Order::ChannelsLast(c) => (0..c).flat_map(|k| stored.iter().skip(k).step_by(c).copied()).collect(),
        })
    }
}

impl Dataset for ArraySet {
    fn card(&self) -> &DataCard {
        &self.card
    }

    fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded> {
        let row = self.images.shape.get(1..).unwrap_or_default();
        let order = order(row, &view.input).map_err(|why| Error::load(&self.card.name, why))?;
        let label = |id: u64| self.labels[id as usize];
        let loaded = assemble(ids, self.card.samples, view, device, label, |id| self.pixels(id, order, view))?;
        match self.images.parts.iter().any(|(_, blob)| blob.written()) {
            true => Err(changed(&self.card.name)),
            false => Ok(loaded),
        }
    }

    fn domain(&self) -> Option<(f32, f32)> {
        self.values.domain
    }

    fn labels(&self, ids: &[u64]) -> Option<Vec<u32>> {
        ids.iter().map(|&id| self.labels.get(id as usize).copied()).collect()
    }

    fn remarks(&self) -> Vec<String> {
        self.values.remark().into_iter().collect()
    }
}

impl Reader for ArraySet {
    fn label(&self, id: u64) -> u32 {
        self.labels[id as usize]
    }

    fn natural(&self, id: u64, _: &mut usize) -> Result<Natural, String> {
        let values = self.stored(id).map_err(|e| e.to_string())?;
        let range = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        Ok(Natural { shape: self.images.shape.get(1..).unwrap_or_default().to_vec(), range: Some(range) })
    }
}

/// How a stored row becomes a row of the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsStored,
    /// Channels vary fastest; so many of them.
    ChannelsLast(usize),
}

/// Decides from shapes alone, or says why it cannot.
fn order(row: &[usize], input: &Input) -> Result<Order, String> {
    let misfit = || format!("the model wants {}, the data set has {}", shape_text(&input.shape), shape_text(row));
    if input.kind == InputKind::Tokens {
        return Err(format!("the model wants tokens, the data set has images of {}", shape_text(row)));
    }
    if row == input.shape && input.kind != InputKind::Image || one_channel_fits(row, &input.shape) {
        return Ok(Order::AsStored);
    }
    match (input.shape.as_slice(), row) {
        (&[c, h, w], _) if input.kind == InputKind::Image => {
            let (first, last) = (row == [c, h, w], row == [h, w, c]);
            match (first, last) {
                (true, true) if c > 1 => Err(format!(
                    "{} may mean channels first or channels last: the data set is ambiguous",
                    shape_text(row)
                )),
                (true, _) => Ok(Order::AsStored),
                (_, true) => Ok(Order::ChannelsLast(c)),
                _ => Err(misfit()),
            }
        }
        _ => Err(misfit()),
    }
}

/// Whether a row of one channel has the model's entries: one channel has one order, so either may lie flat.
fn one_channel_fits(row: &[usize], wanted: &[usize]) -> bool {
    let size = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let flat = |shape: &[usize]| shape.len() == 1 || Input::is_line(shape);
    let plane = |shape: &[usize]| match *shape {
        [h, w] | [1, h, w] => Some((h, w)),
        _ => None,
    };
    let stored = match *row {
        [h, w, 1] => Some((h, w)),
        _ => plane(row),
    };
    match (flat(row), flat(wanted)) {
        (true, true) => size(row) == size(wanted),
        (true, false) => plane(wanted).is_some() && size(row) == size(wanted),
        (false, true) => stored.is_some() && size(row) == size(wanted),
        (false, false) => stored.is_some() && stored == plane(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(shape: &[usize]) -> Input {
        let kind = if shape.len() == 3 { InputKind::Image } else { InputKind::Features };
        Input { shape: shape.to_vec(), domain: Some((0., 1.)), kind }
    }

    #[test]
    fn the_order_of_channels_is_told_by_shapes_or_not_at_all() {
        let told = |row: &[usize], want: &[usize]| order(row, &input(want));
        assert_eq!(told(&[3, 32, 32], &[3, 32, 32]), Ok(Order::AsStored));
        assert_eq!(told(&[32, 32, 3], &[3, 32, 32]), Ok(Order::ChannelsLast(3)));
        assert_eq!(told(&[28, 28], &[1, 28, 28]), Ok(Order::AsStored));
        assert_eq!(told(&[28, 28, 1], &[1, 28, 28]), Ok(Order::AsStored));
        assert_eq!(told(&[1, 1, 1], &[1, 1, 1]), Ok(Order::AsStored));
        for (row, want) in [
            (&[1, 28, 28][..], &[784][..]),
            (&[28, 28], &[784, 1]),
            (&[28, 28, 1], &[1, 784]),
            (&[28, 28], &[1, 784, 1]),
            (&[784], &[1, 28, 28]),
            (&[784], &[1, 1, 784]),
            (&[1, 784], &[784]),
        ] {
            assert_eq!(told(row, want), Ok(Order::AsStored), "{row:?} {want:?}");
        }
        assert!(told(&[3, 3, 3], &[3, 3, 3]).unwrap_err().contains("ambiguous"));
        assert_eq!(told(&[3, 32, 32], &[1, 28, 28]).unwrap_err(), "the model wants 1x28x28, the data set has 3x32x32");
        for (row, want) in [
            (&[32, 32][..], &[3, 32, 32][..]),
            (&[3, 32, 31], &[3, 31, 32]),
            (&[3, 2, 2], &[12]),
            (&[12], &[3, 2, 2]),
            (&[2, 8], &[1, 4, 4]),
            (&[], &[1]),
        ] {
            assert!(told(row, want).is_err(), "{row:?} {want:?}");
        }
    }

    #[test]
    fn integers_of_every_width_and_sign_are_read() {
        for size in [1, 2, 4, 8] {
            for big_endian in [false, true] {
                let value = (-2i64).to_le_bytes();
                let mut raw = value[..size].to_vec();
                if big_endian {
                    raw.reverse();
                }
                let signed = Dtype { kind: Kind::Signed, size, big_endian };
                assert_eq!(signed.bits(&raw) as i64, -2);
                let unsigned = Dtype { kind: Kind::Unsigned, ..signed };
                assert_eq!(unsigned.bits(&raw), u64::MAX >> (64 - 8 * size) & !1);
            }
        }
    }

    #[test]
    fn a_label_that_is_no_class_is_named_with_its_sample() {
        let raw: Vec<u8> = [3i64, 1 << 33].iter().flat_map(|v| v.to_be_bytes()).collect();
        let dtype = Dtype { kind: Kind::Signed, size: 8, big_endian: true };
        let labels = Array::new("y", Blob::memory(raw), vec![2], dtype).unwrap();
        assert!(labels.labels("y", 2).unwrap_err().message.contains("label 8589934592 of sample 1"));
    }

    #[test]
    fn halves_are_read_to_the_last_bit() {
        // As numpy gives them: a third, the largest, the least normal and the least of all.
        for (bits, value) in [
            (0x3555u16, 0.333251953125),
            (0xC000, -2.),
            (0x7BFF, 65504.),
            (0x0400, 6.103515625e-5),
            (0x0001, 5.960464477539063e-8),
            (0x8000, 0.),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7C00) == f64::INFINITY && half(0xFC00) == f64::NEG_INFINITY && half(0x7E00).is_nan());
    }

    #[test]
    fn a_shape_must_match_the_bytes() {
        for shape in [vec![], vec![0, 3], vec![3, 0], vec![2, 3], vec![usize::MAX, 2], vec![usize::MAX, 0, usize::MAX]]
        {
            assert!(Array::new("x", Blob::memory(vec![0; 7]), shape.clone(), Dtype::U8).is_err(), "{shape:?}");
        }
        assert!(Array::new("x", Blob::memory(vec![0; 7]), vec![7], Dtype::U8).is_ok());
    }
}
