//! Python's pickles as far as CIFAR needs them: a dict of strings, numbers, lists and one array of bytes. Nothing is
//! executed: the two globals an array is made of are names here, every other one is an error that names it. Objects lie
//! in one flat list and refer to each other by number, so depth costs nothing; long strings stay in the file.

use super::blob::{Blob, Cursor, reason};
use std::collections::HashMap;
use std::io::{BufReader, Read};

/// Most objects made: CIFAR-100's training set needs some 300,000.
const MAX_OBJECTS: usize = 4 << 20;
const MAX_LINE: usize = 256;
/// Longest string that is looked at.
const MAX_TEXT: u64 = 4096;

type Id = u32;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    None,
    Bool,
    Int(i64),
    /// Start and length in the file.
    Text(u64, u64),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Tuple(Vec<Id>),
    Global(String),
    /// An element type such as `u1`.
    Dtype(String),
    /// C-ordered bytes: start and length in the file. Empty until built.
    Array {
        shape: Vec<u64>,
        bytes: (u64, u64),
    },
}

pub(super) struct Pickle<'a> {
    blob: &'a Blob,
    reader: BufReader<Cursor>,
    at: u64,
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    top: Id,
}

type Answer<T> = std::result::Result<T, String>;

impl<'a> Pickle<'a> {
    pub fn read(blob: &'a Blob) -> Answer<Self> {
        let mut pickle = Self {
            blob,
            reader: blob.reader(),
            at: 0,
            objects: vec![],
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            top: 0,
        };
        while pickle.step()? {}
        Ok(pickle)
    }

    /// The value of a key of the outermost dict.
    pub fn entry(&self, key: &str) -> Answer<Option<&Object>> {
        let Some(Object::Dict(pairs)) = self.objects.get(self.top as usize) else {
            return Err("a pickle of something other than a dict".to_string());
        };
        for &(k, value) in pairs {
            if self.text(k)?.as_deref() == Some(key) {
                return Ok(Some(self.object(value)?));
            }
        }
        Ok(None)
    }

    pub fn integers(&self, key: &str) -> Answer<Vec<i64>> {
        let Some(Object::List(items)) = self.entry(key)? else { return Err(format!("no list `{key}` in it")) };
        let int = |&id: &Id| match self.object(id)? {
            Object::Int(value) => Ok(*value),
            other => Err(format!("`{key}` holds {other:?}, integers are wanted")),
        };
        items.iter().map(int).collect()
    }

    pub fn strings(&self, key: &str) -> Answer<Vec<String>> {
        let Some(Object::List(items)) = self.entry(key)? else { return Err(format!("no list `{key}` in it")) };
        let text = |&id: &Id| self.text(id)?.ok_or_else(|| format!("`{key}` holds other things than strings"));
        items.iter().map(text).collect()
    }

    fn object(&self, id: Id) -> Answer<&Object> {
        self.objects.get(id as usize).ok_or_else(broken)
    }

    fn text(&self, id: Id) -> Answer<Option<String>> {
        match self.object(id)? {
            &Object::Text(start, len) if len <= MAX_TEXT => {
                let bytes = self.blob.slice(start, len).ok_or_else(broken)?.read_all().map_err(reason)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            _ => Ok(None),
        }
    }

    fn push(&mut self, object: Object) -> Answer<()> {
        if self.objects.len() >= MAX_OBJECTS || self.stack.len() >= MAX_OBJECTS {
            return Err(format!("a pickle of more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Answer<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(broken());
        }
        self.stack.pop().ok_or_else(broken)
    }

    fn peek(&self) -> Answer<Id> {
        self.stack.last().copied().ok_or_else(broken)
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Answer<Vec<Id>> {
        let from = self.marks.pop().ok_or_else(broken)?;
        Ok(self.stack.split_off(from))
    }

    fn bytes<const N: usize>(&mut self) -> Answer<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(reason)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn unsigned<const N: usize>(&mut self) -> Answer<u64> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.bytes::<N>()?);
        Ok(u64::from_le_bytes(wide))
    }

    fn span(&mut self, len: u64) -> Answer<()> {
        let start = self.at;
        self.at = start.checked_add(len).filter(|&end| end <= self.blob.len()).ok_or_else(cut)?;
        self.reader.seek_relative(len as i64).map_err(reason)?;
        self.push(Object::Text(start, len))
    }

    fn line(&mut self) -> Answer<String> {
        let mut line = vec![];
        loop {
            match self.bytes::<1>()? {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [byte] if line.len() < MAX_LINE => line.push(byte),
                _ => return Err("a pickle with a very long name".to_string()),
            }
        }
    }

    fn keep(&mut self, slot: u64) -> Answer<()> {
        let id = self.peek()?;
        self.memo.insert(slot as u32, id);
        match self.memo.len() > MAX_OBJECTS {
            true => Err(format!("a pickle that remembers more than {MAX_OBJECTS} objects")),
            false => Ok(()),
        }
    }

    fn recall(&mut self, slot: u64) -> Answer<()> {
        let id = *self.memo.get(&(slot as u32)).ok_or_else(broken)?;
        if self.stack.len() >= MAX_OBJECTS {
            return Err(format!("a pickle of more than {MAX_OBJECTS} objects"));
        }
        self.stack.push(id);
        Ok(())
    }

    /// One operation; `false` after the last.
    fn step(&mut self) -> Answer<bool> {
        let [op] = self.bytes()?;
        match op {
            0x80 => drop(self.bytes::<1>()?),
            0x95 => drop(self.bytes::<8>()?),
            b'(' if self.marks.len() < MAX_OBJECTS => self.marks.push(self.stack.len()),
            b'N' => self.push(Object::None)?,
            0x88 | 0x89 => self.push(Object::Bool)?,
            b'K' => self.integer::<1>()?,
            b'M' => self.integer::<2>()?,
            b'J' => {
                let value = i64::from(i32::from_le_bytes(self.bytes()?));
                self.push(Object::Int(value))?;
            }
            0x8A => self.long()?,
            b'I' | b'L' => self.decimal()?,
            b'G' => {
                self.bytes::<8>()?;
                self.push(Object::None)?;
            }
            b'U' | b'C' | 0x8C => self.string::<1>()?,
            b'T' | b'B' | b'X' => self.string::<4>()?,
            0x8E | 0x8D => self.string::<8>()?,
            b'q' => self.unsigned::<1>().and_then(|slot| self.keep(slot))?,
            b'r' => self.unsigned::<4>().and_then(|slot| self.keep(slot))?,
            0x94 => self.keep(self.memo.len() as u64)?,
            b'h' => self.unsigned::<1>().and_then(|slot| self.recall(slot))?,
            b'j' => self.unsigned::<4>().and_then(|slot| self.recall(slot))?,
            b']' | b'}' | b')' => self.push(empty(op))?,
            b'l' | b'd' | b't' => self.gather(op)?,
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b'a' | b'e' | b's' | b'u' => self.extend(op)?,
            b'0' => drop(self.pop()?),
            b'c' | 0x93 => self.global(op)?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            b'.' => {
                self.top = self.pop()?;
                return Ok(false);
            }
            _ => return Err(format!("operation {op:#04x} of a pickle, which is not read")),
        }
        Ok(true)
    }

    fn integer<const N: usize>(&mut self) -> Answer<()> {
        let value = self.unsigned::<N>()?;
        self.push(Object::Int(value as i64))
    }

    fn string<const N: usize>(&mut self) -> Answer<()> {
        let len = self.unsigned::<N>()?;
        self.span(len)
    }

    fn long(&mut self) -> Answer<()> {
        let [len] = self.bytes()?;
        let mut value = 0u64;
        for i in 0..len {
            let [byte] = self.bytes()?;
            value |= u64::from(byte).checked_shl(8 * u32::from(i)).unwrap_or(0);
        }
        if len > 8 {
            return Err(format!("a pickle with a number of {len} bytes"));
        }
        let unused = 64 - 8 * u32::from(len);
        let value = if len == 0 { 0 } else { (value << unused) as i64 >> unused };
        self.push(Object::Int(value))
    }

    fn decimal(&mut self) -> Answer<()> {
        let line = self.line()?;
        let object = match line.as_str() {
            "00" | "01" => Object::Bool,
            text => Object::Int(text.trim_end_matches('L').parse().map_err(|_| broken())?),
        };
        self.push(object)
    }

    fn gather(&mut self, op: u8) -> Answer<()> {
        let items = self.marked()?;
        let object = match op {
            b't' => Object::Tuple(items),
            b'l' => Object::List(items),
            _ => Object::Dict(pairs(&items)?),
        };
        self.push(object)
    }

    fn tuple(&mut self, n: usize) -> Answer<()> {
        let mut items = vec![];
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Object::Tuple(items))
    }

    /// Items into the list or dict below them.
    fn extend(&mut self, op: u8) -> Answer<()> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.marked()?,
        };
        let into = self.peek()?;
        match self.objects.get_mut(into as usize) {
            Some(Object::List(list)) if matches!(op, b'a' | b'e') => list.extend(items),
            Some(Object::Dict(dict)) if matches!(op, b's' | b'u') => dict.extend(pairs(&items)?),
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn global(&mut self, op: u8) -> Answer<()> {
        let name = if op == b'c' {
            let module = self.line()?;
            format!("{module}.{}", self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |text: Option<String>| text.ok_or_else(broken);
            format!("{}.{}", text(self.text(module)?)?, text(self.text(name)?)?)
        };
        let known = ["multiarray._reconstruct", "_multiarray_umath._reconstruct"];
        let array =
            ["numpy.core.", "numpy._core."].iter().any(|m| name.strip_prefix(m).is_some_and(|n| known.contains(&n)));
        if !array && !["numpy.ndarray", "numpy.dtype"].contains(&name.as_str()) {
            return Err(format!("the pickle asks for `{name}`, and nothing is executed"));
        }
        self.push(Object::Global(name))
    }

    fn reduce(&mut self) -> Answer<()> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Object::Global(name) = self.object(callable)? else { return Err(broken()) };
        let Object::Tuple(arguments) = self.object(arguments)? else { return Err(broken()) };
        let made = match (name.as_str(), arguments.first()) {
            ("numpy.dtype", Some(&kind)) => Object::Dtype(self.text(kind)?.ok_or_else(broken)?),
            (name, Some(_)) if name.ends_with("_reconstruct") => Object::Array { shape: vec![], bytes: (0, 0) },
            (name, _) => return Err(format!("the pickle calls `{name}`, and nothing is executed")),
        };
        self.push(made)
    }

    /// The state of an array (version, shape, type, Fortran order, bytes) or of a type, whose own says its byte order.
    fn build(&mut self) -> Answer<()> {
        let state = self.pop()?;
        let into = self.peek()?;
        match (self.object(into)?, self.object(state)?) {
            (Object::Dtype(_), Object::Tuple(_)) => Ok(()),
            (Object::Array { .. }, Object::Tuple(state)) => {
                let &[_, shape, dtype, _, data] = state.as_slice() else { return Err(broken()) };
                let (Object::Tuple(dims), Object::Text(start, len)) = (self.object(shape)?, self.object(data)?) else {
                    return Err("an array whose bytes are not in one piece".to_string());
                };
                match self.object(dtype)? {
                    Object::Dtype(kind) if matches!(kind.as_str(), "u1" | "|u1" | "uint8") => {}
                    other => return Err(format!("an array of {other:?}, bytes are wanted")),
                }
                let dim = |&id: &Id| match self.object(id)? {
                    Object::Int(n) => u64::try_from(*n).map_err(|_| broken()),
                    _ => Err(broken()),
                };
                let shape = dims.iter().map(dim).collect::<Answer<Vec<u64>>>()?;
                let built = Object::Array { shape, bytes: (*start, *len) };
                self.objects[into as usize] = built;
                Ok(())
            }
            _ => Err(broken()),
        }
    }
}

fn empty(op: u8) -> Object {
    match op {
        b']' => Object::List(vec![]),
        b'}' => Object::Dict(vec![]),
        _ => Object::Tuple(vec![]),
    }
}

fn pairs(items: &[Id]) -> Answer<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|&[k, v]| (k, v)).collect()) } else { Err(broken()) }
}

fn broken() -> String {
    "a broken pickle".to_string()
}

fn cut() -> String {
    reason(std::io::ErrorKind::UnexpectedEof.into())
}
