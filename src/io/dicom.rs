//! DICOM: ECG waveforms read, synthetic cine series written, and what an object says of itself.

use std::path::Path;

use dicom_object::{OpenFileOptions, Tag};
use serde_json::{json, Map, Value};

use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

pub mod cine;
mod dataset;
mod waveform;

/// What the SOP classes of waveforms begin with: ECG (9.1), hemodynamic (9.2), electrophysiology (9.3).
const WAVEFORM_CLASSES: &str = "1.2.840.10008.5.1.4.1.1.9.";
/// Waveform Sequence; reading stops before it, and so before the pixels.
const WAVEFORMS: Tag = Tag(0x5400, 0x0100);
/// What is shown, in this order.
const SHOWN: [&str; 14] = [
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SeriesDescription",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "PixelSpacing",
    "SliceThickness",
    "HeartRate",
    "TriggerTime",
    "NominalInterval",
];

/// Whether a file is DICOM: `DICM` after the preamble.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    head.get(128..132) == Some(b"DICM")
}

/// Whether an object of such a beginning is a waveform, or may be one.
pub fn holds_waveform(head: &[u8]) -> bool {
    let class = dataset::meta(head).map(|meta| meta.text(dataset::SOP_CLASS));
    class.map_or(true, |class| check_class(class).is_ok())
}

/// Reads the one ECG of an object.
///
/// # Errors
/// Where the object is malformed, is no waveform, is compressed, or does not say what its samples mean.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let record = read(&source, options).map_err(|e| e.in_file(source.shown()));
    Ok(Box::new(std::iter::once(Ok(record?))))
}

fn read(source: &Source, options: &ReadOptions) -> Result<Recording> {
    // The beginning mostly tells; then a cine of a gigabyte is not read to be refused.
    if let Ok(class) = dataset::meta(&source.head()?).map(|meta| meta.text(dataset::SOP_CLASS)) {
        check_class(class)?;
    }
    let file = std::fs::read(source.path()).map_err(Error::io("reading", source.shown()))?;
    check_class(dataset::meta(&file)?.text(dataset::SOP_CLASS))?;
    waveform::recording(&dataset::read(&file)?, &source.stem(), options)
}

fn check_class(class: Option<String>) -> Result<()> {
    let class = class.unwrap_or_else(|| "none".to_owned());
    if class.starts_with(WAVEFORM_CLASSES) {
        return Ok(());
    }
    let fault = Fault::new(dataset::DOING, "the object holds no ECG").field("SOP Class UID (0002,0002)");
    Err(fault.expected(format!("a waveform class ({WAVEFORM_CLASSES}1.1, for example)"), class).into())
}

/// Kind, transfer syntax, sizes and timing of an object; patient data is left out.
///
/// # Errors
/// Where the object is malformed.
pub fn describe(path: &Path) -> Result<Value> {
    let object = OpenFileOptions::new().read_until(WAVEFORMS).open_file(path);
    let object = object.map_err(|e| Fault::new("reading DICOM", e.to_string()).file(path))?;
    let mut said = Map::new();
    let clean = |text: &str| text.trim_end_matches(['\0', ' ']).to_owned();
    said.insert("kind".to_owned(), json!("DICOM"));
    said.insert("SOPClassUID".to_owned(), json!(clean(object.meta().media_storage_sop_class_uid())));
    said.insert("TransferSyntaxUID".to_owned(), json!(clean(object.meta().transfer_syntax())));
    for name in SHOWN {
        let value = object.element_by_name_opt(name).ok().flatten().and_then(|e| e.to_str().ok().map(|t| clean(&t)));
        if let Some(text) = value.filter(|text| !text.is_empty()) {
            said.insert(name.to_owned(), json!(text));
        }
    }
    Ok(Value::Object(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_is_no_dicom_object() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "I,II\n1,2\n").unwrap();
        assert!(!recognise(b"I,II\n1,2\n", ""));
        assert!(describe(file.path()).is_err());
    }
}
