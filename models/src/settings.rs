//! JSON settings of a Hugging Face folder, read with bounds: the files come from strangers.

use crate::bytes;
use robust_core::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Bytes of a settings file; one with 21,000 class names has about two million.
const MAX_BYTES: u64 = 32 << 20;
/// Sizes, widths and counts: far above any network's.
const MAX: u64 = 1 << 20;
/// Layers or stages: far above any network's, and little work where none of them is in the file.
pub const MAX_LAYERS: usize = 512;

/// One object of a settings file, and how messages name it.
#[derive(Debug, Clone)]
pub struct Config {
    place: String,
    values: Map<String, Value>,
}

impl Config {
    /// # Errors
    /// Kind `Load` for a file that is missing, too large or no JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = bytes::read_small(path, MAX_BYTES)?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(values)) => Ok(Self { place, values }),
            Ok(_) => Err(Error::load(path.display(), "it is not JSON object").hint("copy the folder again")),
            Err(e) => Err(Error::load(path.display(), format!("it is not JSON ({e})")).hint("copy the folder again")),
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let got = self.values.get(key).map_or("nothing".into(), |v| {
            let text = v.to_string();
            text.chars().take(60).collect::<String>()
        });
        Error::load(format!("`{key}` in {}", self.place), format!("expected {expected}, got {got}"))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    /// A number from 1 to a million or so.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.value(key).and_then(whole).ok_or_else(|| self.wrong(key, "a whole number from 1 to 1048576"))
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.value(key).is_none() { Ok(default) } else { self.size(key) }
    }

    /// As [`Config::size`], but at most what a network has of layers.
    pub fn layers(&self, key: &str) -> Result<usize> {
        let n = self.size(key)?;
        if n <= MAX_LAYERS { Ok(n) } else { Err(self.wrong(key, &format!("at most {MAX_LAYERS} layers"))) }
    }

    /// A count that may be 0.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.value(key) {
            None => Ok(default),
            Some(v) if v.as_u64() == Some(0) => Ok(0),
            Some(_) => self.size(key),
        }
    }

    pub fn float_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.value(key) {
            None => Ok(default),
            Some(v) => v.as_f64().filter(|v| v.is_finite()).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str)
    }

    /// A text, or what is usual where there is none.
    pub fn text_or<'a>(&'a self, key: &str, usual: &'a str) -> Result<&'a str> {
        self.value(key).map_or(Ok(usual), |v| v.as_str().ok_or_else(|| self.wrong(key, "a text")))
    }

    /// A list of sizes, as many as layers at most.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let list = self.value(key).and_then(Value::as_array).filter(|l| (1..=MAX_LAYERS).contains(&l.len()));
        list.and_then(|l| l.iter().map(whole).collect())
            .ok_or_else(|| self.wrong(key, "a list of whole numbers above 0"))
    }

    /// Entry `i` of a list of counts, if there is such a list.
    pub fn count_of(&self, key: &str, i: usize) -> Result<Option<usize>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let entry = value.as_array().and_then(|l| l.get(i));
        let count = entry.and_then(|v| if v.as_u64() == Some(0) { Some(0) } else { whole(v) });
        count.map(Some).ok_or_else(|| self.wrong(key, &format!("a list of at least {} whole numbers", i + 1)))
    }

    pub fn flags(&self, key: &str) -> Result<Vec<bool>> {
        let list = self.value(key).and_then(Value::as_array).filter(|l| (1..=MAX_LAYERS).contains(&l.len()));
        list.and_then(|l| l.iter().map(Value::as_bool).collect())
            .ok_or_else(|| self.wrong(key, "a list of true and false"))
    }

    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let list = value.as_array().filter(|l| (1..=64).contains(&l.len()));
        let read = |v: &Value| v.as_f64().filter(|v| v.is_finite());
        let list = list.and_then(|l| l.iter().map(read).collect::<Option<Vec<f64>>>());
        list.map(Some).ok_or_else(|| self.wrong(key, "a list of numbers"))
    }

    /// `32` or `[32, 48]`: height and width.
    pub fn pair(&self, key: &str) -> Result<[usize; 2]> {
        match self.value(key) {
            Some(v) if v.is_array() => {
                <[usize; 2]>::try_from(self.sizes(key)?).map_err(|_| self.wrong(key, "a height and a width"))
            }
            _ => self.size(key).map(|n| [n; 2]),
        }
    }

    /// An image tower's settings: the folder's own, or a part of those of both towers.
    pub fn vision(&self) -> Self {
        self.section("vision_config").unwrap_or_else(|| self.clone())
    }

    /// An object within this one.
    pub fn section(&self, key: &str) -> Option<Self> {
        let values = self.value(key)?.as_object()?.clone();
        Some(Self { place: format!("{}, `{key}`", self.place), values })
    }

    /// The first of a list of texts.
    pub fn first_text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_array()?.first()?.as_str()
    }

    /// Entries of an object within this one.
    pub fn entries(&self, key: &str) -> Option<usize> {
        Some(self.value(key)?.as_object()?.len())
    }

    /// The texts of an object whose keys are the numbers from 0 on, in their order.
    pub fn names(&self, key: &str) -> Option<Vec<String>> {
        let entries = self.value(key)?.as_object()?;
        (0..entries.len()).map(|i| Some(entries.get(&i.to_string())?.as_str()?.to_string())).collect()
    }

    /// Whether a list is absent or has no entries.
    pub fn is_empty_list(&self, key: &str) -> bool {
        self.value(key).is_none_or(|v| v.as_array().is_some_and(Vec::is_empty))
    }

    pub fn is_list(&self, key: &str) -> bool {
        self.value(key).is_some_and(Value::is_array)
    }

    /// The same with sizes where it says nothing: what is usual is left out of many files.
    pub fn or_usual(mut self, usual: &[(&str, usize)]) -> Self {
        for (key, size) in usual {
            if !self.has(key) {
                self.values.insert(key.to_string(), Value::from(*size));
            }
        }
        self
    }

    /// Refuses what is neither among `known` nor switched off.
    pub fn only(&self, known: &[&str], instead: &str) -> Result<()> {
        let off = |v: &Value| matches!(v, Value::Null | Value::Bool(false)) || v.as_f64() == Some(0.) || *v == "";
        match self.values.iter().find(|(key, v)| !known.contains(&key.as_str()) && !off(v)) {
            None => Ok(()),
            Some((key, _)) => {
                let key: String = key.chars().take(60).collect();
                Err(Error::load(format!("`{key}` in {}", self.place), "it is not known here").hint(instead))
            }
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the key is there, be it with nothing.
    pub fn mentions(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

fn whole(v: &Value) -> Option<usize> {
    let n = v.as_u64().filter(|n| (1..=MAX).contains(n))?;
    usize::try_from(n).ok()
}
