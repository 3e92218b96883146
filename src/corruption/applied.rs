//! A corruption as a run applies it: images are made here, or read from a published set, and judged.

use super::facts::Facts;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use robust_benchmarks::corruptions::{Random, Recipe};
use robust_core::{Dataset, Draw, Error, Oracle, Result, RowKey, ThreatModel, View, to_host};

/// What plans call every corruption.
pub const NAME: &str = "corruption";

/// One corruption at one severity, for one model's images.
pub struct Corruption {
    /// Names its rows, and the stream of its draws: `imagenet-c/fog:severity=3,table=224`.
    pub label: String,
    pub threat: ThreatModel,
    pub facts: Facts,
    pub images: Images,
}

/// Where corrupted images come from.
pub enum Images {
    Made(Recipe),
    /// Row `i` belongs to sample `i` of the clean data set.
    Published(Box<dyn Dataset>),
}

impl Corruption {
    /// Corrupts every sample in hand and lets the judge look at it. No question is asked of the search path.
    ///
    /// # Errors
    /// Those of the recipe; kind `Load` for published images that cannot be read.
    pub fn offer(&self, oracle: &mut Oracle) -> Result<()> {
        let ids = oracle.ids();
        let of: Vec<u32> = (0..ids.len() as u32).collect();
        match &self.images {
            Images::Made(recipe) => {
                let (draw, x) = (oracle.draw(0), oracle.x());
                let (flat, width) = to_host(x)?;
                let shape = &x.dims()[1..];
                let make = |(row, id): (&[f32], &u64)| spoil(recipe, draw.seed, draw.stream, *id, row, shape);
                let rows: Vec<Vec<f32>> = flat.par_chunks(width.max(1)).zip(&ids).map(make).collect::<Result<_>>()?;
                let spoiled = Tensor::from_vec(rows.concat(), x.dims(), x.device())?;
                oracle.offer(&spoiled, &of)
            }
            Images::Published(images) => {
                let view = View::from(oracle.threat().input.clone());
                let loaded = images.load(&ids, &view, &Device::Cpu)?;
                if let Some((id, why)) = loaded.failed.first() {
                    return Err(Error::load(&images.card().name, format!("sample {id}: {why}")));
                }
                loaded.batch.map_or(Ok(()), |batch| oracle.offer(&batch.x, &of))
            }
        }
    }
}

/// The image `row` of sample `id` as a run with this seed corrupts it; `stream` is the label's.
pub(super) fn spoil(
    recipe: &Recipe,
    seed: u64,
    stream: u64,
    id: u64,
    row: &[f32],
    shape: &[usize],
) -> Result<Vec<f32>> {
    let draw = Draw { seed, stream, turn: 0, rows: &[] };
    let mut random = Random::of(draw.noise(&RowKey::of(id)));
    recipe.apply_row(row, shape, &mut random).map_err(|e| e.within(format!("sample {id}")))
}
