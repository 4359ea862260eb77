//! XML as ECG carts write it: what the readers of CardioSoft, MUSE, Sierra and aECG share.
//!
//! A file is decoded as a whole (UTF-8, UTF-16 and every encoding a declaration can name, ISO-8859-1 above all) and then
//! walked element by element; a [`Visit`] sees each element when it opens and when it closes, with the text that stood
//! directly in it. Entities of the document's own are never expanded: they become U+FFFD. Depth, size and the number of
//! attributes are bounded, and a file that ends inside an element is an error.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, UTF_8};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::Source;
use crate::error::{Error, Fault, Result};

/// Larger is no resting ECG.
const MOST_BYTES: u64 = 64 << 20;
/// Deeper is an attack.
const DEPTH: usize = 64;
/// More attributes on one element is an attack.
const ATTRIBUTES: usize = 64;

/// The local name of the root element, where the first bytes of a file show one.
pub fn root(head: &[u8]) -> Option<String> {
    let text = decode(head.to_vec()).ok()?;
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if !text.starts_with('<') {
        return None;
    }
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) | Event::Empty(start) => return Some(start.local_name().as_ref().to_owned()),
            Event::Eof | Event::End(_) | Event::CData(_) => return None,
            _ => {}
        }
    }
}

/// A whole file as text.
pub struct Document {
    text: String,
    doing: &'static str,
}

/// One element: its name without prefix, its attributes, and the text directly in it.
pub struct Element<'a> {
    /// Name without prefix.
    pub name: String,
    /// The text in it, without that of its children; complete when the element closes.
    pub text: Cow<'a, str>,
    attributes: Vec<(String, String)>,
    line: usize,
}

/// What reads a document. `above` holds the elements around, the root first.
pub trait Visit {
    /// An element begins; its attributes are known.
    ///
    /// # Errors
    /// Whatever is wrong with it; the line is added.
    fn open(&mut self, _element: &Element, _above: &[Element]) -> Result<()> {
        Ok(())
    }
    /// An element ends; its text is known.
    ///
    /// # Errors
    /// Whatever is wrong with it; the line is added.
    fn close(&mut self, element: &Element, above: &[Element]) -> Result<()>;
}

impl Element<'_> {
    /// The value of an attribute, by its name without prefix.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The text as a number.
    ///
    /// # Errors
    /// Where it is none.
    pub fn number(&self, doing: &str) -> Result<f64> {
        number(&self.text).ok_or_else(|| {
            let fault = Fault::new(doing, "").field(&self.name);
            fault.expected("a number", format!("{:?}", shorten(&self.text))).into()
        })
    }

    /// The text as a count.
    ///
    /// # Errors
    /// Where it is none.
    pub fn count(&self, doing: &str) -> Result<usize> {
        self.text.trim().parse().map_err(|_| {
            let fault = Fault::new(doing, "").field(&self.name);
            fault.expected("a whole number, zero or more", format!("{:?}", shorten(&self.text))).into()
        })
    }
}

/// A finite number, blanks around it allowed.
pub fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// The beginning of a text, for messages.
pub fn shorten(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Whether the innermost of the elements around has this name.
pub fn inside(above: &[Element], name: &str) -> bool {
    above.last().is_some_and(|element| element.name == name)
}

impl Document {
    /// Reads and decodes a file.
    ///
    /// # Errors
    /// Where it is too large for an ECG, or names an encoding that nobody knows.
    pub fn read(source: &Source, doing: &'static str) -> Result<Document> {
        let file = File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io("reading", source.shown()))?;
        if bytes.len() as u64 > MOST_BYTES {
            let fault = Fault::new(doing, "the file is too large for an ECG").file(source.shown());
            return Err(fault.expected(format!("at most {MOST_BYTES} bytes"), "more").into());
        }
        let text = decode(bytes).map_err(|label| {
            let fault = Fault::new(doing, "unknown text encoding").file(source.shown());
            Error::from(fault.expected("UTF-8, UTF-16, ISO-8859-1 or the like", format!("{label:?}")))
        })?;
        Ok(Document { text, doing })
    }

    /// Shows every element to `visitor`.
    ///
    /// # Errors
    /// Where the text is no well-formed XML or ends early, and whatever the visitor finds wrong.
    pub fn walk(&self, visitor: &mut dyn Visit) -> Result<()> {
        let mut reader = Reader::from_str(&self.text);
        reader.config_mut().allow_dangling_amp = true; // patient names hold bare ampersands
        let mut above: Vec<Element> = Vec::new();
        let mut lines = Lines::default();
        loop {
            let event = reader.read_event();
            let line = lines.at(&self.text, reader.buffer_position());
            let event = event.map_err(|e| self.malformed(line, "well-formed XML", e.to_string()))?;
            match event {
                Event::Start(start) => {
                    self.enter(&start, line, &mut above, visitor)?;
                }
                Event::Empty(start) => {
                    self.enter(&start, line, &mut above, visitor)?;
                    leave(&mut above, visitor)?;
                }
                Event::End(_) => leave(&mut above, visitor)?,
                Event::Text(text) => append(&mut above, text.into_inner()),
                Event::CData(text) => append(&mut above, text.into_inner()),
                Event::GeneralRef(reference) => {
                    let plain = match reference.resolve_char_ref() {
                        Ok(Some(character)) => character,
                        _ => predefined(&reference),
                    };
                    append(&mut above, Cow::Owned(plain.to_string()));
                }
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        match above.last() {
            Some(element) => {
                let found = format!("the end of the file inside <{}>", element.name);
                Err(self.malformed(element.line, "a complete file", found))
            }
            None => Ok(()),
        }
    }

    fn enter(&self, start: &BytesStart, line: usize, above: &mut Vec<Element>, visitor: &mut dyn Visit) -> Result<()> {
        if above.len() >= DEPTH {
            return Err(self.malformed(line, &format!("elements at most {DEPTH} deep"), "deeper ones".into()));
        }
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| self.malformed(line, "well-formed attributes", e.to_string()))?;
            if attributes.len() == ATTRIBUTES {
                return Err(self.malformed(line, &format!("at most {ATTRIBUTES} attributes"), "more".into()));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).unwrap_or_else(|_| attribute.value.clone());
            attributes.push((attribute.key.local_name().as_ref().to_owned(), value.into_owned()));
        }
        let name = start.local_name().as_ref().to_owned();
        let element = Element { name, text: Cow::Borrowed(""), attributes, line };
        visitor.open(&element, above).map_err(|e| at_line(e, line))?;
        above.push(element);
        Ok(())
    }

    fn malformed(&self, line: usize, expected: &str, found: String) -> Error {
        let fault = Fault::new(self.doing, "malformed XML").field(format!("line {line}"));
        fault.expected(expected, found).hint("copy or export the file again").into()
    }
}

/// Ends the innermost element.
fn leave(above: &mut Vec<Element>, visitor: &mut dyn Visit) -> Result<()> {
    match above.pop() {
        Some(element) => visitor.close(&element, above).map_err(|e| at_line(e, element.line)),
        None => Ok(()),
    }
}

/// Adds text to the innermost element; the first piece is borrowed, not copied.
fn append<'a>(above: &mut [Element<'a>], piece: Cow<'a, str>) {
    let Some(element) = above.last_mut() else { return };
    if !element.text.is_empty() {
        element.text.to_mut().push_str(&piece);
    } else if !piece.trim().is_empty() {
        element.text = piece;
    }
}

/// The five characters that XML names itself; anything else is not expanded.
fn predefined(name: &str) -> char {
    match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Adds the line of the element to a fault.
fn at_line(error: Error, line: usize) -> Error {
    match error {
        Error::Input(mut fault) => {
            let place = format!("line {line}");
            fault.field = Some(match fault.field.take() {
                Some(field) => format!("{field} ({place})"),
                None => place,
            });
            Error::Input(fault)
        }
        other => other,
    }
}

/// Counts lines up to a place that only grows.
#[derive(Default)]
struct Lines {
    at: usize,
    before: usize,
}

impl Lines {
    fn at(&mut self, text: &str, position: u64) -> usize {
        let position = usize::try_from(position).unwrap_or(usize::MAX).min(text.len());
        let passed = text.as_bytes().get(self.at..position).unwrap_or(b"");
        self.before += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.at = self.at.max(position);
        self.before + 1
    }
}

/// Text of bytes whose encoding a byte-order mark, a pattern of zeros or the XML declaration tells; the label of an
/// encoding nobody knows where it fails. Bytes that do not fit the encoding become U+FFFD: they stand in names, never in
/// numbers.
fn decode(bytes: Vec<u8>) -> std::result::Result<String, String> {
    let encoding = match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => UTF_8,
        [0xff, 0xfe, ..] | [b'<', 0, ..] => UTF_16LE,
        [0xfe, 0xff, ..] | [0, b'<', ..] => UTF_16BE,
        plain => match declared(plain) {
            // A file saved anew in eight bits often keeps its declaration of sixteen.
            Some(label) if label.to_ascii_lowercase().starts_with("utf-16") => UTF_8,
            Some(label) => Encoding::for_label(label.as_bytes()).ok_or(label)?,
            None => UTF_8,
        },
    };
    if encoding == UTF_8 {
        return Ok(match String::from_utf8(bytes) {
            Ok(text) => text, // not copied
            Err(bad) => String::from_utf8_lossy(bad.as_bytes()).into_owned(),
        });
    }
    Ok(encoding.decode(&bytes).0.into_owned())
}

/// The encoding that the XML declaration names.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = bytes.get(..bytes.len().min(256)).unwrap_or(bytes);
    let start = String::from_utf8_lossy(start);
    let declaration = start.trim_start().strip_prefix("<?xml")?.split("?>").next()?.to_owned();
    let value = declaration.split("encoding").nth(1)?.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
    value.get(1..)?.split(quote).next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visit for Seen {
        fn close(&mut self, element: &Element, above: &[Element]) -> Result<()> {
            let path: Vec<&str> = above.iter().map(|e| e.name.as_str()).chain([element.name.as_str()]).collect();
            self.0.push(format!("{}={}", path.join("/"), element.text));
            Ok(())
        }
    }

    fn seen(bytes: &[u8]) -> Result<Vec<String>> {
        let document = Document { text: decode(bytes.to_vec()).unwrap(), doing: "reading XML" };
        let mut seen = Seen::default();
        document.walk(&mut seen).map(|()| seen.0)
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        let unit = |unit: u16| if little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn text_comes_with_its_element_whatever_the_encoding() {
        let expected = ["p:a/b=M\u{fc}ller & Co".replace("p:", ""), "a=".into()];
        assert_eq!(
            seen(b"<?xml version='1.0' encoding='ISO-8859-1'?><p:a><b>M\xfcller &amp; Co</b></p:a>").unwrap(),
            expected
        );
        assert_eq!(seen("\u{feff}<a><b>M\u{fc}ller & Co</b></a>".as_bytes()).unwrap(), expected);
        let text = "<?xml version=\"1.0\" encoding=\"utf-16\"?><a><b>M&#252;ller <![CDATA[& Co]]></b></a>";
        assert_eq!(seen(&utf16(text, true)).unwrap(), expected);
        assert_eq!(seen(&utf16(&format!("\u{feff}{text}"), false)).unwrap(), expected);
        assert_eq!(seen(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn entities_of_the_document_are_not_expanded() {
        let bomb = b"<!DOCTYPE a [<!ENTITY x \"yyyyyyyy\"><!ENTITY z \"&x;&x;&x;\">]><a>&z;&z;</a>";
        assert_eq!(seen(bomb).unwrap(), ["a=\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn malformed_documents_are_refused_with_the_line() {
        let says = |bytes: &[u8]| seen(bytes).unwrap_err().to_string();
        assert!(says(b"<a>\n<b>1</b>\n<c>")
            .contains("field line 3: malformed XML (expected a complete file, found the end of the file inside <c>)"));
        assert!(says(b"<a>\n</b>").contains("line 2"));
        assert!(says(&b"<a>".repeat(70)).contains("at most 64 deep"));
        let many: String = (0..70).map(|i| format!(" a{i}='1'")).collect();
        assert!(says(format!("<a{many}/>").as_bytes()).contains("at most 64 attributes"));
        assert_eq!(decode(b"<?xml version='1.0' encoding='x-none'?><a/>".to_vec()), Err("x-none".to_owned()));
    }

    #[test]
    fn the_root_is_known_from_the_first_bytes() {
        assert_eq!(root(b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- c --><p:Root x='1'><a").as_deref(), Some("Root"));
        assert_eq!(root(&utf16("<?xml version='1.0'?><r/>", true)).as_deref(), Some("r"));
        assert_eq!(root(b"I,II,III\n1,2,3\n"), None);
        assert_eq!(root(b"<!DOCTYPE never "), None);
    }
}
