//! Evaluation and training.

use robust_core::{Draw, stream};

/// How layers behave that differ between the two.
#[derive(Debug, Clone, Copy)]
pub enum Mode<'a> {
    /// Batch norms use their running statistics, dropout is the identity. Rows never mix.
    Eval,
    /// Batch norms use the statistics of the batch, dropout draws from the noise of the rows. Rows mix in batch norms.
    Train(&'a Draw<'a>),
}

impl<'a> Mode<'a> {
    /// The randomness of node `i`.
    pub(super) fn at(self, i: usize) -> Option<Draw<'a>> {
        match self {
            Mode::Eval => None,
            Mode::Train(draw) => Some(Draw { stream: draw.stream ^ stream(&format!("node/{i}")), ..*draw }),
        }
    }
}
