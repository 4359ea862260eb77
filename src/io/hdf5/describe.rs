//! What an HDF5 file holds: its attributes and datasets, with shapes and types.

use hdf5::{Dataset, File, Group, IndexType, IterationOrder};
use serde_json::{json, Map, Value};

use super::reader::{number_attribute, text_attribute};
use crate::error::{Fault, Result};
use crate::io::Source;

/// Most entries listed, and deepest group entered.
const MOST: usize = 500;
const DEEPEST: usize = 8;

/// Attributes of the root, then every dataset.
///
/// # Errors
/// Where the file is damaged.
pub fn describe(source: &Source) -> Result<Value> {
    let broken = |e: hdf5::Error| Fault::new("reading HDF5", e.to_string()).file(source.shown());
    let file = File::open(source.path()).map_err(broken)?;
    let mut said = Map::new();
    said.insert("kind".to_owned(), json!("HDF5"));
    // One by one: a walk over all has the binding print a character set that a damaged file makes up.
    let attribute = |i| file.attr_by_index(IndexType::Name, IterationOrder::Increasing, i).ok();
    for name in (0..MOST as u64).map_while(attribute).map(|a| a.name()) {
        let number = || number_attribute(&file, &name).map_or(json!("(another type)"), whole);
        let flag = || file.attr(&name).ok().and_then(|a| a.read_scalar::<bool>().ok()).map(|b| json!(b));
        let value = text_attribute(&file, &name).map(|text| json!(text)).or_else(flag).unwrap_or_else(number);
        said.insert(name, value);
    }
    let mut datasets = Map::new();
    list(&file, "", 0, &mut datasets);
    said.insert("datasets".to_owned(), Value::Object(datasets));
    Ok(Value::Object(said))
}

/// A number without a point where it is whole.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return json!(number as i64);
    }
    json!(number)
}

fn list(group: &Group, path: &str, depth: usize, into: &mut Map<String, Value>) {
    for name in group.member_names().unwrap_or_default() {
        if into.len() >= MOST {
            return;
        }
        let full = format!("{path}/{name}");
        if let Ok(dataset) = group.dataset(&name) {
            into.insert(full, json!(line(&dataset)));
        } else if let (Ok(inner), true) = (group.group(&name), depth < DEEPEST) {
            list(&inner, &full, depth + 1, into);
        }
    }
}

fn line(dataset: &Dataset) -> String {
    let kind = dataset.dtype().and_then(|t| t.to_descriptor());
    let kind = kind.map_or_else(|_| "another type".to_owned(), |k| k.to_string());
    format!("{} {kind}", super::reader::shape(&dataset.shape()))
}
