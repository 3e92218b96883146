//! The module tree of a TorchScript program (torch.jit.save) or of a whole pickled module (torch.save) as named tensors. A class is a
//! name and nothing more: its code is neither read nor run.

use super::node::{Id, MAX_NAME, Node};
use super::pickle::Pickle;
use super::tensor;
use robust_core::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Modules within modules: real networks stay below 20.
const DEEPEST: usize = 64;
/// What the books of one module and of one tensor take, about; each needs more than half of it in an honest file.
const MODULE: usize = 32;
const TENSOR: usize = 256;
/// Where a `torch.nn.Module` keeps them, and the names of buffers that are not part of its state dict.
const PARTS: [&str; 3] = ["_parameters", "_buffers", "_modules"];
const PASSING: &str = "_non_persistent_buffers_set";

/// The tensors of a module and of all modules in it by dotted name; an attribute of any other kind is passed over.
/// `budget` is what their names may amount to, in bytes: modules may be shared, and a small file must not become many names.
///
/// # Errors
/// Kind `Load` for states that are not attributes, modules that hold themselves, and names that are none or twice there.
pub(super) fn tensors(pickle: &Pickle, module: Id, budget: usize) -> Result<BTreeMap<String, Id>> {
    let mut walk = Walk { pickle, budget, found: BTreeMap::new(), path: vec![] };
    walk.module(module, "")?;
    Ok(walk.found)
}

struct Walk<'w, 'a> {
    pickle: &'w Pickle<'a>,
    budget: usize,
    found: BTreeMap<String, Id>,
    /// The modules around the one looked at, and itself.
    path: Vec<Id>,
}

impl Walk<'_, '_> {
    fn module(&mut self, id: Id, name: &str) -> Result<()> {
        let pickle = self.pickle;
        if self.path.contains(&id) {
            return Err(bad(name, "holds itself"));
        }
        if self.path.len() >= DEEPEST {
            return Err(bad(name, &format!("lies more than {DEEPEST} modules deep")));
        }
        let attributes = self.attributes(id, name)?;
        self.path.push(id);
        for (key, value) in attributes {
            let inner = match pickle.node(value) {
                Node::Object { .. } => true,
                Node::Instance { .. } if pickle.module(value).is_some() => true,
                Node::Tensor { .. } => false,
                Node::Opaque(by) if tensor::rebuilds(pickle, *by) => false,
                _ => continue,
            };
            let attribute = pickle.text(key).filter(|a| name.len() + 1 + a.len() <= MAX_NAME);
            let attribute = attribute.ok_or_else(|| {
                let why = format!("has an attribute whose name is {}, not a short string", pickle.describe(key));
                bad(name, &why)
            })?;
            let path = if name.is_empty() { attribute.to_string() } else { format!("{name}.{attribute}") };
            if inner {
                self.module(value, &path)?;
                continue;
            }
            self.spend(TENSOR + path.len())?;
            if let Some((twice, _)) = self.found.get_key_value(&path) {
                let why = format!("it has two tensors called `{}`", twice.escape_debug());
                return Err(Error::load("the file", why).hint("no tool writes this by accident: do not trust it"));
            }
            self.found.insert(path, value);
        }
        self.path.pop();
        Ok(())
    }

    /// What may be a tensor or a module: the attributes of a program's object; of a module what its state dict has.
    fn attributes(&mut self, id: Id, name: &str) -> Result<Vec<(Id, Id)>> {
        let pickle = self.pickle;
        if pickle.module(id).is_some() {
            let dict = |part: &str| pickle.entry(id, part).and_then(|d| pickle.entries(d)).unwrap_or_default();
            let all = PARTS.map(dict);
            // Each entry is copied once more where a module is met again.
            self.spend(MODULE + all.iter().map(|part| 8 * part.len()).sum::<usize>())?;
            let passing = pickle.entry(id, PASSING).and_then(|set| pickle.items(set)).unwrap_or_default();
            let passing: BTreeSet<&str> = passing.iter().filter_map(|&id| pickle.text(id)).collect();
            let kept = |(key, _): &&(Id, Id)| pickle.text(*key).is_none_or(|k| !passing.contains(k));
            return Ok(all.concat().iter().filter(kept).copied().collect());
        }
        let Node::Object { state, .. } = *pickle.node(id) else {
            return Err(bad(name, &format!("is {}", pickle.describe(id))));
        };
        let Node::Dict(attributes) = pickle.node(state) else {
            let (made, state) = (pickle.describe(id), pickle.describe(state));
            return Err(bad(name, &format!("is {made}, whose state is {state}, not a dict of attributes")));
        };
        self.spend(MODULE + attributes.len())?;
        Ok(attributes.clone())
    }

    fn spend(&mut self, cost: usize) -> Result<()> {
        let left = self.budget.checked_sub(cost);
        self.budget = left.ok_or_else(|| {
            Error::load("the file", "its modules and tensors need more memory than the whole file accounts for")
                .hint("no tool writes this by accident: do not trust it")
        })?;
        Ok(())
    }
}

fn bad(module: &str, why: &str) -> Error {
    let which = if module.is_empty() { "the module".into() } else { format!("the module `{}`", module.escape_debug()) };
    Error::new(Kind::Load, format!("its modules cannot be read: {which} {why}"))
}
