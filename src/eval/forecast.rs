//! What a prepared evaluation will cost at most.

use super::clean::row_keys;
use super::plan::Keep;
use super::prepared::Prepared;
use super::units::Subject;
use crate::clock::Stopwatch;
use robust_core::{Draw, Result, Site};
use std::path::PathBuf;

/// Passes of one model under one attack, at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    pub model: String,
    pub attack: String,
    pub forwards: u64,
    pub backwards: u64,
}

/// The most that a run can cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Samples of this run, and of the data set.
    pub samples: (u64, u64),
    pub data: String,
    pub passes: Vec<Passes>,
    /// At the speed of a few passes on this machine.
    pub seconds: f64,
    /// Bytes of evidence; `None` where none is kept, 0 where corrupted images are made again when they are checked.
    pub evidence: Option<u64>,
    pub keep: Keep,
    pub folder: PathBuf,
}

impl Prepared {
    /// The most that the run can cost, whatever lies in its folder; asks every model for a batch to learn its speed.
    ///
    /// # Errors
    /// Those of the models and of the data set.
    pub fn forecast(&self) -> Result<Forecast> {
        let plan = &self.plan;
        let attacks = plan.models.iter().map(|m| m.attacks.len() as u64).sum::<u64>();
        let n = plan.units().iter().map(|u| u.count as u64).sum::<u64>() / attacks.max(1);
        let (mut passes, mut seconds, mut bytes) = (vec![], 0., 0);
        for (model, subject) in plan.models.iter().zip(&self.subjects) {
            let (forward_time, backward_time) = self.pace(subject)?;
            for attack in &model.attacks {
                // One clean forward; one to confirm a success or to judge the strongest point.
                let (forwards, backwards) = (n * (attack.passes.0 + 2), n * attack.passes.1);
                seconds += forwards as f64 * forward_time + backwards as f64 * backward_time;
                if plan.evidence == Keep::All || !attack.is_recipe() {
                    bytes += n * 4 * attack.threat.input.len() as u64;
                }
                let (model, attack) = (model.name.clone(), attack.label.clone());
                passes.push(Passes { model, attack, forwards, backwards });
            }
        }
        Ok(Forecast {
            samples: (n, plan.dataset.card.samples),
            data: plan.dataset.card.name.clone(),
            passes,
            seconds,
            evidence: Some(bytes).filter(|_| plan.evidence != Keep::None),
            keep: plan.evidence,
            folder: self.root()?,
        })
    }

    /// Seconds that a forward and a backward of one row take, measured on one batch.
    fn pace(&self, subject: &Subject) -> Result<(f64, f64)> {
        let model = &subject.target.deployed;
        let ids: Vec<u64> = self.plan.ids.iter().copied().take(self.plan.unit).collect();
        let loaded = self.data.load(&ids, &model.card().view(), &candle_core::Device::Cpu)?;
        let Some(batch) = loaded.batch else { return Ok((0., 0.)) };
        let keys = row_keys(&batch.ids);
        let draw = Draw { seed: 0, stream: 0, turn: 0, rows: &keys };
        let rows = batch.len() as f64;
        // The first pass pays for cold caches and for weights that are packed when first needed.
        let out = model.forward(&batch.x, &draw)?;
        model.trace(&batch.x, &draw, &[])?.pull(&[(Site::Output, out.ones_like()?)])?;
        let clock = Stopwatch::start();
        let out = model.forward(&batch.x, &draw)?;
        let forward = clock.seconds() / rows;
        let clock = Stopwatch::start();
        model.trace(&batch.x, &draw, &[])?.pull(&[(Site::Output, out.ones_like()?)])?;
        Ok((forward, (clock.seconds() / rows - forward).max(0.)))
    }
}
