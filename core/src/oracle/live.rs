//! Samples that are still under attack.

use crate::{Goal, Result, RowKey, Rows};
use candle_core::Tensor;

/// The samples still under attack, one entry per row; `of` maps rows to records. Where runs go abreast, a sample has a row
/// for each of them.
#[derive(Clone)]
pub(super) struct Live {
    pub of: Vec<u32>,
    pub x: Tensor,
    pub goal: Goal,
    pub keys: Vec<RowKey>,
    pub clean: Vec<Vec<f32>>,
    /// Which run of the attack a row belongs to.
    pub runs: Vec<u32>,
}

impl Rows for Live {
    fn keep(&mut self, rows: &[u32]) -> Result<()> {
        self.of.keep(rows)?;
        self.x.keep(rows)?;
        self.goal.keep(rows)?;
        self.keys.keep(rows)?;
        self.runs.keep(rows)?;
        self.clean.keep(rows)
    }
}
