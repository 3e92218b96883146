//! What users type for a model: `[name=]SOURCE[?key=value&key=value]`; of several as one, `[name=]ensemble:SOURCE+SOURCE`.

use crate::files::hf;
use crate::model_files::TORCH;
use crate::options::Options;
use crate::statistics::Statistics;
use crate::{builtin, bytes, ensemble};
use robust_core::{Error, PREPROCESSING, Preprocess, Result, Value, nearest};
use std::path::{Path, PathBuf};

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
/// What follows `hf:`, where it is one.
pub(crate) fn hub_name(spec: &str) -> Option<&str> {
    let (_, rest) = split_name(spec);
    rest.split('?').next().and_then(|source| source.strip_prefix("hf:")).filter(|_| !Path::new(rest).exists())
}

/// The label and what follows `ensemble:`, where it is one.
pub(crate) fn ensemble_of(spec: &str) -> (Option<&str>, Option<&str>) {
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
    bytes::missing(Path::new(source))
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
