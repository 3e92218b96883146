//! What `preprocessor_config.json` says becomes a model's preprocessing, input size and normalisation.

use crate::settings::Config;
use robust_core::{Error, Interpolation, Preprocess, Resize, Result};

/// What a folder says of the images it wants.
#[derive(Debug, Default)]
pub struct Images {
    /// Height and width.
    pub size: Option<[usize; 2]>,
    pub preprocess: Option<Preprocess>,
    pub mean: Option<Vec<f64>>,
    pub std: Option<Vec<f64>>,
    pub notes: Vec<String>,
}

/// ConvNeXt's processor crops below this side and squashes from it on.
const CROPS_BELOW: usize = 384;

impl Images {
    /// # Errors
    /// Kind `Load` for values that are none or ask for what is not done here.
    pub fn of(c: &Config) -> Result<Self> {
        let kind = c.text("image_processor_type").or_else(|| c.text("feature_extractor_type")).unwrap_or_default();
        let mut images = Self::default();
        images.sizes(c, kind.starts_with("ConvNext"))?;
        images.values(c, kind.starts_with("EfficientNet"))?;
        Ok(images)
    }

    fn sizes(&mut self, c: &Config, crops_by_share: bool) -> Result<()> {
        let size = side(c, "size")?;
        let crop = if c.flag_or("do_center_crop", c.has("crop_size"))? { side(c, "crop_size")? } else { None };
        let mut resize = if c.flag_or("do_resize", true)? { size } else { None };
        let mut crop = crop.map(|s| match s {
            Side::Shortest(n) => [n; 2],
            Side::Exact(h, w) => [h, w],
        });
        if crops_by_share && let Some(Side::Shortest(n)) = resize {
            let share = c.float_or("crop_pct", 224. / 256.)?;
            if n < CROPS_BELOW && share > 0. && share <= 1. {
                resize = Some(Side::Shortest((n as f64 / share) as usize));
                crop = Some([n; 2]);
            } else {
                resize = Some(Side::Exact(n, n));
            }
        }
        self.size = match (crop, resize) {
            (Some(crop), _) => Some(crop),
            (None, Some(Side::Exact(h, w))) => Some([h, w]),
            // Without a crop only square images would become this size.
            (None, Some(Side::Shortest(n))) => {
                self.notes.push(format!("the folder crops nothing: images are cut to {n}x{n} in their middle"));
                crop = Some([n; 2]);
                crop
            }
            (None, None) => None,
        };
        let interpolation = match c.count_or("resample", 2)? {
            1 => Interpolation::Lanczos,
            2 => Interpolation::Bilinear,
            3 => Interpolation::Bicubic,
            4 => Interpolation::Box,
            other => {
                return Err(Error::load(
                    "`resample` in preprocessor_config.json",
                    format!("{other} is not known here"),
                )
                .hint("1, 2, 3 and 4 (Lanczos, bilinear, bicubic, box) are"));
            }
        };
        let resize = resize.map(|s| match s {
            Side::Shortest(n) => Resize::Shortest(n),
            Side::Exact(h, w) => Resize::Exact(h, w),
        });
        let crop = crop.map(|[h, w]| (h, w));
        if resize.is_some() || crop.is_some() {
            self.preprocess = Some(Preprocess { resize, interpolation, crop });
        }
        Ok(())
    }

    /// Pixels arrive here in `[0,1]` where the processor has bytes: `bytes * factor` is `pixels * 255 factor`.
    fn values(&mut self, c: &Config, twice: bool) -> Result<()> {
        let scale = if c.flag_or("do_rescale", true)? { 255. * c.float_or("rescale_factor", 1. / 255.)? } else { 255. };
        let scale = if (scale - 1.).abs() < 1e-9 { 1. } else { scale };
        let shift = if c.flag_or("rescale_offset", false)? { 1. } else { 0. };
        let normalises = c.flag_or("do_normalize", c.has("image_mean") || c.has("image_std"))?;
        let list = |key, default: f64| Ok::<_, Error>(c.floats(key)?.unwrap_or(vec![default]));
        let (mut mean, mut std) =
            if normalises { (list("image_mean", 0.)?, list("image_std", 1.)?) } else { (vec![0.], vec![1.]) };
        if let Some(bad) = std.iter().find(|s| **s <= 0.) {
            return Err(Error::load("`image_std` in preprocessor_config.json", format!("{bad} is not positive")));
        }
        if scale <= 0. {
            return Err(Error::load(
                "`rescale_factor` in preprocessor_config.json",
                format!("{scale} / 255 is not positive"),
            ));
        }
        mean.iter_mut().for_each(|m| *m = (*m + shift) / scale);
        std.iter_mut().for_each(|s| *s /= scale);
        if twice && c.flag_or("include_top", true)? {
            // EfficientNet's processor divides by the deviation a second time for classifiers.
            let own: Vec<f64> = list("image_std", 1.)?;
            if own.len() == std.len() {
                std.iter_mut().zip(own).for_each(|(s, o)| *s *= o);
            }
            self.notes.push("pixels are divided by the deviation twice, as EfficientNet's processor does".into());
        }
        (self.mean, self.std) = (Some(mean), Some(std));
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Side {
    Shortest(usize),
    Exact(usize, usize),
}

/// `224`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`.
fn side(c: &Config, key: &str) -> Result<Option<Side>> {
    match c.section(key) {
        Some(s) if s.has("shortest_edge") => s.size("shortest_edge").map(|n| Some(Side::Shortest(n))),
        Some(s) => Ok(Some(Side::Exact(s.size("height")?, s.size("width")?))),
        None if c.has(key) => {
            // A plain number squashes, except where a crop follows.
            let n = c.size(key)?;
            let crops = key == "size" && c.flag_or("do_center_crop", false)?;
            Ok(Some(if crops { Side::Shortest(n) } else { Side::Exact(n, n) }))
        }
        None => Ok(None),
    }
}
