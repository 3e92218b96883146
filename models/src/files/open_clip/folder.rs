//! Folders of OpenCLIP as its hub tools write them, `open_clip_config.json` beside the weights. Image towers are the named
//! architectures; both towers are told the same activation, but of timm's the name tells.

use super::settings::{CONFIG, part, settings, strange, tensors};
use super::timm_tower::TimmTower;
use crate::bytes;
use crate::families::clip::openai::{MEAN, STD};
use crate::families::{self, Built};
use crate::files::folder::Folder;
use crate::options::Options;
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Interpolation, Preprocess, Resize, Result};
use std::path::Path;

/// Settings that are used, or that the tensors tell. Others change what is computed and are refused.
const VISION: [&str; 7] = ["image_size", "patch_size", "layers", "width", "head_width", "mlp_ratio", "ls_init_value"];
/// Heads of an image tower are this wide in all of them.
const HEAD: usize = 64;

/// The image tower of a folder.
pub(crate) fn read(path: &Path, options: &Options) -> Result<Folder> {
    let (model, images) = settings(path)?;
    if let Some(pool) = &options.pool {
        return Err(Error::usage(format!("`pool={pool}` changes nothing: this model has one way to its output")));
    }
    let (vision, wanted) = (part(&model, "vision_cfg")?, model.size("embed_dim")?);
    let timm = TimmTower::of(&vision)?;
    if timm.is_none() {
        vision.only(&VISION, "such image towers are not supported here: export it to ONNX")?;
    }
    let images = images.map_or(Ok(Images::default()), |c| Images::of(&c))?;
    let size = match images.size {
        Some(size) => size,
        None => vision.pair("image_size")?,
    };
    let mut said = Options { input: Some(options.input.unwrap_or([3, size[0], size[1]])), ..options.clone() };
    // A list of layers is a ResNet, whose activation and heads are given.
    if let Some(tower) = &timm {
        tower.tell(&mut said);
    } else if !vision.is_list("layers") {
        said.activation = Some(if model.flag_or("quick_gelu", false)? { "quick_gelu" } else { "gelu" }.into());
        let heads = vision.size_or("width", 768)? / vision.size_or("head_width", HEAD)?;
        said.heads = Some(heads.to_string());
    }
    // Images of another size than the folder's are prepared as the user says.
    let preprocess = match options.preprocess.is_none() && said.input == Some([3, size[0], size[1]]) {
        true => Some(images.preprocess(size)?),
        false => None,
    };
    if options.mean.is_none() && options.std.is_none() {
        // Nothing said is CLIP's.
        (said.mean, said.std) = (images.mean.or(Some(MEAN.into())), images.std.or(Some(STD.into())));
    }
    let (dict, name) = tensors(path)?;
    timm.map_or_else(|| whole(&dict, &vision), |tower| tower.fits(&dict))?;
    let built = families::build(&dict, &said).map_err(|e| bytes::blame(e).within(name))?;
    let Built { network, family, mut notes, ignored, embeds } = built;
    let found = network.output_row();
    if found != [wanted] {
        let why = format!("the image tower gives {found:?} entries, `embed_dim` in {CONFIG} says {wanted}");
        return Err(Error::load(name, why));
    }
    notes.insert(0, format!("a folder of OpenCLIP: {CONFIG} and {name}"));
    Ok(Folder { network, family: family.into(), embeds, preprocess, notes, ignored })
}

/// The architectures count layers in the file: one that ends early would be another network.
fn whole(dict: &StateDict, vision: &Config) -> Result<()> {
    let (found, said) = (dict.count(|i| format!("visual.transformer.resblocks.{i}")), vision.size_or("layers", 12));
    match said {
        Ok(said) if found != said => Err(Error::load(
            "the weights",
            format!("they have {found} blocks of the image tower, {CONFIG} says {said}"),
        )),
        _ => Ok(()),
    }
}

/// What `preprocess_cfg` says.
#[derive(Default)]
struct Images {
    size: Option<[usize; 2]>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    bilinear: bool,
    squashes: bool,
}

impl Images {
    fn of(c: &Config) -> Result<Self> {
        let mode = c.text("resize_mode").unwrap_or("shortest");
        if !["shortest", "squash"].contains(&mode) {
            return Err(strange("resize_mode", format!("`{mode}` is not supported here"))
                .hint("say how images become the input: `?resize=..&crop=..`, in a copy of the settings without it"));
        }
        if let Some(other) = c.text("mode").filter(|m| *m != "RGB") {
            return Err(strange("mode", format!("`{other}` is not supported here")));
        }
        let std = c.floats("std")?;
        if let Some(bad) = std.iter().flatten().find(|s| **s <= 0.) {
            return Err(strange("std", format!("{bad} is not positive")));
        }
        Ok(Self {
            size: if c.has("size") { Some(c.pair("size")?) } else { None },
            mean: c.floats("mean")?,
            std,
            bilinear: c.text("interpolation") == Some("bilinear"),
            squashes: mode == "squash",
        })
    }

    fn preprocess(&self, [h, w]: [usize; 2]) -> Result<Preprocess> {
        let interpolation = if self.bilinear { Interpolation::Bilinear } else { Interpolation::Bicubic };
        match self.squashes {
            true => Ok(Preprocess { resize: Some(Resize::Exact(h, w)), interpolation, crop: None }),
            false if h == w => Ok(Preprocess { resize: Some(Resize::Shortest(h)), interpolation, crop: Some((h, w)) }),
            // OpenCLIP makes an image cover both sides there, then crops.
            false => Err(Error::load(
                format!("`resize_mode` in {CONFIG}"),
                format!("`shortest` with a size that is not a square ({h}x{w}) is not supported here"),
            )
            .hint(format!("say how images become the input: `?resize={h}x{w}` squashes them"))),
        }
    }
}
