//! Data that travels in the binary: enough to try everything without a download.

use super::mnist;
use crate::data::blob::Blob;
use crate::data::reader::Found;
use crate::data::source::{Source, never};
use flate2::read::GzDecoder;
use robust_core::{Error, Result, nearest};
use std::io::Read;

pub(super) const SOURCE: Source = Source {
    scheme: "builtin",
    summary: "data in the binary: `mnist`, the first 1,000 test images",
    example: "builtin:mnist",
    params: &[],
    recognises: never,
    open: |place, _| open(place),
};

const NAMES: [&str; 1] = ["mnist"];

/// The first 1,000 MNIST test images and labels: two IDX files end to end, packed by `data/make_mnist_1000.py`.
/// Yann LeCun and Corinna Cortes, CC BY-SA 3.0: see `data/ATTRIBUTION.md`.
static MNIST_1000: &[u8] = include_bytes!("../../../data/mnist-1000.gz");
const IMAGES_LEN: u64 = 16 + 1000 * 784;

/// `builtin:NAME`.
fn open(name: &str) -> Result<Found> {
    if name != "mnist" {
        let hint = match nearest(name, NAMES) {
            Some(near) => format!("did you mean `builtin:{near}`?"),
            None => format!("built in: {}", NAMES.join(", ")),
        };
        return Err(Error::usage(format!("no built-in data set `{name}`")).hint(hint));
    }
    let subject = "builtin:mnist";
    let fail = |e: std::io::Error| Error::load(subject, e);
    let mut bytes = vec![];
    GzDecoder::new(MNIST_1000).read_to_end(&mut bytes).map_err(fail)?;
    let all = Blob::memory(bytes);
    let split = all.slice(0, IMAGES_LEN).zip(all.slice(IMAGES_LEN, all.len().saturating_sub(IMAGES_LEN)));
    let (images, labels) = split.ok_or_else(|| Error::load(subject, "truncated"))?;
    let data = mnist::pair(subject, subject.to_string(), &images, &labels)?;
    Ok(Found { data: Box::new(data), notes: vec![] })
}
