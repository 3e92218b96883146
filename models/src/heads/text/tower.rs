//! Text towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023): prompts, as token numbers, become the rows of a
//! zero-shot head. One way to embed them for all homes of weights; what differs is in their [`Home`]. Runs in f64 with our own
//! ops.

use super::open_clip_layers::{OpenClipText, settle, text_weights};
use super::rules::{End, Rules};
use crate::bytes;
use crate::families::vit::transformers::{Sizes, tower};
use crate::files::hf::weights;
use crate::heads::head::Head;
use crate::layers::stack::Stack;
use crate::layers::tokens;
use crate::settings::Config;
use crate::weights::StateDict;
use candle_core::{DType, Device, Tensor};
use robust_core::{Error, Result};
use robust_engine::{Builder, NodeId, Reference};
use std::path::PathBuf;
use std::sync::Arc;

pub(super) const MAX_PROMPTS: usize = 1 << 16;
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

/// The text tower of a model with two.
#[derive(Debug)]
pub struct TextTower {
    /// How messages name the model.
    pub(super) place: String,
    /// Where its tokenizer is looked for.
    pub(super) folder: PathBuf,
    pub(super) weights: Weights,
    pub(super) home: Home,
    /// Numbers of tokens are below it.
    pub(super) words: usize,
    /// Tokens of the longest prompt.
    pub(super) longest: usize,
    pub(super) end: End,
    pub(super) rules: Rules,
    pub(super) notes: Vec<String>,
}

/// Folders are read when prompts are known to be whole: their weights may be gigabytes.
#[derive(Debug)]
pub(super) enum Weights {
    Here(StateDict),
    Folder(Config),
    OpenClip,
}

/// Whose names and layers a tower has.
#[derive(Debug)]
pub(super) enum Home {
    /// transformers' CLIP and SigLIP; the width of what they give.
    Clip(Sizes, usize),
    SigLip(Sizes, usize),
    OpenClip(OpenClipText),
}

impl Home {
    fn width(&self) -> usize {
        match self {
            Home::Clip(sizes, _) | Home::SigLip(sizes, _) => sizes.width,
            Home::OpenClip(text) => text.width,
        }
    }

    fn heads(&self) -> usize {
        match self {
            Home::Clip(sizes, _) | Home::SigLip(sizes, _) => sizes.heads,
            Home::OpenClip(text) => text.heads,
        }
    }

    /// The tables of words and places.
    fn tables(&self) -> [&'static str; 2] {
        match self {
            Home::OpenClip(_) => ["token_embedding.weight", "positional_embedding"],
            _ => ["text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight"],
        }
    }

    /// The layers over placed tokens; `causal` is the mask where a token attends to those before it alone.
    fn lay(&self, s: &mut Stack, x: NodeId, causal: impl Fn(&mut Stack) -> Result<NodeId>) -> Result<NodeId> {
        let t = "text_model";
        match self {
            Home::Clip(sizes, out) => {
                let mask = causal(s)?;
                let x = tower(s, x, t, sizes, Some(mask))?;
                let x = s.layer_norm(x, &format!("{t}.final_layer_norm"), sizes.eps)?;
                s.linear_with(x, "text_projection", *out, false)
            }
            Home::SigLip(sizes, out) => {
                let x = tower(s, x, t, sizes, None)?;
                let x = s.layer_norm(x, &format!("{t}.final_layer_norm"), sizes.eps)?;
                s.linear(x, &format!("{t}.head"), *out)
            }
            Home::OpenClip(text) => {
                let mask = if text.causal { Some(causal(s)?) } else { None };
                text.lay(s, x, mask)
            }
        }
    }
}

impl TextTower {
    /// Choices that a user should know of.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The embeddings of prompts, each a list of token numbers, all of one length.
    ///
    /// # Errors
    /// Kind `Load` for damaged weights; kind `Usage` for tokens the tower does not know.
    pub fn embed(&self, prompts: &[Vec<u32>]) -> Result<Text> {
        let length = self.length(prompts)?;
        let mut dict = match &self.weights {
            Weights::Here(dict) => dict.clone(),
            Weights::Folder(config) => weights::read(&self.folder, config)?.0,
            Weights::OpenClip => text_weights(&self.folder)?,
        };
        let made = self.made(&mut dict, length, prompts);
        made.map_err(|e| bytes::blame(dict.cause(e)).within(format!("{}, text tower", self.place)))
    }

    fn made(&self, dict: &mut StateDict, length: usize, prompts: &[Vec<u32>]) -> Result<Text> {
        let (width, [words, places]) = (self.home.width(), self.home.tables());
        let table = dict.take(words, &[self.words, width])?;
        let places = dict.take(places, &[self.longest, width])?.narrow(0, 0, length)?.to_dtype(DType::F64)?;
        dict.spend("the scores of attention", &[self.home.heads(), length, length])?;
        let mut net = Builder::new();
        let mut s = Stack { dict, net: &mut net };
        let input = s.net.input("tokens", &[length, width])?;
        let far = |i: usize, j: usize| if j > i { f64::from(f32::MIN) } else { 0. };
        let x = self.home.lay(&mut s, input, |s| {
            let mask: Vec<f64> = (0..length).flat_map(|i| (0..length).map(move |j| far(i, j))).collect();
            tokens::made(s, "mask", mask, &[1, 1, length, length])
        })?;
        let scale = scalar(s.dict, "logit_scale")?.exp();
        let biased = matches!(self.home, Home::SigLip(..)) || s.dict.contains("logit_bias");
        let bias = if biased { scalar(s.dict, "logit_bias")? } else { 0. };
        match self.home {
            Home::OpenClip(_) => settle(s.dict)?,
            _ => s.dict.so_far()?,
        }
        let reference = Reference::new(Arc::new(net.finish(x)?), DType::F64)?;
        let mut rows = vec![];
        for prompt in prompts {
            let at = self.end.of(prompt).ok_or_else(|| {
                Error::usage(format!("prompt {prompt:?} has no end token"))
                    .hint("tokenise with the model's own tokenizer")
            })?;
            let ids = Tensor::from_slice(prompt, prompt.len(), &Device::Cpu)?;
            let placed = (table.index_select(&ids, 0)?.to_dtype(DType::F64)? + &places)?.unsqueeze(0)?;
            let row = reference.forward(&placed)?.squeeze(0)?.get(at)?;
            let norm = row.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            rows.push((row / norm)?);
        }
        Ok(Text { embeddings: Tensor::stack(&rows, 0)?, scale, bias })
    }

    fn length(&self, prompts: &[Vec<u32>]) -> Result<usize> {
        let (words, longest) = (self.words, self.longest);
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
}

fn scalar(dict: &mut StateDict, name: &str) -> Result<f64> {
    let shape = dict.dims(name).filter(|d| *d == [1]).map_or(vec![], <[usize]>::to_vec);
    Ok(tokens::values(&dict.take(name, &shape)?)?.first().copied().unwrap_or(0.))
}
