//! What the user says of a data set beyond where it is: `?offset=-1` is added to every label, `?domain=lo:hi` (or `none`)
//! is the range of its values.

use super::query::Query;
use super::reader::{Found, Labelling, Natural, Reader};
use candle_core::Device;
use robust_core::{DataCard, Dataset, Error, Loaded, Preprocess, Result, View};

/// A set whose labels or range are as the user says.
struct Declared {
    inner: Box<dyn Reader>,
    card: DataCard,
    offset: i64,
    /// Outer `None`: as the set itself says.
    domain: Option<Option<(f32, f32)>>,
}

/// The set with what `?offset=` and `?domain=` say; as it is where they say nothing.
///
/// # Errors
/// Kind `Usage` for values that make no sense, kind `Load` for labels that would fall below 0.
pub(super) fn apply(found: Found, query: &Query) -> Result<Found> {
    let offset = query.get("offset").map(offset).transpose()?.unwrap_or(0);
    let domain = query.get("domain").map(domain).transpose()?;
    if offset == 0 && domain.is_none() {
        return Ok(found);
    }
    let Found { data, mut notes } = found;
    let mut card = data.card().clone();
    if offset != 0 {
        let below = (0..card.samples).find(|&id| i64::from(data.label(id)) + offset < 0);
        if let Some(id) = below {
            let label = data.label(id);
            return Err(Error::load(
                &card.name,
                format!("label {label} of sample {id} becomes {}", i64::from(label) + offset),
            )
            .hint(format!("`?offset={offset}` is added to every label; the least must not fall below 0")));
        }
        add(&mut card, &format!("offset={offset}"));
        card.classes = card.classes.map(|names| shifted(names, offset));
        notes.push(format!("{offset:+} is added to every label"));
    }
    if let Some(range) = domain {
        let text = range.map_or("none".to_string(), |(a, b)| format!("{a}:{b}"));
        add(&mut card, &format!("domain={text}"));
    }
    Ok(Found { data: Box::new(Declared { inner: data, card, offset, domain }), notes })
}

/// What changes labels or values is part of what the data are.
fn add(card: &mut DataCard, text: &str) {
    card.name += if card.name.contains('?') { "&" } else { "?" };
    card.name += text;
    card.digest = blake3::hash(format!("{} {text}", card.digest).as_bytes()).to_hex().to_string();
}

/// Names in label order after the shift; new places in front have none.
fn shifted(names: Vec<String>, offset: i64) -> Vec<String> {
    match usize::try_from(offset) {
        Ok(more) => std::iter::repeat_n(String::new(), more).chain(names).collect(),
        Err(_) => names.into_iter().skip(offset.unsigned_abs() as usize).collect(),
    }
}

fn offset(text: &str) -> Result<i64> {
    text.parse().ok().filter(|n: &i64| n.abs() <= 1 << 20).ok_or_else(|| {
        Error::usage(format!("`offset={text}` is not a whole number"))
            .hint("`?offset=-1` for labels that count from 1, `?offset=1` for a model whose first output is not a class of the data")
    })
}

fn domain(text: &str) -> Result<Option<(f32, f32)>> {
    if text == "none" {
        return Ok(None);
    }
    let ends = text.split_once(':').and_then(|(a, b)| Some((a.parse::<f32>().ok()?, b.parse::<f32>().ok()?)));
    let ends = ends.filter(|(a, b)| a.is_finite() && b.is_finite() && a < b);
    ends.map(Some).ok_or_else(|| {
        Error::usage(format!("`domain={text}` is not a range"))
            .hint("`?domain=0:255`, lowest and highest value, or `?domain=none` for features without bounds")
    })
}

impl Declared {
    fn shift(&self, label: u32) -> u32 {
        (i64::from(label) + self.offset).clamp(0, i64::from(u32::MAX)) as u32
    }
}

impl Dataset for Declared {
    fn card(&self) -> &DataCard {
        &self.card
    }

    fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded> {
        let mut loaded = self.inner.load(ids, view, device)?;
        for label in loaded.batch.iter_mut().flat_map(|b| b.labels.iter_mut().flatten()) {
            *label = self.shift(*label);
        }
        Ok(loaded)
    }

    fn domain(&self) -> Option<(f32, f32)> {
        self.domain.unwrap_or_else(|| self.inner.domain())
    }

    fn labels(&self, ids: &[u64]) -> Option<Vec<u32>> {
        Some(self.inner.labels(ids)?.into_iter().map(|label| self.shift(label)).collect())
    }

    fn remarks(&self) -> Vec<String> {
        self.inner.remarks()
    }
}

impl Reader for Declared {
    fn label(&self, id: u64) -> u32 {
        self.shift(self.inner.label(id))
    }

    fn natural(&self, id: u64, budget: &mut usize) -> Result<Natural, String> {
        self.inner.natural(id, budget)
    }

    fn preprocess(&self) -> Option<Preprocess> {
        self.inner.preprocess()
    }

    fn labelling(&self) -> Labelling {
        match self.offset {
            0 => self.inner.labelling(),
            _ => Labelling::Told,
        }
    }
}
