//! Rows that go through models, and the time that takes.

use crate::clock::Stopwatch;
use candle_core::Tensor;
use robust_core::{Card, Draw, Model, Result, Site, TapId, Trace};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Rows that went through models, forward and backward.
#[derive(Debug, Default)]
pub struct Meter {
    forward: AtomicU64,
    backward: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Meter {
    pub fn forward(&self) -> u64 {
        self.forward.load(Relaxed)
    }
    pub fn backward(&self) -> u64 {
        self.backward.load(Relaxed)
    }
    /// Both together.
    pub fn passes(&self) -> u64 {
        self.forward() + self.backward()
    }
    /// Seconds inside models.
    pub fn seconds(&self) -> f64 {
        self.nanoseconds.load(Relaxed) as f64 * 1e-9
    }

    fn timed<R>(&self, f: impl FnOnce() -> R) -> R {
        let clock = Stopwatch::start();
        let result = f();
        self.nanoseconds.fetch_add((clock.seconds() * 1e9) as u64, Relaxed);
        result
    }
}

/// A model that counts the rows it is asked and the time it takes, independently of the ledger.
pub struct Metered {
    inner: Arc<dyn Model>,
    meter: Arc<Meter>,
}

impl Metered {
    pub fn new(inner: Arc<dyn Model>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    fn count(&self, x: &Tensor) {
        self.meter.forward.fetch_add(x.dims().first().copied().unwrap_or(0) as u64, Relaxed);
    }
}

impl Model for Metered {
    fn card(&self) -> &Card {
        self.inner.card()
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.count(x);
        self.meter.timed(|| self.inner.forward(x, draw))
    }
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.count(x);
        self.meter.timed(|| self.inner.exact(x, draw))
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        self.count(x);
        let trace = self.meter.timed(|| self.inner.trace(x, draw, taps))?;
        Ok(Box::new(MeteredTrace { inner: trace, meter: &self.meter }))
    }
}

struct MeteredTrace<'a> {
    inner: Box<dyn Trace + 'a>,
    meter: &'a Meter,
}

impl Trace for MeteredTrace<'_> {
    fn output(&self) -> &Tensor {
        self.inner.output()
    }
    fn tap(&self, tap: TapId) -> Result<&Tensor> {
        self.inner.tap(tap)
    }
    fn pull(&mut self, seeds: &[(Site, Tensor)]) -> Result<Tensor> {
        let rows = seeds.first().and_then(|(_, s)| s.dims().first().copied()).unwrap_or(0);
        self.meter.backward.fetch_add(rows as u64, Relaxed);
        self.meter.timed(|| self.inner.pull(seeds))
    }
}
