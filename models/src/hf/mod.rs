//! Hugging Face folders as `save_pretrained` of transformers writes them: `config.json` says what to build,
//! `preprocessor_config.json` what images it wants, and the weights keep the names of their home. One file a family.

pub(crate) mod cache;
mod clip;
mod config;
mod convnext;
mod hiera;
mod mobile;
pub(crate) mod open_clip;
mod preprocess;
pub(crate) mod prompts;
mod resnet;
mod swin;
mod text;
mod timm_tower;
pub(crate) mod tokenizer;
pub(crate) mod tokens;
mod vit;
pub(crate) mod weights;

use crate::arch::stack::{Stack, Usual};
use crate::safetensors::StateDict;
use crate::{Options, files};
pub(crate) use cache::{cached, label, with_words};
use config::Config;
use preprocess::Images;
use robust_core::{Error, Preprocess, Result, nearest};
use robust_engine::{Builder, Network, NodeId};
use std::path::Path;
pub use text::{Text, TextTower};
pub(crate) use tokens::{made, resize_grid, scale, unit};

/// Folders of these `model_type`s are built by this function.
pub(crate) struct Family {
    pub types: &'static [&'static str],
    /// What the body's names start with where a head lies beside it.
    pub prefixes: &'static [&'static str],
    pub build: fn(&mut Body) -> Result<Made>,
}

static FAMILIES: &[&[Family]] = &[
    vit::FAMILIES,
    clip::FAMILIES,
    swin::FAMILIES,
    hiera::FAMILIES,
    convnext::FAMILIES,
    resnet::FAMILIES,
    mobile::FAMILIES,
];

/// The `model_type`s that can be built.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|f| f.iter()).flat_map(|f| f.types.iter().copied())
}

/// The output of a body.
pub(crate) enum Made {
    Logits(NodeId),
    Embedding(NodeId),
}

/// How tokens become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    Class,
    Mean,
}

/// What a family builds with.
pub(crate) struct Body<'a> {
    pub stack: Stack<'a>,
    pub config: Config,
    pub input: NodeId,
    /// Height and width of the input.
    pub size: [usize; 2],
    pub prefix: String,
    /// Whether `architectures` names a classifier.
    pub classifies: bool,
    /// What the user says of pooling, and whether it was asked for.
    pool: Option<String>,
    pooled: bool,
}

impl Body<'_> {
    pub fn pool(&mut self) -> Result<Pool> {
        self.pooled = true;
        match self.pool.as_deref() {
            None | Some("cls") => Ok(Pool::Class),
            Some("mean") => Ok(Pool::Mean),
            Some(other) => Err(Error::usage(format!("`pool={other}` is not known")).hint("`cls` and `mean` are")),
        }
    }

    /// The last linear layer; the weights say how many classes there are, the settings where they are missing.
    pub fn classifier(&mut self, x: NodeId, name: &str) -> Result<Made> {
        let found = self.stack.dict.dims(&format!("{name}.weight")).and_then(|d| d.first()).copied();
        let said = self.config.entries("id2label");
        let classes = found.or(said).unwrap_or(2);
        if let (Some(found), Some(said)) = (found, said.filter(|n| *n != classes)) {
            self.stack.dict.note(format!("the weights have {found} classes, config.json names {said}"));
        }
        self.stack.linear(x, name, classes).map(Made::Logits)
    }

    /// Sets the tensors of a text tower aside.
    pub fn without_text(&mut self) {
        for prefix in ["text_model.", "text_projection.", "logit_scale", "logit_bias"] {
            self.stack.dict.ignore(prefix, "the text tower makes heads (`robust probe --method text`)");
        }
    }

    pub fn no_head(&self, family: &str) -> Result<()> {
        match self.classifies {
            true => Err(Error::load(
                "`architectures` in config.json",
                format!("{family} with a classifier is not supported yet"),
            )),
            false => Ok(()),
        }
    }
}

/// A folder's network and what was decided on the way to it.
pub(crate) struct Folder {
    pub network: Network,
    pub family: String,
    pub embeds: bool,
    pub preprocess: Option<Preprocess>,
    pub notes: Vec<String>,
    pub ignored: Vec<String>,
}

/// Whether a folder is one of these, or one of OpenCLIP's.
pub fn is_folder(path: &Path) -> bool {
    path.join("config.json").is_file() || open_clip::is_folder(path)
}

/// Whether a folder has settings that say what transformers would build.
pub(crate) fn is_transformers(path: &Path) -> bool {
    Config::read(&path.join("config.json")).is_ok_and(|c| c.has("model_type"))
}

/// The names of the classes that a settings file lists, where it lists one for each.
pub(crate) fn class_names(settings: &Path) -> Option<Vec<String>> {
    Config::read(settings).ok()?.names("id2label")
}

/// Refuses parameters that a folder's settings decide.
///
/// # Errors
/// Kind `Usage`.
pub(crate) fn settled(options: &Options) -> Result<()> {
    let Options { arch, strip, key, variant, activation, heads, .. } = options;
    match [arch, strip, key, variant, activation, heads].iter().any(|o| o.is_some()) {
        true => Err(Error::usage(
            "a folder's config.json says what it is: of the parameters, `mean`, `std`, `input`, `pool` and the preprocessing apply",
        )),
        false => Ok(()),
    }
}

/// Builds the network of a folder.
///
/// # Errors
/// Kind `Load` for settings and weights that are missing, damaged, not supported or do not belong together; kind `Usage`
/// for options that do not fit.
pub(crate) fn read(path: &Path, options: &Options) -> Result<Folder> {
    if open_clip::is_folder(path) {
        return open_clip::read(path, options);
    }
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
    let made = built.map_err(|e| files::blame(dict.cause(e)).within(place()))?;
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
    let all = || FAMILIES.iter().flat_map(|f| f.iter());
    let found = all().find_map(|f| f.types.iter().find(|t| **t == kind).map(|t| (f, *t)));
    found.ok_or_else(|| {
        let close = nearest(kind, model_types()).map(|n| format!("did you mean `{n}`? "));
        let known = model_types().collect::<Vec<_>>().join(", ");
        Error::load("`model_type` in config.json", format!("`{kind}` is not known here")).hint(format!(
            "{}export the model to ONNX: {}; known: {known}",
            close.unwrap_or_default(),
            crate::EXPORT
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
