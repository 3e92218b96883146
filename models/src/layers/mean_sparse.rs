//! MeanSparse (Amini et al. 2024): layers put into a trained network, which pass on a channel's mean in place of what is
//! near it. Hosts ask for one wherever the published networks may have it; where a file has none, nothing is laid.

use super::stack::Stack;
use super::tokens::values;
use robust_core::Result;
use robust_engine::{NodeId, Op};

/// Buffers beside the statistics that only their collection reads.
const COLLECTING: [&str; 3] = ["batch_num", "momentum", "epsilon"];

impl Stack<'_> {
    /// MeanSparse of an image's channels, if the file has it under this name.
    pub fn sparse(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.sparse_along(x, name, 1)
    }

    /// The same over the last axis.
    pub fn sparse_last(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        let last = self.net.shape(x).row.len();
        self.sparse_along(x, name, last)
    }

    fn sparse_along(&mut self, x: NodeId, name: &str, axis: usize) -> Result<NodeId> {
        if !self.dict.any(&format!("{name}.")) {
            return Ok(x);
        }
        let at = |part: &str| format!("{name}.{part}");
        for part in COLLECTING.map(at).iter().filter(|p| self.dict.contains(p)).collect::<Vec<_>>() {
            self.dict.take(part, &[])?;
        }
        let channels = [self.net.shape(x).row.get(axis - 1).copied().unwrap_or(0)];
        let mean = self.dict.take(&at("running_mean"), &channels)?;
        let var = self.dict.take(&at("running_var"), &channels)?;
        let threshold = self.dict.take(&at("threshold"), &[])?;
        let alpha = values(&threshold)?.first().copied().unwrap_or(0.);
        // Nothing is near at a threshold of 0.
        if alpha == 0. {
            return Ok(x);
        }
        const NOTE: &str = "MeanSparse layers: ";
        if !self.dict.notes().iter().any(|n| n.starts_with(NOTE)) {
            self.dict.note(format!(
                "{NOTE}what is within {alpha} standard deviations of its channel's mean becomes the mean"
            ));
        }
        let mut param = |part: &str, value| self.net.param(at(part), value);
        let (mean, var) = (param("running_mean", mean), param("running_var", var));
        let threshold = param("threshold", threshold);
        self.net.node(name, Op::MeanSparse { mean, var, threshold, axis }, &[x])
    }
}
