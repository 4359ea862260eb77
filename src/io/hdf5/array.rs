//! ECGs in HDF5 files of other people: one array of samples, perhaps with ids beside it.
//!
//! ```text
//! exams_part0.hdf5 (CODE-15 %)           written by h5py
//! |- exam_id   N integers                 |- signals   (N,12,S), (N,S,12), (12,S) or (S,12)
//! `- tracings  (N,4096,12), 400 Hz, mV    |- id        N strings or integers; attributes fs, leads, units
//! ```
//!
//! `--dataset` names the array; without it, it is `tracings`, `ecg`, or the only one of two or three dimensions at the
//! root that fits. Where several of two dimensions fit, or `--dataset` names a group of such, each is a record. Rate, leads and unit come from attributes of the array or the root, else from the command line, else see
//! [`unstated`]. In the layout of CODE-15 % (`tracings`, 4096 samples by 12 leads), tracings of 7 or 10 s are filled with
//! zeros at both ends; those are taken away again, and the rate is 400 Hz.

use hdf5::types::TypeDescriptor;
use hdf5::{Dataset, File, Group};
use ndarray::{Array1, Array2, ArrayD, Ix2};

use super::ecg::split_leads;
use super::reader::{self, bound, is_number, one, open_file, row, text_at, RECORD};
use crate::data::ecg::{Lead, LEADS};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};
use crate::io::array::{layout, Layout};
use crate::io::{unstated, ReadOptions, Recordings, Source};

const DOING: &str = "reading HDF5 array";
/// Datasets that hold record names, most telling first.
const ID_NAMES: [&str; 5] = ["id", "ids", "exam_id", "ecg_id", "record_id"];
const RATE_NAMES: [&str; 5] = ["fs", "sampling_rate", "sampling_frequency", "sample_rate", "rate"];
const LEAD_NAMES: [&str; 4] = ["lead", "leads", "lead_names", "sig_name"];
pub(super) const UNIT_NAMES: [&str; 2] = ["unit", "units"];
/// What CODE-15 % calls its array, its samples and its rate.
const CODE_NAME: &str = "tracings";
const CODE_SAMPLES: usize = 4096;
const CODE_RATE_HZ: f64 = 400.0;

/// Whether a file has not the two datasets of `ecgflow.ecg`, and says of no other format of ours that it is one.
pub(super) fn is_foreign(source: &Source) -> bool {
    let Ok(file) = File::open(source.path()) else { return false };
    let is_ours = ["ecg", "id"].iter().all(|name| file.link_exists(name));
    !is_ours && reader::text_attribute(&file, "format").is_none()
}

/// Reads the records of the array, or the arrays that are a record each.
///
/// # Errors
/// Where there is no such array or none that is the only one, where its shape holds no leads, and where rate or unit
/// cannot be known.
pub(super) fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let (shown, options) = (source.shown().to_owned(), options.clone());
    let fault = |cause: &str| Fault::new(DOING, cause).file(&shown);
    let file = open_file(&source, &[], &fault)?;
    let names = choose(&file, &options).map_err(|e| e.in_file(&shown))?;
    drop(file);
    let file = open_file(&source, &names.iter().map(String::as_str).collect::<Vec<_>>(), &fault)?;
    let [name] = names.as_slice() else {
        return Ok(Box::new(names.into_iter().map(move |name| {
            let id = name.rsplit('/').next().unwrap_or(&name).to_owned();
            let arrays = Arrays::open(&file, &source, &name, &options);
            arrays.and_then(|arrays| arrays.read(0, &id)).map_err(|e| e.in_file(&shown).in_record(&id))
        })));
    };
    let arrays = Arrays::open(&file, &source, name, &options).map_err(|e| e.in_file(&shown))?;
    Ok(Box::new((0..arrays.layout.records).map(move |i| {
        let id = arrays.id(i, &source);
        arrays.read(i, &id).map_err(|e| e.in_file(&shown).in_record(&id))
    })))
}

/// An array and what is known of it.
struct Arrays {
    dataset: Dataset,
    layout: Layout,
    ids: Option<Dataset>,
    leads: Vec<String>,
    rate_hz: f64,
    options: ReadOptions,
    /// Whether zeros at both ends are filling.
    is_code: bool,
}

impl Arrays {
    fn open(file: &File, source: &Source, name: &str, options: &ReadOptions) -> Result<Arrays> {
        let fault = |cause: &str| Fault::new(DOING, cause);
        let bytes = std::fs::metadata(source.path()).map_err(Error::io("opening", source.shown()))?.len();
        let field = format!("/{name}");
        let missing = |e: hdf5::Error| fault(&e.to_string()).field(&field);
        let dataset = file.dataset(name).map_err(missing)?;
        if !is_number(&dataset) {
            return Err(fault("").field(&field).expected("numbers", "another type").into());
        }
        let attribute = |names: &[&str]| attribute_text(file, &dataset, names);
        let standard = || Lead::ALL.map(|l| l.name().to_owned()).to_vec();
        let named = attribute(&LEAD_NAMES).map(|t| split_leads(&t));
        let leads = unstated::stated_leads(named, options.leads.as_deref())?.unwrap_or_else(standard);
        let layout = layout(DOING, &dataset.shape(), leads.len(), options.layout)?;
        check_size(file, bytes, &dataset, &layout, &field)?;
        let is_code = name == CODE_NAME && layout.by_sample && (layout.samples, layout.leads) == (CODE_SAMPLES, 12);
        let stated = attribute_number(file, &dataset, &RATE_NAMES);
        let rate_hz = unstated::stated_rate_hz(stated, options.rate_hz)?.or(is_code.then_some(CODE_RATE_HZ));
        let unit = unstated::stated_unit(attribute(&UNIT_NAMES).as_deref(), options.unit)?;
        let options = ReadOptions { rate_hz, unit, ..options.clone() };
        let rate_hz = unstated::rate_hz(&options, layout.samples)?;
        let ids = find_ids(file, name, bytes, layout.records).filter(|_| layout.stacked);
        Ok(Arrays { dataset, layout, ids, leads, rate_hz, options, is_code })
    }

    /// The record's id where the file has one, else the name of the file and the record's number.
    fn id(&self, i: usize, source: &Source) -> String {
        let stem = source.stem();
        match self.ids.as_ref().and_then(|ids| id_at(ids, i)) {
            Some(id) => id,
            None if self.layout.stacked => format!("{stem}_{i}"),
            None => stem,
        }
    }

    fn read(&self, i: usize, id: &str) -> Result<Recording> {
        let fault = |said: String| Fault::new(DOING, said).field(self.dataset.name());
        let array: std::result::Result<ArrayD<f64>, hdf5::Error> = match self.layout.stacked {
            true => self.dataset.read_slice(row(&self.dataset, i)),
            false => self.dataset.read_dyn(),
        };
        let array = array.map_err(|e| fault(e.to_string()))?;
        let array: Array2<f64> = array.into_dimensionality::<Ix2>().map_err(|e| fault(e.to_string()))?;
        let array = if self.layout.by_sample { array.reversed_axes() } else { array };
        let (first, last) = if self.is_code { recorded(&array) } else { (0, array.ncols()) };
        let mut samples_mv = array.slice(ndarray::s![.., first..last]).as_standard_layout().into_owned();
        unstated::to_mv(&self.options, &mut samples_mv)?;
        let cut = array.ncols() - samples_mv.ncols();
        let recording = Recording::new(id, self.leads.clone(), self.rate_hz, samples_mv)?;
        Ok(match self.is_code {
            true => recording.note(format!("layout of CODE-15 %: {} Hz, {cut} filling zeros cut", self.rate_hz)),
            false => recording,
        })
    }
}

/// The name of the array: what `--dataset` says, else one known by name, else the only one that may hold ECGs. Several
/// names where `--dataset` is a group, or the root holds several arrays of two dimensions: each is a record.
fn choose(file: &File, options: &ReadOptions) -> Result<Vec<String>> {
    if let Some(name) = &options.dataset {
        return named(file, name.trim_matches('/'), options);
    }
    let candidates = candidates(file);
    let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(name) = [CODE_NAME, "ecg"].into_iter().find(|name| names.contains(name)) {
        return Ok(vec![name.to_owned()]);
    }
    match (names.as_slice(), one_each(&candidates, options)) {
        ([one], _) => Ok(vec![(*one).to_owned()]),
        (_, Some(records)) => Ok(records),
        (_, None) => {
            let fault = Fault::new(DOING, "").expected("one dataset of two or three dimensions", list(&candidates));
            Err(fault.hint("name the dataset with --dataset").into())
        }
    }
}

/// The array that `--dataset` names, or the arrays of the group it names.
fn named(file: &File, name: &str, options: &ReadOptions) -> Result<Vec<String>> {
    if file.dataset(name).is_ok() {
        return Ok(vec![name.to_owned()]);
    }
    let fault = |found: String| Fault::new(DOING, "there is no such dataset").expected(name, found);
    let Ok(group) = file.group(name) else {
        let hint = "write groups before it, as in --dataset group/name";
        return Err(fault(list(&candidates(file))).hint(hint).into());
    };
    let held = candidates(&group);
    let records = one_each(&held, options);
    Ok(records.ok_or_else(|| fault(format!("a group of {}", list(&held))).hint("name a dataset in the group"))?)
}

/// Names and shapes of the datasets of a group that may hold ECGs.
fn candidates(group: &Group) -> Vec<(String, Vec<usize>)> {
    let may_hold = |d: &Dataset| is_number(d) && matches!(d.ndim(), 2 | 3);
    let datasets = group.datasets().unwrap_or_default().into_iter().filter(may_hold);
    let mut named: Vec<_> = datasets.map(|d| (d.name().trim_start_matches('/').to_owned(), d.shape())).collect();
    named.sort();
    named
}

fn list(candidates: &[(String, Vec<usize>)]) -> String {
    let names: Vec<&str> = candidates.iter().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// The names of those that fit the leads, where these have two dimensions, a record each, or where it is only one.
fn one_each(candidates: &[(String, Vec<usize>)], options: &ReadOptions) -> Option<Vec<String>> {
    let leads = options.leads.as_ref().map_or(LEADS, Vec::len);
    let fits = |shape: &[usize]| layout(DOING, shape, leads, options.layout).is_ok();
    let fitting: Vec<_> = candidates.iter().filter(|(_, shape)| fits(shape)).collect();
    let alike = fitting.len() == 1 || fitting.iter().all(|(_, shape)| shape.len() == 2);
    (alike && !fitting.is_empty()).then(|| fitting.into_iter().map(|(name, _)| name.clone()).collect())
}

/// Holds what the array claims against the file's size.
fn check_size(file: &File, bytes: u64, dataset: &Dataset, layout: &Layout, field: &str) -> Result<()> {
    let fault = || Fault::new(DOING, "").field(field);
    let record = layout.leads.checked_mul(layout.samples).filter(|n| *n <= RECORD);
    let Some(record) = record else {
        let found = format!("{} x {}", layout.leads, layout.samples);
        return Err(fault().expected(format!("at most {RECORD} values a record"), found).into());
    };
    let width = dataset.dtype().map_or(1, |t| t.size());
    bound(file, bytes, dataset, (layout.records, record.saturating_mul(width)), fault())
}

/// The dataset beside the array (or at the root) that names the records.
fn find_ids(file: &File, name: &str, bytes: u64, records: usize) -> Option<Dataset> {
    let group = name.rsplit_once('/').map_or(String::new(), |(group, _)| format!("{group}/"));
    let places = ID_NAMES.iter().flat_map(|id| [format!("{group}{id}"), (*id).to_owned()]);
    let mut found = places.filter_map(|place| file.dataset(&place).ok()).filter(|d| d.shape() == [records]);
    let ids = found.next()?;
    bound(file, bytes, &ids, (records, 1), Fault::default()).is_ok().then_some(ids)
}

/// Entry `i` of a dataset of names: a string or an integer.
fn id_at(ids: &Dataset, i: usize) -> Option<String> {
    let kind = ids.dtype().ok()?.to_descriptor().ok()?;
    let id = match kind {
        TypeDescriptor::Integer(_) => one::<i64>(ids, i)?.first()?.to_string(),
        TypeDescriptor::Unsigned(_) => one::<u64>(ids, i)?.first()?.to_string(),
        _ => text_at(ids, i)?,
    };
    (!id.is_empty()).then_some(id)
}

fn attribute_text(file: &File, dataset: &Dataset, names: &[&str]) -> Option<String> {
    let here = names.iter().find_map(|name| reader::text_attribute(dataset, name));
    here.or_else(|| names.iter().find_map(|name| reader::text_attribute(file, name)))
}

fn attribute_number(file: &File, dataset: &Dataset, names: &[&str]) -> Option<f64> {
    let here = names.iter().find_map(|name| reader::number_attribute(dataset, name));
    here.or_else(|| names.iter().find_map(|name| reader::number_attribute(file, name)))
}

/// First sample that is not zero in every lead, and the end of the last.
fn recorded(array: &Array2<f64>) -> (usize, usize) {
    let moving: Array1<bool> = array.columns().into_iter().map(|c| c.iter().any(|v| *v != 0.0)).collect();
    match moving.iter().position(|m| *m) {
        Some(first) => (first, moving.iter().rposition(|m| *m).map_or(first, |last| last + 1)),
        None => (0, array.ncols()),
    }
}
