//! Which family a state dict is of, and its network.

use super::architecture::{Architecture, Built};
use super::prefixes::{stripped, unwrapped};
use super::{ARCHITECTURES, sequential};
use crate::options::{EXPORT, Options};
use crate::weights::StateDict;
use crate::{fold, ssl};
use robust_core::{Error, Result, nearest};
use robust_engine::Builder;

/// Names of tensors in a message.
const SHOWN: usize = 3;

/// The network of a state dict. Without `options.arch` the architecture is recognised from the names, with `strip` or
/// else any prefix they share taken off. Errors are of kind `Load` and list every tensor that is missing, left over or
/// of the wrong shape.
pub fn build(weights: &StateDict, options: &Options) -> Result<Built> {
    // Heads of self-supervised training, which are left out, are weight-normed and large.
    let folded = if ssl::encoder(weights).is_some() { None } else { Some(fold::plain(weights)?) };
    let weights = folded.as_ref().unwrap_or(weights);
    if let Some(layers) = &options.layers {
        return sequential::build(weights, layers, options);
    }
    let mut candidates = match &options.strip {
        Some(prefix) => vec![stripped(weights, prefix)?],
        None => unwrapped(weights),
    };
    let (arch, mut dict) = match &options.arch {
        Some(name) => {
            let arch = find(name)?;
            let at = candidates.iter().position(|c| (arch.detect)(c)).unwrap_or(0);
            (arch, candidates.swap_remove(at))
        }
        None => recognise(candidates)?,
    };
    let own = [("activation", &options.activation), ("variant", &options.variant), ("heads", &options.heads)];
    if let Some((key, _)) = own.iter().find(|(key, value)| value.is_some() && !arch.params.contains(key)) {
        return Err(Error::usage(format!("`{key}` is not a parameter of {}", arch.name)));
    }
    let mut net = Builder::new();
    match (arch.build)(&mut dict, &mut net, options) {
        Ok(output) => {
            dict.finish().map_err(|e| e.within(format!("architecture {}", arch.name)))?;
            let (notes, ignored, embeds) = (dict.notes().to_vec(), dict.ignored().to_vec(), dict.headless());
            Ok(Built { network: net.finish(output)?, family: arch.name, notes, ignored, embeds })
        }
        Err(error) => Err(dict.cause(error).within(format!("architecture {}", arch.name))),
    }
}

fn known() -> String {
    ARCHITECTURES.iter().map(|a| a.name).collect::<Vec<_>>().join(", ")
}

fn find(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
        let hint = match nearest(name, ARCHITECTURES.iter().map(|a| a.name)) {
            Some(close) => format!("did you mean `{close}`? known: {}", known()),
            None => format!("export the model to ONNX: {EXPORT}; or name one of: {}", known()),
        };
        Error::usage(format!("unknown architecture `{name}`")).hint(hint)
    })
}

fn recognise(candidates: Vec<StateDict>) -> Result<(&'static Architecture, StateDict)> {
    let found = candidates.first().map_or(String::new(), first_names);
    for dict in candidates {
        let fits: Vec<_> = ARCHITECTURES.iter().filter(|a| (a.detect)(&dict)).collect();
        match fits[..] {
            [] => {}
            [one] => return Ok((one, dict)),
            _ => {
                let names: Vec<&str> = fits.iter().map(|a| a.name).collect();
                return Err(Error::load("the weights", format!("the tensor names fit {}", names.join(" and ")))
                    .hint(format!("say which: `?arch={}`", names[0])));
            }
        }
    }
    Err(Error::load("the weights", format!("the tensor names fit no known architecture: {found}")).hint(format!(
        "weights carry no code: export the network where its code is, `{EXPORT}` (the zeros have the shape of an image); an \
         nn.Sequential can be told, `?layers=conv(s=2,p=1),relu,flatten,linear`; known: {} (`?arch=NAME` tells what does not fit)",
        known()
    )))
}

/// Some of the names in a file, for a message.
fn first_names(dict: &StateDict) -> String {
    let names: Vec<String> = dict.names().take(SHOWN).map(|n| format!("`{}`", n.escape_debug())).collect();
    let more = dict.names().count() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}
