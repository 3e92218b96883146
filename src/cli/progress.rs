//! What a user sees while a run works: samples, robust so far, passes per second, time left. On stderr, and only when
//! it is a terminal.

use super::interrupt::STOP;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use robust::clock::Stopwatch;
use robust::core::{Outcome, Verdict};
use robust::eval::meter::Meter;
use robust::eval::plan::{Plan, PlannedAttack};
use robust::eval::{Start, Watcher};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, clap::Args)]
#[group(id = "progress")]
pub struct Options {
    /// No progress bar
    #[arg(long)]
    no_progress: bool,
}

/// Shows an evaluation on stderr: notes, warnings, a bar while it attacks. Ctrl-C stops it.
pub struct Terminal {
    bar: Option<Bar>,
    hidden: bool,
}

impl Terminal {
    pub fn new(options: &Options) -> Self {
        Self { bar: None, hidden: options.no_progress }
    }

    /// Without a bar, for commands that attack nothing.
    pub fn quiet() -> Self {
        Self { bar: None, hidden: true }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.say(line),
            None => robust::say(line),
        }
    }
}

impl Watcher for Terminal {
    fn note(&mut self, note: &str) {
        self.say(&format!("note: {note}"));
    }

    fn warning(&mut self, warning: &str, hint: &str) {
        self.say(&format!("warning: {warning}\n  hint: {hint}"));
    }

    fn started(&mut self, start: &Start) {
        super::interrupt::on_leaving(start.continues.to_string());
        self.bar = Some(Bar::new(start.plan, start.done, self.hidden, start.meter.clone()));
    }

    fn attacking(&mut self, model: &str, attack: &PlannedAttack) {
        if let Some(bar) = &self.bar {
            bar.begin(model, attack);
        }
    }

    fn judged(&mut self, so_far: &[Outcome], new: usize) {
        if let Some(bar) = &self.bar {
            bar.update(so_far, new);
        }
    }

    fn ended(&mut self) {
        self.bar = None;
    }

    fn stop(&self) -> Option<&AtomicBool> {
        Some(&STOP)
    }
}

/// The progress bar of a run; silent when stderr is not a terminal.
struct Bar {
    bar: ProgressBar,
    meter: Arc<Meter>,
    clock: Stopwatch,
    /// Samples that an earlier session did.
    before: u64,
    /// Passes of the meter when the run began.
    passes: u64,
    /// What the share of samples that held is called under the attack in hand.
    held: Mutex<&'static str>,
}

impl Bar {
    /// For a run of `plan` of whose outcomes `done` are there.
    fn new(plan: &Plan, done: usize, hidden: bool, meter: Arc<Meter>) -> Self {
        let bar = if hidden { ProgressBar::hidden() } else { ProgressBar::new(plan.rows() as u64) };
        let template = "{prefix} [{bar:30}] {pos}/{len} samples, {elapsed}, {msg}{first}";
        let (most, passes, clock) = (plan.most_passes(done), meter.passes(), Stopwatch::start());
        let (seen, since) = (meter.clone(), clock);
        // Until the first samples are judged, only passes tell how long it may take.
        let first = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            if state.pos() <= done as u64 {
                // A bar that cannot be drawn ends nothing.
                to.write_str(&forecast(seen.passes().saturating_sub(passes), since.seconds(), most)).ok();
            }
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> ").with_key("first", first));
        }
        bar.set_position(done as u64);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self { bar, meter, clock, before: done as u64, passes, held: Mutex::new("robust") }
    }

    /// Names the model and the attack in hand.
    fn begin(&self, model: &str, attack: &PlannedAttack) {
        self.bar.set_prefix(robust::escape::line(&format!("{model} {}", attack.label)));
        let word = match (attack.is_corruption(), attack.aim) {
            (true, _) => "still right",
            (_, Some(_)) => "held",
            _ => "robust",
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = word;
    }

    /// `judged` are the outcomes of the (model, attack) in hand so far, `new` how many of them just arrived.
    fn update(&self, judged: &[Outcome], new: usize) {
        let held = judged.iter().filter(|o| o.verdict == Verdict::Held).count();
        let robust = 100. * held as f64 / judged.len().max(1) as f64;
        let seconds = self.clock.seconds().max(1e-3);
        let passes = self.meter.passes().saturating_sub(self.passes) as f64 / seconds;
        self.bar.inc(new as u64);
        let (at, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let left = seconds * all.saturating_sub(at) as f64 / at.saturating_sub(self.before).max(1) as f64;
        let (left, word) = (human(left), *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        self.bar.set_message(format!("{robust:.1} % {word} so far, {passes:.0} passes/s, about {left} left"));
    }

    /// A line above the bar.
    fn say(&self, line: &str) {
        self.bar.suspend(|| robust::say(line));
    }
}

/// What can be said before the first samples are judged: the most passes that are left, at the pace so far.
fn forecast(done: u64, seconds: f64, most: u64) -> String {
    if done == 0 || seconds <= 0. {
        return "the first ones are under attack".to_string();
    }
    let pace = done as f64 / seconds;
    let left = human(most.saturating_sub(done) as f64 / pace);
    format!("the first ones are under attack, {pace:.0} passes/s, at most about {left} left")
}

fn human(seconds: f64) -> HumanDuration {
    HumanDuration(Duration::from_secs_f64(seconds.clamp(0., 1e9)))
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A plain count of samples, for commands that attack nothing.
pub struct Counter {
    bar: ProgressBar,
}

impl Counter {
    pub fn new(samples: u64, options: &Options) -> Self {
        let bar = if options.no_progress { ProgressBar::hidden() } else { ProgressBar::new(samples) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_sample_is_judged_the_passes_tell_how_long_it_may_take() {
        assert_eq!(forecast(0, 3., 1000), "the first ones are under attack");
        // 100 passes in 2 s; 6000 more at 50 per second take two minutes.
        let said = forecast(100, 2., 6100);
        assert_eq!(said, "the first ones are under attack, 50 passes/s, at most about 2 minutes left");
        assert!(forecast(7, 1., 5).contains("about 0 seconds left"), "an attack of more passes than it promised");
    }
}
