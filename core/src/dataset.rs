//! Images by sample id, whatever they are stored in.

use crate::{Batch, Input, Preprocess, Result};
use candle_core::Device;
use serde::{Deserialize, Serialize};

/// What the model wants of a data set: the shape and range of one row, and how images of other sizes get there.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub input: Input,
    /// For readers of image files whose own source names no preprocessing; `None` makes another size an error.
    pub preprocess: Option<Preprocess>,
}

impl From<Input> for View {
    fn from(input: Input) -> Self {
        Self { input, preprocess: None }
    }
}

/// What a data set says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataCard {
    pub name: String,
    /// blake3 over the content, hex.
    pub digest: String,
    pub samples: u64,
    /// Class names in label order, where the source has them.
    pub classes: Option<Vec<String>>,
}

/// The rows that could be read, and the ids that could not with the reason.
#[derive(Debug)]
pub struct Loaded {
    /// `None` when every id failed.
    pub batch: Option<Batch>,
    pub failed: Vec<(u64, String)>,
}

/// Ids are `0..len`, stable for given content; loading keeps memory proportional to the ids asked for.
pub trait Dataset: Send + Sync {
    fn card(&self) -> &DataCard;

    /// The digest that earlier versions gave this source, where they made it from names and sizes alone: it names a run
    /// over these files, and does not tell whether their content is the same.
    fn formerly(&self) -> Option<&str> {
        None
    }

    /// Rows in the order of `ids`, f32 in the view's range, with labels. A sample that cannot be decoded or leaves the
    /// range is listed in `failed`; a data set that does not fit the view at all is an error.
    fn load(&self, ids: &[u64], view: &View, device: &Device) -> Result<Loaded>;

    /// The closed range of every value, where the data say one: pixels lie in `[0,1]` in whatever shape a model takes
    /// them. `None` for features, which know no bounds.
    fn domain(&self) -> Option<(f32, f32)> {
        None
    }

    /// The labels of these samples (ids below the number of samples), where they are known without reading the samples.
    fn labels(&self, _ids: &[u64]) -> Option<Vec<u32>> {
        None
    }

    /// What was met while samples were loaded so far and the user should know, a line each: values moved into the range,
    /// transparent images laid over a background.
    fn remarks(&self) -> Vec<String> {
        vec![]
    }
}
