//! What fuzzing found (`make fuzz`), kept: each input gives one clear error, or is read, within bounds.

use ecgflow::io::dicom;
use ecgflow::Result;

/// A DICOM object with these bytes behind its transfer syntax, explicit VR little endian.
fn object(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    bytes.extend([2, 0, 0x10, 0, b'U', b'I', 20, 0]);
    bytes.extend(b"1.2.840.10008.1.2.1\0");
    bytes.extend(data);
    bytes
}

fn described(data: &[u8]) -> Result<serde_json::Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object(data)).unwrap();
    dicom::describe(file.path())
}

#[test]
fn a_dicom_header_nested_without_end_is_refused() {
    // (0008,1140), a sequence of undefined length, then an item of undefined length, again and again.
    let level = [8, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xfe, 0xff, 0, 0xe0, 255, 255, 255, 255];
    let error = described(&level.repeat(50_000)).unwrap_err().to_string();
    assert!(error.contains("expected sequences nested at most 16 deep, found deeper"), "{error}");
}

#[test]
fn a_dicom_element_larger_than_the_file_is_refused() {
    // (0008,1030), unlimited text of 3 GB.
    let claim = [8, 0, 0x30, 0x10, b'U', b'T', 0, 0, 0, 0, 0, 0xb2, b'x'];
    let error = described(&claim).unwrap_err().to_string();
    assert!(error.contains("the file ends within an element (expected 2986344448 bytes, found 1)"), "{error}");
}
