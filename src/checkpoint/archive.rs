//! ZIP archives as PyTorch writes them: entries stored, not compressed, 64-bit sizes where needed.
//!
//! ```text
//! [local header, name, padding, bytes]... [central directory] [ZIP64 end, locator] [end of central directory]
//! ```
//!
//! Every size is checked against the length of the file before anything is read or allocated. Format:
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, Result};

const DOING: &str = "reading PyTorch checkpoint";
const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_BYTES: u64 = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_BYTES: u64 = 56;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: u64 = 30;
/// The longest comment that may follow the end record.
const COMMENT_BYTES: u64 = 65_535;
/// Stands where the value is in the ZIP64 record.
const SEE_ZIP64: u64 = u32::MAX as u64;

/// One file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc: u32,
    stored: u64,
    size: u64,
    header: u64,
}

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    length: u64,
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Opens an archive and reads its directory.
    ///
    /// # Errors
    /// Where the file cannot be read or is not a whole ZIP archive.
    pub fn open(path: &Path) -> Result<Archive> {
        let file = File::open(path).map_err(Error::io("opening", path))?;
        let length = file.metadata().map_err(Error::io("opening", path))?.len();
        let mut archive = Archive { path: path.to_owned(), file, length, entries: BTreeMap::new() };
        let (start, size) = archive.directory()?;
        let directory = archive.bytes(start, size)?;
        archive.entries = archive.parse(&directory)?;
        Ok(archive)
    }

    /// The names of the entries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The size of an entry in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|entry| entry.size)
    }

    /// The bytes of an entry, checked against their CRC-32.
    ///
    /// # Errors
    /// Where there is no such entry, where it is compressed or encrypted, or where its bytes are damaged.
    pub fn read(&mut self, name: &str) -> Result<Vec<u8>> {
        let entry = self.entries.get(name).cloned().ok_or_else(|| self.fault("no such entry").field(name))?;
        if entry.encrypted || entry.method != 0 || entry.stored != entry.size {
            let found = if entry.encrypted { "encrypted".into() } else { format!("compression {}", entry.method) };
            let fault = self.fault("the entry is not stored plainly").field(name).expected("compression 0", found);
            return Err(fault.hint("torch.save stores entries uncompressed: save the checkpoint again with it").into());
        }
        let head = self.bytes(entry.header, LOCAL_BYTES)?;
        if !head.starts_with(LOCAL) {
            return Err(self.broken("no entry where the directory says").into());
        }
        let skip = LOCAL_BYTES + number(&head, 26, 2) + number(&head, 28, 2);
        let start = entry.header.checked_add(skip).ok_or_else(|| self.broken("an entry lies outside the file"))?;
        let bytes = self.bytes(start, entry.size)?;
        let crc = crc32fast::hash(&bytes);
        if crc != entry.crc {
            let fault = self.broken("the bytes are damaged").field(name);
            return Err(fault.expected(format!("CRC {:08x}", entry.crc), format!("{crc:08x}")).into());
        }
        Ok(bytes)
    }

    /// Start and size of the central directory.
    fn directory(&mut self) -> Result<(u64, u64)> {
        let window = self.length.min(COMMENT_BYTES + END_BYTES as u64);
        let from = self.length - window;
        let tail = self.bytes(from, window)?;
        let is_end = |at: &usize| tail.get(*at..).is_some_and(|rest| rest.starts_with(END));
        let last = tail.len().checked_sub(END_BYTES).ok_or_else(|| self.broken("too short"))?;
        let at = (0..=last).rev().find(is_end).ok_or_else(|| self.broken("no end of a ZIP directory"))?;
        let end = tail.get(at..).unwrap_or_default();
        let (mut size, mut start) = (number(end, 12, 4), number(end, 16, 4));
        let mut limit = from + at as u64;
        if size == SEE_ZIP64 || start == SEE_ZIP64 || number(end, 10, 2) == u64::from(u16::MAX) {
            if let Some((place, big_size, big_start)) = self.directory64(limit)? {
                (size, start, limit) = (big_size, big_start, place);
            }
        }
        if start.checked_add(size).is_none_or(|stop| stop > limit) {
            return Err(self.broken("the ZIP directory lies outside the file").into());
        }
        Ok((start, size))
    }

    /// Place of the ZIP64 end record, then size and start of the directory; none where there is no such record.
    fn directory64(&mut self, end: u64) -> Result<Option<(u64, u64, u64)>> {
        let Some(at) = end.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
        let locator = self.bytes(at, LOCATOR_BYTES)?;
        if !locator.starts_with(LOCATOR) {
            return Ok(None);
        }
        let place = number(&locator, 8, 8);
        let record = self.bytes(place, END64_BYTES)?;
        if !record.starts_with(END64) {
            return Err(self.broken("no ZIP64 record where its locator says").into());
        }
        Ok(Some((place, number(&record, 40, 8), number(&record, 48, 8))))
    }

    fn parse(&self, directory: &[u8]) -> Result<BTreeMap<String, Entry>> {
        let mut entries = BTreeMap::new();
        let mut rest = directory;
        while rest.starts_with(CENTRAL) {
            let (name_end, extra) = (number(rest, 28, 2) as usize + CENTRAL_BYTES, number(rest, 30, 2) as usize);
            let next = name_end + extra + number(rest, 32, 2) as usize;
            let name = rest.get(CENTRAL_BYTES..name_end).ok_or_else(|| self.broken("the ZIP directory is cut off"))?;
            let extra = rest.get(name_end..name_end + extra).unwrap_or_default();
            let entry = Entry {
                encrypted: number(rest, 8, 2) & 1 == 1,
                method: number(rest, 10, 2) as u16,
                crc: number(rest, 16, 4) as u32,
                stored: number(rest, 20, 4),
                size: number(rest, 24, 4),
                header: number(rest, 42, 4),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            if entries.insert(name.clone(), entry.with_zip64(extra)).is_some() {
                return Err(self.broken("two entries of one name").field(name).into());
            }
            rest = rest.get(next..).ok_or_else(|| self.broken("the ZIP directory is cut off"))?;
        }
        Ok(entries)
    }

    /// Bytes of the file, none of them outside it.
    fn bytes(&mut self, start: u64, size: u64) -> Result<Vec<u8>> {
        if start.checked_add(size).is_none_or(|stop| stop > self.length) {
            return Err(self.broken("an entry lies outside the file").into());
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| self.broken("too large for this machine"))?];
        self.file.seek(SeekFrom::Start(start)).map_err(Error::io("reading", &self.path))?;
        self.file.read_exact(&mut bytes).map_err(Error::io("reading", &self.path))?;
        Ok(bytes)
    }

    fn fault(&self, cause: &str) -> Fault {
        Fault::new(DOING, cause).file(&self.path)
    }

    fn broken(&self, cause: &str) -> Fault {
        self.fault(cause).hint("the file is cut off or damaged: copy or download it again")
    }
}

impl Entry {
    /// Takes the sizes that do not fit 32 bits from the ZIP64 field, where they stand in this order.
    fn with_zip64(mut self, mut extra: &[u8]) -> Entry {
        while extra.len() >= 4 {
            let (tag, size) = (number(extra, 0, 2), number(extra, 2, 2) as usize);
            if tag == 1 {
                let mut at = 4;
                for value in [&mut self.size, &mut self.stored, &mut self.header] {
                    if *value == SEE_ZIP64 {
                        *value = number(extra, at, 8);
                        at += 8;
                    }
                }
            }
            extra = extra.get(4 + size..).unwrap_or_default();
        }
        self
    }
}

/// A little-endian number; bytes past the end read as 0.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let digits = bytes.get(at..at + width).unwrap_or_default();
    digits.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a ZIP archive of stored entries, for tests.
    pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in entries {
            let header = out.len() as u32;
            let mut common = Vec::new();
            common.extend([0u8; 10]);
            common.extend(crc32fast::hash(bytes).to_le_bytes());
            common.extend((bytes.len() as u32).to_le_bytes());
            common.extend((bytes.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0; 2]);
            out.extend(LOCAL);
            out.extend(&common);
            out.extend(name.as_bytes());
            out.extend(*bytes);
            directory.extend(CENTRAL);
            directory.extend([0; 2]);
            directory.extend(common);
            directory.extend([0; 10]);
            directory.extend(header.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = out.len() as u32;
        out.extend(&directory);
        out.extend(END);
        out.extend([0; 4]);
        out.extend((entries.len() as u16).to_le_bytes());
        out.extend((entries.len() as u16).to_le_bytes());
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0; 2]);
        out
    }

    fn open(bytes: &[u8]) -> Result<Archive> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Archive::open(file.path())
    }

    #[test]
    fn reads_back_what_was_stored() {
        let mut archive = open(&zip(&[("a/one", b"1"), ("a/two", b"zwei")])).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a/one", "a/two"]);
        assert_eq!(archive.read("a/two").unwrap(), b"zwei");
        assert_eq!(archive.size("a/one"), Some(1));
        assert!(archive.read("a/three").is_err());
    }

    #[test]
    fn names_damaged_and_compressed_entries() {
        let good = zip(&[("a", b"payload")]);
        let at = good.windows(7).position(|w| w == b"payload").unwrap();
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        let error = open(&damaged).unwrap().read("a").unwrap_err();
        assert!(error.to_string().contains("field a: the bytes are damaged (expected CRC"), "{error}");
        let mut compressed = good.clone();
        let entry = good.windows(4).position(|w| w == CENTRAL).unwrap();
        compressed[entry + 10] = 8;
        let error = open(&compressed).unwrap().read("a").unwrap_err();
        assert!(error.to_string().contains("expected compression 0, found compression 8"), "{error}");
    }

    #[test]
    fn refuses_what_is_not_a_whole_archive() {
        let good = zip(&[("a", b"payload")]);
        assert!(open(b"").is_err());
        assert!(open(b"id,age\np1,60\n").is_err());
        for length in 0..good.len() {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &good[..length]).unwrap();
            assert!(Archive::open(file.path()).is_err(), "{length}");
        }
    }

    #[test]
    fn claimed_sizes_allocate_nothing() {
        let mut bytes = zip(&[("a", b"payload")]);
        let end = bytes.len() - END_BYTES;
        bytes[end + 8..end + 20].fill(0xff);
        assert!(open(&bytes).is_err());
        let mut zip64 = bytes[..end].to_vec();
        let place = zip64.len() as u64;
        zip64.extend(END64);
        zip64.extend([0xff; 52]);
        zip64.extend(LOCATOR);
        zip64.extend([0; 4]);
        zip64.extend(place.to_le_bytes());
        zip64.extend([0; 4]);
        zip64.extend(&bytes[end..]);
        assert!(open(&zip64).unwrap_err().to_string().contains("outside the file"));
    }

    #[test]
    fn large_sizes_come_from_the_zip64_field() {
        let small = Entry { encrypted: false, method: 0, crc: 0, stored: SEE_ZIP64, size: SEE_ZIP64, header: 7 };
        let mut extra = vec![0x46, 0x42, 1, 0, b'Z', 1, 0, 16, 0]; // PyTorch's padding, then the field
        extra.extend((5u64 << 32).to_le_bytes());
        extra.extend((6u64 << 32).to_le_bytes());
        let large = small.with_zip64(&extra);
        assert_eq!((large.size, large.stored, large.header), (5 << 32, 6 << 32, 7));
    }
}
