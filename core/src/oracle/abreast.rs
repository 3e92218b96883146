//! Runs of one attack side by side: where a first run left a sample standing, its other restarts and targets are rows of one
//! batch, so that a processor has work for all of its cores even when few samples are left.

use super::Oracle;
use super::live::Live;
use crate::{Budget, Result, Rows, Stop, stream};
use std::ops::Range;
use std::sync::Arc;

/// The stage in which the first of them go; later ones are numbered.
const REST: &str = "rest";
/// Runs of a sample that go abreast; more take their turn in groups of so many. Rows cost memory, and a sample that falls pays for
/// the steps of every run beside the one it falls to.
const WIDTH: usize = 8;

impl Oracle<'_> {
    /// Runs `run` once for each of `labels`, with the noise of a stage of that name: the first on all live samples, the others
    /// abreast on those that held, one row for each sample and run ([`Oracle::runs`] says which). A sample's rows go in
    /// step and leave together, so nothing depends on its neighbours; a run walks as it would alone. Under a query budget
    /// the runs follow each other, or the budget would end all of them half way.
    ///
    /// # Errors
    /// What `run` returns, and failures of models.
    pub fn abreast(&mut self, labels: &[String], mut run: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let Some(first) = labels.first() else { return Ok(()) };
        if self.limits.iter().any(|l| *l < u64::MAX) {
            return (0..).zip(labels).try_for_each(|(i, label)| self.alone(i, label, &mut run));
        }
        self.alone(0, first, &mut run)?;
        let all: Arc<[String]> = labels.into();
        for (i, start) in (1..labels.len()).step_by(WIDTH).enumerate() {
            let stage = if i == 0 { REST.to_string() } else { format!("{REST}{}", i + 1) };
            self.side_by_side(&stage, start..labels.len().min(start + WIDTH), &all, &mut run)?;
        }
        Ok(())
    }

    fn alone(&mut self, i: u32, label: &str, run: &mut impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.stage(label, Stop::AtFirst, Budget::default(), |o| {
            o.live.runs.fill(i);
            run(o)
        })
    }

    fn side_by_side(
        &mut self,
        stage: &str,
        lanes: Range<usize>,
        labels: &Arc<[String]>,
        run: &mut impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let streams: Vec<u64> = labels[lanes.clone()].iter().map(|l| stream(&format!("{path}/{l}"))).collect();
        self.stage(stage, Stop::AtFirst, Budget::default(), |o| {
            let own = stream(&o.path);
            let whole = o.live.clone();
            let together = (o.at_once / lanes.len()).max(1);
            let outer = std::mem::replace(&mut o.labels, Arc::clone(labels));
            let places: Vec<u32> = (0..whole.of.len() as u32).collect();
            let (first, runs) = (lanes.start as u32, lanes.start as u32..lanes.end as u32);
            let result = places.chunks(together).try_for_each(|samples| {
                o.live = whole.spread(samples, runs.clone(), |run| own ^ streams[(run - first) as usize])?;
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
    fn spread(&self, samples: &[u32], runs: Range<u32>, name: impl Fn(u32) -> u64) -> Result<Self> {
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
