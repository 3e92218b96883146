//! Data sets that are one array of images and one of labels, in whatever file.

use super::array::Array;
use super::dtype::{Dtype, ElementKind};
use super::reader::{Found, Natural, Reader};
use super::rows::{Bad, assemble, changed, shape_text};
use super::values::Values;
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, Input, InputKind, Loaded, Result, View};

fn check_rows(subject: &str, images: usize, labels: usize) -> Result<()> {
    match images == labels {
        true => Ok(()),
        false => Err(Error::load(subject, format!("{images} images but {labels} labels"))),
    }
}

/// Images and labels that lie in arrays.
pub(super) struct ArraySet {
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

    /// As a source gives it, its own notes after those of reading it.
    pub fn found(mut self, mut notes: Vec<String>) -> Found {
        notes.append(&mut self.notes);
        Found { data: Box::new(self), notes }
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
        let (raw, dtype, top) = (self.images.row(id)?, self.images.dtype(), self.values.top);
        Ok(match dtype {
            Dtype { kind: ElementKind::Unsigned, size: 1, .. } => raw.iter().map(|&v| f32::from(v) / top).collect(),
            Dtype { kind: ElementKind::Float, size: 4, .. } => {
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
        let row = self.images.shape().get(1..).unwrap_or_default();
        let order = order(row, &view.input).map_err(|why| Error::load(&self.card.name, why))?;
        let label = |id: u64| self.labels[id as usize];
        let loaded = assemble(ids, self.card.samples, view, device, label, |id| self.pixels(id, order, view))?;
        match self.images.written() {
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
        Ok(Natural { shape: self.images.shape().get(1..).unwrap_or_default().to_vec(), range: Some(range) })
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
}
