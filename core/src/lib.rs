//! The nouns and the rules of `robust`: batches of named samples, models and their traces, threat models, goals and
//! objectives, the oracle every attack must ask, and the outcome it leaves.
//!
//! Rows are f32, `[n, ...]`, one per sample; a row's result never depends on its neighbours. A [`Model`] answers for rows and a
//! [`Draw`], which is all the randomness there is. A [`ThreatModel`] says which points around a clean row an adversary may use, a
//! [`Goal`] what counts as fooled, an [`Objective`] what is climbed. An [`Attack`] asks an [`Oracle`], which books every row,
//! judges it, keeps the best legal point and has it confirmed by the model's exact path; what is left is a [`Finding`] per
//! sample, which becomes an [`Outcome`]. Defences are models too: [`Defended`].
//!
//! A model and an attack of one's own, and the oracle between them:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use robust_core::*;
//! use std::sync::Arc;
//!
//! /// Two classes, whose scores are 0 and the sum of the entries minus 1.
//! struct Sum(Card);
//!
//! impl Model for Sum {
//!     fn card(&self) -> &Card {
//!         &self.0
//!     }
//!     fn forward(&self, x: &Tensor, _: &Draw) -> Result<Tensor> {
//!         let sum = (x.sum_keepdim(1)? - 1.)?;
//!         Ok(Tensor::cat(&[&sum.zeros_like()?, &sum], 1)?)
//!     }
//! }
//!
//! /// Adds a tenth to every entry until the model says another class: labels are all it asks for.
//! struct Brighten;
//!
//! impl Attack for Brighten {
//!     fn run(&self, oracle: &mut Oracle) -> Result<()> {
//!         let mut x = oracle.x().clone();
//!         for _ in 0..self.passes().0 {
//!             x = oracle.threat().project(&(x + 0.1)?, oracle.x())?;
//!             let of: Vec<u32> = (0..oracle.len() as u32).collect(); // row i belongs to live sample i
//!             oracle.ask(&x, &of)?;
//!             // The judge confirms; samples that are done leave the batch and our rows alike.
//!             if !oracle.advance(&mut [&mut x])? {
//!                 break;
//!             }
//!         }
//!         Ok(())
//!     }
//!     fn passes(&self) -> (u64, u64) {
//!         (10, 0)
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let input = Input { shape: vec![2], domain: Some((0., 1.)), kind: InputKind::Features };
//! let card = Card { access: Access::Scores, ..Card::new("sum", input.clone(), Output::Logits { k: 2 }) };
//! let target = Target::white_box(Arc::new(Sum(card)));
//! let threat = ThreatModel::new(Region::Ball { norm: Norm::Linf, eps: 0.25 }, input, Access::Label)?;
//! // Two samples of class 0, whose sums lie 0.1 and 0.8 below the boundary.
//! let batch = Batch::new(vec![7, 8], Tensor::new(&[[0.5f32, 0.4], [0.1, 0.1]], &Device::Cpu)?, None)?;
//! let clean = vec![vec![0., -0.1], vec![0., -0.8]];
//! let mut oracle = Oracle::new(Question {
//!     target: &target,
//!     threat: &threat,
//!     batch: &batch,
//!     goal: Brighten.aim(&[0, 0], &clean)?,
//!     clean: &clean,
//!     seed: 0,
//!     path: "brighten",
//!     stop: Stop::AtFirst,
//!     budget: Budget::default(),
//!     at_once: 64,
//! })?;
//! Brighten.run(&mut oracle)?;
//! let findings = oracle.finish()?;
//! // The first falls to the first question; within 0.25 the sum of the second stays below 1, and its ten questions are booked.
//! assert_eq!((findings[0].id, findings[0].queries), (7, Some(1)));
//! assert!(findings[1].found.is_none() && findings[1].cost.search.forward == 10);
//! # Ok(())
//! # }
//! ```

mod aim;
mod attack;
mod batch;
mod card;
mod caught;
mod dataset;
mod defended;
mod draw;
mod error;
pub mod files;
mod goal;
mod input;
mod model;
mod objective;
mod oracle;
mod outcome;
mod preprocess;
mod similarity;
mod spec;
mod surrogate;
mod target;
mod threat;
mod transform;

pub use aim::{Aim, AimKind, AimSpec};
pub use attack::{Attack, Built, Entry, documentation, parameters};
pub use batch::{Batch, Rows, take, to_host};
pub use card::{Card, Output};
pub use caught::caught;
pub use dataset::{DataCard, Dataset, Loaded, View};
pub use defended::{Defended, Detector};
pub use draw::{Draw, Noise, RowKey, stream};
pub use error::{Error, Kind, Result, nearest};
pub use goal::{Goal, Pred, Rejection, argmax, fragile, readable};
pub use input::{Access, Input, InputKind};
pub use model::{Model, Site, TapId, Trace};
pub use objective::{Climb, Objective};
pub use oracle::{Answer, Budget, Confirmed, Finding, Jacobian, Lap, Oracle, Question, Slope, Stop};
pub use outcome::{Cost, Drawn, Outcome, Passes, Place, SCHEMA, Verdict};
pub use preprocess::{Interpolation, PREPROCESSING, Preprocess, Resize};
pub use similarity::Similarity;
pub use spec::{Spec, Value};
pub use surrogate::{Smoothed, StandIn};
pub use target::{Target, Votes};
pub use threat::{Hyperplane, Near, Norm, ROUNDING, Region, ThreatModel, check_epsilon, largest_gap};
pub use transform::{Pullback, Through, Transform};
