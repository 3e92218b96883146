//! Hugging Face folders as `save_pretrained` of transformers writes them: `config.json` says what to build,
//! `preprocessor_config.json` what images it wants, and the weights keep the names of their home.

use super::preprocess::Images;
use super::weights;
use crate::bytes;
use crate::families::body::{Body, Family, Made};
use crate::families::{TRANSFORMERS, model_types};
use crate::files::folder::Folder;
use crate::layers::stack::{Stack, Usual};
use crate::options::{EXPORT, Options};
use crate::settings::Config;
use crate::weights::StateDict;
use robust_core::{Error, Result, nearest};
use robust_engine::Builder;
use std::path::Path;

/// Builds the network of a folder.
///
/// # Errors
/// Kind `Load` for settings and weights that are missing, damaged, not supported or do not belong together; kind `Usage`
/// for options that do not fit.
pub(crate) fn read(path: &Path, options: &Options) -> Result<Folder> {
    let config = Config::read(&path.join("config.json"))?;
    let images = images(path)?;
    let (family, kind) = family(&config)?;
    let (mut dict, notes) = weights::read(path, &config)?;
    let Images { size, preprocess, mean, std, notes: said } = images;
    notes.into_iter().chain(said).for_each(|n| dict.note(n));
    if mean.is_none() && options.mean.is_none() && options.std.is_none() {
        dict.note("there is no preprocessor_config.json");
    }
    let shape = input(&config, options, size)?;
    let mut options = Options { input: Some(shape), ..options.clone() };
    if options.mean.is_none() && options.std.is_none() {
        (options.mean, options.std) = (mean, std);
    }
    // Images of another size than the folder's are prepared as the user says.
    let preprocess = if size == Some([shape[1], shape[2]]) { preprocess } else { None };
    let mut net = Builder::new();
    let built = build(family, config, &mut dict, &mut net, &options);
    let place = || format!("model_type {kind}");
    let made = built.map_err(|e| bytes::blame(dict.cause(e)).within(place()))?;
    dict.finish().map_err(|e| Error { hint: Some(HINT.into()), ..e }.within(place()))?;
    let (output, embeds) = match made {
        Made::Logits(x) => (x, false),
        Made::Embedding(x) => (x, true),
    };
    let (notes, ignored) = (dict.notes().to_vec(), dict.ignored().to_vec());
    Ok(Folder { network: net.finish(output)?, family: kind.to_string(), embeds, preprocess, notes, ignored })
}

const HINT: &str =
    "the weights are not those config.json describes: download the whole folder again, or export the model to ONNX";

fn build(family: &Family, config: Config, dict: &mut StateDict, net: &mut Builder, options: &Options) -> Result<Made> {
    let prefix = family.prefixes.iter().find(|p| dict.any(p)).map_or(String::new(), |p| p.to_string());
    let classifies = classifies(&config, dict)?;
    let mut stack = Stack { dict, net };
    let shape = options.input.unwrap_or([3, 224, 224]);
    let input = stack.input(options, shape, Usual::Raw)?;
    let size = [shape[1], shape[2]];
    let pool = options.pool.clone();
    let mut body = Body { stack, config, input, size, prefix, classifies, pool, pooled: false };
    let made = (family.build)(&mut body)?;
    match body.pool {
        Some(pool) if !body.pooled => {
            Err(Error::usage(format!("`pool={pool}` changes nothing: this model has one way to its output")))
        }
        _ => Ok(made),
    }
}

fn images(path: &Path) -> Result<Images> {
    let file = path.join("preprocessor_config.json");
    if file.is_file() { Images::of(&Config::read(&file)?) } else { Ok(Images::default()) }
}

fn family(config: &Config) -> Result<(&'static Family, &'static str)> {
    let Some(kind) = config.text("model_type") else {
        return Err(Error::load("config.json", "it has no `model_type`, so it is not one of transformers'")
            .hint("name the weights file itself and its architecture: `FILE.safetensors?arch=NAME`"));
    };
    let all = || TRANSFORMERS.iter().flat_map(|f| f.iter());
    let found = all().find_map(|f| f.types.iter().find(|t| **t == kind).map(|t| (f, *t)));
    found.ok_or_else(|| {
        let close = nearest(kind, model_types()).map(|n| format!("did you mean `{n}`? "));
        let known = model_types().collect::<Vec<_>>().join(", ");
        Error::load("`model_type` in config.json", format!("`{kind}` is not known here")).hint(format!(
            "{}export the model to ONNX: {}; known: {known}",
            close.unwrap_or_default(),
            EXPORT
        ))
    })
}

/// Channels, height and width: what the user says, else the processor, else the settings.
fn input(config: &Config, options: &Options, size: Option<[usize; 2]>) -> Result<[usize; 3]> {
    if let Some(said) = options.input {
        return Ok(said);
    }
    let vision = config.vision();
    let channels = vision.size_or("num_channels", 3)?;
    let [h, w] = match size {
        Some(size) => size,
        None if vision.has("image_size") => vision.pair("image_size")?,
        None => [224; 2],
    };
    Ok([channels, h, w])
}

/// Whether the folder's architecture has a classifier on top.
fn classifies(config: &Config, dict: &StateDict) -> Result<bool> {
    let Some(name) = config.first_text("architectures") else { return Ok(dict.any("classifier.")) };
    match name {
        _ if name.ends_with("ForImageClassification") || name == "DeiTForImageClassificationWithTeacher" => Ok(true),
        _ if ["Model", "ForPreTraining", "ForMaskedImageModeling", "WithProjection"].iter().any(|e| name.ends_with(e)) => Ok(false),
        _ => Err(Error::load("`architectures` in config.json", format!("`{name}` is neither a classifier nor an encoder known here"))
            .hint("classifiers (...ForImageClassification) and encoders (...Model, ...ForPreTraining) are supported; export others to ONNX")),
    }
}
