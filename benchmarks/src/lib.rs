//! What a model is measured on: data readers, corruptions, metrics and the fixed choice of samples.
//!
//! To read in this order: [`data::open`] (what users name as data, by sample id), [`subset`] (which samples a run takes),
//! [`corruptions`] (images spoilt as published, or by draws of one's own), [`metrics`].
//!
//! **Shapes and ranges.** Rows of a data set have the shape that the model wants; pixels are f32 in `[0,1]`, channels first. Corruptions
//! work on bytes, `[height, width, channels]`, as the published programs do.
//!
//! **Errors.** Kind `Usage` for names and parameters that make no sense, kind `Load` for files that are missing, damaged or do not fit
//! the model. A sample that cannot be read fails alone and stays in the count.
//!
//! A data set of one's own is a [`Dataset`](robust_core::Dataset):
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use robust_benchmarks::subset::{Pick, choose};
//! use robust_core::{Batch, DataCard, Dataset, Input, Loaded, Result, View};
//!
//! /// Grey images of one brightness each; the bright ones are of class 1.
//! struct Greys(DataCard);
//!
//! impl Dataset for Greys {
//!     fn card(&self) -> &DataCard {
//!         &self.0
//!     }
//!
//!     fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded> {
//!         let row = view.input.len();
//!         let pixels: Vec<f32> = ids.iter().flat_map(|&id| vec![id as f32 / 99.; row]).collect();
//!         let shape: Vec<usize> = [ids.len()].iter().chain(&view.input.shape).copied().collect();
//!         let labels = ids.iter().map(|&id| u32::from(id >= 50)).collect();
//!         let batch = Batch::new(ids.to_vec(), Tensor::from_vec(pixels, shape, device)?, Some(labels))?;
//!         Ok(Loaded { batch: Some(batch), failed: vec![] })
//!     }
//!
//!     fn domain(&self) -> Option<(f32, f32)> {
//!         Some((0., 1.)) // pixels
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! // The digest names the content: a run over other data must not be continued with these.
//! let card = DataCard { name: "greys".into(), digest: "greys-1".into(), samples: 100, classes: None };
//! let greys = Greys(card);
//! let ids = choose(greys.card().samples, &Pick::Limit(10))?; // always the same ten
//! let batch = greys.load(&ids, &View::from(Input::image(1, 2, 2)), &Device::Cpu)?.batch.expect("none fails");
//! assert_eq!(batch.x.dims(), [10, 1, 2, 2]);
//! # Ok(())
//! # }
//! ```

pub mod corruptions;
pub mod data;
pub mod metrics;
pub mod subset;
