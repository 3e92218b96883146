//! From what the user typed to a model: the format's reader, the parameters, the head, the card.

use crate::files::hf;
use crate::files::single::tensors;
use crate::heads::Head;
use crate::loaded::{LoadedModel, describe};
use crate::model_files::stem;
use crate::options::Options;
use crate::spec::{Parsed, Source, ensemble_of, parse};
use crate::weights::StateDict;
use crate::{builtin, bytes, ensemble, facts, families, onnx, output};
use robust_core::{Card, Error, Model, Norm, Preprocess, Result};
use robust_engine::{Network, NetworkModel};
use std::sync::Arc;

/// Loads the model a spec names.
///
/// # Errors
/// Kind `Usage` for a spec that makes no sense or asks for what is not built yet, kind `Load` for files that are missing,
/// damaged, unsupported or do not fit; messages name the file and what in it.
pub fn load(spec: &str) -> Result<LoadedModel> {
    if let (name, Some(members)) = ensemble_of(spec) {
        return ensemble::join(name, members, load);
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
            let bytes = bytes::read(path)?;
            let build = || {
                let (dict, notes) = tensors(source, &bytes, options)?;
                weights(&dict, options, notes)
            };
            let built = build().map_err(|e| bytes::blame(e).within(path.display()))?;
            Ok(Read::new(if matches!(source, Source::Pth(_)) { "pth" } else { "safetensors" }, built, stem(path)))
        }
    }
}

fn weights(dict: &StateDict, options: &Options, mut notes: Vec<String>) -> Result<Parts> {
    if options.pool.is_some() {
        return Err(Error::usage("`pool` is for folders of encoders"));
    }
    let built = families::build(dict, options)?;
    notes.extend(built.notes);
    let (family, ignored, embeds) = (Some(built.family.to_string()), built.ignored, built.embeds);
    Ok(Parts { network: built.network, family, notes, ignored, embeds, settled: false })
}
