//! NPY, one NumPy array: one record (12 x N or N x 12) or several (R x 12 x N or R x N x 12).
//!
//! ```text
//! \x93NUMPY | major minor | header length, u16 (v1) or u32 (v2, v3), little-endian |
//! {'descr': '<f4', 'fortran_order': False, 'shape': (4, 12, 5000), } padding \n | numbers
//! ```
//!
//! Types: floats, signed and unsigned integers of either byte order. Which axis is which: see [`array`](super::array). The leads are the standard twelve in standard order unless
//! `--leads` names others; a file does not state rate and unit: see [`unstated`]. Records are read
//! one at a time. Specification: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs::File;
use std::io::{BufReader, Read};

use ndarray::{Array2, ArrayView2, ShapeBuilder};

use super::array::{layout, Layout};
use super::{unstated, ReadOptions, Recordings, Source};
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
const DOING: &str = "reading NPY array";
/// A header longer than this is no header (NumPy itself refuses above 10,000 bytes).
const MAX_HEADER_BYTES: u64 = 1 << 16;

/// Whether a file is NPY.
pub fn recognise(head: &[u8], _name: &str) -> bool {
    head.starts_with(MAGIC)
}

/// Reads its records, one at a time.
///
/// # Errors
/// Where the header is malformed, the type or the shape is none of those above, or the file's size does not fit them.
pub fn open(source: Source, options: &ReadOptions) -> Result<Recordings> {
    let stem = source.stem();
    open_named(source, options, &stem)
}

/// The same, the records named after `stem`.
pub(super) fn open_named(source: Source, options: &ReadOptions, stem: &str) -> Result<Recordings> {
    let shown = source.shown().to_owned();
    match Reader::open(source, options, stem) {
        Ok(reader) => Ok(Box::new(reader)),
        Err(error) => Err(error.in_file(shown)),
    }
}

/// A NumPy number type: letter, bytes, byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Type {
    letter: u8,
    bytes: usize,
    big_endian: bool,
}

/// What the header says.
#[derive(Debug, PartialEq)]
struct Header {
    number: Type,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &str) -> Result<Header> {
        let malformed = |key: &str| Fault::new(DOING, "malformed header").field(key).expected(key, shorten(text));
        let after = |key: &str| -> Result<&str> {
            let at = text.find(&format!("'{key}'")).map(|at| at + key.len() + 2);
            let rest = at.and_then(|at| text.get(at..)).and_then(|r| r.trim_start().strip_prefix(':'));
            rest.map(str::trim_start).ok_or_else(|| malformed(key).into())
        };
        let descr = after("descr")?.strip_prefix('\'').and_then(|r| r.split_once('\''));
        let number = descr.map_or_else(|| Err(malformed("descr").into()), |(d, _)| Type::parse(d))?;
        let order = after("fortran_order")?;
        let fortran = order.starts_with("True");
        if !fortran && !order.starts_with("False") {
            return Err(malformed("fortran_order").into());
        }
        let inner = after("shape")?.strip_prefix('(').and_then(|r| r.split_once(')')).map(|(inner, _)| inner);
        let inner = inner.ok_or_else(|| malformed("shape"))?;
        let sizes = inner.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse::<usize>);
        let shape = sizes.collect::<std::result::Result<Vec<_>, _>>().map_err(|_| malformed("shape"))?;
        Ok(Header { number, fortran, shape })
    }
}

fn shorten(text: &str) -> String {
    text.trim_end().chars().take(120).collect()
}

impl Type {
    fn parse(descr: &str) -> Result<Type> {
        let (order, name) = descr.split_at(descr.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(0));
        let known = match name {
            "f2" | "f4" | "f8" | "i1" | "i2" | "i4" | "i8" | "u1" | "u2" | "u4" | "u8" => name.as_bytes(),
            _ => b"",
        };
        match (order, known) {
            ("<" | ">" | "=" | "|" | "", &[letter, digit]) => {
                Ok(Type { letter, bytes: usize::from(digit - b'0'), big_endian: order == ">" })
            }
            _ => {
                let fault = Fault::new(DOING, "").field("descr").expected("f2, f4, f8 or an integer type", descr);
                Err(fault.hint("in Python: numpy.save(path, array.astype('float32'))").into())
            }
        }
    }

    fn value(self, bytes: &[u8]) -> f64 {
        let mut word = [0u8; 8];
        for (i, place) in word.iter_mut().take(self.bytes).enumerate() {
            let at = if self.big_endian { self.bytes - 1 - i } else { i };
            *place = bytes.get(at).copied().unwrap_or(0);
        }
        let [a, b, c, d, ..] = word;
        match (self.letter, self.bytes) {
            (b'f', 2) => half(u16::from_le_bytes([a, b])),
            (b'f', 4) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (b'f', _) => f64::from_le_bytes(word),
            (b'u', _) => u64::from_le_bytes(word) as f64,
            (_, 1) => f64::from(a as i8),
            (_, 2) => f64::from(i16::from_le_bytes([a, b])),
            (_, 4) => f64::from(i32::from_le_bytes([a, b, c, d])),
            _ => i64::from_le_bytes(word) as f64,
        }
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

/// Tells the axes apart; a transposed array in Fortran order is the other layout in C order.
fn file_layout(header: &Header, leads: usize, options: &ReadOptions) -> Result<Layout> {
    let found = layout(DOING, &header.shape, leads, options.layout)?;
    if found.stacked && header.fortran {
        let fault = Fault::new(DOING, "several records in Fortran order").field("shape");
        let fault = fault.expected("C order", format!("{:?}", header.shape));
        return Err(fault.hint("in Python: numpy.save(path, numpy.ascontiguousarray(array))").into());
    }
    Ok(Layout { by_sample: found.by_sample != header.fortran, ..found })
}

struct Reader {
    file: BufReader<File>,
    source: Source,
    stem: String,
    options: ReadOptions,
    names: Vec<String>,
    number: Type,
    layout: Layout,
    rate_hz: f64,
    next: usize,
}

impl Reader {
    fn open(source: Source, options: &ReadOptions, stem: &str) -> Result<Reader> {
        let system = |doing: &'static str| Error::io(doing, source.shown());
        let mut file = BufReader::new(File::open(source.path()).map_err(system("opening"))?);
        let size = file.get_ref().metadata().map_err(system("reading"))?.len();
        let (header, start) = read_header(&mut file, size)?;
        let standard = || Lead::ALL.map(|l| l.name().to_owned()).to_vec();
        let names = options.leads.clone().unwrap_or_else(standard);
        let layout = file_layout(&header, names.len(), options)?;
        let factors = [layout.records, layout.leads, layout.samples, header.number.bytes];
        let needed = factors.iter().try_fold(1u64, |n, &f| n.checked_mul(f as u64)).and_then(|n| n.checked_add(start));
        if needed != Some(size) {
            let expected = needed.map_or("over 2^64 bytes".to_owned(), |n| format!("{n} bytes"));
            let fault = Fault::new(DOING, format!("the size does not fit the shape {:?}", header.shape));
            return Err(fault.expected(expected, format!("{size} bytes")).into());
        }
        let rate_hz = unstated::rate_hz(options, layout.samples)?;
        let (options, number, stem) = (options.clone(), header.number, stem.to_owned());
        Ok(Reader { file, source, stem, options, names, number, layout, rate_hz, next: 0 })
    }

    fn read(&mut self, id: &str) -> Result<Recording> {
        let (leads, samples) = (self.layout.leads, self.layout.samples);
        let mut bytes = vec![0; leads * samples * self.number.bytes]; // compared with the file's size in `open`
        self.file.read_exact(&mut bytes).map_err(Error::io("reading NPY array", self.source.shown()))?;
        let values = bytes.chunks_exact(self.number.bytes).map(|b| self.number.value(b)).collect::<Vec<f64>>();
        let shape = (leads, samples).into_shape_with_order();
        let shape = if self.layout.by_sample { shape.set_f(true) } else { shape };
        let view = ArrayView2::from_shape(shape, &values).map_err(Error::compute("shaping NPY array"))?;
        let mut samples_mv: Array2<f64> = view.as_standard_layout().into_owned();
        unstated::to_mv(&self.options, &mut samples_mv)?;
        Recording::new(id, self.names.clone(), self.rate_hz, samples_mv)
    }
}

impl Iterator for Reader {
    type Item = Result<Recording>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.layout.records {
            return None;
        }
        let stem = &self.stem;
        let id = if self.layout.records == 1 { stem.clone() } else { format!("{stem}_{}", self.next) };
        self.next += 1;
        Some(self.read(&id).map_err(|e| e.in_file(self.source.shown()).in_record(&id)))
    }
}

/// The shape of the array that `from` begins, of a file of `size` bytes.
pub(super) fn shape(from: &mut impl Read, size: u64) -> Result<Vec<usize>> {
    Ok(read_header(from, size)?.0.shape)
}

/// Reads magic, version and header, and says where the first number stands.
fn read_header(file: &mut impl Read, size: u64) -> Result<(Header, u64)> {
    let short =
        |_| Fault::new(DOING, "the file ends within its header").expected("an NPY header", format!("{size} bytes"));
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(short)?;
    let [.., major, _minor] = start;
    if !start.starts_with(MAGIC) {
        return Err(Fault::new(DOING, "").field("magic").expected("an NPY header", "other bytes").into());
    }
    let (length, before) = match major {
        1 => {
            let mut length = [0; 2];
            file.read_exact(&mut length).map_err(short)?;
            (u64::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(short)?;
            (u64::from(u32::from_le_bytes(length)), 12)
        }
        _ => return Err(Fault::new(DOING, "").field("version").expected("1, 2 or 3", major).into()),
    };
    if length > MAX_HEADER_BYTES || length > size {
        let fault = Fault::new(DOING, "").field("header length");
        return Err(fault.expected(format!("at most {}", MAX_HEADER_BYTES.min(size)), length).into());
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(short)?;
    Ok((Header::parse(&String::from_utf8_lossy(&text))?, before + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{open_ecg, Unit};

    fn file(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(bytes: &[u8], leads: &[&str]) -> Result<Vec<Recording>> {
        let leads = (!leads.is_empty()).then(|| leads.iter().map(|s| s.to_string()).collect());
        let options =
            ReadOptions { rate_hz: Some(500.0), unit: Some(Unit::Millivolt), leads, ..ReadOptions::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.npy");
        std::fs::write(&path, bytes).unwrap();
        open_ecg(Source::open(&path)?, &options)?.1.collect()
    }

    fn header(descr: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    }

    #[test]
    fn reads_every_type_and_byte_order() {
        let cases: [(&str, Vec<u8>); 9] = [
            ("<f4", [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (">f8", [1.5f64, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect()),
            ("<f2", vec![0x00, 0x3e, 0x00, 0xc0]),
            (">f2", vec![0x3e, 0x00, 0xc0, 0x00]),
            (">i2", vec![0, 1, 0xff, 0xfe]),
            ("<i4", vec![1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]),
            ("|i1", vec![1, 0xfe]),
            ("<i8", [1i64, -2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (">u2", vec![0, 1, 0xff, 0xfe]),
        ];
        for (descr, data) in cases {
            let records = read(&file(1, &header(descr, "False", "(1, 2)"), &data), &["II"]).unwrap();
            let first = if descr.contains('f') { 1.5 } else { 1.0 };
            let second = if descr.contains('u') { 65534.0 } else { -2.0 };
            assert_eq!(records[0].samples_mv.row(0).to_vec(), [first, second], "{descr}");
            assert_eq!(records[0].id, "p");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!((half(1), half(0xfc00)), (2f64.powi(-24), f64::NEG_INFINITY));
    }

    #[test]
    fn reads_every_layout() {
        let data: Vec<u8> = (0..6i16).flat_map(i16::to_le_bytes).collect();
        let rows = |fortran, shape| {
            let records = read(&file(2, &header("<i2", fortran, shape), &data), &["I", "II"]).unwrap();
            records.iter().map(|r| (r.id.clone(), r.samples_mv.row(0).to_vec())).collect::<Vec<_>>()
        };
        assert_eq!(rows("False", "(2, 3)"), [("p".into(), vec![0., 1., 2.])]);
        assert_eq!(rows("False", "(3, 2)"), [("p".into(), vec![0., 2., 4.])]);
        assert_eq!(rows("True", "(2, 3)"), [("p".into(), vec![0., 2., 4.])]);
        assert_eq!(rows("True", "(3, 2)"), [("p".into(), vec![0., 1., 2.])]);
        let three = rows("False", "(3, 2, 1)");
        assert_eq!(three[2], ("p_2".into(), vec![4.]));
        assert_eq!(rows("False", "(1, 3, 2)"), [("p".into(), vec![0., 2., 4.])]);
    }

    #[test]
    fn refuses_malformed_files_with_expected_and_found() {
        let error = |bytes: &[u8]| read(bytes, &[]).unwrap_err().to_string();
        let of = |descr, fortran, shape| error(&file(1, &header(descr, fortran, shape), &[0; 48]));
        assert!(of("<c8", "False", "(12, 1)").contains("expected f2, f4, f8 or an integer type, found <c8"));
        assert!(of("<f4", "False", "(11, 5)").contains("found [11, 5]"));
        assert!(of("<f4", "False", "(48,)").contains("found [48]"));
        assert!(of("<f4", "True", "(1, 12, 1)").contains("Fortran order"));
        assert!(of("<f4", "False", "(0, 12, 1)").contains("empty"));
        assert!(of("<f4", "False", "(12, 2)").contains("does not fit the shape [12, 2]"));
        assert!(of("<f4", "False", "(12, 1000000000000)").contains("expected 48000000000"));
        assert!(of("<f4", "False", "(18446744073709551615, 12, 4)").contains("over 2^64 bytes"));
        assert!(of("<f4", "Perhaps", "(12, 1)").contains("malformed header"));
        assert!(error(b"\x93NUMPY\x01").contains("ends within its header"));
        assert!(error(b"\x93NUMPY\x09\x00").contains("expected 1, 2 or 3, found 9"));
        assert!(error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("header length"));
    }
}
