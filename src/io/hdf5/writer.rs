//! Writing records to HDF5 one at a time; the chunks of large datasets are packed by all threads.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use hdf5::types::VarLenUnicode;
use hdf5::{Dataset, File, H5Type, Hyperslab, Location, Selection, SliceOrIndex};
use ndarray::{Array1, ArrayView, ArrayViewD, Axis, Dimension};

use super::chunk::{pack, store, Number, LEVEL, MOVES};
use super::FORMAT_VERSION;
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::ordered::Queue;
use crate::io::output::Output;

/// Bytes of records that wait to be packed or stored.
const WAITING: usize = 64 << 20;
/// Records by which a large dataset grows.
const GROWTH: usize = 64;
/// Numbers of a record below which packing is left to the library.
const SMALL: usize = 256;
/// Entries a chunk, and entries held back, of datasets with one number or name a record.
const BLOCK: usize = 1024;

/// One dataset with a number or a name a record; written in blocks.
enum Column {
    F32(Vec<f32>),
    I32(Vec<i32>),
    Text(Vec<VarLenUnicode>),
    /// So many bytes a record.
    Bytes(Vec<u8>, usize),
    /// Lists of different lengths, padded with -1.
    Ragged(Vec<Vec<i32>>),
}

/// A chunk on its way: its dataset, its record, its packed bytes.
type Packed = (String, usize, Vec<u8>);

/// An HDF5 file of records under way.
pub struct Writer {
    file: File,
    output: Output,
    format: String,
    provenance: Provenance,
    arrays: BTreeMap<String, Dataset>,
    packing: Queue<Packed>,
    columns: BTreeMap<String, (Column, Option<Dataset>)>,
    records: usize,
    flushed: usize,
}

/// Wraps a failure of the HDF5 library while writing `to`.
fn wrap(to: &Output) -> impl Fn(hdf5::Error) -> Error + '_ {
    move |e| Error::compute(format!("writing {}", to.shown()))(cause(&e))
}

/// What the system said, such as that the disk is full; else what the library says. The library keeps the words of the
/// system in the innermost of its messages: `..., error message = 'No space left on device', ...`.
fn cause(error: &hdf5::Error) -> String {
    let stack = error.stack();
    let said =
        |frame: &hdf5::ErrorFrame| Some(frame.desc().split_once("error message = '")?.1.split_once('\'')?.0.to_owned());
    let of_system = stack.as_ref().and_then(|frames| frames.iter().rev().find_map(said));
    of_system.unwrap_or_else(|| error.to_string())
}

impl Writer {
    /// Begins a file of `format`; `-` is standard output.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path, format: &str, provenance: &Provenance) -> Result<Writer> {
        let output = Output::begin(path, true)?;
        let file = File::create(output.path()).map_err(wrap(&output))?;
        let (arrays, columns) = (BTreeMap::new(), BTreeMap::new());
        let (format, provenance) = (format.to_owned(), provenance.clone());
        let packing = Queue::new(WAITING);
        Ok(Writer { file, output, format, provenance, arrays, packing, columns, records: 0, flushed: 0 })
    }

    /// Adds the origin of an input to the provenance, which is written at the end.
    pub fn after(&mut self, input: &Provenance) {
        self.provenance = self.provenance.clone().after(input);
    }

    fn write_provenance(&self) -> hdf5::Result<()> {
        let provenance = &self.provenance;
        let history = serde_json::to_string(&provenance.history).unwrap_or_default();
        let texts = [
            ("format", self.format.as_str()),
            ("tool", &provenance.tool),
            ("tool_version", &provenance.tool_version),
            ("command", &provenance.command),
            ("model", provenance.model.as_deref().unwrap_or("")),
            ("created", &provenance.created),
            ("history", &history),
        ];
        for (name, value) in texts {
            write_text(&self.file, name, value)?;
        }
        write_number(&self.file, "format_version", &FORMAT_VERSION)?;
        write_number(&self.file, "synthetic", &provenance.synthetic)?;
        match provenance.seed {
            Some(seed) => write_number(&self.file, "seed", &seed),
            None => Ok(()),
        }
    }

    /// Adds a text attribute to the root.
    ///
    /// # Errors
    /// Where the library refuses.
    pub fn text_attribute(&self, name: &str, value: &str) -> Result<()> {
        write_text(&self.file, name, value).map_err(wrap(&self.output))
    }

    /// Adds a numeric attribute to the root.
    ///
    /// # Errors
    /// Where the library refuses.
    pub fn number_attribute(&self, name: &str, value: f64) -> Result<()> {
        write_number(&self.file, name, &value).map_err(wrap(&self.output))
    }

    /// Writes the record's part of a large dataset; the first record fixes the shape.
    ///
    /// # Errors
    /// Where the shape differs from the first record's, or writing fails.
    pub fn array<T: Number, D: Dimension>(&mut self, name: &str, values: ArrayView<'_, T, D>) -> Result<()> {
        let values = values.into_dyn();
        if !self.arrays.contains_key(name) {
            let dataset = create::<T>(&self.file, name, values.shape()).map_err(wrap(&self.output))?;
            self.arrays.insert(name.to_owned(), dataset);
        }
        let Some(dataset) = self.arrays.get(name) else { return Ok(()) };
        grow(dataset, self.records, values.shape()).map_err(wrap(&self.output))?;
        if !MOVES || values.len() < SMALL {
            return fill(dataset, self.records, &values).map_err(wrap(&self.output));
        }
        let standard = values.as_standard_layout();
        let record = standard.as_slice().unwrap_or_default().to_vec();
        while !self.packing.has_room() {
            self.store_next()?;
        }
        let (name, at) = (name.to_owned(), self.records);
        self.packing.push(size_of_val(record.as_slice()), move || (name, at, pack(&record)));
        Ok(())
    }

    /// Stores the oldest chunk that is being packed; false where there is none.
    fn store_next(&mut self) -> Result<bool> {
        let Some(packed) = self.packing.pop() else { return Ok(false) };
        let (name, at, bytes) = packed?;
        if let Some(dataset) = self.arrays.get(&name) {
            let doing = || format!("writing {}, record {at} of /{name}", self.output.shown());
            store(dataset, at, &bytes).map_err(|e| Error::compute(doing())(cause(&e)))?;
        }
        Ok(true)
    }

    /// Writes the record's entry of a dataset with one f32 a record.
    pub fn f32(&mut self, name: &str, value: f32) {
        if let Column::F32(held) = self.column(name, || Column::F32(Vec::new())) {
            held.push(value);
        }
    }

    /// Writes the record's entry of a dataset with one i32 a record.
    pub fn i32(&mut self, name: &str, value: i32) {
        if let Column::I32(held) = self.column(name, || Column::I32(Vec::new())) {
            held.push(value);
        }
    }

    /// Writes the record's entry of a dataset with one string a record; NUL ends it.
    pub fn text(&mut self, name: &str, value: &str) {
        let value = value.split('\0').next().unwrap_or_default();
        let value = VarLenUnicode::from_str(value).unwrap_or_default();
        if let Column::Text(held) = self.column(name, || Column::Text(Vec::new())) {
            held.push(value);
        }
    }

    /// Writes the record's entry of a dataset with some bytes a record, always as many.
    pub fn bytes(&mut self, name: &str, values: &[u8]) {
        if let Column::Bytes(held, _) = self.column(name, || Column::Bytes(Vec::new(), values.len())) {
            held.extend(values);
        }
    }

    /// Writes the record's list in a dataset of lists, padded with -1.
    pub fn ragged(&mut self, name: &str, values: &[i32]) {
        if let Column::Ragged(held) = self.column(name, || Column::Ragged(Vec::new())) {
            held.push(values.to_vec());
        }
    }

    fn column(&mut self, name: &str, empty: impl FnOnce() -> Column) -> &mut Column {
        &mut self.columns.entry(name.to_owned()).or_insert_with(|| (empty(), None)).0
    }

    /// Ends the record.
    ///
    /// # Errors
    /// Where writing fails.
    pub fn end_record(&mut self) -> Result<()> {
        self.records += 1;
        if self.records - self.flushed >= BLOCK {
            self.flush()?;
        }
        Ok(())
    }

    /// Records written so far.
    pub fn records(&self) -> usize {
        self.records
    }

    fn flush(&mut self) -> Result<()> {
        let (file, start) = (&self.file, self.flushed);
        for (name, (column, dataset)) in &mut self.columns {
            let done = match column {
                Column::F32(held) => flat(file, name, dataset, start, std::mem::take(held)),
                Column::I32(held) => flat(file, name, dataset, start, std::mem::take(held)),
                Column::Text(held) => flat(file, name, dataset, start, std::mem::take(held)),
                Column::Bytes(held, width) => table(file, name, dataset, start, (std::mem::take(held), *width)),
                Column::Ragged(held) => ragged(file, name, dataset, start, std::mem::take(held)),
            };
            done.map_err(wrap(&self.output))?;
        }
        self.flushed = self.records;
        Ok(())
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// Where no record was written, or writing fails.
    pub fn finish(mut self) -> Result<()> {
        if self.records == 0 {
            return Err(Fault::new("writing", "no record could be used").file(self.output.shown()).into());
        }
        while self.store_next()? {}
        self.arrays.values().try_for_each(|dataset| trim(dataset, self.records)).map_err(wrap(&self.output))?;
        self.flush()?;
        self.write_provenance().map_err(wrap(&self.output))?;
        self.arrays.clear();
        self.columns.clear();
        let Writer { file, output, .. } = self;
        file.close().map_err(wrap(&output))?;
        output.finish()
    }
}

fn write_text(place: &Location, name: &str, value: &str) -> hdf5::Result<()> {
    let value = value.split('\0').next().unwrap_or_default();
    let value = VarLenUnicode::from_str(value).unwrap_or_default();
    place.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&value)
}

fn write_number<T: H5Type>(place: &Location, name: &str, value: &T) -> hdf5::Result<()> {
    place.new_attr::<T>().create(name)?.write_scalar(value)
}

/// A dataset that grows along the record axis, one record a chunk.
fn create<T: H5Type>(file: &File, name: &str, record: &[usize]) -> hdf5::Result<Dataset> {
    let with_record = |n: usize| std::iter::once(n).chain(record.iter().copied()).collect::<Vec<_>>();
    let extents: Vec<hdf5::Extent> =
        std::iter::once(hdf5::Extent::resizable(0)).chain(record.iter().map(|n| hdf5::Extent::fixed(*n))).collect();
    file.new_dataset::<T>()
        .shape(hdf5::SimpleExtents::new(extents))
        .chunk(with_record(1))
        .shuffle()
        .deflate(LEVEL)
        .create(name)
}

/// Makes room for record `at` of this shape.
fn grow(dataset: &Dataset, at: usize, record: &[usize]) -> hdf5::Result<()> {
    let shape = dataset.shape();
    if shape.get(1..) != Some(record) {
        return Err(format!("record {at} has another shape than the first: {record:?}").into());
    }
    match shape.first() {
        Some(records) if *records <= at => extend(dataset, shape, at + GROWTH),
        _ => Ok(()),
    }
}

/// Takes away the room that was not needed.
fn trim(dataset: &Dataset, records: usize) -> hdf5::Result<()> {
    extend(dataset, dataset.shape(), records)
}

fn extend(dataset: &Dataset, mut shape: Vec<usize>, records: usize) -> hdf5::Result<()> {
    shape.iter_mut().take(1).for_each(|n| *n = records);
    dataset.resize(shape)
}

/// Has the library pack and store record `at`.
fn fill<T: H5Type + Clone>(dataset: &Dataset, at: usize, values: &ArrayViewD<'_, T>) -> hdf5::Result<()> {
    let whole = |n: usize| SliceOrIndex::SliceCount { start: 0, step: 1, count: n, block: 1 };
    let mut dims = vec![SliceOrIndex::SliceCount { start: at, step: 1, count: 1, block: 1 }];
    dims.extend(values.shape().iter().map(|n| whole(*n)));
    let standard = values.as_standard_layout();
    dataset.write_slice(standard.view().insert_axis(Axis(0)), Selection::from(Hyperslab::from(dims)))
}

fn flat<T: H5Type>(
    file: &File,
    name: &str,
    dataset: &mut Option<Dataset>,
    at: usize,
    values: Vec<T>,
) -> hdf5::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    if dataset.is_none() {
        *dataset = Some(file.new_dataset::<T>().shape(0..).chunk(BLOCK).shuffle().deflate(LEVEL).create(name)?);
    }
    let Some(dataset) = dataset else { return Ok(()) };
    let end = at + values.len();
    dataset.resize(end)?;
    dataset.write_slice(&Array1::from(values), at..end)
}

/// Rows of one length.
fn table(
    file: &File,
    name: &str,
    dataset: &mut Option<Dataset>,
    at: usize,
    (values, width): (Vec<u8>, usize),
) -> hdf5::Result<()> {
    let rows = values.len() / width.max(1);
    if rows == 0 {
        return Ok(());
    }
    if dataset.is_none() {
        let builder = file.new_dataset::<u8>().shape((0.., width)).chunk((BLOCK, width));
        *dataset = Some(builder.shuffle().deflate(LEVEL).create(name)?);
    }
    let Some(dataset) = dataset else { return Ok(()) };
    let values = ndarray::Array2::from_shape_vec((rows, width), values).map_err(|e| e.to_string())?;
    dataset.resize((at + rows, width))?;
    dataset.write_slice(&values, (at..at + rows, 0..width))
}

/// Lists become rows; the second axis grows with the longest list, new places hold -1.
fn ragged(file: &File, name: &str, dataset: &mut Option<Dataset>, at: usize, lists: Vec<Vec<i32>>) -> hdf5::Result<()> {
    if lists.is_empty() {
        return Ok(());
    }
    if dataset.is_none() {
        let builder = file.new_dataset::<i32>().shape((0.., 0..)).chunk((BLOCK, 16)).fill_value(-1i32);
        *dataset = Some(builder.shuffle().deflate(LEVEL).create(name)?);
    }
    let Some(dataset) = dataset else { return Ok(()) };
    let before = dataset.shape().get(1).copied().unwrap_or(0);
    let width = lists.iter().map(Vec::len).max().unwrap_or(0).max(before).max(1);
    let mut rows = ndarray::Array2::from_elem((lists.len(), width), -1i32);
    for (mut row, list) in rows.rows_mut().into_iter().zip(&lists) {
        row.iter_mut().zip(list).for_each(|(place, value)| *place = *value);
    }
    dataset.resize((at + lists.len(), width))?;
    dataset.write_slice(&rows, (at..at + lists.len(), 0..width))
}
