//! What is tried on a model: an attack, or a corruption of its images.

use crate::corruption::applied::Corruption;
use robust_attacks::Ready;
use robust_core::{Aim, Budget, Card, Goal, Oracle, Rejection, Result, ThreatModel};
use serde_json::{Map, Value};

/// One column of a run: what is done to every sample, and judged. A certificate, which proves that nothing can be done, will
/// be a third kind.
pub enum Trial {
    /// Looks for a point that fools the model.
    Attack(Ready),
    /// Spoils the image, whatever the model.
    Corruption(Corruption),
}

impl Trial {
    /// An attack by its spec, on the model of `card`.
    ///
    /// # Errors
    /// Those of [`robust_attacks::resolve`].
    pub fn attack(spec: &str, card: &Card) -> Result<Self> {
        robust_attacks::resolve(spec, card).map(Self::Attack)
    }

    /// Names its rows in every output.
    pub fn label(&self) -> &str {
        match self {
            Self::Attack(attack) => &attack.label,
            Self::Corruption(corruption) => &corruption.label,
        }
    }

    /// The index's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Attack(attack) => attack.entry.name,
            Self::Corruption(_) => crate::corruption::applied::NAME,
        }
    }

    /// The path of its noise.
    pub fn path(&self) -> &str {
        match self {
            Self::Attack(attack) => &attack.path,
            Self::Corruption(corruption) => &corruption.label,
        }
    }

    pub fn threat(&self) -> &ThreatModel {
        match self {
            Self::Attack(attack) => &attack.threat,
            Self::Corruption(corruption) => &corruption.threat,
        }
    }

    pub fn budget(&self) -> Budget {
        match self {
            Self::Attack(attack) => attack.budget,
            Self::Corruption(_) => Budget::default(),
        }
    }

    /// What decides it, as a plan writes it.
    ///
    /// # Errors
    /// Never in practice: names and numbers only.
    pub fn params(&self) -> Result<Map<String, Value>> {
        match self {
            Self::Attack(attack) => Ok(attack.params.clone()),
            Self::Corruption(corruption) => corruption.facts.params(),
        }
    }

    /// What it must reach on a bare encoder.
    pub fn aim(&self) -> Option<Aim> {
        match self {
            Self::Attack(attack) => attack.aim,
            Self::Corruption(_) => None,
        }
    }

    /// Whether samples that are wrong already are put to it too: their verdict stays a clean miss, but the prediction at their
    /// point is written down, as the error rate of a corruption counts every sample.
    pub fn takes_misses(&self) -> bool {
        matches!(self, Self::Corruption(_))
    }

    /// Whether it looks for the nearest success instead of any.
    pub fn minimises(&self) -> bool {
        matches!(self, Self::Attack(attack) if attack.attack.minimises())
    }

    /// What a detector's rejection of its points means: an attack is caught; a corrupted image is left without an answer.
    pub fn rejection(&self) -> Rejection {
        match self {
            Self::Attack(_) => Rejection::Caught,
            Self::Corruption(_) => Rejection::Unanswered,
        }
    }

    /// The most search passes that one sample can cost (forward, backward), on a model of so many classes with each gradient
    /// averaged over `draws` passes.
    pub fn passes_on(&self, classes: usize, draws: u64) -> (u64, u64) {
        match self {
            Self::Attack(attack) => attack.attack.passes_on(classes, draws),
            Self::Corruption(_) => (0, 0),
        }
    }

    /// Whether it does as its reference implementation does, in steps and counts.
    pub fn is_compat(&self) -> bool {
        matches!(self, Self::Attack(attack) if is_compat(&attack.params))
    }

    /// What counts as success, where there are labels.
    ///
    /// # Errors
    /// Kind `Usage` for a target that is not a class.
    pub fn goal(&self, labels: &[u32], clean: &[Vec<f32>]) -> Result<Goal> {
        match self {
            Self::Attack(attack) => attack.attack.aim(labels, clean),
            Self::Corruption(_) => Ok(Goal::Untargeted(labels.to_vec())),
        }
    }

    /// # Errors
    /// Those of the model, and of published images that cannot be read.
    pub fn run(&self, oracle: &mut Oracle) -> Result<()> {
        match self {
            Self::Attack(attack) => attack.attack.run(oracle),
            Self::Corruption(corruption) => corruption.offer(oracle),
        }
    }
}

/// Whether an attack with these parameters does as its reference implementation does, in steps and counts.
pub(super) fn is_compat(params: &Map<String, Value>) -> bool {
    params.get("compat").is_some_and(|c| c == true)
}
