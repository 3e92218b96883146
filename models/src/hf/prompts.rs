//! Prompts as text: the folder's own `tokenizer.json`, read by the library that wrote it, makes them token numbers.

use super::Config;
use crate::files;
use robust_core::{Error, Result, caught};
use serde_json::Value;
use std::path::Path;
use tokenizers::Tokenizer;

const FILE: &str = "tokenizer.json";
/// Bytes of a tokenizer; that of CLIP has two million.
const MAX_BYTES: u64 = 64 << 20;
/// Prompts, and bytes of one: no tower reads more than some dozen words.
const MAX_PROMPTS: usize = 1 << 16;
const MAX_PROMPT: usize = 1 << 12;

/// Token numbers of `prompts` for [`super::zero_shot`], with the start and end that CLIP's tokenizer puts around a text, all as
/// long as the longest: the end is repeated, and what follows the first end changes nothing.
///
/// # Errors
/// Kind `Load` for folders other than CLIP's and tokenizers that are missing or damaged; kind `Usage` for prompts that are empty
/// or longer than the tower reads.
pub fn tokenised(path: &Path, prompts: &[String]) -> Result<Vec<Vec<u32>>> {
    let config = Config::read(&path.join("config.json"))?;
    let kind = config.text("model_type").unwrap_or_default();
    let Some(text) = config.section("text_config").filter(|_| kind == "clip") else {
        return Err(Error::load(
            path.display(),
            format!("prompts as text are for CLIP folders, this is of type `{kind}`"),
        )
        .hint("give token numbers instead, made with the folder's tokenizer: `--tokens FILE`"));
    };
    let longest = text.size_or("max_position_embeddings", 77)?;
    if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
        return Err(Error::usage(format!("{} prompts; 1 to {MAX_PROMPTS} are possible", prompts.len())));
    }
    let tokenizer = open(path)?;
    let mut rows = prompts.iter().map(|p| one(&tokenizer, p, longest)).collect::<Result<Vec<_>>>()?;
    let length = rows.iter().map(Vec::len).max().unwrap_or(0);
    for row in &mut rows {
        let end = row.last().copied().unwrap_or(0);
        row.resize(length, end);
    }
    Ok(rows)
}

fn open(folder: &Path) -> Result<Tokenizer> {
    let file = folder.join(FILE);
    if !file.is_file() {
        return Err(Error::load(folder.display(), format!("it holds no {FILE}"))
            .hint("download it too; `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` makes one of vocab.json and merges.txt"));
    }
    let damaged = |why: String| Error::load(file.display(), why).hint("download the tokenizer again");
    let bytes = files::read_small(&file, MAX_BYTES)?;
    let read: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("it is no JSON ({e})")))?;
    let Value::Object(mut parts) = read else { return Err(damaged("it is no JSON object".into())) };
    if parts.get("model").and_then(|m| m.get("type")).and_then(Value::as_str) != Some("BPE") {
        return Err(damaged("its model is not byte pair encoding, which CLIP's is".into()));
    }
    // What is not needed here cannot be damaged.
    for unused in ["decoder", "truncation", "padding"] {
        parts.insert(unused.into(), Value::Null);
    }
    let plain = serde_json::to_vec(&parts).map_err(|e| damaged(e.to_string()))?;
    let read = caught(|| Tokenizer::from_bytes(&plain));
    let read = read.ok_or_else(|| damaged("its reader gave up on it".into()))?;
    read.map_err(|e| damaged(format!("it is no tokenizer ({e})")))
}

fn one(tokenizer: &Tokenizer, prompt: &str, longest: usize) -> Result<Vec<u32>> {
    let shown: String = prompt.chars().take(40).collect();
    if prompt.trim().is_empty() || prompt.len() > MAX_PROMPT {
        return Err(Error::usage(format!(
            "the prompt `{shown}` has {} bytes; 1 to {MAX_PROMPT} are possible",
            prompt.len()
        )));
    }
    let made = caught(|| tokenizer.encode(prompt, true));
    let made = made
        .ok_or_else(|| Error::load(FILE, format!("it gave up on `{shown}`")))?
        .map_err(|e| Error::load(FILE, format!("it cannot read `{shown}` ({e})")))?;
    let ids = made.get_ids().to_vec();
    match ids.len() {
        0 => Err(Error::load(FILE, format!("it makes nothing of `{shown}`"))),
        n if n > longest => {
            Err(Error::usage(format!("the prompt `{shown}` has {n} tokens, the tower reads {longest}"))
                .hint("shorten it"))
        }
        _ => Ok(ids),
    }
}
