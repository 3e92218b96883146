//! How images of any size become those a model takes, and how users say so: `resize=256&crop=224&interpolation=bicubic`.

use crate::{Error, Result, nearest};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Resizing, then a crop from the centre, as torchvision does both on 8-bit images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preprocess {
    pub resize: Option<Resize>,
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Height and width.
    pub crop: Option<(usize, usize)>,
}

/// What an image's size becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Height and width, whatever the proportions.
    Exact(usize, usize),
    /// The shorter side; the other keeps the proportions, rounded down.
    Shortest(usize),
}

/// How values between pixels are found; all but `Box` and `Bilinear` may ring at edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    Box,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

/// The parameters that [`Preprocess::parse`] reads.
pub const PREPROCESSING: [&str; 3] = ["resize", "crop", "interpolation"];

const NAMES: [(&str, Interpolation); 4] = [
    ("bilinear", Interpolation::Bilinear),
    ("bicubic", Interpolation::Bicubic),
    ("lanczos", Interpolation::Lanczos),
    ("box", Interpolation::Box),
];
/// Longest side of an image that is worth asking for, in pixels.
const MAX_SIDE: usize = 16_384;

impl Preprocess {
    /// The rule of `resize=256|HxW`, `crop=224|HxW`, `interpolation=bilinear|bicubic|lanczos|box`; `None` where neither a
    /// size nor a crop is given.
    ///
    /// # Errors
    /// Kind `Usage` for an invalid size, an unknown interpolation, or one without a resize.
    pub fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>> {
        let side = |key| get(key).map(|text| size_of(key, text)).transpose();
        let (resize, crop) = (side("resize")?, side("crop")?);
        let interpolation = get("interpolation").map(interpolation).transpose()?;
        if interpolation.is_some() && resize.is_none() {
            return Err(Error::usage("`interpolation` without `resize` changes nothing").hint("add `&resize=256`"));
        }
        if resize.is_none() && crop.is_none() {
            return Ok(None);
        }
        let resize = resize.map(|size| match size {
            (n, None) => Resize::Shortest(n),
            (h, Some(w)) => Resize::Exact(h, w),
        });
        let crop = crop.map(|(h, w)| (h, w.unwrap_or(h)));
        Ok(Some(Self { resize, interpolation: interpolation.unwrap_or_default(), crop }))
    }
}

/// As [`Preprocess::parse`] reads it, always the same for the same rule.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            Some(Resize::Exact(h, w)) => write!(f, "resize={h}x{w}&")?,
            Some(Resize::Shortest(n)) => write!(f, "resize={n}&")?,
            None => {}
        }
        if let Some((h, w)) = self.crop {
            write!(f, "crop={h}x{w}&")?;
        }
        let name = NAMES.iter().find(|(_, by)| *by == self.interpolation).map_or("", |(name, _)| name);
        write!(f, "interpolation={name}")
    }
}

fn interpolation(name: &str) -> Result<Interpolation> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, by)| *by).ok_or_else(|| {
        let known = NAMES.map(|(name, _)| name);
        let hint = nearest(name, known).map_or(known.join(", "), |near| format!("did you mean `{near}`?"));
        Error::usage(format!("unknown interpolation `{name}`")).hint(hint)
    })
}

/// `224` or `224x192` (height first).
fn size_of(key: &str, text: &str) -> Result<(usize, Option<usize>)> {
    let side = |text: &str| text.parse().ok().filter(|n| (1..=MAX_SIDE).contains(n));
    let size = match text.split_once('x') {
        None => side(text).map(|n| (n, None)),
        Some((h, w)) => side(h).zip(side(w)).map(|(h, w)| (h, Some(w))),
    };
    size.ok_or_else(|| {
        Error::usage(format!("`{key}={text}` is not a size")).hint(format!("`{key}=224` or `{key}=HEIGHTxWIDTH`"))
    })
}
