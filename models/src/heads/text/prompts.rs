//! Prompts as text: cleaned and filled up as a tower was trained, made numbers by a model's own `tokenizer.json`.

use super::rules::{Clean, End, Rules};
use super::tower::{MAX_PROMPTS, TextTower};
use crate::files::hf::tokenizer::{FILE, Words};
use crate::settings::Config;
use robust_core::{Error, Result};
use std::path::{Path, PathBuf};

/// What SentencePiece writes; the library reads it converted.
const PIECES: &str = "spiece.model";
/// Bytes of a prompt: no tower reads more than some dozen words.
const MAX_PROMPT: usize = 1 << 12;

impl TextTower {
    /// Token numbers of prompts for [`TextTower::embed`], all of one length, by the `tokenizer.json` beside the weights or
    /// another one.
    ///
    /// # Errors
    /// Kind `Load` for tokenizers that are missing, damaged or another model's; kind `Usage` for prompts that are empty or longer
    /// than the tower reads.
    pub fn tokenised(&self, prompts: &[String], tokenizer: Option<&Path>) -> Result<Vec<Vec<u32>>> {
        if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
            return Err(Error::usage(format!("{} prompts; 1 to {MAX_PROMPTS} are possible", prompts.len())));
        }
        let words = self.words(tokenizer)?;
        let mut rows = prompts.iter().map(|p| self.one(&words, p)).collect::<Result<Vec<_>>>()?;
        match self.end {
            // The last place is read, whatever is there.
            End::Last => {
                let pad = pad(&words)?;
                rows.iter_mut().for_each(|row| row.resize(self.longest, pad));
            }
            _ => {
                let length = rows.iter().map(Vec::len).max().unwrap_or(0);
                for row in &mut rows {
                    let end = row.last().copied().unwrap_or(0);
                    row.resize(length, end);
                }
            }
        }
        Ok(rows)
    }

    fn words(&self, tokenizer: Option<&Path>) -> Result<Words> {
        let models: &[&'static str] = if self.rules == Rules::Clip { &["BPE"] } else { &["Unigram", "BPE"] };
        let file = tokenizer.map_or_else(|| self.folder.join(FILE), PathBuf::from);
        if tokenizer.is_some() || file.is_file() {
            return Words::open(&file, models);
        }
        let folder = match self.folder.as_os_str().is_empty() {
            true => ".".to_string(),
            false => self.folder.display().to_string(),
        };
        let hint = match self.rules {
            _ if self.folder.join(PIECES).is_file() => format!(
                "make it of {PIECES}: python -c \"from transformers import SiglipTokenizer as T; \
                 from transformers.convert_slow_tokenizer import SpmConverter as C; \
                 C(T.from_pretrained('{folder}')).converted().save('{folder}/{FILE}')\""
            ),
            Rules::Clip => "download it too, or give that of any CLIP: `--tokenizer FILE`; \
                            `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` makes one of vocab.json and merges.txt"
                .to_string(),
            _ => "download it too, or say where it is: `--tokenizer FILE`".to_string(),
        };
        Err(Error::load(&self.place, format!("there is no {FILE} in {folder}")).hint(hint))
    }

    fn one(&self, words: &Words, prompt: &str) -> Result<Vec<u32>> {
        let shown: String = prompt.chars().take(40).collect();
        if prompt.trim().is_empty() || prompt.len() > MAX_PROMPT {
            return Err(Error::usage(format!(
                "the prompt `{shown}` has {} bytes; 1 to {MAX_PROMPT} are possible",
                prompt.len()
            )));
        }
        let clean = match (self.rules, words.model) {
            (Rules::Clip, _) => Clean::Nothing,
            (Rules::SigLip, "Unigram") => Clean::Plain,
            (Rules::SigLip, _) => Clean::Lower,
            (Rules::Other(clean), _) => clean,
        };
        let text = clean.apply(prompt);
        if text.is_empty() {
            return Err(Error::usage(format!("the prompt `{shown}` is nothing but punctuation")));
        }
        let mut ids = words.encode(&text)?;
        if self.end == End::Last && words.model == "Unigram" {
            // Converted tokenizers need not put the end themselves.
            let end = words.number(END)?;
            if ids.last() != Some(&end) {
                ids.push(end);
            }
        }
        self.check(words, &ids, &shown)?;
        Ok(ids)
    }

    fn check(&self, words: &Words, ids: &[u32], shown: &str) -> Result<()> {
        let strange =
            |why: String| Error::load(words.file.display(), why).hint("give the tokenizer.json of this very model");
        let Some(last) = ids.last() else { return Err(strange(format!("it makes nothing of `{shown}`"))) };
        if let Some(token) = ids.iter().find(|t| **t as usize >= self.words) {
            let known = self.words;
            return Err(strange(format!("it makes token {token} of `{shown}`, the tower knows {known}")));
        }
        if ids.len() > self.longest {
            let (n, longest) = (ids.len(), self.longest);
            return Err(Error::usage(format!("the prompt `{shown}` has {n} tokens, the tower reads {longest}"))
                .hint("shorten it"));
        }
        match self.end.of(ids) {
            Some(at) if at + 1 == ids.len() || self.end == End::Last => Ok(()),
            Some(at) => Err(strange(format!("it ends `{shown}` with token {last}, the tower reads token {}", ids[at]))),
            None => Err(strange(format!("it ends `{shown}` with token {last}, which is not the end the tower reads"))),
        }
    }
}

const END: &str = "</s>";

/// What SigLIP fills prompts up with: as `tokenizer_config.json` says, else its own end, of SigLIP 2 Gemma's pad.
fn pad(words: &Words) -> Result<u32> {
    let settings = words.file.with_file_name("tokenizer_config.json");
    if settings.is_file() {
        let c = Config::read(&settings)?;
        let within = c.section("pad_token");
        let said = c.text("pad_token").or_else(|| within.as_ref().and_then(|t| t.text("content")));
        if let Some(token) = said {
            return words.number(token);
        }
    }
    words.number(if words.model == "Unigram" { END } else { "<pad>" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openclips_ways_to_clean_end_in_single_spaces() {
        let text = " A  Photo,\tof\u{a0}a\u{2003}CAT_\n ΟΔΟΣ Σ_Σ ΟΔΟΣ-Α ";
        // By open_clip 3.3.0.
        for (clean, theirs) in [
            (Clean::Spaces, "A Photo, of a CAT_ ΟΔΟΣ Σ_Σ ΟΔΟΣ-Α"),
            (Clean::SpacesLower, "a photo, of a cat_ οδος σ_σ οδος-α"),
            (Clean::PlainWords, "a photo of a cat οδος σ σ οδοσα"),
        ] {
            assert_eq!(clean.apply(text), theirs, "{clean:?}");
        }
    }
}
