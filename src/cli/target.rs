//! What the attacks of an evaluation climb, and how the judge asks.

use robust::core::Votes;
use robust::eval::judging::{GradientSource, Judging, parse_votes};

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

impl Options {
    pub fn judging(&self) -> Judging {
        let gradients = match (&self.bpda, self.smooth) {
            (Some(spec), _) => GradientSource::StandIn(spec.clone()),
            (None, Some(sigma)) => GradientSource::Smoothed(sigma),
            (None, None) => GradientSource::Model,
        };
        Judging { eot: self.eot, votes: self.votes, gradients }
    }
}
