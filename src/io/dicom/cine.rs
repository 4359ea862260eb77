//! Writes synthetic cine series: one MR image object a frame, `IM0001.dcm` onwards, in a folder for each participant.
//!
//! Objects of class MR Image Storage in explicit VR little endian, 12 bits stored in 16. Everything in them depends on
//! the series and on what made it; dates are fixed, and UIDs are hashes under 2.25 (DICOM PS3.5, B.2), so the same
//! participant gives the same bytes. Eight elements say that the object is synthetic.
//!
//! Specification: DICOM PS3.3, A.4 (MR Image IOD), C.8.3.1 (MR Image module), C.12.1 (SOP Common: Synthetic Data).

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};
use ndarray::{ArrayView2, Axis};
use sha2::{Digest, Sha256};

use crate::data::series::{CineSeries, PIXEL_MAX};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::output::Folder;
use crate::io::sink::file_name;
use crate::io::Sink;

const MR_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.4";
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// What UK Biobank calls the series.
const SERIES: &str = "CINE_segmented_LAX_4Ch";
/// No date of an examination: there was none.
const DATE: &str = "20000101";
const TIME: &str = "120000";
const MARK: &str = "SYNTHETIC: drawn by a computer program, no patient, not for diagnosis";
/// Longest decimal string, long string and short text (PS3.5, 6.2).
const DS: usize = 16;
const LO: usize = 64;
const ST: usize = 1024;

/// The objects of a series, each a whole file.
pub struct Encoded {
    id: String,
    files: Vec<Vec<u8>>,
}

impl Encoded {
    /// The files in order of time.
    pub fn files(&self) -> &[Vec<u8>] {
        &self.files
    }
}

/// Writes out the objects of a series that `provenance` tells the origin of.
///
/// # Errors
/// Where the series is impossible or cannot be encoded.
pub fn encode(series: &CineSeries, provenance: &Provenance) -> Result<Encoded> {
    series.check()?;
    let names = Names::new(series, provenance);
    let frames = series.frames.axis_iter(Axis(0)).zip(&series.trigger_ms).enumerate();
    let files = frames.map(|(number, (pixels, trigger_ms))| {
        let mut elements = common(series, provenance, &names);
        elements.extend(of_frame(number, *trigger_ms, &names));
        file(elements, pixels, &names.object(number))
    });
    Ok(Encoded { id: series.id.clone(), files: files.collect::<Result<_>>()? })
}

/// One element before it is encoded.
type Element = (Tag, VR, String);

fn element(group: u16, number: u16, vr: VR, value: impl Into<String>) -> Element {
    (Tag(group, number), vr, value.into())
}

/// What all objects of a series have in common, by module.
fn common(series: &CineSeries, provenance: &Provenance, names: &Names) -> Vec<Element> {
    let mut all = identity(&series.id, provenance, names);
    all.extend(acquisition(series));
    all.extend(picture(series));
    all
}

/// Patient, study, series, equipment: what the object is and that it is synthetic.
fn identity(id: &str, provenance: &Provenance, names: &Names) -> Vec<Element> {
    let tool = format!("{} {}", provenance.tool, provenance.tool_version);
    let seed = provenance.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    let model = provenance.model.as_ref().map_or_else(String::new, |model| format!(", weights {model}"));
    let derivation = text(&format!("{MARK}. Made by {tool}{seed}{model}."), ST);
    let mut all = vec![
        element(0x0008, 0x0005, VR::CS, "ISO_IR 192"),
        element(0x0008, 0x0008, VR::CS, r"DERIVED\SECONDARY\OTHER\SYNTHETIC"),
        element(0x0008, 0x0016, VR::UI, MR_IMAGE),
        element(0x0008, 0x001c, VR::CS, "YES"), // Synthetic Data
        element(0x0008, 0x0050, VR::SH, ""),
        element(0x0008, 0x0060, VR::CS, "MR"),
        element(0x0008, 0x0070, VR::LO, "ecgflow (synthetic)"),
        element(0x0008, 0x0090, VR::PN, ""),
        element(0x0008, 0x1030, VR::LO, "SYNTHETIC heart MR"),
        element(0x0008, 0x103e, VR::LO, SERIES),
        element(0x0008, 0x1090, VR::LO, text(&provenance.tool, LO)),
        element(0x0008, 0x2111, VR::ST, derivation),
        element(0x0010, 0x0010, VR::PN, person(id)),
        element(0x0010, 0x0020, VR::LO, text(id, LO)),
        element(0x0010, 0x0030, VR::DA, ""),
        element(0x0010, 0x0040, VR::CS, ""),
        element(0x0018, 0x1020, VR::LO, text(&tool, LO)),
        element(0x0020, 0x000d, VR::UI, names.study.clone()),
        element(0x0020, 0x000e, VR::UI, names.series.clone()),
        element(0x0020, 0x0010, VR::SH, "1"),
        element(0x0020, 0x0011, VR::IS, "1"),
        element(0x0020, 0x0052, VR::UI, names.place.clone()),
        element(0x0020, 0x1040, VR::LO, ""),
        element(0x0020, 0x4000, VR::LT, MARK),
    ];
    // Study, series, acquisition, content.
    all.extend([0x0020, 0x0021, 0x0022, 0x0023].map(|number| element(0x0008, number, VR::DA, DATE)));
    all.extend([0x0030, 0x0031, 0x0032, 0x0033].map(|number| element(0x0008, number, VR::TM, TIME)));
    all
}

/// How it was acquired, or would have been.
fn acquisition(series: &CineSeries) -> Vec<Element> {
    let scanner = &series.scanner;
    vec![
        element(0x0018, 0x0015, VR::CS, "HEART"),
        element(0x0018, 0x0020, VR::CS, "GR"),
        element(0x0018, 0x0021, VR::CS, "SS"),
        element(0x0018, 0x0022, VR::CS, "CG"),
        element(0x0018, 0x0023, VR::CS, "2D"),
        element(0x0018, 0x0050, VR::DS, decimal(series.slice_thickness_mm)),
        element(0x0018, 0x0080, VR::DS, decimal(scanner.repetition_ms)),
        element(0x0018, 0x0081, VR::DS, decimal(scanner.echo_ms)),
        element(0x0018, 0x0087, VR::DS, decimal(scanner.field_t)),
        element(0x0018, 0x0091, VR::IS, "1"),
        element(0x0018, 0x1030, VR::LO, SERIES),
        element(0x0018, 0x1062, VR::IS, whole(series.rr_ms)),
        element(0x0018, 0x1088, VR::IS, whole(60_000.0 / series.rr_ms)),
        element(0x0018, 0x1090, VR::IS, series.trigger_ms.len().to_string()),
        element(0x0018, 0x1314, VR::DS, decimal(scanner.flip_deg)),
        element(0x0018, 0x5100, VR::CS, "HFS"),
    ]
}

/// Where the picture lies and how its pixels are stored.
fn picture(series: &CineSeries) -> Vec<Element> {
    let (_, rows, columns) = series.frames.dim();
    let list = |values: &[f64]| values.iter().map(|value| decimal(*value)).collect::<Vec<_>>().join("\\");
    let directions = [series.plane.right, series.plane.down].concat();
    let largest = series.frames.iter().copied().max().unwrap_or(0).max(1);
    vec![
        element(0x0020, 0x0012, VR::IS, "1"),
        element(0x0020, 0x0032, VR::DS, list(&series.plane.corner_mm((rows, columns), series.pixel_spacing_mm))),
        element(0x0020, 0x0037, VR::DS, list(&directions)),
        element(0x0028, 0x0002, VR::US, "1"),
        element(0x0028, 0x0004, VR::CS, "MONOCHROME2"),
        element(0x0028, 0x0010, VR::US, rows.to_string()),
        element(0x0028, 0x0011, VR::US, columns.to_string()),
        element(0x0028, 0x0030, VR::DS, list(&series.pixel_spacing_mm)),
        element(0x0028, 0x0100, VR::US, "16"),
        element(0x0028, 0x0101, VR::US, "12"),
        element(0x0028, 0x0102, VR::US, "11"),
        element(0x0028, 0x0103, VR::US, "0"),
        element(0x0028, 0x0301, VR::CS, "NO"),
        element(0x0028, 0x1050, VR::DS, decimal(f64::from(largest) / 2.0)),
        element(0x0028, 0x1051, VR::DS, decimal(f64::from(largest.min(PIXEL_MAX)))),
    ]
}

/// What differs from frame to frame, less the pixels.
fn of_frame(number: usize, trigger_ms: f64, names: &Names) -> [Element; 3] {
    [
        element(0x0008, 0x0018, VR::UI, names.object(number)),
        element(0x0018, 0x1060, VR::DS, decimal(trigger_ms)),
        element(0x0020, 0x0013, VR::IS, (number + 1).to_string()),
    ]
}

fn file(elements: Vec<Element>, pixels: ArrayView2<'_, u16>, uid: &str) -> Result<Vec<u8>> {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in elements {
        let value = match vr {
            VR::US => PrimitiveValue::from(value.parse::<u16>().unwrap_or_default()),
            _ => PrimitiveValue::from(value),
        };
        object.put(DataElement::new(tag, vr, value));
    }
    let pixels: Vec<u16> = pixels.iter().copied().collect();
    object.put(DataElement::new(Tag(0x7fe0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into())));
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(MR_IMAGE)
        .media_storage_sop_instance_uid(uid)
        .transfer_syntax(EXPLICIT_LITTLE_ENDIAN)
        .implementation_class_uid(hashed(&[b"implementation"]))
        .implementation_version_name("ECGFLOW");
    let wrap = Error::compute("writing DICOM");
    let object = object.with_meta(meta).map_err(|e| Error::compute("writing DICOM")(e))?;
    let mut bytes = Vec::new();
    object.write_all(&mut bytes).map_err(wrap)?;
    Ok(bytes)
}

/// The UIDs of a series.
struct Names {
    study: String,
    series: String,
    place: String,
    key: [u8; 32],
}

impl Names {
    /// One study a participant and run; the series also depends on what is in it.
    fn new(series: &CineSeries, provenance: &Provenance) -> Names {
        let seed = provenance.seed.unwrap_or_default().to_le_bytes();
        let study = [&provenance.tool, provenance.model.as_deref().unwrap_or(""), &series.id].join("\0");
        let mut hash = Sha256::new();
        hash.update(seed);
        hash.update(&study);
        hash.update(format!("{:?} {:?} {:?}", series.frames.dim(), series.pixel_spacing_mm, series.plane));
        hash.update(format!("{:?} {:?} {:?}", series.trigger_ms, series.rr_ms, series.scanner));
        series.frames.iter().for_each(|value| hash.update(value.to_le_bytes()));
        let key: [u8; 32] = hash.finalize().into();
        Names {
            study: hashed(&[b"study", &seed, study.as_bytes()]),
            series: hashed(&[b"series", &key]),
            place: hashed(&[b"frame of reference", &seed, study.as_bytes()]),
            key,
        }
    }

    fn object(&self, number: usize) -> String {
        hashed(&[b"object", &self.key, &(number as u64).to_le_bytes()])
    }
}

/// A UID made of the hash of some words: a UUID of version 8 (RFC 9562) under 2.25.
fn hashed(words: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    let number = hash.finalize().iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let version = number & !(0xf << 76) | 8 << 76;
    format!("2.25.{}", version & !(0b11 << 62) | 0b10 << 62)
}

/// A decimal string: as many digits as fit, no trailing zeros.
fn decimal(value: f64) -> String {
    let fits = (0..=8).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= DS);
    let text = fits.unwrap_or_else(|| format!("{value:.7e}"));
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn whole(value: f64) -> String {
    format!("{}", value.round() as i64)
}

/// Without the characters that have a meaning in DICOM, at most `most` characters.
fn text(value: &str, most: usize) -> String {
    value.chars().take(most).map(|c| if c.is_control() || c == '\\' { '_' } else { c }).collect()
}

/// A person's name that says there is no such person.
fn person(id: &str) -> String {
    format!("SYNTHETIC^{}", text(id, LO - "SYNTHETIC^".len()).replace(['^', '=', '/'], "_"))
}

/// A folder with a folder for each participant.
pub struct SeriesFolders {
    folder: Folder,
    provenance: Provenance,
}

impl SeriesFolders {
    /// Begins the folder, which must be new or empty: old frames among new ones would be one series to a viewer.
    ///
    /// # Errors
    /// Where it cannot be begun.
    pub fn begin(path: &Path, provenance: &Provenance) -> Result<SeriesFolders> {
        Ok(SeriesFolders { folder: Folder::begin_new(path)?, provenance: provenance.clone() })
    }

    /// Writes the files of a series.
    ///
    /// # Errors
    /// Where they cannot be written, or the participant came before.
    pub fn put_encoded(&mut self, series: &Encoded) -> Result<()> {
        let folder = self.folder.path().join(file_name(&series.id));
        std::fs::create_dir(&folder).map_err(Error::io("making the folder of a series", &folder))?;
        for (number, bytes) in series.files.iter().enumerate() {
            let path = folder.join(format!("IM{:04}.dcm", number + 1));
            std::fs::write(&path, bytes).map_err(Error::io("writing", path))?;
        }
        Ok(())
    }
}

impl Sink<CineSeries> for SeriesFolders {
    fn put(&mut self, series: &CineSeries) -> Result<()> {
        let encoded = encode(series, &self.provenance)?;
        self.put_encoded(&encoded)
    }

    fn finish(self) -> Result<()> {
        self.folder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_strings_are_short_and_plain() {
        assert_eq!(decimal(6.0), "6");
        assert_eq!(decimal(1.826_923_076_923), "1.82692308");
        assert_eq!(decimal(-0.939_692_620_785_9), "-0.93969262");
        assert_eq!(decimal(-123_456.789_012_345), "-123456.78901235");
        assert_eq!(decimal(1234.5), "1234.5");
        assert!([1e20, -1e-12, 1e300, -98_765_432.123_456].iter().all(|value| decimal(*value).len() <= DS));
    }

    #[test]
    fn names_of_participants_cannot_break_an_element() {
        assert_eq!(person("a^b=c\\d"), "SYNTHETIC^a_b_c_d");
        assert_eq!(person(&"x".repeat(100)).len(), 64);
        assert_eq!(text("a\\b\nc", 4), "a_b_");
    }

    #[test]
    fn uids_are_uuids_of_version_8() {
        let uid = hashed(&[b"a"]);
        let number: u128 = uid.strip_prefix("2.25.").unwrap().parse().unwrap();
        assert_eq!((number >> 76 & 0xf, number >> 62 & 0b11), (8, 0b10));
        assert!(uid.len() <= 64 && uid != hashed(&[b"b"]));
        assert_ne!(hashed(&[b"ab", b"c"]), hashed(&[b"a", b"bc"]));
    }
}
