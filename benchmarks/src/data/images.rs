//! Data sets of image files, whatever they lie in: decoding, preprocessing, and whether they fit a model.

use super::query::Query;
use super::reader::{Labelling, Natural, Reader};
use super::rows::{Bad, assemble, changed, shape_text};
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, Input, InputKind, Loaded, Preprocess, Result, View};
use robust_imaging::{Flat, Samples, decode, flat, resized, size};
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How many images, from the first, are looked at to tell whether the set fits a model.
const PROBES: u64 = 8;
/// No model takes more pixels, so larger images are not decoded to learn whether they are grey.
const MAX_PROBED: usize = 4 << 20;

/// Packed images by sample id.
pub(super) trait Images: Send + Sync {
    fn label(&self, id: u64) -> u32;
    fn name(&self, id: u64) -> String;
    fn bytes(&self, id: u64) -> Result<Vec<u8>, String>;

    fn labelling(&self) -> Labelling {
        Labelling::Stored
    }

    /// What [`Images::bytes`] must hash to, where every file was read once to name the set.
    fn hash(&self, _id: u64) -> Option<blake3::Hash> {
        None
    }

    /// The first file that was written to since it was opened.
    fn written(&self) -> Option<String> {
        None
    }
}

pub(super) struct ImageSet<S> {
    card: DataCard,
    formerly: Option<String>,
    source: S,
    prepare: Option<Preprocess>,
    probes: Vec<Probe>,
    met: Mutex<Met>,
}

/// Samples that were not taken as they lie in their files.
#[derive(Default)]
struct Met {
    transparent: BTreeSet<u64>,
    /// Of 16 bits, rounded to 8 to be resized.
    rounded: BTreeSet<u64>,
}

/// What an image is like: its size, and whether its channels are equal throughout, found out when it matters: a small
/// file may hold a large image.
struct Probe {
    id: u64,
    height: usize,
    width: usize,
    /// `None` inside: it cannot be read.
    grey: OnceLock<Option<bool>>,
}

impl Probe {
    fn of(id: u64, bytes: &[u8]) -> Option<Self> {
        let (height, width) = size(bytes).ok()?;
        Some(Self { id, height, width, grey: OnceLock::new() })
    }

    /// Unless it is known to have colours, or is too large to look.
    fn grey(&self, source: &impl Images) -> bool {
        let look = || -> Option<bool> {
            if self.height * self.width > MAX_PROBED {
                return Some(false);
            }
            let pixels = decode(&source.bytes(self.id).ok()?, 3).ok()?.pixels;
            let plane = self.height * self.width;
            Some(pixels[..plane] == pixels[plane..2 * plane] && pixels[..plane] == pixels[2 * plane..])
        };
        self.grey.get_or_init(look).unwrap_or(true)
    }

    fn after(&self, how: Option<&Preprocess>) -> (usize, usize) {
        let Some(how) = how else { return (self.height, self.width) };
        let size = how.resize.map_or((self.height, self.width), |to| resized(self.height, self.width, to));
        // An image smaller than the crop keeps its size here and fails as a sample.
        how.crop.filter(|&(h, w)| h <= size.0 && w <= size.1).unwrap_or(size)
    }
}

impl<S: Images> ImageSet<S> {
    /// Preprocessing is part of what the data are: it enters the card's name and digest.
    pub fn new(mut card: DataCard, source: S, prepare: Option<Preprocess>) -> Self {
        if let Some(how) = &prepare {
            let text = how.to_string();
            card.digest = joined(&card.digest, &text);
            card.name += if card.name.contains('?') { "&" } else { "?" };
            card.name += &text;
        }
        let ids = 0..card.samples.min(PROBES);
        let probes = ids.filter_map(|id| Probe::of(id, &source.bytes(id).ok()?)).collect();
        Self { card, formerly: None, source, prepare, probes, met: Mutex::default() }
    }

    /// With the digest of names and sizes that earlier versions gave the same files.
    pub fn named_formerly(mut self, digest: Option<String>) -> Self {
        let prepared = |digest: String| match &self.prepare {
            Some(how) => joined(&digest, &how.to_string()),
            None => digest,
        };
        self.formerly = digest.map(prepared);
        self
    }

    /// The bytes of a sample, once it is clear that they are those that named the set: a run must not mix two contents.
    fn sound(&self, id: u64) -> Result<Vec<u8>, Bad> {
        let bytes = self.source.bytes(id).map_err(Bad::Sample)?;
        match self.source.hash(id).is_none_or(|hash| hash == blake3::hash(&bytes)) {
            true => Ok(bytes),
            false => Err(Bad::Set(changed(&format!("{}: {}", self.card.name, self.source.name(id))))),
        }
    }

    /// Channels, height and width the view wants, once it is clear that the first images have them.
    fn fit(&self, view: &View, how: Option<&Preprocess>) -> Result<[usize; 3]> {
        let input = &view.input;
        let first = self.probes.first();
        let flat = input.shape.len() == 1 || Input::is_line(&input.shape);
        let wanted = match (input.kind, input.shape.as_slice(), first) {
            (InputKind::Tokens, ..) => None,
            // One channel has one order, so a flat input can take it as it lies.
            (_, _, Some(p)) if flat && p.grey(&self.source) => {
                Some(p.after(how)).filter(|(h, w)| h.checked_mul(*w) == Some(input.len())).map(|(h, w)| [1, h, w])
            }
            (_, &[c, h, w], _) if !flat && (c == 1 || c == 3) => Some([c, h, w]),
            _ => None,
        };
        let fits = |[c, h, w]: [usize; 3]| {
            let like = |p: &Probe| p.after(how) == (h, w) && (c == 3 || p.grey(&self.source));
            self.probes.is_empty() || self.probes.iter().any(like)
        };
        wanted.filter(|&wanted| fits(wanted)).ok_or_else(|| {
            let got = first.map_or("images".to_string(), |p| {
                let (h, w) = p.after(how);
                shape_text(&[if p.grey(&self.source) { 1 } else { 3 }, h, w])
            });
            let why = format!("the model wants {}, the data set has {got}", shape_text(&input.shape));
            let rule = match input.shape.as_slice() {
                [_, h, w] if h == w => format!("?resize={}&crop={h}", h * 8 / 7),
                [_, h, w] => format!("?resize={h}x{w}"),
                _ => "?resize=256&crop=224".to_string(),
            };
            let hint = format!("say how images get to that size after the data set's name, such as `{rule}`");
            Error::load(&self.card.name, why).hint(hint + " or `&interpolation=bicubic` beside it")
        })
    }

    fn pixels(
        &self,
        id: u64,
        bytes: &[u8],
        [c, h, w]: [usize; 3],
        how: Option<&Preprocess>,
    ) -> Result<Vec<f32>, String> {
        let misfit = |height, width| match (height, width) == (h, w) {
            true => Ok(()),
            false => Err(format!("is {height}x{width}, the model wants {h}x{w}")),
        };
        let Some(how) = how else {
            // The size first: an odd image need not be decoded to be refused.
            let (height, width) = size(bytes).map_err(|e| e.message)?;
            misfit(height, width)?;
            return Ok(self.decoded(id, bytes, c, false)?.planes());
        };
        let image = self.decoded(id, bytes, c, true)?.bytes().and_then(|image| image.prepare(how));
        let image = image.map_err(|e| e.message)?;
        misfit(image.height, image.width)?;
        Ok(image.planes())
    }

    fn decoded(&self, id: u64, bytes: &[u8], c: usize, as_bytes: bool) -> Result<Flat, String> {
        let image = flat(bytes, c).map_err(|e| e.message)?;
        let rounded = as_bytes && matches!(image.samples, Samples::U16(_));
        if image.transparent || rounded {
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            if image.transparent {
                met.transparent.insert(id);
            }
            if rounded {
                met.rounded.insert(id);
            }
        }
        Ok(image)
    }
}

impl<S: Images> Dataset for ImageSet<S> {
    fn card(&self) -> &DataCard {
        &self.card
    }

    fn formerly(&self) -> Option<&str> {
        self.formerly.as_deref()
    }

    fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded> {
        let how = self.prepare.as_ref().or(view.preprocess.as_ref());
        let wanted = self.fit(view, how)?;
        let named = |id: u64, bad: Bad| match bad {
            Bad::Sample(why) => Bad::Sample(format!("{}: {why}", self.source.name(id))),
            set => set,
        };
        let row = |id: u64| self.pixels(id, &self.sound(id)?, wanted, how).map_err(Bad::Sample);
        let pixels = |id: u64| row(id).map_err(|bad| named(id, bad));
        let loaded = assemble(ids, self.card.samples, view, device, |id| self.source.label(id), pixels)?;
        match self.source.written() {
            Some(file) => Err(changed(&file)),
            None => Ok(loaded),
        }
    }

    fn domain(&self) -> Option<(f32, f32)> {
        Some((0., 1.))
    }

    fn labels(&self, ids: &[u64]) -> Option<Vec<u32>> {
        ids.iter().map(|&id| (id < self.card.samples).then(|| self.source.label(id))).collect()
    }

    fn remarks(&self) -> Vec<String> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |ids: &BTreeSet<u64>, what: &str| {
            let first = self.source.name(*ids.first()?);
            Some(format!("{} images {what}, the first of them {first}", ids.len()))
        };
        let transparent = line(&met.transparent, "are partly transparent and were laid over white");
        let rounded = line(&met.rounded, "have 16 bits per sample and were rounded to 8 to be resized");
        transparent.into_iter().chain(rounded).collect()
    }
}

impl<S: Images> Reader for ImageSet<S> {
    fn label(&self, id: u64) -> u32 {
        self.source.label(id)
    }

    fn natural(&self, id: u64, budget: &mut usize) -> Result<Natural, String> {
        let fail = |e: Error| e.message;
        let bytes = self.source.bytes(id)?;
        let probe = size(&bytes).map_err(fail)?;
        let (height, width) =
            Probe { id, height: probe.0, width: probe.1, grey: OnceLock::new() }.after(self.prepare.as_ref());
        let shape = vec![3, height, width];
        let Some(left) = budget.checked_sub(probe.0 * probe.1) else { return Ok(Natural { shape, range: None }) };
        *budget = left;
        let range = match &self.prepare {
            None => self.decoded(id, &bytes, 3, false)?.range(),
            Some(how) => {
                let image =
                    self.decoded(id, &bytes, 3, true)?.bytes().and_then(|image| image.prepare(how)).map_err(fail)?;
                let ends = image.samples.iter().min().zip(image.samples.iter().max());
                ends.map_or((0., 0.), |(a, b)| (f32::from(*a) / 255., f32::from(*b) / 255.))
            }
        };
        Ok(Natural { shape, range: Some(range) })
    }

    fn labelling(&self) -> Labelling {
        self.source.labelling()
    }

    fn preprocess(&self) -> Option<Preprocess> {
        self.prepare
    }
}

/// The digest of a set that `text` makes another one.
pub(super) fn joined(digest: &str, text: &str) -> String {
    blake3::hash(format!("{digest} {text}").as_bytes()).to_hex().to_string()
}

/// The rule in a data set's parameters.
pub(super) fn preprocess(query: &Query) -> Result<Option<Preprocess>> {
    Preprocess::parse(|key| query.get(key))
}
