//! DICOM: what an object says of itself, without its pixels or waveforms.

use std::path::Path;

use dicom_object::{OpenFileOptions, Tag};
use serde_json::{json, Map, Value};

use crate::error::{Fault, Result};

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
pub fn recognise(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM")
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
        assert!(!recognise(b"I,II\n1,2\n"));
        assert!(describe(file.path()).is_err());
    }
}
