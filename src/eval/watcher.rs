//! Whoever hears of an evaluation while it works.

use super::meter::Meter;
use super::plan::{Plan, PlannedAttack};
use robust_core::Outcome;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A run that is about to attack: its folder is there, and locked by this process.
pub struct Start<'a> {
    pub root: &'a Path,
    pub plan: &'a Plan,
    /// Outcomes that earlier sessions left.
    pub done: usize,
    /// Counts the passes of this session.
    pub meter: &'a Arc<Meter>,
    /// How the run goes on if it is left before its end, as part of a sentence.
    pub continues: &'a str,
}

/// Hears of an evaluation, and may stop it. Everything is optional: [`Quiet`] hears nothing. Names in what it is told come
/// from files and may hold control characters; notes and warnings are escaped already.
pub trait Watcher {
    /// Something a reader of the numbers should know.
    fn note(&mut self, _note: &str) {}

    /// Something that may make the numbers wrong, and what to do about it.
    fn warning(&mut self, _warning: &str, _hint: &str) {}

    fn started(&mut self, _start: &Start) {}

    /// An attack on a model begins, or goes on after a resume.
    fn attacking(&mut self, _model: &str, _attack: &PlannedAttack) {}

    /// `so_far` are the outcomes of the model and attack in hand, `new` how many of them just arrived.
    fn judged(&mut self, _so_far: &[Outcome], _new: usize) {}

    /// No more outcomes come, whether or not all are there.
    fn ended(&mut self) {}

    /// A flag that stops the run within a step once it is set; the unit of work in hand is done again when the run goes on.
    fn stop(&self) -> Option<&AtomicBool> {
        None
    }
}

/// Hears nothing.
pub struct Quiet;

impl Watcher for Quiet {}
