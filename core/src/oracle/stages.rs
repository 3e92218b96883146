//! Settling, retiring, and attacks made of parts.

use super::{Budget, Oracle, Stop};
use crate::{Error, Result, Rows};

impl Oracle<'_> {
    /// Confirms pending successes and says which live samples are done: found (when that is the stop) or out of budget.
    pub fn settle(&mut self) -> Result<&[bool]> {
        let pending: Vec<u32> =
            self.live.of.iter().copied().filter(|&r| self.records[r as usize].candidate.is_some()).collect();
        self.confirm_pending(&pending)?;
        let finished = |r: &u32| {
            let record = &self.records[*r as usize];
            (self.stop == Stop::AtFirst && record.found.is_some())
                || record.cost.search.forward >= self.limits[*r as usize]
        };
        self.done = self.live.of.iter().map(finished).collect();
        Ok(&self.done)
    }

    /// Drops `done` samples from the live batch and from the attack's `state`. Pending successes of the dropped are
    /// confirmed first. False when nobody is left; the state is then untouched, since no tensor has zero rows.
    pub fn retire(&mut self, done: &[bool], state: &mut [&mut dyn Rows]) -> Result<bool> {
        if done.len() != self.len() {
            return Err(Error::internal(format!("{} flags for {} live samples", done.len(), self.len())));
        }
        let leaving = self.live.of.iter().zip(done).filter(|(_, d)| **d).map(|(r, _)| *r);
        let pending: Vec<u32> = leaving.filter(|&r| self.records[r as usize].candidate.is_some()).collect();
        self.confirm_pending(&pending)?;
        let keep: Vec<u32> = (0..done.len() as u32).filter(|&i| !done[i as usize]).collect();
        if keep.is_empty() {
            self.live.of.clear();
            return Ok(false);
        }
        if keep.len() < done.len() {
            self.live.keep(&keep)?;
            state.iter_mut().try_for_each(|s| s.keep(&keep))?;
        }
        Ok(true)
    }

    /// Settles, then retires what is done: the usual end of an attack's step.
    pub fn advance(&mut self, state: &mut [&mut dyn Rows]) -> Result<bool> {
        let done = self.settle()?.to_vec();
        self.retire(&done, state)
    }

    /// Runs a part of an attack (a restart, a member of an ensemble) on the live samples not found yet, from their clean
    /// points, with noise of its own; afterwards the live samples are those of before. `budget` counts from here.
    pub fn stage(
        &mut self,
        label: &str,
        stop: Stop,
        budget: Budget,
        run: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.settle()?;
        let rows: Vec<u32> = (0..self.len() as u32).filter(|&i| self.open(self.live.of[i as usize])).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut inner = self.live.clone();
        inner.keep(&rows)?;
        let outer = std::mem::replace(&mut self.live, inner);
        let outermost = self.path.len() == self.root;
        if outermost {
            self.lap(label, false);
        }
        let path = format!("{}/{label}", self.path);
        let (path, stop) = (std::mem::replace(&mut self.path, path), std::mem::replace(&mut self.stop, stop));
        let limits = self.limits.clone();
        if let Some(queries) = budget.queries {
            for (limit, record) in self.limits.iter_mut().zip(&self.records) {
                *limit = (*limit).min(record.cost.search.forward.saturating_add(queries));
            }
        }
        let result = run(self).and_then(|()| self.settle().map(|_| ()));
        if outermost {
            self.lap(label, true);
        }
        (self.path, self.stop, self.limits, self.live) = (path, stop, limits, outer);
        result
    }

    /// Neither found nor out of budget.
    fn open(&self, record: u32) -> bool {
        let r = &self.records[record as usize];
        r.found.is_none() && r.cost.search.forward < self.limits[record as usize]
    }
}
