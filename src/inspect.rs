//! What a file holds: ours, or an input of a format we know.

use serde_json::{json, Map, Value};

use crate::checkpoint::{torch, Weights};
use crate::data::ecg::Lead;
use crate::error::{Error, Fault, Result};
use crate::io::{self, dicom, hdf5, ReadOptions, Source};

/// Most tensors listed.
const MOST: usize = 2000;

/// Describes a file as JSON.
///
/// # Errors
/// Where no format recognises the file, or the one that does finds it malformed.
pub fn inspect(source: &Source) -> Result<Value> {
    let head = source.head()?;
    if head.is_empty() {
        return Err(Fault::new("inspecting", "the file is empty").file(source.shown()).into());
    }
    if hdf5::recognise(&head, "") {
        return hdf5::describe(source);
    }
    if dicom::recognise(&head, "") {
        let said = dicom::describe(source.path()).map_err(|e| e.in_file(source.shown()))?;
        return Ok(with_ecg(said, source));
    }
    if head.get(8) == Some(&b'{') {
        return weights(&Weights::open(source.path()).map_err(|e| e.in_file(source.shown()))?);
    }
    if torch::recognise(source.path())? {
        return checkpoint(source).map_err(|e| e.in_file(source.shown()));
    }
    ecg(source)
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// Describes weights as JSON.
///
/// # Errors
/// Where their configuration is no JSON.
pub fn weights(weights: &Weights) -> Result<Value> {
    let mut models = Map::new();
    for kind in weights.configs().kinds() {
        let prefix = format!("{kind}.");
        let of_kind = weights.shapes().iter().filter(|(name, _)| name.starts_with(&prefix));
        let numbers: usize = of_kind.map(|(_, dims)| dims.iter().product::<usize>()).sum();
        models.insert(kind.name().to_owned(), json!({ "origin": weights.origin(kind), "numbers": numbers }));
    }
    let config = serde_json::to_value(weights.configs()).map_err(Error::compute("writing JSON"))?;
    let provenance = serde_json::to_value(weights.provenance()).map_err(Error::compute("writing JSON"))?;
    Ok(json!({
        "kind": "ecgflow weights (safetensors)",
        "id": weights.id(),
        "models": models,
        "config": config,
        "provenance": provenance,
    }))
}

fn checkpoint(source: &Source) -> Result<Value> {
    let checkpoint = torch::read(source.path())?;
    let mut tensors = Map::new();
    list(checkpoint.root(), "", 0, &mut tensors);
    Ok(json!({ "kind": "PyTorch checkpoint", "content": tensors }))
}

fn list(value: torch::Value<'_>, path: &str, depth: usize, into: &mut Map<String, Value>) {
    if into.len() >= MOST || depth > 4 {
        return;
    }
    if let Some(tensor) = value.tensor() {
        into.insert(path.to_owned(), json!(shape(&tensor.shape())));
    } else if let Some(entries) = value.entries() {
        for (name, inner) in entries {
            let full = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            list(inner, &full, depth + 1, into);
        }
    } else {
        into.insert(path.to_owned(), json!(value.what()));
    }
}

/// Adds what a DICOM object holds where that is an ECG; of an image nothing is added.
fn with_ecg(mut said: Value, source: &Source) -> Value {
    if let (Some(said), Ok(Value::Object(ecg))) = (said.as_object_mut(), ecg(source)) {
        said.extend(ecg.into_iter().filter(|(name, _)| name != "kind"));
    }
    said
}

fn ecg(source: &Source) -> Result<Value> {
    let copy = Source::open(source.path())?;
    let (format, mut recordings) = io::open_ecg(copy, &ReadOptions::default()).map_err(|e| renamed(e, source))?;
    let first = recordings.next().transpose().map_err(|e| renamed(e, source))?;
    let Some(first) = first else {
        return Err(Fault::new("inspecting", "the file holds no record").file(source.shown()).into());
    };
    let (leads, samples) = first.samples_mv.dim();
    let standard: Vec<&str> = first.leads.iter().filter_map(|l| Lead::parse(l)).map(Lead::name).collect();
    let mut said = json!({
        "kind": format!("ECG ({format})"),
        "first record": first.id,
        "leads": format!("{leads}: {}", first.leads.join(", ")),
        "standard leads": standard.len(),
        "samples": samples,
        "rate_hz": first.rate_hz,
        "seconds": samples as f64 / first.rate_hz,
    });
    if let (Some(said), false) = (said.as_object_mut(), first.notes.is_empty()) {
        said.insert("notes".to_owned(), json!(first.notes.join("\n")));
    }
    Ok(said)
}

/// A fault names the file as the user does, not the spool.
fn renamed(mut error: Error, source: &Source) -> Error {
    if let Error::Input(fault) = &mut error {
        fault.file = Some(source.shown().to_owned());
    }
    error
}

/// The same as indented lines.
pub fn lines(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, into: &mut String) {
    let Value::Object(map) = value else { return };
    for (name, value) in map {
        let margin = "  ".repeat(depth);
        into.push_str(&margin);
        let name = plain(name).replace('\n', " ");
        match value {
            Value::Object(_) => {
                into.push_str(&format!("{name}:\n"));
                write(value, depth + 1, into);
            }
            Value::String(text) => {
                let text = plain(text.trim_end()).replace('\n', &format!("\n{margin}  "));
                into.push_str(&format!("{name}: {text}\n"));
            }
            other => into.push_str(&format!("{name}: {other}\n")),
        }
    }
}

/// Without the control characters that could steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_indented() {
        let value = json!({ "a": "x", "b": { "c": 1, "d": [1, 2] } });
        assert_eq!(lines(&value), "a: x\nb:\n  c: 1\n  d: [1,2]\n");
        assert_eq!(lines(&json!({ "a\nb": "x\x1b[2J\ny: z" })), "a b: x [2J\n  y: z\n");
    }
}
