//! A reader of Python pickles that runs nothing.
//!
//! A pickle is a program for a stack machine: push this string, make a tuple of the top three, call that function.
//! This machine knows the instructions that `torch.save` writes (protocols 2 to 5) and builds plain values only.
//! Of all the functions a pickle may name it knows eight, by name, and each merely arranges values: `OrderedDict`,
//! PyTorch's `_rebuild_*`, and NumPy's `dtype` and `_reconstruct`. A class of TorchScript becomes [`Node::Module`], a
//! dictionary of attributes. A call of anything else becomes [`Node::Other`], an opaque value, and nothing happens.
//!
//! Values live in one list and refer to each other by their place in it, so that shared and even circular structure
//! costs nothing, nothing recurses, and what is built is never larger than a fixed multiple of the pickle: every
//! instruction adds at most two values, and every length is checked against the bytes that are left.
//! Instructions: <https://github.com/python/cpython/blob/main/Lib/pickletools.py>.

use std::collections::HashMap;

use crate::error::{Fault, Result};

/// The place of a value in [`Pickle`].
pub type Id = u32;

/// Largest pickle that is read; those of PyTorch checkpoints are a few megabytes at most.
const LARGEST: usize = 64 << 20;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number that fits 64 bits.
    Int(i64),
    /// A number.
    Float(f64),
    /// A string.
    Text(String),
    /// A list or a set.
    List(Vec<Id>),
    /// A tuple.
    Tuple(Vec<Id>),
    /// A dictionary: keys and values in the order they were set; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    /// The name of a Python object: module, name.
    Global(Id, Id),
    /// The bytes behind tensors.
    Storage {
        /// The class, a [`Node::Global`] such as `torch FloatStorage`.
        class: Id,
        /// The name of its entry in the archive, a [`Node::Text`].
        key: Id,
        /// Number of elements.
        count: u64,
    },
    /// A tensor.
    Tensor(Box<View>),
    /// Bytes: where they begin in the pickle and where they end.
    Bytes(usize, usize),
    /// A NumPy type: its code such as `f4`, and the byte order, a [`Node::Text`] each.
    Dtype(Id, Id),
    /// A NumPy array; without its state as long as it was not given any.
    Array(Option<Box<Array>>),
    /// A module of TorchScript: its class, and its attributes, a [`Node::Dict`], once it was given them.
    Module(Id, Option<Id>),
    /// Something this reader does not build: the class or function, or what stands for it.
    Other(Id),
}

/// A tensor's view of its storage, as claimed: nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// A [`Node::Storage`].
    pub storage: Id,
    /// First element.
    pub offset: u64,
    /// Size of each dimension.
    pub shape: Vec<u64>,
    /// Elements from one index to the next, per dimension.
    pub stride: Vec<u64>,
}

/// A NumPy array, as claimed: nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Size of each dimension.
    pub shape: Vec<u64>,
    /// A [`Node::Dtype`].
    pub dtype: Id,
    /// Whether the first index runs fastest.
    pub fortran: bool,
    /// [`Node::Bytes`].
    pub data: Id,
}

/// The values of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Reads a pickle.
    ///
    /// # Errors
    /// Where the bytes are no pickle of protocol 2 to 5, or hold an instruction that `torch.save` never writes.
    pub fn parse(bytes: &[u8]) -> Result<Pickle> {
        if bytes.len() > LARGEST {
            return Err(Fault::new(DOING, "").field("pickle").expected("at most 64 MiB", bytes.len()).into());
        }
        let mut machine = Machine { bytes, nodes: constants(), budget: bytes.len(), ..Machine::default() };
        while let Some(instruction) = machine.next_instruction()? {
            machine.step(instruction)?;
        }
        let root = machine.pop()?;
        Ok(Pickle { nodes: machine.nodes, root })
    }

    /// The value the pickle stands for.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value at a place; `None` for a place that is not there.
    pub fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// The string at a place.
    pub fn text(&self, id: Id) -> Option<&str> {
        text(&self.nodes, id)
    }

    /// Module and name of the Python object named at a place.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        global(&self.nodes, id)
    }
}

const DOING: &str = "reading a pickle";
const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const NO_ARGUMENTS: Id = 3;

/// Values of which one copy is enough; a pickle of a million `None` is cheap.
fn constants() -> Vec<Node> {
    vec![Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(vec![])]
}

pub(super) fn text(nodes: &[Node], id: Id) -> Option<&str> {
    match nodes.get(id as usize) {
        Some(Node::Text(text)) => Some(text),
        _ => None,
    }
}

pub(super) fn global(nodes: &[Node], id: Id) -> Option<(&str, &str)> {
    match nodes.get(id as usize) {
        Some(Node::Global(module, name)) => Some((text(nodes, *module)?, text(nodes, *name)?)),
        _ => None,
    }
}

#[derive(Default)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Elements that may still be copied from one value to another.
    pub(super) budget: usize,
}

impl Machine<'_> {
    pub(super) fn fault<T>(&self, cause: impl std::fmt::Display) -> Result<T> {
        let fault = Fault::new(DOING, format!("{cause}, before byte {}", self.at)).field("pickle");
        Err(fault.hint("the file is damaged or was written by other means than torch.save or NumPy").into())
    }

    /// The next instruction; none after the last.
    fn next_instruction(&mut self) -> Result<Option<u8>> {
        let instruction = self.number(1)? as u8;
        Ok((instruction != b'.').then_some(instruction))
    }

    fn take(&mut self, length: u64) -> Result<&[u8]> {
        let stop = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let from = self.at;
        let Some(stop) = stop.filter(|stop| *stop <= self.bytes.len()) else { return self.fault("cut off") };
        self.at = stop;
        Ok(self.bytes.get(from..stop).unwrap_or_default())
    }

    fn number(&mut self, width: u64) -> Result<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit)))
    }

    fn line(&mut self) -> Result<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return self.fault("cut off") };
        let line = String::from_utf8_lossy(self.take(length as u64)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    pub(super) fn push(&mut self, node: Node) -> Id {
        let id = self.nodes.len() as Id;
        self.nodes.push(node);
        self.stack.push(id);
        id
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => self.fault("a value is missing"),
        }
    }

    fn top(&mut self) -> Result<Id> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => self.fault("a mark is missing"),
        }
    }

    fn step(&mut self, instruction: u8) -> Result<()> {
        let known = self.constant(instruction)?
            || self.number_or_text(instruction)?
            || self.collection(instruction)?
            || self.memory(instruction)?
            || self.object(instruction)?;
        if known {
            return Ok(());
        }
        self.fault(format_args!("instruction 0x{instruction:02x} is not one that torch.save writes"))
    }

    fn constant(&mut self, instruction: u8) -> Result<bool> {
        match instruction {
            0x80 => match self.number(1)? {
                2..=5 => {}
                found => return self.fault(format_args!("pickle protocol: expected 2 to 5, found {found}")),
            },
            0x95 => drop(self.number(8)?), // FRAME
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b')' => self.stack.push(NO_ARGUMENTS),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn number_or_text(&mut self, instruction: u8) -> Result<bool> {
        let node = match instruction {
            b'K' => Node::Int(self.number(1)? as i64),
            b'M' => Node::Int(self.number(2)? as i64),
            b'J' => Node::Int(i64::from(self.number(4)? as u32 as i32)),
            b'G' => Node::Float(f64::from_bits(self.number(8)?.swap_bytes())),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            0x8c => self.string(1)?,
            b'X' => self.string(4)?,
            0x8d => self.string(8)?,
            b'U' => self.skipped(1)?, // SHORT_BINSTRING
            b'T' => self.skipped(4)?, // BINSTRING
            b'C' => self.raw(1)?,
            b'B' => self.raw(4)?,
            0x8e | 0x96 => self.raw(8)?, // BINBYTES8, BYTEARRAY8
            _ => return Ok(false),
        };
        self.push(node);
        Ok(true)
    }

    fn long(&mut self, width: u64) -> Result<Node> {
        let length = self.number(width)?;
        let digits = self.take(length)?;
        let negative = digits.last().is_some_and(|digit| digit & 0x80 != 0);
        let start: i64 = if negative { -1 } else { 0 };
        let value = digits.iter().rev().fold(start, |value, digit| value << 8 | i64::from(*digit));
        Ok(if length <= 8 { Node::Int(value) } else { Node::Other(NONE) })
    }

    fn string(&mut self, width: u64) -> Result<Node> {
        let length = self.number(width)?;
        Ok(Node::Text(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn skipped(&mut self, width: u64) -> Result<Node> {
        let length = self.number(width)?;
        self.take(length)?;
        Ok(Node::Other(NONE))
    }

    fn raw(&mut self, width: u64) -> Result<Node> {
        let length = self.number(width)?;
        let from = self.at;
        self.take(length)?;
        Ok(Node::Bytes(from, self.at))
    }

    fn collection(&mut self, instruction: u8) -> Result<bool> {
        match instruction {
            b'(' => self.marks.push(self.stack.len()),
            b']' | 0x8f => drop(self.push(Node::List(vec![]))),
            b'}' => drop(self.push(Node::Dict(vec![]))),
            b'l' | b't' | b'd' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(match instruction {
                    b't' => Node::Tuple(items),
                    b'd' => Node::Dict(pairs(&items)),
                    _ => Node::List(items),
                });
            }
            0x85..=0x87 => {
                let mut items = (0x85..=instruction).map(|_| self.pop()).collect::<Result<Vec<Id>>>()?;
                items.reverse();
                self.push(Node::Tuple(items));
            }
            b'a' | b'e' | 0x90 => {
                let items = if instruction == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                let to = self.top()?;
                self.extend(to, &items, &[]);
            }
            b's' | b'u' => {
                let entries = if instruction == b's' { self.entry()? } else { pairs(&self.pop_mark()?) };
                let to = self.top()?;
                self.extend(to, &[], &entries);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn entry(&mut self) -> Result<Vec<(Id, Id)>> {
        let (value, key) = (self.pop()?, self.pop()?);
        Ok(vec![(key, value)])
    }

    /// Adds to a list or a dictionary; an opaque value swallows what it is given.
    fn extend(&mut self, to: Id, items: &[Id], entries: &[(Id, Id)]) {
        match self.nodes.get_mut(to as usize) {
            Some(Node::List(list)) => list.extend_from_slice(items),
            Some(Node::Dict(dict)) => dict.extend_from_slice(entries),
            _ => {}
        }
    }

    fn memory(&mut self, instruction: u8) -> Result<bool> {
        match instruction {
            b'q' | b'r' | 0x94 => {
                let key = match instruction {
                    b'q' => self.number(1)? as u32,
                    b'r' => self.number(4)? as u32,
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = self.number(if instruction == b'h' { 1 } else { 4 })? as u32;
                let Some(id) = self.memo.get(&key).copied() else { return self.fault("an unknown memo") };
                self.stack.push(id);
            }
            b'0' => match self.marks.last() {
                Some(height) if *height == self.stack.len() => drop(self.marks.pop()),
                _ => drop(self.pop()?),
            },
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn object(&mut self, instruction: u8) -> Result<bool> {
        match instruction {
            b'c' => {
                let (module, name) = (Node::Text(self.line()?), Node::Text(self.line()?));
                self.push(module);
                self.push(name);
                self.name_object()?;
            }
            0x93 => self.name_object()?,
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let result = self.call(callable, arguments, 0)?;
                self.stack.push(result);
            }
            0x92 => {
                let (_keywords, _arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(Node::Other(class));
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                self.build(top, state);
            }
            b'Q' => self.storage()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn name_object(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        self.push(Node::Global(module, name));
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Vec<(Id, Id)> {
    items.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
}
