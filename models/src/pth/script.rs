//! The module tree of a TorchScript program (torch.jit.save) as named tensors. A class is a name and nothing more: the
//! program's code is neither read nor run.

use super::pickle::{Id, MAX_NAME, Node, Pickle};
use robust_core::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Modules within modules: real networks stay below 20.
const DEEPEST: usize = 64;
/// What the books of one module and of one tensor take, about; each needs more than half of it in an honest file.
const MODULE: usize = 32;
const TENSOR: usize = 256;

/// The tensors of a module and of all modules in it by dotted name; an attribute of any other kind is passed over.
/// `budget` is what their names may amount to, in bytes: modules may be shared, and a small file must not become many names.
///
/// # Errors
/// Kind `Load` for states that are no attributes, modules that hold themselves, and names that are none or twice there.
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
        let Node::Object { state, .. } = *pickle.node(id) else {
            return Err(bad(name, &format!("is {}", pickle.describe(id))));
        };
        let Node::Dict(attributes) = pickle.node(state) else {
            let (made, state) = (pickle.describe(id), pickle.describe(state));
            return Err(bad(name, &format!("is {made}, whose state is {state}, not a dict of attributes")));
        };
        self.spend(MODULE + attributes.len())?;
        self.path.push(id);
        for &(key, value) in attributes {
            let inner = match pickle.node(value) {
                Node::Object { .. } => true,
                Node::Tensor { .. } => false,
                Node::Opaque(by) if super::rebuilds(pickle, *by) => false,
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
    Error::new(Kind::Load, format!("the TorchScript program cannot be read: {which} {why}"))
}
