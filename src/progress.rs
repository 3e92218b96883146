//! What a user sees while a run works: samples, robust so far, passes per second, time left. On stderr, and only when
//! it is a terminal.

use crate::clock::Stopwatch;
use candle_core::Tensor;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use robust_core::{Card, Draw, Model, Outcome, Result, Site, TapId, Trace, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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

/// The progress bar of a run; silent when stderr is no terminal.
pub struct Progress {
    bar: ProgressBar,
    meter: Arc<Meter>,
    clock: crate::clock::Stopwatch,
    /// Samples that an earlier session did.
    before: u64,
}

impl Progress {
    /// `samples` counts every (model, attack, sample); `done` of them were there before.
    pub fn new(samples: u64, done: u64, hidden: bool, meter: Arc<Meter>) -> Self {
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(samples) };
        let template = "{prefix} [{bar:30}] {pos}/{len} samples, {elapsed}, {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_position(done);
        bar.set_message("the first ones are under attack");
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, meter, clock: crate::clock::Stopwatch::start(), before: done }
    }

    /// Names the (model, attack) in hand.
    pub fn begin(&self, model: &str, attack: &str) {
        self.bar.set_prefix(format!("{model} {attack}"));
    }

    /// `judged` are the outcomes of the (model, attack) in hand so far, `new` how many of them just arrived.
    pub fn update(&self, judged: &[Outcome], new: usize) {
        let held = judged.iter().filter(|o| o.verdict == Verdict::Held).count();
        let robust = 100. * held as f64 / judged.len().max(1) as f64;
        let seconds = self.clock.seconds().max(1e-3);
        let passes = (self.meter.forward() + self.meter.backward()) as f64 / seconds;
        self.bar.inc(new as u64);
        let (at, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let left = seconds * all.saturating_sub(at) as f64 / at.saturating_sub(self.before).max(1) as f64;
        let left = HumanDuration(Duration::from_secs_f64(left.min(1e9)));
        self.bar.set_message(format!("{robust:.1} % robust so far, {passes:.0} passes/s, about {left} left"));
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| crate::say(line));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A plain count of samples, for commands that attack nothing.
pub struct Counter {
    bar: ProgressBar,
}

impl Counter {
    pub fn new(samples: u64, hidden: bool) -> Self {
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(samples) };
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} samples, {elapsed}, about {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    pub fn add(&self, samples: u64) {
        self.bar.inc(samples);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
