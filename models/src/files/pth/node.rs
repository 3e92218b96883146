//! The values of a pickle, which lie in one list and refer to each other by number.

/// Longest name of a module, a class or a tensor.
pub(super) const MAX_NAME: usize = 1024;

/// Index of a value. Values never own each other, so that no nesting is too deep to read or to free.
pub(super) type Id = u32;

#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Str(&'a [u8]),
    Bytes,
    Tuple(Box<[Id]>),
    /// A tuple of so many, without memory of its own: one byte makes one.
    Few(u8, [Id; 3]),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module`, `name` of a class or a function.
    Global(Box<[&'a [u8]; 2]>),
    /// What the file says of a storage: its class, its name, its number of elements, and which part of it is meant where not
    /// all is (before PyTorch 1.6; else None).
    Storage {
        class: Id,
        key: Id,
        len: Id,
        view: Id,
    },
    Tensor {
        storage: Id,
        offset: Id,
        size: Id,
        stride: Id,
    },
    /// An object of a TorchScript program: its class is a name, its state a dict of attributes once BUILD has come.
    Object {
        class: Id,
        state: Id,
    },
    /// An object of any other class: a name, and its state, which is that of a `torch.nn.Module` or nothing to us.
    Instance {
        class: Id,
        state: Id,
    },
    /// Made by a global that is not understood.
    Opaque(Id),
}

impl<'a> Node<'a> {
    pub fn items(&self) -> Option<&[Id]> {
        match self {
            Node::Tuple(items) => Some(items),
            Node::Few(n, items) => items.get(..usize::from(*n)),
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn global(&self) -> Option<(&'a [u8], &'a [u8])> {
        match self {
            Node::Global(names) => Some((names[0], names[1])),
            _ => None,
        }
    }
}

/// What a byte can cost.
const _: () = assert!(size_of::<Node>() <= 32);
