//! The range of a model's inputs. Images lie in `[0,1]` by their card; of rows of numbers the card knows nothing, and the
//! data say whether they are pixels in another shape or features without bounds.

use candle_core::Tensor;
use robust_core::{Card, Dataset, Draw, Error, InputKind, Model, Result, TapId, Trace};
use robust_models::LoadedModel;
use std::sync::Arc;

/// A model with a range for its inputs.
struct Bounded {
    inner: Arc<dyn Model>,
    card: Card,
}

impl Model for Bounded {
    fn card(&self) -> &Card {
        &self.card
    }
    fn forward(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.inner.forward(x, draw)
    }
    fn exact(&self, x: &Tensor, draw: &Draw) -> Result<Tensor> {
        self.inner.exact(x, draw)
    }
    fn trace<'a>(&'a self, x: &Tensor, draw: &Draw, taps: &[TapId]) -> Result<Box<dyn Trace + 'a>> {
        self.inner.trace(x, draw, taps)
    }
}

/// Gives the inputs of a model that says nothing of their range that of the data: attacks, the check of epsilon and the
/// judge keep to it. What was decided comes back as a line for the user.
///
/// # Errors
/// Kind `Usage` where the user gave the data another range (`?domain=`) than the model's own.
pub fn settle(model: &mut LoadedModel, data: &dyn Dataset) -> Result<Option<String>> {
    let (own, theirs) = (model.card.input.domain, data.domain());
    if let (Some((a, b)), Some((c, d))) = (own, theirs.filter(|d| own.is_some_and(|own| own != *d))) {
        let why =
            format!("`{}` takes images in [{a}, {b}], the data set's values are said to lie in [{c}, {d}]", model.name);
        return Err(Error::usage(why).hint("leave `?domain=` out, and let the model scale its pixels (`?std=1/255`)"));
    }
    if own.is_some() || model.card.input.kind == InputKind::Tokens {
        return Ok(None);
    }
    let entries = model.card.input.len();
    let Some((low, high)) = theirs else {
        return Ok(Some(format!(
            "`{}` takes rows of {entries} numbers and the data set's know no bounds, so attacks have none but epsilon \
             (`?domain=lo:hi` after the data set's name sets some)",
            model.name
        )));
    };
    model.card.input.domain = theirs;
    model.model = Arc::new(Bounded { inner: Arc::clone(&model.model), card: model.card.clone() });
    Ok(Some(format!(
        "`{}` takes rows of {entries} numbers; the data set's are pixels in [{low}, {high}], and so are attacked ones (`?domain=none` \
         after the data set's name lifts the bounds of features)",
        model.name
    )))
}
