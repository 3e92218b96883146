//! `tokenizer.json`, read by the library that wrote it, behind bounds: the files come from strangers.

use crate::bytes;
use robust_core::{Error, Result, caught};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer, Tokenizer};

pub const FILE: &str = "tokenizer.json";
/// Bytes of a tokenizer; that of CLIP has two million, Gemma's 35.
pub const MAX_BYTES: u64 = 64 << 20;
/// Steps before and after the model; real tokenizers have up to six.
const MAX_STEPS: usize = 16;
/// What a step may put in the place of one piece of text: NFKC's longest has 33 bytes.
const MAX_PIECE: usize = 64;
/// Bytes that the steps before the model may make of a prompt.
const MAX_TEXT: usize = 1 << 16;
/// Bytes of a sequence that a table of characters looks up at once.
const LOOKED_UP: usize = 5;

/// A tokenizer and what was seen of it.
pub(crate) struct Words {
    tokenizer: Tokenizer,
    pub file: PathBuf,
    /// `BPE` or `Unigram`.
    pub model: &'static str,
    /// The steps before the model, one by one.
    steps: Vec<NormalizerWrapper>,
}

impl Words {
    /// # Errors
    /// Kind `Load` for files that are missing, damaged, of none of these `models`, or made to fill memory.
    pub fn open(file: &Path, models: &[&'static str]) -> Result<Self> {
        let damaged = |why: String| Error::load(file.display(), why).hint("download the tokenizer again");
        let bytes = bytes::read_small(file, MAX_BYTES)?;
        let read: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("it is not JSON ({e})")))?;
        let Value::Object(mut parts) = read else { return Err(damaged("it is not JSON object".into())) };
        let said = parts.get("model").and_then(|m| m.get("type")).and_then(Value::as_str).unwrap_or("none");
        let Some(model) = models.iter().find(|m| **m == said) else {
            let said: String = said.chars().take(40).collect();
            let wanted = models.join(" or ");
            return Err(Error::load(
                file.display(),
                format!("its model is {said}, the tower was trained with {wanted}"),
            )
            .hint("give the tokenizer.json of this very model"));
        };
        // What is not needed here cannot be damaged.
        for unused in ["decoder", "truncation", "padding"] {
            parts.insert(unused.into(), Value::Null);
        }
        if let Some(model) = parts.get_mut("model").and_then(Value::as_object_mut) {
            // Pieces left out at random are for training.
            model.insert("dropout".into(), Value::Null);
        }
        let plain = serde_json::to_vec(&parts).map_err(|e| damaged(e.to_string()))?;
        let read = caught(|| {
            let steps = steps(&parts)?;
            drop(parts);
            let read = Tokenizer::from_bytes(&plain).map_err(|e| format!("it is not a tokenizer ({e})"))?;
            Ok((read, steps))
        });
        let read = read.ok_or_else(|| damaged("its reader gave up on it".into()))?;
        let (tokenizer, steps) = read.map_err(damaged)?;
        Ok(Self { tokenizer, file: file.into(), model, steps })
    }

    /// Token numbers, with what the tokenizer puts around a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let shown: String = text.chars().take(40).collect();
        let failed = |why: String| Error::load(self.file.display(), format!("it cannot read `{shown}` ({why})"));
        let made = caught(|| {
            self.grows_little(text)?;
            self.tokenizer.encode(text, true).map_err(|e| e.to_string())
        });
        let made = made.ok_or_else(|| Error::load(self.file.display(), format!("it gave up on `{shown}`")))?;
        Ok(made.map_err(failed)?.get_ids().to_vec())
    }

    pub fn number(&self, token: &str) -> Result<u32> {
        self.tokenizer
            .token_to_id(token)
            .ok_or_else(|| Error::load(self.file.display(), format!("it has no `{token}`")))
    }

    /// The steps before the model, walked with a bound on what each makes of a text.
    fn grows_little(&self, text: &str) -> Result<(), String> {
        let mut text = NormalizedString::from(text);
        for step in &self.steps {
            if let NormalizerWrapper::Precompiled(table) = step {
                let longest = pieces(text.get()).filter_map(|p| table.transform(p)).map(str::len).max();
                if longest.is_some_and(|n| n > MAX_PIECE) {
                    return Err(format!("its table makes more than {MAX_PIECE} bytes of one character"));
                }
            }
            step.normalize(&mut text).map_err(|e| e.to_string())?;
            if text.get().len() > MAX_TEXT {
                return Err(format!("its steps make more than {MAX_TEXT} bytes of it"));
            }
        }
        Ok(())
    }
}

/// Every run of characters that a table is asked for.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let ends = |i: usize| text[i..].char_indices().map(move |(j, c)| i + j + c.len_utf8());
    text.char_indices().flat_map(move |(i, _)| {
        ends(i).take_while(move |end| end - i <= LOOKED_UP.max(4)).map(move |end| &text[i..end])
    })
}

/// The normalizers, and an error for parts that could make much of little.
fn steps(parts: &Map<String, Value>) -> Result<Vec<NormalizerWrapper>, String> {
    let part = |name: &str, list: &str| {
        let mut all = vec![];
        flatten(parts.get(name).unwrap_or(&Value::Null), list, &mut all);
        let n = all.len();
        if n <= MAX_STEPS { Ok(all) } else { Err(format!("its {name} has {n} steps, up to {MAX_STEPS} are read")) }
    };
    let long = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).is_some_and(|s| s.len() > MAX_PIECE);
    let normalizers = part("normalizer", "normalizers")?;
    if normalizers.iter().any(|v| long(v, "content") || long(v, "prepend")) {
        return Err(format!("its normalizer puts in more than {MAX_PIECE} bytes at once"));
    }
    let splits = part("pre_tokenizer", "pretokenizers")?;
    // Each makes two bytes of one.
    if splits.iter().filter(|v| v.get("type").is_some_and(|t| t == "ByteLevel")).count() > 2 {
        return Err("its pre_tokenizer turns bytes into characters more than twice".into());
    }
    for around in part("post_processor", "processors")? {
        let pieces = around.get("single").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let texts =
            pieces.iter().filter(|p| p.get("Sequence").is_some() || p.as_str().is_some_and(|p| p.contains('$')));
        let ids = around.get("special_tokens").and_then(Value::as_object).into_iter().flat_map(Map::values);
        let ids = ids.filter_map(|t| t.get("ids")?.as_array().map(Vec::len)).max().unwrap_or(0);
        if pieces.len() > MAX_STEPS || texts.count() > 1 || ids > MAX_STEPS {
            return Err("its post_processor repeats the text, or puts too much around it".into());
        }
    }
    let read = |v: &Value| serde_json::from_value(v.clone()).map_err(|e| format!("its normalizer is none ({e})"));
    normalizers.into_iter().map(read).collect()
}

/// The steps within sequences of sequences.
fn flatten<'a>(part: &'a Value, list: &str, all: &mut Vec<&'a Value>) {
    match part.get(list).and_then(Value::as_array) {
        Some(inner) => inner.iter().for_each(|v| flatten(v, list, all)),
        None if part.is_null() => {}
        None => all.push(part),
    }
}
