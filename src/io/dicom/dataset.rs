//! The data set of a DICOM file, as far as waveforms need it (PS3.5, section 7).
//!
//! ```text
//! 128 bytes | DICM | group 0002, explicit VR little endian | data set in the transfer syntax that group 0002 names
//! explicit VR: tag u16 u16 | VR | length u16, or 2 reserved bytes and length u32 | value
//! implicit VR: tag u16 u16 | length u32 | value
//! sequence:    items (FFFE,E000) length | data set ...;  length FFFFFFFF ends at (FFFE,E00D) or (FFFE,E0DD)
//! ```
//!
//! Only the elements of [`KEPT`] and [`SEQUENCES`] are kept; everything else is stepped over. Values are slices of
//! the file, so a length that the file does not hold is refused before anything is allocated, and nesting has a limit.
//! (`dicom-object`, which writes our objects, would allocate what an element claims and recurse as deep as a file likes.)

use crate::error::{Fault, Result};

pub(super) const DOING: &str = "reading DICOM";

/// A tag: group and element.
pub(super) type Tag = (u16, u16);

pub(super) const WAVEFORM_SEQUENCE: Tag = (0x5400, 0x0100);
pub(super) const CHANNEL_DEFINITIONS: Tag = (0x003a, 0x0200);
pub(super) const CHANNEL_SOURCE: Tag = (0x003a, 0x0208);
pub(super) const SENSITIVITY_UNITS: Tag = (0x003a, 0x0211);
const SEQUENCES: [Tag; 4] = [WAVEFORM_SEQUENCE, CHANNEL_DEFINITIONS, CHANNEL_SOURCE, SENSITIVITY_UNITS];

pub(super) const SOP_CLASS: Tag = (0x0002, 0x0002);
pub(super) const TRANSFER_SYNTAX: Tag = (0x0002, 0x0010);
pub(super) const CODE_VALUE: Tag = (0x0008, 0x0100);
pub(super) const CODING_SCHEME: Tag = (0x0008, 0x0102);
pub(super) const CODE_MEANING: Tag = (0x0008, 0x0104);
pub(super) const TIME_OFFSET: Tag = (0x0018, 0x1068);
pub(super) const ORIGINALITY: Tag = (0x003a, 0x0004);
pub(super) const CHANNELS: Tag = (0x003a, 0x0005);
pub(super) const SAMPLES: Tag = (0x003a, 0x0010);
pub(super) const FREQUENCY: Tag = (0x003a, 0x001a);
pub(super) const GROUP_LABEL: Tag = (0x003a, 0x0020);
pub(super) const CHANNEL_LABEL: Tag = (0x003a, 0x0203);
pub(super) const SENSITIVITY: Tag = (0x003a, 0x0210);
pub(super) const CORRECTION: Tag = (0x003a, 0x0212);
pub(super) const BASELINE: Tag = (0x003a, 0x0213);
pub(super) const BITS_ALLOCATED: Tag = (0x5400, 0x1004);
pub(super) const INTERPRETATION: Tag = (0x5400, 0x1006);
pub(super) const PADDING: Tag = (0x5400, 0x100a);
pub(super) const DATA: Tag = (0x5400, 0x1010);
const KEPT: [Tag; 19] = [
    SOP_CLASS,
    TRANSFER_SYNTAX,
    CODE_VALUE,
    CODING_SCHEME,
    CODE_MEANING,
    TIME_OFFSET,
    ORIGINALITY,
    CHANNELS,
    SAMPLES,
    FREQUENCY,
    GROUP_LABEL,
    CHANNEL_LABEL,
    SENSITIVITY,
    CORRECTION,
    BASELINE,
    BITS_ALLOCATED,
    INTERPRETATION,
    PADDING,
    DATA,
];

const ITEM: Tag = (0xfffe, 0xe000);
const ITEM_END: Tag = (0xfffe, 0xe00d);
const SEQUENCE_END: Tag = (0xfffe, 0xe0dd);
const UNDEFINED: u32 = u32::MAX;
/// Explicit VR little endian, the data set deflated.
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
/// Deepest nesting; ECG objects need four levels.
const DEPTH: usize = 16;
/// Most elements and items kept; ECG objects keep some hundred.
const MOST: usize = 100_000;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) explicit: bool,
    pub(super) big_endian: bool,
}

impl Syntax {
    /// That of group 0002.
    const META: Syntax = Syntax { explicit: true, big_endian: false };

    /// The uncompressed transfer syntaxes.
    fn of(uid: &str) -> Result<Syntax> {
        let (explicit, big_endian) = match uid {
            "1.2.840.10008.1.2" => (false, false),
            "1.2.840.10008.1.2.1" => (true, false),
            "1.2.840.10008.1.2.2" => (true, true),
            _ => {
                let fault = Fault::new(DOING, "").field("Transfer Syntax UID (0002,0010)");
                let fault = fault.expected("implicit or explicit VR, uncompressed (1.2.840.10008.1.2, .1 or .2)", uid);
                return Err(fault.hint("convert it with DCMTK: dcmconv +te in.dcm out.dcm").into());
            }
        };
        Ok(Syntax { explicit, big_endian })
    }
}

/// Elements by tag, in file order.
#[derive(Debug)]
pub(super) struct Dataset<'a> {
    pub(super) syntax: Syntax,
    elements: Vec<(Tag, Value<'a>)>,
}

#[derive(Debug)]
enum Value<'a> {
    Bytes { bytes: &'a [u8], words: bool },
    Items(Vec<Dataset<'a>>),
}

impl<'a> Dataset<'a> {
    fn find(&self, tag: Tag) -> Option<&Value<'a>> {
        self.elements.iter().find(|(t, _)| *t == tag).map(|(_, value)| value)
    }

    /// The value of an element, where it is there and not empty.
    pub(super) fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        match self.find(tag)? {
            Value::Bytes { bytes, .. } if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    /// Whether the value is written as 16-bit words (VR OW).
    pub(super) fn is_words(&self, tag: Tag) -> bool {
        matches!(self.find(tag), Some(Value::Bytes { words: true, .. }))
    }

    /// The items of a sequence; none where it is absent.
    pub(super) fn items(&self, tag: Tag) -> &[Dataset<'a>] {
        match self.find(tag) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    /// A text without its padding; none where it is empty.
    pub(super) fn text(&self, tag: Tag) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(tag)?).into_owned();
        let text = text.trim_matches(['\0', ' ']).to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A decimal string (VR DS).
    pub(super) fn decimal(&self, tag: Tag, name: &str) -> Result<Option<f64>> {
        let Some(text) = self.text(tag) else { return Ok(None) };
        match text.parse::<f64>().ok().filter(|v| v.is_finite()) {
            Some(value) => Ok(Some(value)),
            None => Err(Fault::new(DOING, "").field(name).expected("a decimal number", format!("{text:?}")).into()),
        }
    }

    /// An unsigned number of two or four bytes (VR US, UL).
    pub(super) fn unsigned(&self, tag: Tag) -> Option<u32> {
        match *self.bytes(tag)? {
            [a, b] if self.syntax.big_endian => Some(u32::from(u16::from_be_bytes([a, b]))),
            [a, b] => Some(u32::from(u16::from_le_bytes([a, b]))),
            [a, b, c, d] if self.syntax.big_endian => Some(u32::from_be_bytes([a, b, c, d])),
            [a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

/// Group 0002 of a file that begins with these bytes.
pub(super) fn meta(file: &[u8]) -> Result<Dataset<'_>> {
    Ok(read_meta(file)?.0)
}

/// The data set of a whole file.
pub(super) fn read(file: &[u8]) -> Result<Dataset<'_>> {
    let (meta, at) = read_meta(file)?;
    let uid = meta.text(TRANSFER_SYNTAX).unwrap_or_else(|| "none".to_owned());
    let mut walker = Walker { file, at, kept: 0 };
    walker.dataset(Syntax::of(&uid)?, Some(file.len()), 0)
}

/// What a file says before its waveforms and pixels.
pub(super) struct Beginning<'a> {
    pub(super) meta: Dataset<'a>,
    /// Elements at the top level.
    pub(super) top: Dataset<'a>,
}

/// The elements of these tags before group 5400. Where `cut`, the file goes on behind `file`, and what is not there is none.
pub(super) fn beginning<'a>(file: &'a [u8], cut: bool, wanted: &[Tag]) -> Result<Beginning<'a>> {
    let (meta, at) = read_meta(file)?;
    let Some(uid) = meta.text(TRANSFER_SYNTAX) else {
        return Err(Fault::new(DOING, "").field("Transfer Syntax UID (0002,0010)").expected("a UID", "none").into());
    };
    // Pixels may be compressed; the elements before them are explicit all the same.
    let syntax = Syntax::of(&uid).unwrap_or(Syntax::META);
    let mut walker = Walker { file, at: if uid == DEFLATED { file.len() } else { at }, kept: 0 };
    let mut top = Dataset { syntax, elements: Vec::new() };
    while walker.at < file.len() {
        match walker.top(syntax, wanted) {
            Ok(Some(element)) => top.elements.extend(element),
            Ok(None) => break,
            Err(_) if cut => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Beginning { meta, top })
}

fn read_meta(file: &[u8]) -> Result<(Dataset<'_>, usize)> {
    let mut walker = Walker { file, at: 132, kept: 0 };
    let mut dataset = Dataset { syntax: Syntax::META, elements: Vec::new() };
    while file.get(walker.at..walker.at.saturating_add(2)) == Some(&[2, 0]) {
        let header = walker.header(Syntax::META)?;
        let value = walker.value(&header, Syntax::META, 0)?;
        dataset.elements.extend(value.map(|value| (header.tag, value)));
    }
    Ok((dataset, walker.at))
}

/// Tag, VR and length of an element.
struct Header {
    tag: Tag,
    vr: [u8; 2],
    length: u32,
}

/// Steps through the file.
struct Walker<'a> {
    file: &'a [u8],
    at: usize,
    /// Elements and items kept so far.
    kept: usize,
}

impl<'a> Walker<'a> {
    fn fault(&self, cause: &str) -> Fault {
        Fault::new(DOING, cause).field(format!("byte {}", self.at))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length);
        let Some(bytes) = end.and_then(|end| self.file.get(self.at..end)) else {
            let fault = self.fault("the file ends within an element");
            let left = self.file.len().saturating_sub(self.at);
            return Err(fault.expected(format!("{length} bytes"), left).hint("copy the file again").into());
        };
        self.at += length;
        Ok(bytes)
    }

    fn u16(&mut self, syntax: Syntax) -> Result<u16> {
        let bytes = self.take(2)?.try_into().unwrap_or([0; 2]);
        Ok(if syntax.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self, syntax: Syntax) -> Result<u32> {
        let bytes = self.take(4)?.try_into().unwrap_or([0; 4]);
        Ok(if syntax.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn header(&mut self, syntax: Syntax) -> Result<Header> {
        let tag = (self.u16(syntax)?, self.u16(syntax)?);
        if !syntax.explicit || tag.0 == 0xfffe {
            return Ok(Header { tag, vr: [0; 2], length: self.u32(syntax)? });
        }
        let vr: [u8; 2] = self.take(2)?.try_into().unwrap_or([0; 2]);
        if !vr.iter().all(u8::is_ascii_uppercase) {
            let fault = self.fault("").expected("two letters that name a VR", format!("{vr:?}"));
            return Err(fault.hint("the transfer syntax of the file does not fit its content").into());
        }
        let length = match &vr {
            b"OB" | b"OW" | b"OF" | b"OD" | b"OL" | b"OV" | b"SQ" | b"UN" | b"UC" | b"UR" | b"UT" | b"SV" | b"UV" => {
                self.take(2)?;
                self.u32(syntax)?
            }
            _ => u32::from(self.u16(syntax)?),
        };
        Ok(Header { tag, vr, length })
    }

    /// Elements up to `end`, or up to the delimiter of an item.
    fn dataset(&mut self, syntax: Syntax, end: Option<usize>, depth: usize) -> Result<Dataset<'a>> {
        let mut elements = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let header = self.header(syntax)?;
            if header.tag == ITEM_END && end.is_none() {
                break;
            }
            let value = self.value(&header, syntax, depth)?;
            elements.extend(value.map(|value| (header.tag, value)));
        }
        Ok(Dataset { syntax, elements })
    }

    /// The next element of the top level, where it is wanted; none from group 5400 on.
    fn top(&mut self, syntax: Syntax, wanted: &[Tag]) -> Result<Option<Option<(Tag, Value<'a>)>>> {
        let header = self.header(syntax)?;
        if header.tag >= WAVEFORM_SEQUENCE {
            return Ok(None);
        }
        if !wanted.contains(&header.tag) || header.length == UNDEFINED {
            self.value(&header, syntax, 0)?;
            return Ok(Some(None));
        }
        let bytes = self.take(header.length as usize)?;
        self.count()?;
        Ok(Some(Some((header.tag, Value::Bytes { bytes, words: false }))))
    }

    /// The value behind a header, where it is one to keep.
    fn value(&mut self, header: &Header, syntax: Syntax, depth: usize) -> Result<Option<Value<'a>>> {
        let wanted = SEQUENCES.contains(&header.tag);
        if header.length == UNDEFINED || wanted {
            // A sequence under the VR UN is written in implicit VR little endian.
            let inner = if &header.vr == b"UN" { Syntax { explicit: false, big_endian: false } } else { syntax };
            let end = match header.length {
                UNDEFINED => None,
                length => Some(self.end(length)?),
            };
            let items = self.items(inner, end, depth + 1, wanted)?;
            return Ok(wanted.then_some(Value::Items(items)));
        }
        let bytes = self.take(header.length as usize)?;
        if !KEPT.contains(&header.tag) {
            return Ok(None);
        }
        self.count()?;
        Ok(Some(Value::Bytes { bytes, words: &header.vr != b"OB" }))
    }

    /// Where a value of `length` bytes ends.
    fn end(&mut self, length: u32) -> Result<usize> {
        let start = self.at;
        self.take(length as usize)?;
        Ok(std::mem::replace(&mut self.at, start))
    }

    fn count(&mut self) -> Result<()> {
        self.kept += 1;
        if self.kept > MOST {
            return Err(self.fault("").expected(format!("at most {MOST} elements"), "more").into());
        }
        Ok(())
    }

    /// The items of a sequence, or the fragments of an encapsulated value, which are stepped over.
    fn items(&mut self, syntax: Syntax, end: Option<usize>, depth: usize, keep: bool) -> Result<Vec<Dataset<'a>>> {
        if depth > DEPTH {
            return Err(self.fault("").expected(format!("sequences nested at most {DEPTH} deep"), "deeper").into());
        }
        let mut items = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            let header = self.header(syntax)?;
            match (header.tag, header.length) {
                (SEQUENCE_END, _) if end.is_none() => break,
                (ITEM, UNDEFINED) => {
                    let item = self.dataset(syntax, None, depth)?;
                    items.extend(keep.then_some(item));
                }
                (ITEM, length) if keep => {
                    let end = self.end(length)?;
                    items.push(self.dataset(syntax, Some(end), depth)?);
                }
                (ITEM, length) => drop(self.take(length as usize)?),
                (tag, _) => {
                    let found = format!("({:04X},{:04X})", tag.0, tag.1);
                    return Err(self.fault("").expected("an item (FFFE,E000)", found).into());
                }
            }
            if keep {
                self.count()?;
            }
        }
        Ok(items)
    }
}
