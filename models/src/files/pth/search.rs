//! Where in a checkpoint the weights are: a dict of tensors, at the top or under one of the names training code uses.

use super::advice;
use super::node::{Id, Node};
use super::pickle::Pickle;
use super::tensor;
use robust_core::{Error, Kind, Result, nearest};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Of several state dicts, the first in this order is taken.
const ORDER: &[&str] = &[
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "module",
    "ema",
    "state_dict_ema",
    "model_ema",
    "last",
    "best",
    "student",
    "teacher",
    "generator",
    "classifier",
    "backbone",
    "target_encoder",
    "encoder",
];
/// Tensors that are not weights.
const NEVER: &[&str] = &["optim", "sched", "scaler", "history", "rng"];
/// Dicts within dicts (vissl keeps weights four deep), and dicts looked at in all.
const DEPTH: usize = 5;
const MANY: usize = 10_000;
const SHOWN: usize = 20;
/// Keys compared for near misses: real ones are shorter.
const LONGEST: usize = 200;

/// The dict or the program's module to use, what to tell the user of it, and its path.
pub(super) struct Found {
    pub dict: Id,
    pub path: String,
    pub notes: Vec<String>,
}

struct Candidate {
    path: Vec<String>,
    dict: Id,
    tensors: usize,
}

impl Candidate {
    /// Lower is better.
    fn rank(&self) -> (usize, usize, usize) {
        let place = |part: Option<&String>| {
            part.map_or(0, |p| ORDER.iter().position(|o| o == p).map_or(ORDER.len() + 1, |i| i + 1))
        };
        (place(self.path.first()), place(self.path.get(1)), self.path.len())
    }
    fn unknown(&self) -> bool {
        self.path.iter().any(|part| !ORDER.contains(&part.as_str()))
    }
    fn name(&self) -> String {
        self.path.join(".")
    }
}

/// The state dict under `key`, or else the one found by itself.
pub(super) fn find(pickle: &Pickle, key: Option<&str>) -> Result<Found> {
    if let Some(key) = key {
        return forced(pickle, key);
    }
    let root = pickle.node(pickle.root);
    if matches!(root, Node::Object { .. }) || pickle.module(pickle.root).is_some() {
        return Ok(Found { dict: pickle.root, path: String::new(), notes: vec![] });
    }
    if let Node::Opaque(_) | Node::Global(..) | Node::Instance { .. } = root {
        let why = format!(
            "the whole file is one object, {}; only its code knows what is in it",
            pickle.describe(pickle.root)
        );
        return Err(Error::new(Kind::Load, why).hint(advice::by_export("d.state_dict()")));
    }
    let mut all = candidates(pickle);
    all.sort_by_key(Candidate::rank);
    let largest = all.iter().filter(|c| !c.path.is_empty()).map(|c| c.tensors).max();
    if let Some(at) = all.iter().position(|c| c.path.is_empty()) {
        let top = all.remove(at);
        // A few tensors beside the weights (a best score) make no state dict.
        if largest.is_none_or(|n| n < top.tensors) {
            return Ok(Found { dict: top.dict, path: String::new(), notes: vec![] });
        }
    }
    let ([first, rest @ ..], keys) = (&all[..], keys(pickle, pickle.root)) else {
        let why = match pickle.node(pickle.root) {
            Node::Dict(_) => {
                format!("it holds no dict of tensors (its keys: {keys})", keys = keys(pickle, pickle.root))
            }
            _ => format!("it is {}, not a dict of tensors", pickle.describe(pickle.root)),
        };
        return Err(Error::new(Kind::Load, why).hint(advice::by_hand("d['state_dict']")));
    };
    if first.unknown() && !rest.is_empty() {
        let names: Vec<String> = all.iter().take(SHOWN).map(|c| format!("`{}`", c.name())).collect();
        let why = format!("it holds several dicts of tensors: {} (its keys: {keys})", names.join(", "));
        return Err(Error::new(Kind::Load, why).hint(format!("say which: `?key={}`", first.name())));
    }
    let mut note = format!("the weights are the file's `{}`", first.name());
    if let [other, ..] = rest {
        let names: Vec<String> = rest.iter().take(SHOWN).map(|c| format!("`{}`", c.name())).collect();
        note += &format!("; also there: {} (`?key={}`)", names.join(", "), other.name());
    }
    Ok(Found { dict: first.dict, path: first.name(), notes: vec![note] })
}

/// Every dict that holds tensors, breadth first; a dict reachable twice is met once.
fn candidates(pickle: &Pickle) -> Vec<Candidate> {
    let wanted = |key: &str| !NEVER.iter().any(|n| key.to_lowercase().contains(n));
    let (mut found, mut seen) = (vec![], BTreeSet::from([pickle.root]));
    let mut level = vec![(vec![], pickle.root)];
    for _ in 0..DEPTH {
        let mut next = vec![];
        for (path, dict) in level {
            // Of a list only the dicts in it have names for tensors.
            let named = usize::from(matches!(pickle.node(dict), Node::Dict(_)));
            let mut tensors = 0;
            for (key, value) in inside(pickle, dict) {
                match pickle.node(value) {
                    Node::Tensor { .. } => tensors += named,
                    Node::Opaque(by) if tensor::rebuilds(pickle, *by) => tensors += named,
                    Node::Dict(_) | Node::List(_) if wanted(&key) && seen.len() < MANY && seen.insert(value) => {
                        let path: Vec<String> = path.iter().cloned().chain([key.to_string()]).collect();
                        next.push((path, value));
                    }
                    Node::Instance { .. } if pickle.module(value).is_some() && wanted(&key) && seen.insert(value) => {
                        let path: Vec<String> = path.iter().cloned().chain([key.to_string()]).collect();
                        found.push(Candidate { path, dict: value, tensors: 1 });
                    }
                    _ => {}
                }
            }
            if tensors > 0 {
                found.push(Candidate { path, dict, tensors });
            }
        }
        level = next;
    }
    found
}

/// What is in a dict or a list, by key or number.
fn inside<'p>(pickle: &'p Pickle, id: Id) -> impl Iterator<Item = (Cow<'p, str>, Id)> {
    let (entries, items) = match pickle.node(id) {
        Node::Dict(entries) => (&entries[..], &[][..]),
        Node::List(items) => (&[][..], &items[..items.len().min(MANY)]),
        _ => (&[][..], &[][..]),
    };
    let named = entries.iter().filter_map(|&(key, value)| Some((Cow::Borrowed(pickle.text(key)?), value)));
    named.chain(items.iter().enumerate().map(|(i, &value)| (Cow::Owned(i.to_string()), value)))
}

/// A dotted path, whose keys may have dots themselves: the shortest that is there wins.
fn forced(pickle: &Pickle, key: &str) -> Result<Found> {
    let (mut at, mut rest) = (pickle.root, key);
    while !rest.is_empty() {
        let ends = rest.match_indices('.').map(|(i, _)| i).chain([rest.len()]);
        let step = ends.into_iter().find_map(|end| Some((child(pickle, at, &rest[..end])?, end)));
        let Some((inner, end)) = step else {
            let close = names(pickle, at);
            let close = nearest(rest, close.iter().copied()).map(|n| format!("did you mean `{n}`? "));
            return Err(Error::usage(format!("there is no `{rest}` in the checkpoint (`key={key}`)")).hint(format!(
                "{}there are: {}",
                close.unwrap_or_default(),
                keys(pickle, at)
            )));
        };
        at = inner;
        rest = rest.get(end + 1..).unwrap_or("");
    }
    match pickle.node(at) {
        Node::Dict(_) | Node::Object { .. } => Ok(Found { dict: at, path: key.to_string(), notes: vec![] }),
        Node::Instance { .. } if pickle.module(at).is_some() => {
            Ok(Found { dict: at, path: key.to_string(), notes: vec![] })
        }
        Node::Opaque(_) | Node::Global(..) | Node::Instance { .. } => {
            let why = format!("`{key}` is {}; only its code knows what is in it", pickle.describe(at));
            Err(Error::new(Kind::Load, why).hint(advice::by_export(&format!("d['{key}'].state_dict()"))))
        }
        _ => Err(Error::new(Kind::Load, format!("`{key}` is {}, not a dict of tensors", pickle.describe(at)))),
    }
}

fn child(pickle: &Pickle, at: Id, key: &str) -> Option<Id> {
    if let Node::List(items) = pickle.node(at) {
        return items.get(key.parse::<usize>().ok()?).copied();
    }
    let inner = pickle.module(at).and_then(|_| pickle.entry(at, "_modules"));
    inner.and_then(|modules| pickle.entry(modules, key)).or_else(|| pickle.entry(at, key))
}

fn names<'a>(pickle: &Pickle<'a>, dict: Id) -> Vec<&'a str> {
    let entries = pickle.entries(dict).unwrap_or_default().iter();
    entries.take(MANY).filter_map(|(k, _)| pickle.text(*k)).filter(|n| n.len() <= LONGEST).collect()
}

fn keys(pickle: &Pickle, dict: Id) -> String {
    let all = names(pickle, dict);
    let shown: Vec<String> = all.iter().take(SHOWN).map(|n| format!("`{}`", n.escape_debug())).collect();
    match all.len() {
        0 => "none".into(),
        n if n > SHOWN => format!("{} and {} more", shown.join(", "), n - SHOWN),
        _ => shown.join(", "),
    }
}
