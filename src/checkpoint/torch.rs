//! PyTorch checkpoints (`.pth`, `.pt`): what `torch.save` writes since version 1.6.
//!
//! ```text
//! NAME/data.pkl      the pickle: dictionaries, numbers, and tensors as views (offset, shape, stride) of storages
//! NAME/byteorder     "little"
//! NAME/data/KEY      the bytes of storage KEY
//! ```
//!
//! Opening reads the pickle only; [`TorchTensor::load`] reads the bytes of one tensor, so that a large checkpoint
//! never stands in memory twice. Every claim is checked against the size of the entry it speaks of.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::archive::Archive;
use crate::checkpoint::pickle::{Id, Node, Pickle, View};
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading PyTorch checkpoint";
const ZIP: &[u8] = b"PK\x03\x04";
/// First bytes of what PyTorch wrote before version 1.6: a bare pickle of protocol 2.
const LEGACY: &[u8] = b"\x80\x02";

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    folder: String,
    pickle: Pickle,
    archive: RefCell<Archive>,
    /// The storage read last: tensors often share one.
    last: RefCell<Option<(String, Rc<Vec<u8>>)>>,
}

/// A value inside a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    checkpoint: &'a Checkpoint,
    id: Id,
}

/// A tensor inside a checkpoint, not loaded yet.
#[derive(Debug, Clone)]
pub struct TorchTensor<'a> {
    checkpoint: &'a Checkpoint,
    view: &'a View,
}

/// Whether the file starts as a ZIP archive does.
///
/// # Errors
/// Where the file cannot be read.
pub fn recognise(path: &Path) -> Result<bool> {
    Ok(head(path)?.starts_with(ZIP))
}

fn head(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("opening", path))?;
    file.take(ZIP.len() as u64).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    Ok(bytes)
}

/// Opens a checkpoint.
///
/// # Errors
/// Where the file cannot be read, was not written by `torch.save` of PyTorch 1.6 or newer, or is damaged.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let head = head(path)?;
    if head.starts_with(LEGACY) {
        let fault = Fault::new(DOING, "").file(path).expected("a ZIP archive", "the format before PyTorch 1.6");
        return Err(fault
            .hint("in Python: torch.save(torch.load(\"OLD.pth\"), \"NEW.pth\"), then read NEW.pth")
            .into());
    }
    if !head.starts_with(ZIP) {
        let fault = Fault::new(DOING, "").file(path).expected("a ZIP archive", format!("first bytes {head:02x?}"));
        return Err(fault.hint("give a checkpoint written by torch.save").into());
    }
    let mut archive = Archive::open(path)?;
    let missing =
        || Fault::new(DOING, "no entry data.pkl").file(path).hint("this ZIP archive is no PyTorch checkpoint");
    let entry = archive.names().find(|name| name.ends_with("/data.pkl")).map(str::to_owned).ok_or_else(missing)?;
    let folder = entry.trim_end_matches("data.pkl").to_owned();
    check_byte_order(&mut archive, &folder, path)?;
    let pickle = Pickle::parse(&archive.read(&entry)?).map_err(|error| error.in_file(path))?;
    Ok(Checkpoint { path: path.to_owned(), folder, pickle, archive: RefCell::new(archive), last: RefCell::default() })
}

fn check_byte_order(archive: &mut Archive, folder: &str, path: &Path) -> Result<()> {
    let entry = format!("{folder}byteorder");
    if archive.size(&entry).is_none() {
        return Ok(()); // older than PyTorch 2.1; always little
    }
    let found = String::from_utf8_lossy(&archive.read(&entry)?).into_owned();
    if found == "little" {
        return Ok(());
    }
    Err(Fault::new(DOING, "").file(path).field("byteorder").expected("little", found).into())
}

impl Checkpoint {
    /// The value that was saved.
    pub fn root(&self) -> Value<'_> {
        Value { checkpoint: self, id: self.pickle.root() }
    }

    fn storage(&self, key: &str) -> Result<Rc<Vec<u8>>> {
        if let Some((_, bytes)) = self.last.borrow().as_ref().filter(|(last, _)| last == key) {
            return Ok(bytes.clone());
        }
        *self.last.borrow_mut() = None;
        let bytes = Rc::new(self.archive.borrow_mut().read(&format!("{}data/{key}", self.folder))?);
        *self.last.borrow_mut() = Some((key.to_owned(), bytes.clone()));
        Ok(bytes)
    }

    fn fault(&self, cause: impl Into<String>) -> Fault {
        Fault::new(DOING, cause).file(&self.path)
    }
}

impl<'a> Value<'a> {
    fn node(&self) -> &'a Node {
        self.checkpoint.pickle.node(self.id)
    }

    fn at(&self, id: Id) -> Value<'a> {
        Value { checkpoint: self.checkpoint, id }
    }

    /// Whether it is a module of TorchScript.
    pub fn is_module(&self) -> bool {
        matches!(self.node(), Node::Module(..))
    }

    /// The entries of a dictionary or the attributes of a module.
    fn dictionary(&self) -> Option<&'a [(Id, Id)]> {
        let attributes = match self.node() {
            Node::Module(_, attributes) => self.at((*attributes)?).node(),
            other => other,
        };
        match attributes {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entries of a dictionary whose keys are strings; of equal keys the last. None where it is neither a dictionary
    /// nor a module.
    pub fn entries(&self) -> Option<Vec<(&'a str, Value<'a>)>> {
        let entries = self.dictionary()?;
        let pickle = &self.checkpoint.pickle;
        let last: std::collections::BTreeMap<&str, Id> =
            entries.iter().filter_map(|(key, value)| Some((pickle.text(*key)?, *value))).collect();
        Some(last.into_iter().map(|(key, value)| (key, self.at(value))).collect())
    }

    /// The entry of a dictionary or the attribute of a module.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let found = self.dictionary()?.iter().rev().find(|entry| self.checkpoint.pickle.text(entry.0) == Some(key));
        found.map(|entry| self.at(entry.1))
    }

    /// The tensor, where it is one.
    pub fn tensor(&self) -> Option<TorchTensor<'a>> {
        match self.node() {
            Node::Tensor(view) => Some(TorchTensor { checkpoint: self.checkpoint, view }),
            _ => None,
        }
    }

    /// What it is, in words.
    pub fn what(&self) -> String {
        let pickle = &self.checkpoint.pickle;
        let named = |id| pickle.global(id).map(|(module, name)| format!("{module}.{name}"));
        match self.node() {
            Node::None => "None".into(),
            Node::Bool(value) => value.to_string(),
            Node::Int(value) => value.to_string(),
            Node::Float(value) => value.to_string(),
            Node::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Node::List(items) => format!("a list of {}", items.len()),
            Node::Tuple(items) => format!("a tuple of {}", items.len()),
            Node::Dict(entries) => format!("a dictionary of {}", entries.len()),
            Node::Tensor(view) => format!("a tensor {:?}", view.shape),
            Node::Storage { .. } => "a storage".into(),
            Node::Bytes(from, to) => format!("{} bytes", to - from),
            Node::Dtype(..) => "a NumPy type".into(),
            Node::Array(_) => "a NumPy array".into(),
            Node::Module(class, _) => format!("a module {}", named(*class).unwrap_or_default()),
            Node::Global(..) => named(self.id).unwrap_or_else(|| "a Python object".into()),
            Node::Other(id) => named(*id).unwrap_or_else(|| "a Python object".into()),
        }
    }
}

/// Bytes that a tensor takes from its storage: type, bytes an element, elements in the storage.
struct Source<'a> {
    dtype: DType,
    key: &'a str,
    width: usize,
    count: u64,
}

impl TorchTensor<'_> {
    /// The claimed shape.
    pub fn shape(&self) -> Vec<usize> {
        self.view.shape.iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect()
    }

    /// The tensor, contiguous and as 32-bit floats.
    ///
    /// # Errors
    /// Where its type is none of float, double, half, bfloat16, int, long, short, byte and bool; where the view
    /// does not lie inside its storage, or shows more elements than the storage has; where the bytes are damaged.
    pub fn load(&self) -> Result<Tensor> {
        let source = self.source()?;
        let elements = self.check(&source)?;
        let shape = self.shape();
        if elements == 0 {
            return Tensor::zeros(shape, DType::F32, &Device::Cpu).map_err(Error::compute(DOING));
        }
        let bytes = self.checkpoint.storage(source.key)?;
        let bytes = match self.contiguous() {
            true => {
                let from = self.view.offset as usize * source.width;
                bytes.get(from..from + elements * source.width).unwrap_or_default().to_vec()
            }
            false => self.gather(&bytes, source.width, elements),
        };
        Tensor::from_raw_buffer(&bytes, source.dtype, &shape, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(Error::compute(DOING))
    }

    fn source(&self) -> Result<Source<'_>> {
        let pickle = &self.checkpoint.pickle;
        let Node::Storage { class, key, count } = pickle.node(self.view.storage) else {
            return Err(self.checkpoint.fault("a tensor without a storage").into());
        };
        let (class, key) = (pickle.global(*class).map_or("unknown", |(_, name)| name), pickle.text(*key));
        let (dtype, width) = match class {
            "FloatStorage" => (DType::F32, 4),
            "DoubleStorage" => (DType::F64, 8),
            "HalfStorage" => (DType::F16, 2),
            "BFloat16Storage" => (DType::BF16, 2),
            "LongStorage" => (DType::I64, 8),
            "IntStorage" => (DType::I32, 4),
            "ShortStorage" => (DType::I16, 2),
            "ByteStorage" | "BoolStorage" => (DType::U8, 1),
            other => {
                let fault = self.checkpoint.fault("a storage of an unknown type");
                return Err(fault
                    .expected("float, double, half, bfloat16, long, int, short, byte or bool", other)
                    .into());
            }
        };
        let key = key.ok_or_else(|| self.checkpoint.fault("a storage without a name"))?;
        let size = self.checkpoint.archive.borrow().size(&format!("{}data/{key}", self.checkpoint.folder));
        let size = size.ok_or_else(|| self.checkpoint.fault(format!("no entry data/{key}")))?;
        Ok(Source { dtype, key, width, count: (*count).min(size / width as u64) })
    }

    /// The number of elements, once it is sure that all of them lie in the storage.
    fn check(&self, source: &Source) -> Result<usize> {
        let outside = |found: &str| {
            let fault = self.checkpoint.fault(format!("a tensor {:?} lies outside its storage", self.view.shape));
            Error::from(fault.expected(format!("at most {} elements", source.count), found))
        };
        let sizes = || self.view.shape.iter();
        if self.view.shape.contains(&0) {
            let others = sizes().try_fold(1u32, |product, size| product.checked_mul(u32::try_from(*size).ok()?.max(1)));
            return others.map(|_| 0).ok_or_else(|| outside("sizes beyond all measure"));
        }
        let elements = sizes().try_fold(1u64, |product, size| product.checked_mul(*size));
        let elements = elements.filter(|elements| *elements <= source.count).ok_or_else(|| outside("more"))?;
        let last = sizes().zip(&self.view.stride).try_fold(self.view.offset, |at, (size, stride)| {
            (size - 1).checked_mul(*stride).and_then(|reach| at.checked_add(reach))
        });
        last.filter(|last| *last < source.count).ok_or_else(|| outside("an element past the end"))?;
        usize::try_from(elements).map_err(|_| outside("more than this machine can hold"))
    }

    /// Whether the elements follow each other; the stride of a dimension of size 1 says nothing.
    fn contiguous(&self) -> bool {
        let mut expected = 1;
        self.view.shape.iter().zip(&self.view.stride).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected *= (*size).max(1);
            fits
        })
    }

    fn gather(&self, bytes: &[u8], width: usize, elements: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(elements * width);
        let mut index = vec![0u64; self.view.shape.len()];
        for _ in 0..elements {
            let steps: u64 = index.iter().zip(&self.view.stride).map(|(i, stride)| i * stride).sum();
            let from = (self.view.offset + steps) as usize * width;
            out.extend_from_slice(bytes.get(from..from + width).unwrap_or_default());
            for (i, size) in index.iter_mut().zip(&self.view.shape).rev() {
                *i += 1;
                if *i < *size {
                    break;
                }
                *i = 0;
            }
        }
        out
    }
}
