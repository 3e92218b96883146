//! The clean samples of a batch as the judge sees them, before anything attacks them.

use candle_core::{DType, Tensor};
use robust_core::{
    Batch, Draw, Error, Goal, Kind, Model, Pred, Rejection, Result, RowKey, Target, fragile, stream, to_host,
};

/// What the judge says of one clean sample.
#[derive(Debug, Clone)]
pub struct Clean {
    pub id: u64,
    /// `None` where no labels are asked for.
    pub label: Option<u32>,
    /// blake3 of the row's little-endian f32 bytes, hex.
    pub digest: String,
    /// `None` when the scores are not numbers, see [`robust_core::readable`].
    pub pred: Option<Pred>,
    pub fragile: bool,
    /// Scores, or the embedding.
    pub scores: Vec<f32>,
    /// Why the sample cannot be judged.
    pub fault: Option<String>,
    /// For goals without labels.
    pub anchor: Option<Anchor>,
}

impl Clean {
    pub(crate) fn correct(&self) -> bool {
        self.fault.is_none() && self.pred.is_some_and(|p| p.margin > 0.)
    }

    /// Forwards it took to judge it clean: another sample's embedding is one more.
    pub(crate) fn passes(&self) -> u64 {
        1 + u64::from(self.anchor.as_ref().is_some_and(|a| a.id().is_some()))
    }
}

/// What the embedding of a sample under attack is held against.
#[derive(Debug, Clone, PartialEq)]
pub enum Anchor {
    /// The sample's own clean embedding.
    Own,
    /// Another sample's clean embedding.
    Other { id: u64, embedding: Vec<f32> },
}

impl Anchor {
    /// The embedding to compare with; `own` is the sample's clean one.
    pub fn embedding(&self, own: &[f32]) -> Vec<f32> {
        match self {
            Anchor::Own => own.to_vec(),
            Anchor::Other { embedding, .. } => embedding.clone(),
        }
    }

    /// The other sample.
    pub fn id(&self) -> Option<u64> {
        match self {
            Anchor::Own => None,
            Anchor::Other { id, .. } => Some(*id),
        }
    }
}

/// blake3 of a row's little-endian f32 bytes, hex.
pub fn row_digest(row: &[f32]) -> String {
    let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex().to_string()
}

/// What names the rows of these samples to a model's randomness: the first lane, the first draw.
pub fn row_keys(ids: &[u64]) -> Vec<RowKey> {
    ids.iter().copied().map(RowKey::of).collect()
}

/// What the model answers the samples `ids` whose images are `x`, by its exact path: `[n, width]`, f32.
///
/// # Errors
/// Kind `Load` when the answer has another shape than the card says.
pub fn exact(model: &dyn Model, ids: &[u64], x: &Tensor, seed: u64) -> Result<Tensor> {
    let (card, keys) = (model.card(), row_keys(ids));
    let draw = Draw { seed, stream: stream("clean"), turn: 0, rows: &keys };
    let z = model.exact(x, &draw)?.to_dtype(DType::F32)?;
    if z.dims() != [ids.len(), card.output.width()] {
        let (name, dims, width) = (&card.name, z.dims(), card.output.width());
        return Err(Error::load(format!("model `{name}`"), format!("it answered {dims:?}, not [n, {width}]")));
    }
    Ok(z)
}

/// One exact forward for each row of a labelled batch.
///
/// # Errors
/// Kind `Load` when the rows do not fit the model or a label is not one of its classes.
pub fn judge_clean(target: &Target, batch: &Batch, seed: u64) -> Result<Vec<Clean>> {
    let card = target.deployed.card();
    check_fit(target, batch)?;
    let Some(k) = card.output.scored() else {
        return Err(Error::new(Kind::Load, format!("model `{}` gives embeddings, not class scores", card.name)));
    };
    if k < 2 {
        let why = format!("model `{}` scores {k} class: every answer would be right", card.name);
        return Err(Error::new(Kind::Load, why).hint("give the scores of two classes: of one logit z, 0 and z"));
    }
    let labels = batch.labels.as_ref().ok_or_else(|| Error::load("data set", "it has no labels"))?;
    let goal = card.output.guard(Goal::Untargeted(labels.clone()), Rejection::Unanswered);
    goal.check(k)?;
    let scores = exact(target.deployed.as_ref(), &batch.ids, &batch.x, seed)?;
    let ((scores, _), (pixels, row)) = (to_host(&scores)?, to_host(&batch.x)?);
    let rows = scores.chunks(card.output.width()).zip(pixels.chunks(row.max(1)));
    Ok(rows
        .enumerate()
        .map(|(i, (scores, x))| {
            let pred = goal.judge(i, scores);
            let fault = match (out_of_domain(x, card.input.domain), pred) {
                (Some(why), _) => Some(why),
                (None, None) => Some("the model gave NaN or infinite scores for the clean sample".to_string()),
                (None, Some(_)) => None,
            };
            let (id, label, digest) = (batch.ids[i], Some(labels[i]), row_digest(x));
            Clean {
                id,
                label,
                digest,
                pred,
                fragile: pred.is_some_and(|p| fragile(p.margin, goal.scale(i, scores))),
                scores: scores.to_vec(),
                fault,
                anchor: None,
            }
        })
        .collect())
}

/// Whether the rows of a batch are what the model takes.
///
/// # Errors
/// Kind `Load` where they are not.
pub fn check_fit(target: &Target, batch: &Batch) -> Result<()> {
    let card = target.deployed.card();
    let (want, got) = (&card.input.shape, &batch.x.dims()[1..]);
    if want != got || batch.x.dtype() != DType::F32 {
        return Err(Error::new(
            Kind::Load,
            format!("model `{}` wants rows of {want:?}, the data set has {got:?}", card.name),
        )
        .hint("choose the data set the model was trained for"));
    }
    Ok(())
}

pub(crate) fn out_of_domain(x: &[f32], domain: Option<(f32, f32)>) -> Option<String> {
    let (low, high) = domain.unwrap_or((f32::MIN, f32::MAX));
    let bad = x.iter().find(|v| !(**v >= low && **v <= high))?;
    Some(format!("the clean sample holds {bad}, outside [{low}, {high}]"))
}

/// All rows of several tensors as one `[n, ...]` tensor on the CPU.
pub fn stack(rows: &[Vec<f32>], row: &[usize]) -> Result<Tensor> {
    let dims: Vec<usize> = std::iter::once(rows.len()).chain(row.iter().copied()).collect();
    Ok(Tensor::from_vec(rows.concat(), dims, &candle_core::Device::Cpu)?)
}
