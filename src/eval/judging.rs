//! What the attacks of an evaluation climb, and how the judge asks: draws, votes, stand-ins for gradients.

use super::plan::Gradients;
use robust_core::{Error, Model, Result, Smoothed, StandIn, Target, Votes};
use std::sync::Arc;

/// Draws per gradient of a smoothed loss, unless said otherwise.
const SMOOTH_DRAWS: u32 = 8;

/// Where attacks take their gradients from; scores are the model's own, whatever this says.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum GradientSource {
    #[default]
    Model,
    /// Another model, by its spec, asked at the same input.
    StandIn(String),
    /// The model's loss averaged over Gaussian noise of this deviation, in input units.
    Smoothed(f64),
}

/// How models are asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judging {
    /// Draws that gradients are averaged over: 1 unless said, 8 for a smoothed loss.
    pub eot: Option<u32>,
    /// When a random model counts as fooled: 5 of 10 fresh draws for models that say they are random, unless said.
    pub votes: Option<Votes>,
    pub gradients: GradientSource,
}

/// Reads `K/M`.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn parse_votes(text: &str) -> std::result::Result<Votes, String> {
    let wrong = || format!("`{text}` is not K/M with K from 1 to M, such as 5/10");
    let (k, m) = text.split_once('/').ok_or_else(wrong)?;
    let votes = Votes { k: k.parse().map_err(|_| wrong())?, m: m.parse().map_err(|_| wrong())? };
    if votes.k >= 1 && votes.k <= votes.m && votes.m <= 1000 { Ok(votes) } else { Err(wrong()) }
}

/// [`Judging`] with its stand-in loaded.
pub struct OpenJudging<'a> {
    judging: &'a Judging,
    eot: u32,
    stand_in: Option<Arc<dyn Model>>,
}

impl Judging {
    /// # Errors
    /// Kind `Usage` for numbers out of range, kind `Load` when the stand-in cannot be read.
    pub fn open(&self) -> Result<OpenJudging<'_>> {
        let smooth = match self.gradients {
            GradientSource::Smoothed(sigma) => Some(sigma),
            _ => None,
        };
        let eot = self.eot.unwrap_or(if smooth.is_some() { SMOOTH_DRAWS } else { 1 });
        if eot == 0 || eot > 100_000 {
            return Err(Error::usage(format!("--eot {eot} is not between 1 and 100000")));
        }
        if smooth.is_some_and(|s| !(s > 0. && s.is_finite())) {
            return Err(Error::usage("--smooth wants a positive deviation").hint("a tenth of epsilon or so, to begin"));
        }
        let stand_in = match &self.gradients {
            GradientSource::StandIn(spec) => Some(robust_models::load(spec)?.model),
            _ => None,
        };
        Ok(OpenJudging { judging: self, eot, stand_in })
    }
}

impl OpenJudging<'_> {
    /// # Errors
    /// Kind `Usage` when the stand-in takes or gives other shapes.
    pub fn target(&self, model: Arc<dyn Model>) -> Result<Target> {
        let surrogate: Option<Arc<dyn Model>> = match (&self.stand_in, &self.judging.gradients) {
            (Some(soft), _) => Some(Arc::new(StandIn::new(model.clone(), soft.clone())?)),
            (None, GradientSource::Smoothed(sigma)) => Some(Arc::new(Smoothed::new(model.clone(), *sigma)?)),
            (None, _) => None,
        };
        let white = Target::white_box(model);
        let votes = self.judging.votes.unwrap_or(white.votes);
        Ok(Target { surrogates: surrogate.into_iter().collect(), eot: self.eot, votes, ..white })
    }

    /// Where gradients come from, when not from the model.
    pub fn gradients(&self) -> Option<Gradients> {
        match (&self.stand_in, &self.judging.gradients) {
            (Some(soft), _) => {
                let card = soft.card();
                Some(Gradients::Bpda { model: card.name.clone(), digest: card.digest.clone() })
            }
            (None, GradientSource::Smoothed(sigma)) => Some(Gradients::Smooth { sigma: *sigma }),
            (None, _) => None,
        }
    }
}
