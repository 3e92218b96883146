//! An array in a file: rows are found by their position.

use super::blob::Blob;
use super::dtype::Dtype;
use robust_core::{Error, Result};
use std::io::Read;

/// A C-ordered array, checked against the bytes that are there.
#[derive(Debug, Clone)]
pub(super) struct Array {
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

    /// Whether a file of it was written to since it was opened.
    pub fn written(&self) -> bool {
        self.parts.iter().any(|(_, blob)| blob.written())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_must_match_the_bytes() {
        for shape in [vec![], vec![0, 3], vec![3, 0], vec![2, 3], vec![usize::MAX, 2], vec![usize::MAX, 0, usize::MAX]]
        {
            assert!(Array::new("x", Blob::memory(vec![0; 7]), shape.clone(), Dtype::U8).is_err(), "{shape:?}");
        }
        assert!(Array::new("x", Blob::memory(vec![0; 7]), vec![7], Dtype::U8).is_ok());
    }
}
