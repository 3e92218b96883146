//! The machine of pickles: an opcode takes values from a stack and puts one on it.

use super::node::{Id, MAX_NAME, Node};
use super::opcodes;
use robust_core::{Error, Kind, Result};
use std::collections::BTreeMap;

/// Values a pickle may make: ten times those of the largest checkpoints. No more are kept on the stack, marked or remembered at a
/// time: opcodes of one byte do that.
const MAX_NODES: usize = 1 << 21;
/// Where the classes of TorchScript programs are.
const SCRIPT: &[u8] = b"__torch__";

/// Values every pickle shares, made first.
const NONE: Id = 0;
const TRUE: Id = 1;
const FLOAT: Id = 2;
const BYTES: Id = 3;
const EMPTY: Id = 4;
const FALSE: Id = 5;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub at: usize,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    pub nodes: Vec<Node<'a>>,
    /// Entries of collections that calls have copied. All else moves what opcodes have made.
    copied: usize,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, stack: vec![], marks: vec![], memo: BTreeMap::new(), nodes: vec![], copied: 0 }
    }

    /// The value that the pickle is.
    ///
    /// # Errors
    /// Kind `Load` with the opcode that is damaged or not understood.
    pub fn run(&mut self) -> Result<Id> {
        self.nodes.extend([Node::None, Node::Bool(true), Node::Float, Node::Bytes]);
        self.nodes.extend([Node::Tuple(Box::default()), Node::Bool(false)]);
        loop {
            let start = self.at;
            let op = self.take(1)?[0];
            if op == b'.' {
                return self.pop();
            }
            self.step(op).and_then(|()| self.bounded()).map_err(|e| {
                let place = format!("opcode {} at byte {start}", opcodes::name(op));
                Error { message: format!("cannot load the pickle: {place}: {}", e.message), ..e }
            })?;
        }
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            0x80 => match self.take(1)?[0] {
                0..=5 => Ok(()),
                version => Err(damaged(format!("protocol {version} is not known"))),
            },
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.discard(),
            b'1' => self.above_mark().map(drop),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
                Ok(())
            }
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo(op),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | b'G' | 0x8a | 0x8b => self.number(op),
            b'U' | b'T' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.string(op),
            b')' | b']' | b'}' | 0x8f | b't' | b'l' | b'd' | 0x85..=0x87 | 0x91 => self.collection(op),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op),
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(op),
            _ => Err(Error::new(Kind::Load, "torch.save does not write it and it is not understood")),
        }
    }

    fn bounded(&self) -> Result<()> {
        match self.stack.len().max(self.marks.len()).max(self.memo.len()) > MAX_NODES {
            true => Err(damaged(format!("more than {MAX_NODES} values at a time"))),
            false => Ok(()),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| damaged("the pickle ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(MAX_NAME).position(|&b| b == b'\n');
        let line = self.take(end.ok_or_else(|| damaged("a name has no end"))?)?;
        self.at += 1;
        Ok(line)
    }

    fn length(&mut self, bytes: usize) -> Result<usize> {
        let n = self.take(bytes)?.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        usize::try_from(n).map_err(|_| damaged(format!("a length of {n}")))
    }

    fn push(&mut self, node: Node<'a>) -> Result<()> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::new(Kind::Load, format!("more than {MAX_NODES} values")));
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(damaged("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| damaged("the stack is empty"))
    }

    fn top(&self) -> Result<Id> {
        match self.stack.len() > self.floor() {
            true => Ok(self.stack[self.stack.len() - 1]),
            false => Err(damaged("the stack is empty")),
        }
    }

    fn above_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| damaged("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    /// Python's POP also removes a mark that is on top.
    fn discard(&mut self) -> Result<()> {
        if !self.marks.is_empty() && self.stack.len() == self.floor() {
            return self.above_mark().map(drop);
        }
        self.pop().map(drop)
    }

    fn memo(&mut self, op: u8) -> Result<()> {
        let index = match op {
            b'q' | b'h' => self.length(1)?,
            0x94 => self.memo.len(),
            _ => self.length(4)?,
        } as u32;
        if matches!(op, b'h' | b'j') {
            let id = *self.memo.get(&index).ok_or_else(|| damaged(format!("nothing was remembered as {index}")))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn number(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b'K' | b'M' => self.length(if op == b'K' { 1 } else { 2 })? as i64,
            b'J' => i64::from(self.length(4)? as u32 as i32),
            0x8a | 0x8b => {
                let n = self.length(if op == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(n)?;
                if n > 8 {
                    self.stack.push(FLOAT);
                    return Ok(());
                }
                let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { -1 } else { 0 };
                bytes.iter().rev().fold(sign, |n: i64, &b| n << 8 | i64::from(b))
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(FLOAT);
                return Ok(());
            }
            _ => {
                self.stack.push(match op {
                    b'N' => NONE,
                    0x88 => TRUE,
                    _ => FALSE,
                });
                return Ok(());
            }
        };
        self.push(Node::Int(value))
    }

    fn string(&mut self, op: u8) -> Result<()> {
        let n = self.length(match op {
            b'U' | b'C' | 0x8c => 1,
            b'T' | b'X' | b'B' => 4,
            _ => 8,
        })?;
        let bytes = self.take(n)?;
        if matches!(op, b'B' | b'C' | 0x8e | 0x96) {
            self.stack.push(BYTES);
            return Ok(());
        }
        self.push(Node::Str(bytes))
    }

    fn collection(&mut self, op: u8) -> Result<()> {
        let node = match op {
            b')' => {
                self.stack.push(EMPTY);
                return Ok(());
            }
            b'}' => Node::Dict(vec![]),
            b']' | 0x8f => Node::List(vec![]),
            b'd' => Node::Dict(pairs(self.above_mark()?)?),
            b'l' | 0x91 => Node::List(self.above_mark()?),
            b't' => Node::Tuple(self.above_mark()?.into()),
            _ => {
                let n = op - 0x84;
                let mut items = [NONE; 3];
                for place in items[..usize::from(n)].iter_mut().rev() {
                    *place = self.pop()?;
                }
                Node::Few(n, items)
            }
        };
        self.push(node)
    }

    /// Puts items into the collection below them. An opaque object may be a collection: what it holds is dropped.
    fn fill(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.above_mark()?,
        };
        let into = self.top()?;
        match (&mut self.nodes[into as usize], op) {
            (Node::List(list), b'a' | b'e' | 0x90) => list.extend(items),
            (Node::Dict(dict), b's' | b'u') => dict.extend(pairs(items)?),
            (Node::Opaque(_) | Node::Instance { .. }, _) => {}
            _ => return Err(damaged("there is no collection to put items into")),
        }
        Ok(())
    }

    fn object(&mut self, op: u8) -> Result<()> {
        match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(Box::new([module, name])))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module as usize], &self.nodes[name as usize]) {
                    (Node::Str(m), Node::Str(n)) if m.len().max(n.len()) <= MAX_NAME => {
                        let global = Node::Global(Box::new([m, n]));
                        self.push(global)
                    }
                    _ => Err(damaged("a global's name is not a string")),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)
            }
            // Of other objects the state is not the entries: hooks, metadata, attributes.
            b'b' => {
                let given = self.pop()?;
                let built = self.top()?;
                if let Node::Object { state, .. } | Node::Instance { state, .. } = &mut self.nodes[built as usize] {
                    *state = given;
                }
                Ok(())
            }
            _ => {
                if op == 0x92 {
                    self.pop()?; // keyword arguments
                }
                let (arguments, callee) = (self.pop()?, self.pop()?);
                match self.global(callee) {
                    Some((module, _)) if op == 0x81 && module.split(|&b| b == b'.').next() == Some(SCRIPT) => {
                        self.push(Node::Object { class: callee, state: NONE })
                    }
                    Some(_) if op == 0x81 => self.push(Node::Instance { class: callee, state: NONE }),
                    _ => self.call(callee, arguments),
                }
            }
        }
    }

    fn items(&self, id: Id) -> &[Id] {
        self.nodes[id as usize].items().unwrap_or(&[])
    }

    fn global(&self, id: Id) -> Option<(&'a [u8], &'a [u8])> {
        self.nodes[id as usize].global()
    }

    /// What calling a global would make, for the few that only put data together.
    fn call(&mut self, callee: Id, arguments: Id) -> Result<()> {
        let Some(global) = self.global(callee) else { return self.push(Node::Opaque(callee)) };
        match (global, self.items(arguments)) {
            ((b"torch._utils", b"_rebuild_tensor_v2" | b"_rebuild_tensor"), &[storage, offset, size, stride, ..]) => {
                self.push(Node::Tensor { storage, offset, size, stride })
            }
            // Parameters, as they are kept today and before PyTorch 1.0; variables, before 0.4; sets are their lists to us.
            ((b"torch._utils", b"_rebuild_parameter" | b"_rebuild_parameter_with_state"), &[data, ..])
            | (
                (b"torch.nn.parameter", b"Parameter" | b"Buffer") | (b"torch.autograd.variable", b"Variable"),
                &[data, ..],
            )
            | ((b"torch", b"Size") | (b"builtins" | b"__builtin__", b"set" | b"frozenset"), &[data]) => {
                self.stack.push(data);
                Ok(())
            }
            ((b"collections", b"OrderedDict"), items) => {
                let entries = items.first().map_or(&[][..], |&list| self.items(list));
                // One list can be the argument of any number of calls. An honest entry is more than one byte.
                let copied = self.copied.saturating_add(entries.len());
                if copied > self.at {
                    return Err(damaged("its dicts are made of more entries than the pickle has bytes"));
                }
                let pair = |&entry: &Id| match *self.items(entry) {
                    [key, value] => Ok((key, value)),
                    _ => Err(damaged("an entry of a dict is not a pair")),
                };
                let dict = entries.iter().map(pair).collect::<Result<_>>()?;
                self.copied = copied;
                self.push(Node::Dict(dict))
            }
            ((b"collections", b"defaultdict"), _) => self.push(Node::Dict(vec![])),
            _ => self.push(Node::Opaque(callee)),
        }
    }

    /// torch.save keeps tensors' data beside the pickle and refers to it so.
    fn persistent(&mut self, id: Id) -> Result<()> {
        match *self.items(id) {
            [kind, class, key, _, len, ref rest @ ..] if matches!(self.nodes[kind as usize], Node::Str(b"storage")) => {
                let view = rest.first().copied().unwrap_or(NONE);
                self.push(Node::Storage { class, key, len, view })
            }
            // Before PyTorch 1.6 a module's class comes with its source, which nobody reads here.
            [kind, class, _, _] if matches!(self.nodes[kind as usize], Node::Str(b"module")) => {
                self.stack.push(class);
                Ok(())
            }
            _ => Err(damaged("a reference is not to a storage")),
        }
    }
}

fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()),
        _ => Err(damaged("a key has no value")),
    }
}

fn damaged(why: impl Into<String>) -> Error {
    Error::new(Kind::Load, why).hint("the file is damaged or no checkpoint: copy or download it again")
}
