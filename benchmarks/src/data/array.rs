//! Data sets that are one array of images and one of labels, in whatever file: rows are found by their position.

use super::Reader;
use super::blob::Blob;
use super::rows::{Bad, assemble, changed, shape_text};
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, Input, InputKind, Loaded, Result, View};
use std::io::Read;

/// How one element is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unsigned,
    Signed,
    Float,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dtype {
    pub kind: Kind,
    /// Bytes: 1, 2, 4 or 8 for integers, 4 or 8 for floats.
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

    /// Images as f32: bytes divided by 255, floats as they are.
    fn pixel(self, bytes: &[u8]) -> f32 {
        match (self.kind, self.size) {
            (Kind::Float, 4) => f32::from_bits(self.bits(bytes) as u32),
            (Kind::Float, _) => f64::from_bits(self.bits(bytes)) as f32,
            _ => f32::from(bytes[0]) / 255.,
        }
    }
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

    fn row(&self, id: u64) -> std::io::Result<Vec<u8>> {
        let mut raw = vec![0; self.row_bytes];
        let part = self.parts.partition_point(|(first, _)| *first <= id).checked_sub(1);
        let (first, blob) = part.and_then(|part| self.parts.get(part)).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        blob.read_at((id - first) * self.stride as u64 + self.skip as u64, &mut raw)?;
        Ok(raw)
    }

    /// Labels from an array of integers `[n]` or `[n, 1]`.
    pub fn labels(&self, what: &str) -> Result<Vec<u32>> {
        if !matches!(self.shape.as_slice(), [_] | [_, 1]) {
            return Err(Error::load(
                what,
                format!("labels have shape {:?}, one number per image is wanted", self.shape),
            )
            .hint("for one-hot labels take the argmax"));
        }
        if self.dtype.kind == Kind::Float {
            return Err(
                Error::load(what, "labels are floating-point").hint("store them as integers: `y.astype('int64')`")
            );
        }
        let Some((_, blob)) = self.parts.first() else { return Ok(vec![]) };
        let mut reader = blob.reader();
        let mut raw = [0u8; 8];
        let raw = &mut raw[..self.dtype.size];
        let mut labels = Vec::with_capacity(self.rows());
        for id in 0..self.rows() {
            reader.read_exact(raw).map_err(|e| Error::load(what, e))?;
            let bits = self.dtype.bits(raw);
            labels.push(u32::try_from(bits).map_err(|_| {
                let value = if self.dtype.kind == Kind::Signed { (bits as i64).to_string() } else { bits.to_string() };
                Error::load(what, format!("label {value} of sample {id} is not a class number"))
            })?);
        }
        Ok(labels)
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
    labels: Vec<u32>,
}

impl ArraySet {
    /// `subject` names the source in errors. Without labels (points to judge) every row's is 0.
    pub fn new(subject: &str, card: DataCard, images: Array, labels: Option<&Array>) -> Result<Self> {
        let Some(labels) = labels else {
            let rows = images.rows();
            return Self::with_labels(subject, card, images, vec![0; rows]);
        };
        check_rows(subject, images.rows(), labels.rows())?;
        Self::with_labels(subject, card, images, labels.labels(subject)?)
    }

    pub fn with_labels(subject: &str, mut card: DataCard, images: Array, labels: Vec<u32>) -> Result<Self> {
        check_rows(subject, images.rows(), labels.len())?;
        if images.dtype != Dtype::U8 && images.dtype.kind != Kind::Float {
            return Err(Error::load(subject, "images are integers other than bytes")
                .hint("store them as uint8 in 0..255 or as float32 in 0..1"));
        }
        card.samples = images.rows() as u64;
        Ok(Self { card, labels, images })
    }

    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    pub fn with_classes(mut self, classes: Option<Vec<String>>) -> Self {
        self.card.classes = classes;
        self
    }

    fn pixels(&self, id: u64, order: Order, view: &View) -> Result<Vec<f32>, Bad> {
        let raw = self.images.row(id).map_err(|e| Bad::Sample(format!("cannot be read: {e}")))?;
        let dtype = self.images.dtype;
        let stored: Vec<f32> = raw.chunks_exact(dtype.size).map(|element| dtype.pixel(element)).collect();
        if dtype.kind == Kind::Float {
            self.check_range(id, &stored, view)?;
        }
        Ok(match order {
            Order::AsStored => stored,
            Order::ChannelsLast(c) => (0..c).flat_map(|k| stored.iter().skip(k).step_by(c).copied()).collect(),
        })
    }

    fn check_range(&self, id: u64, row: &[f32], view: &View) -> Result<(), Bad> {
        if let Some(v) = row.iter().find(|v| !v.is_finite()) {
            return Err(Bad::Sample(format!("holds {v}")));
        }
        let Some((low, high)) = view.input.domain else { return Ok(()) };
        let (min, max) = row.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        if min >= low && max <= high {
            return Ok(());
        }
        let hint = match min >= 0. && max <= 255. {
            true => "divide by 255, or store the images as uint8",
            false => "undo the normalisation: pixels are wanted as they were, mean and std belong to the model",
        };
        let why = format!("sample {id} has values from {min} to {max}, the model wants {low} to {high}");
        Err(Bad::Set(Error::load(&self.card.name, why).hint(hint)))
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
}

impl Reader for ArraySet {
    fn label(&self, id: u64) -> u32 {
        self.labels[id as usize]
    }

    fn natural(&self, id: u64) -> Result<(Vec<usize>, Vec<f32>), String> {
        let raw = self.images.row(id).map_err(|e| e.to_string())?;
        let dtype = self.images.dtype;
        let pixels = raw.chunks_exact(dtype.size).map(|element| dtype.pixel(element)).collect();
        Ok((self.images.shape.get(1..).unwrap_or_default().to_vec(), pixels))
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
    match (input.shape.as_slice(), row) {
        (&[c, h, w], _) if input.kind == InputKind::Image => {
            let (first, last) = (row == [c, h, w], row == [h, w, c]);
            match (first || (c == 1 && row == [h, w]), last) {
                (true, true) if c > 1 => Err(format!(
                    "{} may mean channels first or channels last: the data set is ambiguous",
                    shape_text(row)
                )),
                (true, _) => Ok(Order::AsStored),
                (_, true) => Ok(Order::ChannelsLast(c)),
                _ => Err(misfit()),
            }
        }
        // One channel has one order, so a flat input can take it as it lies.
        ([d], [h, w] | [1, h, w] | [h, w, 1]) if h.checked_mul(*w) == Some(*d) => Ok(Order::AsStored),
        _ if row == input.shape => Ok(Order::AsStored),
        _ => Err(misfit()),
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
        assert_eq!(told(&[28, 28, 1], &[1, 28, 28]), Ok(Order::ChannelsLast(1)));
        assert_eq!(told(&[1, 1, 1], &[1, 1, 1]), Ok(Order::AsStored));
        assert_eq!(told(&[1, 28, 28], &[784]), Ok(Order::AsStored));
        assert!(told(&[3, 3, 3], &[3, 3, 3]).unwrap_err().contains("ambiguous"));
        assert_eq!(told(&[3, 32, 32], &[1, 28, 28]).unwrap_err(), "the model wants 1x28x28, the data set has 3x32x32");
        for (row, want) in
            [(&[32, 32][..], &[3, 32, 32][..]), (&[3, 32, 31], &[3, 31, 32]), (&[3, 2, 2], &[12]), (&[], &[1])]
        {
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
        assert!(labels.labels("y").unwrap_err().message.contains("label 8589934592 of sample 1"));
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
