//! Zero-shot heads: the text towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023) turn prompts, given as
//! token numbers, into the rows of a head. Runs in f64 with our own ops.

use super::vit::{Sizes, tower};
use super::{Config, tokens, weights};
use crate::Head;
use crate::arch::stack::Stack;
use crate::files;
use crate::safetensors::StateDict;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Builder, Reference};
use std::path::Path;
use std::sync::Arc;

/// Prompts, and tokens of each.
const MAX_PROMPTS: usize = 1 << 16;

/// Unit vectors of prompts and how their cosines become scores: `scale cos + bias`.
#[derive(Debug, Clone)]
pub struct Text {
    /// `[prompts, d]`, f64.
    pub embeddings: Tensor,
    pub scale: f64,
    pub bias: f64,
}

impl Text {
    /// The head that scores an image by its cosine with each prompt.
    pub fn head(self) -> Head {
        Head::Cosine { weight: self.embeddings, scale: self.scale, bias: self.bias }
    }
}

/// The embeddings of `prompts` (each a list of token numbers, all of one length) by a folder's text tower.
///
/// # Errors
/// Kind `Load` for folders without a text tower and damaged weights; kind `Usage` for tokens the tower does not know.
pub fn zero_shot(path: &Path, prompts: &[Vec<u32>]) -> Result<Text> {
    let config = Config::read(&path.join("config.json"))?;
    let kind = config.text("model_type").unwrap_or_default().to_string();
    if !["clip", "siglip"].contains(&kind.as_str()) {
        return Err(Error::load(path.display(), format!("a `{kind}` folder has no text tower"))
            .hint("zero-shot heads need a CLIP or SigLIP folder with both towers"));
    }
    let (mut dict, _) = weights::read(path, &config)?;
    let place = || format!("{}, text tower", path.display());
    embed(&config, kind == "clip", &mut dict, prompts).map_err(|e| files::blame(e).within(place()))
}

fn embed(both: &Config, clip: bool, dict: &mut StateDict, prompts: &[Vec<u32>]) -> Result<Text> {
    let Some(c) = both.section("text_config") else {
        return Err(Error::load("config.json", "it has no `text_config`"));
    };
    let sizes = Sizes::of(&c, if clip { 1e-5 } else { 1e-6 }, if clip { "quick_gelu" } else { "gelu_pytorch_tanh" })?;
    let (words, longest) = (c.size("vocab_size")?, c.size("max_position_embeddings")?);
    let length = length(prompts, words, longest)?;
    let t = "text_model";
    let table = dict.take(&format!("{t}.embeddings.token_embedding.weight"), &[words, sizes.width])?;
    let places = dict.take(&format!("{t}.embeddings.position_embedding.weight"), &[longest, sizes.width])?;
    let mut net = Builder::new();
    let mut s = Stack { dict, net: &mut net };
    let input = s.net.input("tokens", &[length, sizes.width])?;
    // CLIP's tokens attend to those before them alone.
    let far = |i: usize, j: usize| if j > i { f64::from(f32::MIN) } else { 0. };
    let mask: Vec<f64> = (0..length).flat_map(|i| (0..length).map(move |j| far(i, j))).collect();
    let mask = if clip { Some(tokens::made(&mut s, "mask", mask, &[1, 1, length, length])?) } else { None };
    let x = tower(&mut s, input, t, &sizes, mask)?;
    let x = s.layer_norm(x, &format!("{t}.final_layer_norm"), sizes.eps)?;
    let (name, biased, width) = match clip {
        true => ("text_projection".to_string(), false, both.size_or("projection_dim", 512)?),
        false => (format!("{t}.head"), true, c.size_or("projection_size", sizes.width)?),
    };
    let x = s.linear_with(x, &name, width, biased)?;
    let scale = scalar(s.dict, "logit_scale")?.exp();
    let bias = if clip { 0. } else { scalar(s.dict, "logit_bias")? };
    s.dict.so_far()?;
    let reference = Reference::new(Arc::new(net.finish(x)?), DType::F64)?;
    let mut rows = vec![];
    for prompt in prompts {
        let ids = Tensor::from_slice(prompt, prompt.len(), &Device::Cpu)?;
        let embedded = (table.index_select(&ids, 0)? + places.narrow(0, 0, length)?)?.unsqueeze(0)?;
        let row = reference.forward(&embedded)?.squeeze(0)?;
        let row = row.get(if clip { end(&c, prompt)? } else { length - 1 })?;
        let norm = row.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        rows.push((row / norm)?);
    }
    Ok(Text { embeddings: Tensor::stack(&rows, 0)?, scale, bias })
}

fn length(prompts: &[Vec<u32>], words: usize, longest: usize) -> Result<usize> {
    let Some(first) = prompts.first() else { return Err(Error::usage("there is no prompt")) };
    if prompts.len() > MAX_PROMPTS || first.is_empty() || first.len() > longest {
        return Err(Error::usage(format!(
            "{} prompts of {} tokens; up to {MAX_PROMPTS} of 1 to {longest} are possible",
            prompts.len(),
            first.len()
        )));
    }
    if let Some(other) = prompts.iter().find(|p| p.len() != first.len()) {
        return Err(Error::usage(format!("prompts have {} and {} tokens", first.len(), other.len()))
            .hint("pad them to one length"));
    }
    match prompts.iter().flatten().find(|t| **t as usize >= words) {
        Some(t) => Err(Error::usage(format!("token {t} is not one of the {words} the tower knows"))),
        None => Ok(first.len()),
    }
}

fn scalar(dict: &mut StateDict, name: &str) -> Result<f64> {
    let shape = dict.dims(name).filter(|d| *d == [1]).map_or(vec![], <[usize]>::to_vec);
    Ok(dict.take(name, &shape)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.first().copied().unwrap_or(0.))
}

/// Where CLIP reads a prompt: its end token, or in files from before that was settled (`eos_token_id` 2) its largest.
fn end(c: &Config, prompt: &[u32]) -> Result<usize> {
    let eos = c.size_or("eos_token_id", 2)?;
    let at = match eos {
        2 => prompt.iter().enumerate().max_by_key(|(i, t)| (**t, std::cmp::Reverse(*i))).map(|(i, _)| i),
        _ => prompt.iter().position(|t| *t as usize == eos),
    };
    at.ok_or_else(|| {
        Error::usage(format!("prompt {prompt:?} has no end token {eos}"))
            .hint("tokenise with the folder's own tokenizer")
    })
}
