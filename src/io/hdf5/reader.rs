//! Reading records from HDF5 one at a time, with every claim of the file checked first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use hdf5::dataset::Layout;
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Dataset, File, H5Type, Hyperslab, Location, Selection, SliceOrIndex};
use ndarray::{Array, Array1, ArrayD, Dimension};

use super::chunk::filters;
use super::{format, FORMAT_VERSION};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::Source;

/// Longest fixed-width string read, bytes.
const STRING: usize = 1024;
/// Most elements one record may hold.
pub(super) const RECORD: usize = 1 << 26;
/// Deflate shrinks by at most 1032; anything beyond claims data that is not there.
const SHRINK: u64 = 1100;
/// Ids read at a time.
const IDS: usize = 256;
/// The datasets with the most bytes.
const LARGE: [&str; 4] = ["ecg", "feature", "cine", "latent"];
/// Bytes of unpacked chunks kept where a chunk holds several records, so that it is not unpacked again for each.
const CACHE: usize = 32 << 20;

/// An HDF5 file of records, open for reading.
pub struct Reader {
    file: File,
    source: Source,
    bytes: u64,
    doing: String,
    ids: Dataset,
    /// Ids that were read along, from this record on.
    ids_ahead: (usize, Vec<Option<String>>),
    records: usize,
    /// Ids and the record that has each.
    seen: HashMap<String, usize>,
    /// Datasets that passed their checks; an open one keeps its unpacked chunks from record to record.
    checked: RefCell<HashMap<String, Dataset>>,
}

impl Reader {
    /// Opens a file that should hold `format`.
    ///
    /// # Errors
    /// Not HDF5, of another format, or without `/id`.
    pub fn open(source: Source, format: &str) -> Result<Reader> {
        let doing = format!("reading {}", format.trim_start_matches("ecgflow."));
        let fault = |cause: &str| Fault::new(&doing, cause).file(source.shown());
        let head = source.head()?;
        if head.is_empty() {
            let hint = "in a pipe, the program before this one wrote nothing: see its message";
            return Err(fault("the input is empty").hint(hint).into());
        }
        if !super::recognise(&head, "") {
            let hint = format!("this stage reads what {} writes", format::writer(format));
            return Err(fault("").expected("an HDF5 file", "another format").hint(hint).into());
        }
        let bytes = std::fs::metadata(source.path()).map_err(Error::io("opening", source.shown()))?.len();
        let file = open_file(&source, &LARGE, &fault)?;
        check_format(&file, format, &fault)?;
        let ids =
            file.dataset("id").map_err(|_| fault("").field("/id").expected("a dataset of record names", "none"))?;
        let records = match ids.shape().as_slice() {
            [n] => *n,
            other => return Err(fault("").field("/id").expected("one dimension", shape(other)).into()),
        };
        if records == 0 {
            return Err(fault("").expected("at least one record", 0).into());
        }
        let reader = Reader {
            file,
            bytes,
            doing: doing.clone(),
            ids,
            ids_ahead: (0, Vec::new()),
            records,
            source,
            seen: HashMap::new(),
            checked: RefCell::default(),
        };
        reader.bound(&reader.ids, "/id", 1)?;
        Ok(reader)
    }

    /// A fault in this file.
    pub fn fault(&self, cause: impl Into<String>) -> Fault {
        Fault::new(&self.doing, cause).file(self.source.shown())
    }

    /// The name the user knows the file by.
    pub fn shown(&self) -> &str {
        self.source.shown()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of records.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The `format` attribute, where there is one.
    pub fn format_of(source: &Source) -> Option<String> {
        let file = File::open(source.path()).ok()?;
        text_attribute(&file, "format")
    }

    /// Whether the file has this dataset.
    pub fn has(&self, name: &str) -> bool {
        self.file.link_exists(name)
    }

    /// A text attribute of the root or of a dataset.
    pub fn text(&self, name: &str, on: Option<&Dataset>) -> Option<String> {
        text_attribute(on.map_or(&self.file as &Location, |d| d), name)
    }

    /// A numeric attribute of the root or of a dataset.
    pub fn number(&self, name: &str, on: Option<&Dataset>) -> Option<f64> {
        number_attribute(on.map_or(&self.file as &Location, |d| d), name)
    }

    /// What the file says of its origin; a file without our attributes says little.
    pub fn provenance(&self) -> Provenance {
        provenance(&self.file)
    }

    /// A numeric dataset with one entry a record of `rank` dimensions; its shape is checked against the file's size.
    ///
    /// # Errors
    /// Where it is missing, not numeric, of another rank or length, or larger than the file can hold.
    pub fn dataset(&self, name: &str, rank: usize) -> Result<Dataset> {
        if let Some(dataset) = self.checked.borrow().get(name).filter(|d| d.ndim() == rank + 1) {
            return Ok(dataset.clone());
        }
        let dataset = self.check_dataset(name, rank)?;
        self.checked.borrow_mut().insert(name.to_owned(), dataset.clone());
        Ok(dataset)
    }

    fn check_dataset(&self, name: &str, rank: usize) -> Result<Dataset> {
        let field = format!("/{name}");
        let fault = || self.fault("").field(&field);
        let dataset = self.file.dataset(name).map_err(|_| fault().expected("a dataset", "none"))?;
        let found = dataset.shape();
        if found.len() != rank + 1 || found.first() != Some(&self.records) {
            let expected = format!("{} records and {rank} more dimensions", self.records);
            return Err(fault().expected(expected, shape(&found)).into());
        }
        if !is_number(&dataset) {
            return Err(fault().expected("numbers", "another type").into());
        }
        let record = found.iter().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= RECORD);
        let Some(record) = record else {
            return Err(fault().expected(format!("at most {RECORD} values a record"), shape(&found)).into());
        };
        if record == 0 {
            return Err(fault().expected("values in every record", shape(&found)).into());
        }
        let width = dataset.dtype().map(|t| t.size()).unwrap_or(1);
        self.bound(&dataset, &field, record.saturating_mul(width))?;
        Ok(dataset)
    }

    /// Holds the claimed size of a dataset against what the file stores; what it says lies in other files is not read.
    fn bound(&self, dataset: &Dataset, field: &str, record_bytes: usize) -> Result<()> {
        bound(&self.file, self.bytes, dataset, (self.records, record_bytes), self.fault("").field(field))
    }

    /// Whether the values of a dataset lie in this file: no external link, no external storage, no virtual dataset.
    fn is_inside(&self, dataset: &Dataset) -> bool {
        is_inside(&self.file, dataset)
    }

    /// The id that stands at record `i`; where records are read in turn, those of the next are read along.
    fn text_of(&mut self, i: usize) -> Option<String> {
        let (start, ids) = &self.ids_ahead;
        let known = i.checked_sub(*start).and_then(|k| ids.get(k));
        if let Some(known) = known {
            return known.clone();
        }
        if i != 0 && i != start + ids.len() {
            return text_at(&self.ids, i);
        }
        let ids = texts_at(&self.ids, i..self.records.min(i + IDS)).unwrap_or_default();
        self.ids_ahead = (i, ids);
        self.ids_ahead.1.first().cloned().unwrap_or_else(|| text_at(&self.ids, i))
    }

    /// The id of record `i`; no other record may have the same.
    ///
    /// # Errors
    /// Where it is no string, not UTF-8, empty or that of another record read before.
    pub fn id(&mut self, i: usize) -> Result<String> {
        let id = self.text_of(i);
        let place = || self.fault("").record(i).field("/id");
        let id = id.ok_or_else(|| place().expected("a UTF-8 string", "something else"))?;
        if id.is_empty() {
            return Err(place().expected("a name", "an empty string").into());
        }
        if *self.seen.entry(id.clone()).or_insert(i) != i {
            return Err(self.fault("").record(i).field("/id").expected("unique names", format!("{id:?} again")).into());
        }
        Ok(id)
    }

    /// The string of record `i` in an optional text dataset.
    pub fn string(&self, name: &str, i: usize) -> Option<String> {
        let known = self.checked.borrow().get(name).cloned();
        let open = || self.file.dataset(name).ok().filter(|d| d.shape() == [self.records] && self.is_inside(d));
        let dataset = known.or_else(open)?;
        self.checked.borrow_mut().entry(name.to_owned()).or_insert_with(|| dataset.clone());
        text_at(&dataset, i)
    }

    /// Record `i` of a dataset that `dataset` has checked.
    ///
    /// # Errors
    /// Where the file is damaged there.
    pub fn array<T: H5Type, D: Dimension>(&self, dataset: &Dataset, i: usize) -> Result<Array<T, D>> {
        let fault = |e: String| self.fault(e).record(i).field(dataset.name());
        let array: ArrayD<T> = dataset.read_slice(row(dataset, i)).map_err(|e| fault(e.to_string()))?;
        Ok(array.into_dimensionality().map_err(|e| fault(e.to_string()))?)
    }

    /// The number of record `i` in an optional one-dimensional dataset; NaN where there is none.
    ///
    /// # Errors
    /// Where the dataset is there but malformed.
    pub fn scalar(&self, name: &str, i: usize) -> Result<f32> {
        if !self.has(name) {
            return Ok(f32::NAN);
        }
        let dataset = self.dataset(name, 0)?;
        let value: Array1<f32> = dataset.read_slice(i..i + 1).map_err(|e| self.fault(e.to_string()).record(i))?;
        Ok(value.first().copied().unwrap_or(f32::NAN))
    }
}

/// Opens a file, which nobody else has open; where one of the datasets has several records in a chunk, with room for an unpacked
/// one. Where one has chunks without filters, without any room: the library then reads as much of the file as the shape says. With
/// room it makes as much as the file says, and reads on behind that.
pub(super) fn open_file(source: &Source, large: &[&str], fault: &dyn Fn(&str) -> Fault) -> Result<File> {
    let broken = |e: hdf5::Error| fault(&format!("the HDF5 file is damaged: {e}"));
    if source.path().to_str().is_none() {
        let hint = "rename the file, or give it on standard input";
        return Err(fault("").expected("a file name in UTF-8", "other bytes").hint(hint).into());
    }
    let file = File::open(source.path()).map_err(broken)?;
    let datasets: Vec<Dataset> = large.iter().filter_map(|name| file.dataset(name).ok()).collect();
    let room = match (datasets.iter().any(is_plainly_chunked), datasets.iter().any(shares_chunks)) {
        (true, _) => 0,
        (_, true) => CACHE,
        _ => return Ok(file),
    };
    drop((datasets, file)); // of a file that is open the library keeps the room it has
    let mut options = File::with_options();
    options.with_fapl(|p| p.chunk_cache(521, room, 1.0));
    Ok(options.open(source.path()).map_err(broken)?)
}

/// Whether a dataset has chunks without filters.
fn is_plainly_chunked(dataset: &Dataset) -> bool {
    dataset.is_chunked() && filters(dataset).is_some_and(|filters| filters.is_empty())
}

/// Holds what a dataset claims (records, bytes of each) against what a file of `bytes` bytes stores of it.
pub(super) fn bound(file: &File, bytes: u64, dataset: &Dataset, claim: (usize, usize), fault: Fault) -> Result<()> {
    let (records, record_bytes) = claim;
    let claimed = (records as u64).saturating_mul(record_bytes as u64);
    if !is_inside(file, dataset) {
        let hint = "copy the data into this file, for example with h5repack";
        return Err(fault.expected("data in this file", "data in another file").hint(hint).into());
    }
    let stored = dataset.storage_size();
    let possible = if dataset.is_chunked() { stored.saturating_mul(SHRINK) } else { stored };
    let width = dataset.dtype().map_or(1, |t| t.size() as u64);
    let chunk = dataset.chunk().map_or(0, |c| c.iter().fold(width, |n, d| n.saturating_mul(*d as u64)));
    if is_plainly_chunked(dataset) && !stored.is_multiple_of(chunk) {
        let found = format!("{stored} bytes");
        return Err(fault.expected(format!("chunks of {chunk} bytes"), found).hint("copy the file again").into());
    }
    if stored > bytes || claimed > possible || chunk > bytes.saturating_mul(SHRINK) {
        let expected = format!("data for {records} records ({claimed} bytes)");
        let found = format!("{stored} bytes claimed in a file of {bytes}");
        let hint = "the file is truncated or was never written to the end";
        return Err(fault.expected(expected, found).hint(hint).into());
    }
    Ok(())
}

fn is_inside(file: &File, dataset: &Dataset) -> bool {
    let stored_here = dataset.dcpl().is_ok_and(|p| p.external().is_empty() && p.layout() != Layout::Virtual);
    stored_here && dataset.filename() == file.filename()
}

fn provenance(file: &File) -> Provenance {
    let text = |name: &str| text_attribute(file, name);
    let seed = file.attr("seed").ok().and_then(|a| a.read_scalar::<u64>().ok());
    let synthetic = file.attr("synthetic").ok().and_then(|a| a.read_scalar::<bool>().ok());
    let synthetic = synthetic.or_else(|| number_attribute(file, "synthetic").map(|n| n != 0.0)); // as R writes it
    let history = text("history").and_then(|json| serde_json::from_str(&json).ok());
    Provenance {
        tool: text("tool").unwrap_or_else(|| "unknown".to_owned()),
        tool_version: text("tool_version").unwrap_or_default(),
        command: text("command").unwrap_or_default(),
        model: text("model").filter(|m| !m.is_empty()),
        seed,
        created: text("created").unwrap_or_default(),
        synthetic: synthetic.unwrap_or(false),
        history: history.unwrap_or_default(),
    }
}

/// The origin of an HDF5 file; none for other formats and for files that do not tell it.
pub fn origin(source: &Source) -> Option<Provenance> {
    if !super::recognise(&source.head().ok()?, "") {
        return None;
    }
    let file = File::open(source.path()).ok()?;
    text_attribute(&file, "tool")?;
    Some(provenance(&file))
}

/// Whether a large dataset has several records in a chunk.
fn shares_chunks(dataset: &Dataset) -> bool {
    dataset.ndim() > 1 && dataset.chunk().and_then(|c| c.first().copied()).is_some_and(|records| records > 1)
}

fn check_format(file: &File, format: &str, fault: &dyn Fn(&str) -> Fault) -> Result<()> {
    if let Some(found) = text_attribute(file, "format").filter(|found| found != format) {
        let hint = format!("this stage reads what {} writes", format::writer(format));
        return Err(fault("").field("format").expected(format, found).hint(hint).into());
    }
    let version = file.attr("format_version").ok().and_then(|a| a.read_scalar::<i64>().ok());
    if let Some(found) = version.filter(|found| *found != FORMAT_VERSION) {
        let hint = "a newer ecgflow wrote this file: update this one";
        return Err(fault("").field("format_version").expected(FORMAT_VERSION, found).hint(hint).into());
    }
    Ok(())
}

/// The shape as people write it.
pub(super) fn shape(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "a single value".to_owned();
    }
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// Selects record `i`, all of its other dimensions.
pub(super) fn row(dataset: &Dataset, i: usize) -> Selection {
    let whole = |n: usize| SliceOrIndex::SliceCount { start: 0, step: 1, count: n, block: 1 };
    let mut dims = vec![SliceOrIndex::Index(i)];
    dims.extend(dataset.shape().iter().skip(1).map(|n| whole(*n)));
    Selection::from(Hyperslab::from(dims))
}

fn descriptor(container: &Container) -> Option<TypeDescriptor> {
    container.dtype().ok()?.to_descriptor().ok()
}

pub(super) fn is_number(container: &Container) -> bool {
    use TypeDescriptor as T;
    // A 16-bit float has no descriptor in this build; HDF5 converts it all the same.
    let half = || container.dtype().is_ok_and(|t| t.size() == 2);
    match descriptor(container) {
        Some(found) => matches!(found, T::Integer(_) | T::Unsigned(_) | T::Float(_)),
        None => half(),
    }
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A numeric attribute with one value.
pub(super) fn number_attribute(place: &Location, name: &str) -> Option<f64> {
    let attribute = place.attr(name).ok().filter(|a| a.size() == 1 && is_number(a))?;
    attribute.read_raw::<f64>().ok()?.first().copied()
}

/// A string attribute of any of the four kinds of HDF5 strings.
pub(super) fn text_attribute(place: &Location, name: &str) -> Option<String> {
    let attribute = place.attr(name).ok()?;
    if attribute.size() != 1 {
        return None;
    }
    match descriptor(&attribute)? {
        TypeDescriptor::VarLenUnicode => utf8(attribute.read_raw::<VarLenUnicode>().ok()?.first()?.as_bytes()),
        TypeDescriptor::VarLenAscii => utf8(attribute.read_raw::<VarLenAscii>().ok()?.first()?.as_bytes()),
        TypeDescriptor::FixedAscii(_) => utf8(attribute.read_raw::<FixedAscii<STRING>>().ok()?.first()?.as_bytes()),
        TypeDescriptor::FixedUnicode(_) => utf8(attribute.read_raw::<FixedUnicode<STRING>>().ok()?.first()?.as_bytes()),
        _ => None,
    }
}

/// Entry `i` of a string dataset of any of the four kinds.
pub(super) fn text_at(dataset: &Dataset, i: usize) -> Option<String> {
    texts_at(dataset, i..i + 1)?.into_iter().next()?
}

/// Some entries of a string dataset; none for those that are not UTF-8.
fn texts_at(dataset: &Dataset, places: Range<usize>) -> Option<Vec<Option<String>>> {
    Some(match descriptor(dataset)? {
        TypeDescriptor::VarLenUnicode => {
            some::<VarLenUnicode>(dataset, places)?.iter().map(|t| utf8(t.as_bytes())).collect()
        }
        TypeDescriptor::VarLenAscii => {
            some::<VarLenAscii>(dataset, places)?.iter().map(|t| utf8(t.as_bytes())).collect()
        }
        TypeDescriptor::FixedAscii(_) => {
            some::<FixedAscii<STRING>>(dataset, places)?.iter().map(|t| utf8(t.as_bytes())).collect()
        }
        TypeDescriptor::FixedUnicode(_) => {
            some::<FixedUnicode<STRING>>(dataset, places)?.iter().map(|t| utf8(t.as_bytes())).collect()
        }
        _ => return None,
    })
}

pub(super) fn one<T: H5Type>(dataset: &Dataset, i: usize) -> Option<Array1<T>> {
    some(dataset, i..i + 1)
}

fn some<T: H5Type>(dataset: &Dataset, places: Range<usize>) -> Option<Array1<T>> {
    dataset.read_slice(places).ok()
}

/// Refuses values that are not finite.
pub(super) fn finite<'a>(reader: &Reader, id: &str, field: &str, values: impl Iterator<Item = &'a f32>) -> Result<()> {
    match values.enumerate().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some((at, value)) => {
            let found = format!("{value} at value {at}");
            Err(reader.fault("").record(id).field(field).expected("finite numbers", found).into())
        }
    }
}
