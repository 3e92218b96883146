//! What the attacks of an evaluation climb, and how the judge asks: draws, votes, stand-ins for gradients.

use robust::core::{Error, Model, Result, Smoothed, StandIn, Target, Votes};
use robust::models;
use robust::plan::Gradients;
use std::sync::Arc;

#[derive(clap::Args)]
#[group(id = "target")]
pub struct Options {
    /// Gradients averaged over N draws of a random model, in every attack that climbs [default: 1, with --smooth 8]
    #[arg(long, value_name = "N", env = "ROBUST_EOT")]
    eot: Option<u32>,
    /// A random model counts as fooled when K of M fresh draws are (default: 5/10 for models that say they are random)
    #[arg(long, value_name = "K/M", value_parser = parse_votes)]
    votes: Option<Votes>,
    /// Take gradients from this whole model, at the attacked point, where the model has none or bad ones; scores stay the model's
    #[arg(long, value_name = "MODEL", conflicts_with = "smooth")]
    bpda: Option<String>,
    /// Take gradients of the loss averaged over Gaussian noise of this deviation in input units, against shattered ones
    #[arg(long, value_name = "SIGMA")]
    smooth: Option<f64>,
}

/// Draws per gradient of a smoothed loss, unless --eot says otherwise.
const SMOOTH_DRAWS: u32 = 8;

fn parse_votes(text: &str) -> std::result::Result<Votes, String> {
    let wrong = || format!("`{text}` is not K/M with K from 1 to M, such as 5/10");
    let (k, m) = text.split_once('/').ok_or_else(wrong)?;
    let votes = Votes { k: k.parse().map_err(|_| wrong())?, m: m.parse().map_err(|_| wrong())? };
    if votes.k >= 1 && votes.k <= votes.m && votes.m <= 1000 { Ok(votes) } else { Err(wrong()) }
}

/// The options with their stand-in loaded.
pub struct Climb<'a> {
    options: &'a Options,
    eot: u32,
    soft: Option<Arc<dyn Model>>,
}

impl Options {
    /// # Errors
    /// Kind `Usage` for numbers out of range, kind `Load` when the stand-in cannot be read.
    pub fn open(&self) -> Result<Climb<'_>> {
        let eot = self.eot.unwrap_or(if self.smooth.is_some() { SMOOTH_DRAWS } else { 1 });
        if eot == 0 || eot > 100_000 {
            return Err(Error::usage(format!("--eot {eot} is not between 1 and 100000")));
        }
        if self.smooth.is_some_and(|s| !(s > 0. && s.is_finite())) {
            return Err(Error::usage("--smooth wants a positive deviation").hint("a tenth of epsilon or so, to begin"));
        }
        let soft = self.bpda.as_ref().map(|s| models::load(s).map(|m| m.model)).transpose()?;
        Ok(Climb { options: self, eot, soft })
    }
}

impl Climb<'_> {
    /// # Errors
    /// Kind `Usage` when the stand-in takes or gives other shapes.
    pub fn target(&self, model: Arc<dyn Model>) -> Result<Target> {
        let surrogate: Option<Arc<dyn Model>> = match (&self.soft, self.options.smooth) {
            (Some(soft), _) => Some(Arc::new(StandIn::new(model.clone(), soft.clone())?)),
            (None, Some(sigma)) => Some(Arc::new(Smoothed::new(model.clone(), sigma)?)),
            (None, None) => None,
        };
        let white = Target::white_box(model);
        let votes = self.options.votes.unwrap_or(white.votes);
        Ok(Target { surrogates: surrogate.into_iter().collect(), eot: self.eot, votes, ..white })
    }

    /// Where gradients come from, when not from the model.
    pub fn gradients(&self) -> Option<Gradients> {
        match (&self.soft, self.options.smooth) {
            (Some(soft), _) => {
                let card = soft.card();
                Some(Gradients::Bpda { model: card.name.clone(), digest: card.digest.clone() })
            }
            (None, Some(sigma)) => Some(Gradients::Smooth { sigma }),
            (None, None) => None,
        }
    }
}
