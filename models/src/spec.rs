//! What users type for a model: `[name=]SOURCE[?key=value&key=value]`; of several as one, `[name=]ensemble:SOURCE+SOURCE`.

use crate::safetensors::StateDict;
use crate::statistics::Statistics;
use crate::{Head, Options, arch, builtin, ensemble, facts, files, hf, onnx, output, pth};
use robust_core::{
    Card, Error, Input, InputKind, Kind, Model, Norm, Output, PREPROCESSING, Preprocess, Result, Value, nearest,
};
use robust_engine::{Network, NetworkModel, Op};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model ready to be attacked.
pub struct LoadedModel {
    /// The label in reports: `name=` if given, else the file's stem or the built-in's name.
    pub name: String,
    /// `onnx`, `safetensors`, `pth`, `huggingface`, `builtin` or `ensemble`.
    pub format: &'static str,
    /// Name of the architecture; `None` where the file brings its own graph.
    pub family: Option<String>,
    pub card: Card,
    /// What the model computes, where it is a network of ours: a model elsewhere shows none.
    pub network: Option<Arc<Network>>,
    pub model: Arc<dyn Model>,
    /// Choices the loader made that a user should know of.
    pub notes: Vec<String>,
    /// Tensors of the file that are no part of the function.
    pub ignored: Vec<String>,
}

impl LoadedModel {
    /// The network behind the model.
    ///
    /// # Errors
    /// Kind `Usage` for a model that shows none.
    pub fn graph(&self) -> Result<&Arc<Network>> {
        self.network.as_ref().ok_or_else(|| {
            Error::usage(format!("model `{}` does not show the network that it computes", self.name))
                .hint("name a file of weights or an ONNX file instead")
        })
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel").field("card", &self.card).field("notes", &self.notes).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Onnx(PathBuf),
    Safetensors(PathBuf),
    Pth(PathBuf),
    Folder(PathBuf),
    Builtin(String),
}

const KEYS: &[&str] = &[
    "arch",
    "key",
    "prefix",
    "strip",
    "mean",
    "std",
    "input",
    "variant",
    "heads",
    "layers",
    "activation",
    "resize",
    "crop",
    "pool",
    "output",
    "layout",
    "head",
    "interpolation",
];
const SCHEMES: &[&str] = &["builtin", "ensemble", "hf", "onnx", "torch"];
const FORMATS: &str = "a folder with a config.json or open_clip_config.json, a .onnx, .onnx.gz, .safetensors, .pth, .pt or .bin file, onnx:PATH, torch:PATH, hf:ORG/NAME, builtin:NAME, ensemble:A+B";
/// torch.save has no ending of its own; `.pth.tar` is no tar archive.
const TORCH: &[&str] = &[".pth", ".pt", ".pt2", ".bin", ".ckpt", ".pkl", ".pth.tar", ".pt.tar"];

/// Loads the model a spec names.
///
/// # Errors
/// Kind `Usage` for a spec that makes no sense or asks for what is not built yet, kind `Load` for files that are missing,
/// damaged, unsupported or do not fit; messages name the file and what in it.
pub fn load(spec: &str) -> Result<LoadedModel> {
    if let (name, Some(members)) = ensemble_of(spec) {
        return ensemble::open(name, members);
    }
    let Parsed { name, source, options } = parse(spec)?;
    let Read { format, built, threat, default_name, preprocess } = read(&source, &options)?;
    let name = name.unwrap_or(default_name);
    let Parts { mut network, family, mut notes, ignored, mut embeds, settled } = built;
    notes.extend(facts::doubled(&network));
    if let Some(what) = options.output.as_deref().filter(|_| !settled) {
        network = output::declared(network, what, &mut notes)?;
        embeds = true;
    }
    if let Some(path) = &options.head {
        let (head, unsure) = Head::read_for(path, &robust_engine::digest(&network))?;
        notes.extend(unsure);
        let (mut net, out) = network.reopen();
        let out = head.lay(&mut net, out).map_err(|e| e.within(path.display()))?;
        network = net.finish(out)?;
        embeds = false;
    }
    if !embeds {
        network = output::two_classes(network, &mut notes)?;
    }
    let network = Arc::new(network);
    let card =
        Card { preprocess: options.preprocess.or(preprocess), ..describe(&network, name.clone(), threat, embeds)? };
    let model = NetworkModel::with_card(Arc::clone(&network), card)?;
    let card = model.card().clone();
    let network = Some(network);
    Ok(LoadedModel { name, format, family, card, network, model: Arc::new(model), notes, ignored })
}

/// A network and what was decided on the way to it.
struct Parts {
    network: Network,
    family: Option<String>,
    notes: Vec<String>,
    ignored: Vec<String>,
    /// Whether the output is an embedding, not scores of classes.
    embeds: bool,
    /// Whether `?output=` is answered already.
    settled: bool,
}

struct Read {
    format: &'static str,
    built: Parts,
    threat: Option<(Norm, f64)>,
    default_name: String,
    /// What the file says of images of other sizes.
    preprocess: Option<Preprocess>,
}

impl Read {
    fn new(format: &'static str, built: Parts, default_name: String) -> Self {
        Self { format, built, threat: None, default_name, preprocess: None }
    }
}

fn read(source: &Source, options: &Options) -> Result<Read> {
    if options.layout.is_some() && !matches!(source, Source::Onnx(_)) {
        return Err(Error::usage("`layout` is for ONNX files: other models take images channels first"));
    }
    match source {
        Source::Builtin(which) => {
            let Options { preprocess, head, output, .. } = options.clone();
            if *options != (Options { preprocess, head, output, ..Options::default() }) {
                return Err(Error::usage(format!(
                    "builtin:{which} takes no parameters but `head`, `output` and those of preprocessing"
                )));
            }
            let found = builtin::find(which)?;
            let family = Some(found.arch().to_string());
            let built = Parts {
                network: found.network()?,
                family,
                notes: vec![],
                ignored: vec![],
                embeds: false,
                settled: false,
            };
            Ok(Read { threat: Some(found.default_threat), ..Read::new("builtin", built, which.clone()) })
        }
        Source::Onnx(path) => {
            let Options { arch, strip, key, variant, activation, heads, layers, pool, .. } = options;
            if [arch, strip, key, variant, activation, heads, layers, pool].iter().any(|o| o.is_some()) {
                return Err(Error::usage(
                    "an ONNX file brings its own graph: of the parameters, `mean`, `std`, `input`, `layout`, `output`, `head` \
                     and the preprocessing apply",
                ));
            }
            let onnx::Imported { network, notes, embeds, settled } =
                onnx::open(path, options).map_err(|e| e.within(path.display()))?;
            let built = Parts { network, family: None, notes, ignored: vec![], embeds, settled };
            Ok(Read::new("onnx", built, stem(path)))
        }
        Source::Folder(path) => {
            hf::settled(options)?;
            let hf::Folder { network, family, embeds, preprocess, notes, ignored } =
                hf::read(path, options).map_err(|e| e.within(path.display()))?;
            let built = Parts { network, family: Some(family), notes, ignored, embeds, settled: false };
            Ok(Read { preprocess, ..Read::new("huggingface", built, hf::label(path)) })
        }
        Source::Safetensors(path) | Source::Pth(path) => {
            let bytes = files::read(path)?;
            let build = || {
                let (dict, notes) = tensors(source, &bytes, options)?;
                weights(&dict, options, notes)
            };
            let built = build().map_err(|e| files::blame(e).within(path.display()))?;
            Ok(Read::new(if matches!(source, Source::Pth(_)) { "pth" } else { "safetensors" }, built, stem(path)))
        }
    }
}

/// The tensors of a file without settings, and what was decided on the way to them.
pub(crate) fn tensors(source: &Source, bytes: &[u8], options: &Options) -> Result<(StateDict, Vec<String>)> {
    if matches!(source, Source::Pth(_)) {
        let read = pth::read(bytes, options.key.as_deref())?;
        return Ok((StateDict::from_views(read.tensors.into_iter())?, read.notes));
    }
    if options.key.is_some() {
        return Err(Error::usage("`key` is for .pth checkpoints: a safetensors file holds one state dict"));
    }
    Ok((StateDict::from_bytes(bytes)?, vec![]))
}

fn weights(dict: &StateDict, options: &Options, mut notes: Vec<String>) -> Result<Parts> {
    if options.pool.is_some() {
        return Err(Error::usage("`pool` is for folders of encoders"));
    }
    let built = arch::build(dict, options)?;
    notes.extend(built.notes);
    let (family, ignored, embeds) = (Some(built.family.to_string()), built.ignored, built.embeds);
    Ok(Parts { network: built.network, family, notes, ignored, embeds, settled: false })
}

pub(crate) fn describe(network: &Network, name: String, threat: Option<(Norm, f64)>, embeds: bool) -> Result<Card> {
    let input = match *network.input_row() {
        [c, h, w] if !Input::is_line(&[c, h, w]) => Input::image(c, h, w),
        ref shape => Input { shape: shape.to_vec(), domain: None, kind: InputKind::Features },
    };
    let [k] = *network.output_row() else {
        return Err(Error::new(
            Kind::Load,
            format!("the output has shape [n, {:?}], not [n, classes]", network.output_row()),
        ));
    };
    let output = if embeds { Output::Embedding { d: k } } else { Output::Logits { k } };
    // The model itself finds its digest, and whether it jumps.
    let taps = features(network).into_iter().collect();
    Ok(Card { taps, default_threat: threat, ..Card::new(name, input, output) })
}

/// The name of the value the last linear layer reads.
fn features(network: &Network) -> Option<String> {
    let last = network.nodes().iter().rfind(|n| matches!(n.op, Op::Linear { .. }))?;
    let id = *last.inputs.first()?;
    let name = &network.nodes()[id.0].name;
    (network.find(name) == Some(id) && network.shapes()[id.0].batched).then(|| name.clone())
}

/// Whether a file name is one of a format we read.
pub fn is_model_file(name: &str) -> bool {
    let name = name.to_lowercase();
    [".onnx", ".onnx.gz", ".safetensors"].iter().chain(TORCH).any(|end| name.ends_with(end))
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ends = [".gz", ".tar", ".onnx", ".safetensors"];
    ends.iter().chain(TORCH).fold(name.as_ref(), |n, end| n.strip_suffix(end).unwrap_or(n)).to_string()
}

/// What follows `hf:`, where it is one.
pub(crate) fn hub_name(spec: &str) -> Option<&str> {
    let (_, rest) = split_name(spec);
    rest.split('?').next().and_then(|source| source.strip_prefix("hf:")).filter(|_| !Path::new(rest).exists())
}

/// The label and what follows `ensemble:`, where it is one.
fn ensemble_of(spec: &str) -> (Option<&str>, Option<&str>) {
    let (name, rest) = split_name(spec);
    (name, rest.strip_prefix(ensemble::SCHEME))
}

#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    pub name: Option<String>,
    pub source: Source,
    pub options: Options,
}

pub(crate) fn parse(spec: &str) -> Result<Parsed> {
    let (name, rest) = split_name(spec);
    let (source, query) = match rest.split_once('?') {
        Some((source, query)) if !Path::new(rest).exists() => (source, Some(query)),
        _ => (rest, None),
    };
    let options = options(query.unwrap_or_default())?;
    Ok(Parsed { name: name.map(String::from), source: find_source(source)?, options })
}

/// A label is a plain word before the first `=`; a file whose own name has a `=` is still a file.
fn split_name(spec: &str) -> (Option<&str>, &str) {
    let source = spec.split_once('?').map_or(spec, |(s, _)| s);
    let plain = |n: &str| !n.is_empty() && n.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c));
    match source.split_once('=') {
        Some((name, _)) if plain(name) && !Path::new(source).exists() => (Some(name), &spec[name.len() + 1..]),
        _ => (None, spec),
    }
}

fn find_source(source: &str) -> Result<Source> {
    let path = Path::new(source);
    if source.is_empty() {
        return Err(Error::usage("the model is missing").hint(format!("say {FORMATS}")));
    }
    if !path.exists()
        && let Some((scheme, rest)) = source.split_once(':')
    {
        return scheme_source(scheme, rest);
    }
    let lower = source.to_lowercase();
    if path.is_dir() {
        return match hf::is_folder(path) {
            true => Ok(Source::Folder(path.into())),
            false => {
                Err(Error::usage(format!("the folder `{source}` holds no config.json and no open_clip_config.json"))
                    .hint(format!("use {FORMATS}; a folder of images is a data set: `--dataset folder:{source}`")))
            }
        };
    }
    if lower.ends_with(".onnx") || lower.ends_with(".onnx.gz") {
        return Ok(Source::Onnx(path.into()));
    }
    if lower.ends_with(".safetensors") {
        return Ok(Source::Safetensors(path.into()));
    }
    if TORCH.iter().any(|end| lower.ends_with(end)) {
        return Ok(Source::Pth(path.into()));
    }
    if path.exists() {
        return Err(Error::usage(format!("`{source}` is not a model format known here")).hint(format!("use {FORMATS}")));
    }
    Err(stranger(source))
}

fn scheme_source(scheme: &str, rest: &str) -> Result<Source> {
    let source = format!("{scheme}:{rest}");
    match scheme {
        "builtin" => {
            builtin::find(rest)?;
            Ok(Source::Builtin(rest.into()))
        }
        "onnx" => Ok(Source::Onnx(rest.into())),
        "hf" => hf::cached(rest).map(Source::Folder),
        "http" | "https" => not_yet("models behind an address", &source),
        "cmd" => not_yet("models behind a command", &source),
        "ensemble" => Err(Error::usage(format!("`{source}` is several models, one is wanted here"))),
        "torch" => Ok(Source::Pth(rest.into())),
        _ => {
            let close = nearest(scheme, SCHEMES.iter().copied()).map(|s| format!("did you mean `{s}:{rest}`? "));
            Err(Error::usage(format!("`{scheme}:` is not a source of models"))
                .hint(format!("{}use {FORMATS}", close.unwrap_or_default())))
        }
    }
}

fn not_yet(what: &str, source: &str) -> Result<Source> {
    Err(Error::usage(format!("cannot load `{source}`: {what} are not supported yet"))
        .hint(format!("use {FORMATS}; torch.onnx.export writes the first from any PyTorch model")))
}

/// Neither a file nor a known scheme: a hub name, a built-in without its scheme, or a slip.
fn stranger(source: &str) -> Error {
    let parts: Vec<&str> = source.split('/').collect();
    if let [org, name] = parts[..]
        && !org.is_empty()
        && !org.starts_with('.')
        && !name.is_empty()
    {
        return Error::usage(format!("`{source}` is not a file, and names of the hub are not guessed"))
            .hint(format!("a local file is `./{source}`; the hub's model, once in its cache, is `hf:{source}`"));
    }
    if let Some(close) = nearest(source, builtin::BUILTINS.iter().map(|b| b.name)) {
        return Error::usage(format!("there is no model file `{source}`"))
            .hint(format!("did you mean `builtin:{close}`?"));
    }
    files::missing(Path::new(source))
}

fn options(query: &str) -> Result<Options> {
    let mut options = Options::default();
    let mut seen = vec![];
    let mut sizes: Vec<(&str, &str)> = vec![];
    let mut names: Vec<(&str, &Statistics)> = vec![];
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').filter(|(_, v)| !v.is_empty()).ok_or_else(|| {
            Error::usage(format!("parameter `{pair}` has no value")).hint("write `?key=value&key=value`")
        })?;
        let once = if key == "prefix" { "strip" } else { key };
        if seen.contains(&once) {
            return Err(Error::usage(format!("parameter `{key}` is given twice")));
        }
        seen.push(once);
        match key {
            "arch" => options.arch = Some(value.into()),
            "prefix" | "strip" => options.strip = Some(value.into()),
            "key" => options.key = Some(value.into()),
            "variant" => options.variant = Some(value.into()),
            "layers" => options.layers = Some(value.into()),
            "heads" => options.heads = Some(value.into()),
            "output" => options.output = Some(value.into()),
            "layout" => options.layout = Some(layout(value)?),
            "head" => options.head = Some(value.into()),
            "pool" => options.pool = Some(value.into()),
            "activation" => options.activation = Some(value.into()),
            "mean" if value == "none" => options.mean = Some(vec![0.]),
            "std" if value == "none" => options.std = Some(vec![1.]),
            "mean" | "std" if value.starts_with(char::is_alphabetic) => {
                let known = named(key, value)?;
                if key == "mean" {
                    options.mean = Some(known.mean.into())
                } else {
                    options.std = Some(known.std.into())
                }
                names.push((key, known));
            }
            "mean" => options.mean = Some(numbers(key, value)?),
            "std" => options.std = Some(numbers(key, value)?),
            "input" => options.input = Some(image(value)?),
            _ if PREPROCESSING.contains(&key) => sizes.push((key, value)),
            _ => {
                let close = nearest(key, KEYS.iter().copied()).map(|k| format!("did you mean `{k}`? "));
                return Err(Error::usage(format!("unknown model parameter `{key}`")).hint(format!(
                    "{}known: {}",
                    close.unwrap_or_default(),
                    KEYS.join(", ")
                )));
            }
        }
    }
    // A name is both, unless the other is said too.
    for (key, known) in names {
        match key {
            "mean" => options.std = options.std.or(Some(known.std.into())),
            _ => options.mean = options.mean.or(Some(known.mean.into())),
        }
    }
    options.preprocess = Preprocess::parse(|key| sizes.iter().find(|(k, _)| *k == key).map(|(_, value)| *value))?;
    if let Some(bad) = options.std.iter().flatten().find(|v| **v <= 0.) {
        return Err(Error::usage(format!("std = {bad} is not positive")));
    }
    Ok(options)
}

/// Statistics by name.
fn named(key: &str, value: &str) -> Result<&'static Statistics> {
    Statistics::find(value).ok_or_else(|| {
        let names = Statistics::names();
        let close = nearest(value, names.iter().copied()).map(|n| format!("did you mean `{key}={n}`? "));
        Error::usage(format!("{key} = `{value}` is neither a list of numbers nor a name known here")).hint(format!(
            "{}names are {}, none; numbers are such as `{key}=0.5,0.5,0.5` or `{key}=125.3/255`",
            close.unwrap_or_default(),
            names.join(", ")
        ))
    })
}

/// Numbers and fractions, such as `125.3/255`.
pub(crate) fn numbers(key: &str, value: &str) -> Result<Vec<f64>> {
    let read = |v: &str| Value::parse(v.trim()).and_then(|v| v.number(key)).ok();
    value.split(',').map(read).collect::<Option<_>>().ok_or_else(|| {
        Error::usage(format!("{key} = `{value}` is not a list of numbers"))
            .hint(format!("for instance `{key}=0.5,0.5,0.5` or `{key}=1/255`"))
    })
}

fn layout(value: &str) -> Result<String> {
    match value {
        "nchw" | "nhwc" => Ok(value.into()),
        _ => Err(Error::usage(format!("layout = `{value}` is not known")).hint("`layout=nhwc` or `layout=nchw`")),
    }
}

fn image(value: &str) -> Result<[usize; 3]> {
    let read = |v: &str| v.parse().ok().filter(|v| (1..=1 << 16).contains(v));
    let sizes: Option<Vec<usize>> = value.split('x').map(read).collect();
    sizes.and_then(|s| s.try_into().ok()).ok_or_else(|| {
        Error::usage(format!("input = `{value}` is not channels, height and width"))
            .hint("for instance `input=3x32x32`")
    })
}

#[cfg(test)]
mod tests;
