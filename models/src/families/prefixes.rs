//! What stands before the names of tensors: wrappers, and what the user says.

use crate::layers::stack::normalises;
use crate::ssl;
use crate::weights::StateDict;
use robust_core::{Error, Result};

/// Prefixes of wrappers that also occur where other tensors of the file have none.
const WRAPPERS: [&str; 8] = ["module.", "_orig_mod.", "model.", "m.", "net.", "network.", "encoder.", "backbone."];

pub(crate) fn stripped(weights: &StateDict, prefix: &str) -> Result<StateDict> {
    if !weights.any(prefix) {
        let first = weights.names().next().unwrap_or("none");
        let why = format!("no tensor name starts with `{prefix}` (the first is `{first}`)");
        return Err(Error::load("the weights", why));
    }
    weights.strip(prefix).ok_or_else(|| {
        Error::load("the weights", format!("without `{prefix}`, two tensors would have the same name"))
            .hint("pick one of the networks in the file and save it alone")
    })
}

/// The weights as they are, with up to four shared prefixes such as `module.` taken off one after the other, and then
/// with one wrapper's prefix off where only some names have it. The buffers of a normalising layer need not share it.
pub(crate) fn unwrapped(weights: &StateDict) -> Vec<StateDict> {
    if let Some(encoder) = ssl::encoder(weights) {
        return vec![encoder];
    }
    let mut all = vec![weights.clone()];
    for _ in 0..4 {
        let Some(last) = all.last_mut() else { break };
        if last.any("model.") {
            last.ignore("attacker.", "the `robustness` package keeps a second copy of the network there");
        }
        let mut names = last.names().filter(|n| !normalises(n));
        let prefix = names.next().and_then(|n| n.split_once('.')).map(|(head, _)| format!("{head}."));
        let Some(prefix) = prefix.filter(|p| names.all(|n| n.starts_with(p))) else { break };
        drop(names);
        let Some(mut inner) = last.strip(&prefix) else { break };
        inner.note(format!("the prefix `{prefix}` is taken off the tensors' names"));
        all.push(inner);
    }
    if let Some(last) = all.last().cloned() {
        for prefix in WRAPPERS.iter().filter(|p| last.any(p)) {
            if let Some(mut inner) = last.strip(prefix) {
                inner.note(format!("the prefix `{prefix}` is taken off the names that have it"));
                all.push(inner);
            }
        }
    }
    all
}
