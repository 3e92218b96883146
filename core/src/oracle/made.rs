//! Points that come from somewhere else than the attack's own search: named without asking a model, or made by other tools.

use super::Oracle;
use crate::{Error, Place, Result, to_host};
use candle_core::Tensor;

impl Oracle<'_> {
    /// Names one point for each row of `x` without asking any model about it: the judge's word at the end decides. A later
    /// point of the same sample replaces it.
    pub fn offer(&mut self, x: &Tensor, of: &[u32]) -> Result<()> {
        let (flat, width) = to_host(x)?;
        for (&o, x) in of.iter().zip(flat.chunks(width.max(1))) {
            let record = self.live.of.get(o as usize).copied();
            let record = record.ok_or_else(|| Error::internal(format!("row {o} is not live")))? as usize;
            self.records[record].offer(self.threat, x);
        }
        Ok(())
    }

    /// Notes how a live sample's point that was made elsewhere lies, and why it is not asked, where it is not.
    pub fn note_place(&mut self, of: u32, place: Option<Place>, remark: Option<String>) -> Result<()> {
        let record = self.live.of.get(of as usize).copied();
        let record = record.ok_or_else(|| Error::internal(format!("row {of} is not live")))? as usize;
        (self.records[record].place, self.records[record].remark) = (place, remark);
        Ok(())
    }
}
