//! DICOM: ECG waveforms read, synthetic cine series written, and what an object says of itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{json, Map, Value};

use super::{ReadOptions, Recordings, Source};
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

pub mod cine;
mod dataset;
mod waveform;

/// What the SOP classes of waveforms begin with: ECG (9.1), hemodynamic (9.2), electrophysiology (9.3).
const WAVEFORM_CLASSES: &str = "1.2.840.10008.5.1.4.1.1.9.";
/// What is shown, in this order; `true` where the value is a number of two bytes (VR US).
const SHOWN: [(&str, dataset::Tag, bool); 14] = [
    ("Modality", (0x0008, 0x0060), false),
    ("Manufacturer", (0x0008, 0x0070), false),
    ("ManufacturerModelName", (0x0008, 0x1090), false),
    ("SeriesDescription", (0x0008, 0x103e), false),
    ("ImageType", (0x0008, 0x0008), false),
    ("Rows", (0x0028, 0x0010), true),
    ("Columns", (0x0028, 0x0011), true),
    ("NumberOfFrames", (0x0028, 0x0008), false),
    ("BitsAllocated", (0x0028, 0x0100), true),
    ("PixelSpacing", (0x0028, 0x0030), false),
    ("SliceThickness", (0x0018, 0x0050), false),
    ("HeartRate", (0x0018, 0x1088), false),
    ("TriggerTime", (0x0018, 0x1060), false),
    ("NominalInterval", (0x0018, 0x1062), false),
];
/// What is shown stands within the first bytes: before waveforms and pixels.
const DESCRIBED: u64 = 16 << 20;

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
    let fault = |cause: &str| Fault::new(dataset::DOING, cause).file(path);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let length = file.metadata().map_err(Error::io("reading", path))?.len();
    file.take(DESCRIBED).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    if !recognise(&bytes, "") {
        return Err(fault("").expected("a DICOM object", "no DICM after 128 bytes").into());
    }
    let tags = SHOWN.map(|(_, tag, _)| tag);
    let beginning = dataset::beginning(&bytes, length > DESCRIBED, &tags).map_err(|e| e.in_file(path))?;
    let mut said = Map::new();
    said.insert("kind".to_owned(), json!("DICOM"));
    for (name, tag) in [("SOPClassUID", dataset::SOP_CLASS), ("TransferSyntaxUID", dataset::TRANSFER_SYNTAX)] {
        said.extend(beginning.meta.text(tag).map(|text| (name.to_owned(), json!(text))));
    }
    for (name, tag, is_number) in SHOWN {
        let value = match is_number {
            true => beginning.top.unsigned(tag).map(|number| number.to_string()),
            false => beginning.top.text(tag),
        };
        said.extend(value.map(|text| (name.to_owned(), json!(text))));
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
