//! Labels as people store them: one number an image, of any type that holds whole numbers and in any shape with one entry
//! an image, or a row an image with a 1 at the class.

use super::array::Array;
use super::dtype::ElementKind;
use robust_core::{Error, Result};
use std::io::Read;

/// Most classes of a one-hot row.
const MAX_CLASSES: usize = 1 << 20;

impl Array {
    /// The label of each of `images` samples, and what the user should know of how they were read.
    ///
    /// # Errors
    /// Kind `Load` for another number of labels and for what is not a class number, naming the sample.
    pub fn labels(&self, what: &str, images: usize) -> Result<(Vec<u32>, Option<String>)> {
        let (shape, entries) = (self.shape(), self.shape().iter().product::<usize>());
        // `[n]`, `[n, 1]`, `[1, n]` and the like have one order.
        let line = shape.iter().filter(|d| **d != 1).count() <= 1;
        if line && entries == images {
            let mut labels = Vec::with_capacity(images);
            self.each(what, |id, v| {
                labels.push(class(what, id, v)?);
                Ok(())
            })?;
            let note = match self.dtype().kind {
                ElementKind::Float => Some("labels are floating-point whole numbers".to_string()),
                ElementKind::Bool => Some("labels are false and true: classes 0 and 1".to_string()),
                _ => None,
            };
            return Ok((labels, note));
        }
        if line {
            return Err(Error::load(what, format!("{images} images but {entries} labels"))
                .hint("one label per image is wanted, in the order of the images"));
        }
        match shape {
            [n, k] if *n == images && (2..=MAX_CLASSES).contains(k) => self.one_hot(what, *k),
            _ => Err(Error::load(what, format!("labels have shape {shape:?}, one number per image is wanted"))
                .hint("choose one class for each image and save an array of shape [n]")),
        }
    }

    fn one_hot(&self, what: &str, k: usize) -> Result<(Vec<u32>, Option<String>)> {
        let mut labels = Vec::with_capacity(self.rows());
        let (mut hot, mut zeros) = (None, 0);
        self.each(what, |i, v| {
            let class = i % k;
            match v {
                1. => hot = Some(class as u32),
                0. => zeros += 1,
                _ => {}
            }
            if class + 1 < k {
                return Ok(());
            }
            match hot.take().filter(|_| zeros == k - 1) {
                Some(class) => labels.push(class),
                None => {
                    let (shape, id) = (self.shape(), i / k);
                    let why =
                        format!("labels have shape {shape:?}, but the row of sample {id} is not one 1 among zeros");
                    return Err(Error::load(what, why)
                        .hint("of probabilities or mixed labels take the class that is meant: `y = y.argmax(1)`"));
                }
            }
            zeros = 0;
            Ok(())
        })?;
        Ok((labels, Some(format!("labels are one-hot rows of {k} classes: the place of the 1 is the class"))))
    }

    /// Every element with its place, in order.
    fn each(&self, what: &str, mut take: impl FnMut(usize, f64) -> Result<()>) -> Result<()> {
        let Some(blob) = self.only_part() else { return Ok(()) };
        let mut reader = blob.reader();
        let mut raw = [0u8; 8];
        let raw = &mut raw[..self.dtype().size];
        for i in 0..self.shape().iter().product() {
            reader.read_exact(raw).map_err(|e| Error::load(what, e))?;
            take(i, self.dtype().number(raw))?;
        }
        Ok(())
    }
}

fn class(what: &str, id: usize, v: f64) -> Result<u32> {
    if v.fract() == 0. && (0. ..=f64::from(u32::MAX)).contains(&v) {
        return Ok(v as u32);
    }
    let hint = if v < 0. && v.fract() == 0. {
        "negative labels often mark samples without a class: leave them out (`keep = y >= 0`, then save x[keep] and y[keep])"
    } else {
        "store class numbers from 0: `y.astype('int64')`"
    };
    Err(Error::load(what, format!("label {v} of sample {id} is not a class number")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::super::blob::Blob;
    use super::super::dtype::Dtype;
    use super::*;

    #[test]
    fn a_label_that_is_no_class_is_named_with_its_sample() {
        let raw: Vec<u8> = [3i64, 1 << 33].iter().flat_map(|v| v.to_be_bytes()).collect();
        let dtype = Dtype { kind: ElementKind::Signed, size: 8, big_endian: true };
        let labels = Array::new("y", Blob::memory(raw), vec![2], dtype).unwrap();
        assert!(labels.labels("y", 2).unwrap_err().message.contains("label 8589934592 of sample 1"));
    }
}
