//! Runs of one attack side by side: where a first run left a sample standing, its other restarts and targets are rows of one
//! batch, so that a processor has work for all of its cores even when few samples are left.

use super::{Live, Oracle};
use crate::{Budget, Result, Rows, Stop, stream};

/// The stage in which runs go abreast.
const REST: &str = "rest";

impl Oracle<'_> {
    /// Runs `run` once for each of `labels`, with the noise of a stage of that name: the first on all live samples, the others
    /// abreast on those that held, one row for each sample and run ([`Oracle::runs`] says which). A sample's rows go in
    /// step and leave together, so nothing depends on its neighbours; a run walks as it would alone. Under a query budget
    /// the runs follow each other, or the budget would end all of them half way.
    ///
    /// # Errors
    /// What `run` returns, and failures of models.
    pub fn abreast(&mut self, labels: &[String], mut run: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let limited = self.limits.iter().any(|l| *l < u64::MAX);
        let alone = if limited || labels.len() < 3 { labels.len() } else { 1 };
        for (i, label) in (0..).zip(&labels[..alone]) {
            self.stage(label, Stop::AtFirst, Budget::default(), |o| {
                o.live.runs.fill(i);
                run(o)
            })?;
        }
        if alone == labels.len() {
            return Ok(());
        }
        let path = self.path.clone();
        let streams: Vec<u64> = labels.iter().map(|l| stream(&format!("{path}/{l}"))).collect();
        self.stage(REST, Stop::AtFirst, Budget::default(), |o| {
            let own = stream(&o.path);
            let whole = o.live.clone();
            let lanes = labels.len() - alone;
            let together = (o.at_once / lanes).max(1);
            let outer = std::mem::replace(&mut o.labels, labels.to_vec());
            let places: Vec<u32> = (0..whole.of.len() as u32).collect();
            let result = places.chunks(together).try_for_each(|samples| {
                o.live = whole.spread(samples, alone as u32..labels.len() as u32, |run| own ^ streams[run as usize])?;
                run(o)?;
                o.settle().map(|_| ())
            });
            o.labels = outer;
            o.live = whole;
            result
        })
    }

    /// Which run of the attack every live row belongs to: an index into the labels given to [`Oracle::abreast`], 0 elsewhere.
    pub fn runs(&self) -> &[u32] {
        &self.live.runs
    }
}

impl Live {
    /// One row for each of `samples` and `runs`.
    fn spread(&self, samples: &[u32], runs: std::ops::Range<u32>, name: impl Fn(u32) -> u64) -> Result<Self> {
        let mut rows = Vec::with_capacity(samples.len() * runs.len());
        samples.iter().for_each(|s| rows.extend(runs.clone().map(|_| *s)));
        let mut live = self.clone();
        live.keep(&rows)?;
        for ((row, key), run) in live.runs.iter_mut().zip(&mut live.keys).zip(runs.cycle()) {
            (*row, key.run) = (run, name(run));
        }
        Ok(live)
    }
}
