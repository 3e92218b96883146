//! A pickle machine for data: the opcodes that torch.save writes (protocols 2 to 5) build inert values in an arena.
//! Nothing is imported, called or executed; an object of a class unknown here is remembered by its name alone.

use super::machine::Machine;
use super::node::{Id, MAX_NAME, Node};
use robust_core::{Error, Result};

/// Bytes a pickle may have: ten times those of the largest checkpoints.
const MAX_BYTES: usize = 64 << 20;

pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    pub root: Id,
}

impl<'a> Pickle<'a> {
    /// # Errors
    /// Kind `Load` with the opcode that is damaged or not understood.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::load("the pickle", format!("it has {} bytes, up to {MAX_BYTES} are read", bytes.len())));
        }
        Ok(Self::first(bytes)?.0)
    }

    /// The pickle that these bytes begin with, and its length.
    ///
    /// # Errors
    /// As [`Pickle::read`]; what is longer than any pickle ends too early.
    pub fn first(bytes: &'a [u8]) -> Result<(Self, usize)> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok((Self { nodes: machine.nodes, root }, machine.at))
    }

    /// Every value that the pickle makes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.nodes.iter()
    }

    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    /// A string's text, if it may be a name: one long string can be the key of a million entries.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.node(id) {
            Node::Str(bytes) if bytes.len() <= MAX_NAME => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The entries of a dict, or the attributes of an object.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        let id = match *self.node(id) {
            Node::Object { state, .. } | Node::Instance { state, .. } => state,
            _ => id,
        };
        match self.node(id) {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key of a dict, or an attribute of an object: the last one, as Python has it.
    pub fn entry(&self, id: Id, key: &str) -> Option<Id> {
        self.entries(id)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }

    /// The class of a `torch.nn.Module`: an object with the dicts that all of them have.
    pub fn module(&self, id: Id) -> Option<Id> {
        let Node::Instance { class, .. } = *self.node(id) else { return None };
        let dict = |name: &str| self.entry(id, name).is_some_and(|d| matches!(self.node(d), Node::Dict(_)));
        ["_parameters", "_buffers", "_modules"].into_iter().all(dict).then_some(class)
    }

    pub fn items(&self, id: Id) -> Option<&[Id]> {
        self.node(id).items()
    }

    /// `module`, `name` of a class or a function.
    pub fn global(&self, id: Id) -> Option<(&'a [u8], &'a [u8])> {
        self.node(id).global()
    }

    /// What a message calls the value: its global if it was made by one.
    pub fn describe(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "None".into(),
            Node::Bool(_) | Node::Int(_) | Node::Float => "a number".into(),
            Node::Str(_) => "a string".into(),
            Node::Bytes => "bytes".into(),
            Node::Tuple(_) | Node::Few(..) => "a tuple".into(),
            Node::List(_) => "a list".into(),
            Node::Dict(_) => "a dict".into(),
            Node::Storage { .. } => "a storage".into(),
            Node::Tensor { .. } => "a tensor".into(),
            Node::Opaque(made_by) | Node::Object { class: made_by, .. } | Node::Instance { class: made_by, .. }
                if matches!(self.node(*made_by), Node::Global(..)) =>
            {
                format!("made by {}", self.describe(*made_by))
            }
            Node::Opaque(_) | Node::Object { .. } | Node::Instance { .. } => "an object".into(),
            Node::Global(names) => {
                let [module, name] = **names;
                let show = |b: &[u8]| String::from_utf8_lossy(b).escape_debug().to_string();
                format!("global `{}.{}`", show(module), show(name))
            }
        }
    }
}
