//! ZIP, TAR and gzip, told apart by content: one file after another is unpacked into a temporary folder, read, and removed.
//!
//! A WFDB header brings the files it names along. Hostile archives end in an error: no entry may grow to more than 100 times
//! its packed size (64 MB are always allowed), entries that share bytes are refused, and the names in an archive
//! never lead out of the temporary folder. Archives within archives are not opened.
//!
//! Formats: ZIP <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, TAR (ustar, GNU, pax), gzip RFC 1952.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::scratch::{ScratchFile, ScratchFolder};
use super::{wfdb, Source};
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading archive";
/// How much an entry may grow while it is unpacked ...
const GROWTH: u64 = 100;
/// ... and what is allowed in any case, bytes.
const ALLOWED: u64 = 64 << 20;
/// Where "ustar" stands in a TAR header.
const USTAR: usize = 257;
/// A WFDB header that is longer brings nothing along.
const HEADER_BYTES: u64 = 1 << 20;

/// What the first bytes of a file say about how it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A ZIP archive; NPZ files are such too.
    Zip,
    /// A TAR archive.
    Tar,
    /// Gzip around one file, or around a TAR archive.
    Gzip,
}

impl Packing {
    /// How a file is packed, where it is.
    pub fn of(head: &[u8]) -> Option<Packing> {
        match head {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Packing::Zip),
            [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
            _ if head.get(USTAR..).is_some_and(|rest| rest.starts_with(b"ustar")) => Some(Packing::Tar),
            _ => None,
        }
    }
}

/// The name of a compression that we do not open.
pub fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some("7-Zip"),
        _ => None,
    }
}

/// One file in the archive.
struct Entry {
    name: String,
    /// Its place: number in a ZIP archive, first byte in a TAR archive.
    place: u64,
    packed: u64,
}

/// An open archive; iterates its files.
pub struct Archive {
    shown: String,
    kind: Kind,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    next: usize,
    /// What came along with a WFDB header already.
    used: HashSet<usize>,
    /// The archive itself.
    source: Option<Source>,
}

enum Kind {
    Zip(zip::ZipArchive<File>),
    Tar(File),
    Single(Option<Source>),
}

impl Archive {
    /// Opens an archive and lists its files.
    ///
    /// # Errors
    /// Where it is damaged, truncated or hostile.
    pub fn open(source: Source, packing: Packing) -> Result<Archive> {
        let shown = source.shown().to_owned();
        let mut archive = Archive {
            shown: shown.clone(),
            kind: Kind::Single(None),
            entries: Vec::new(),
            by_name: HashMap::new(),
            next: 0,
            used: HashSet::new(),
            source: None,
        };
        let filled = match packing {
            Packing::Zip => archive.list_zip(source),
            Packing::Tar => File::open(source.path()).map_err(damaged).and_then(|file| archive.list_tar(file, source)),
            Packing::Gzip => archive.expand(source),
        };
        filled.map_err(|e| e.in_file(&shown))?;
        archive.entries.retain(|entry| !is_hidden(&entry.name));
        archive.by_name = archive.entries.iter().enumerate().map(|(k, e)| (e.name.clone(), k)).collect();
        archive.mark_segments().map_err(|e| e.in_file(&shown))?;
        Ok(archive)
    }

    /// Whether every file is an NPY array: then the archive is one NPZ file.
    pub fn is_npz(&self) -> bool {
        matches!(self.kind, Kind::Zip(_))
            && !self.entries.is_empty()
            && self.entries.iter().all(|e| e.name.ends_with(".npy"))
    }

    /// The archive as a file.
    pub fn into_source(self) -> Option<Source> {
        self.source
    }

    /// The one file that gzip was wrapped around, where it is no archive.
    pub fn single(&mut self) -> Option<Source> {
        match &mut self.kind {
            Kind::Single(source) => source.take(),
            Kind::Zip(_) | Kind::Tar(_) => None,
        }
    }

    fn list_zip(&mut self, source: Source) -> Result<()> {
        let file = File::open(source.path()).map_err(damaged)?;
        let length = file.metadata().map_err(damaged)?.len();
        let mut zip = zip::ZipArchive::new(file).map_err(|e| damaged(e.into()))?;
        let mut total = 0u64;
        for place in 0..zip.len() {
            let entry = zip.by_index_raw(place).map_err(|e| damaged(e.into()))?;
            let name = entry.name().map_or_else(|_| format!("entry {place}"), |name| name.into_owned());
            total = total.saturating_add(entry.compressed_size());
            if entry.is_file() {
                self.entries.push(Entry { name, place: place as u64, packed: entry.compressed_size() });
            }
        }
        if total > length {
            let fault = Fault::new(DOING, "the entries share bytes, as those of an archive bomb do");
            return Err(fault.expected(format!("at most {length} bytes of entries"), total).into());
        }
        self.kind = Kind::Zip(zip);
        self.source = Some(source);
        Ok(())
    }

    fn list_tar(&mut self, file: File, source: Source) -> Result<()> {
        let length = file.metadata().map_err(damaged)?.len();
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (place, packed) = (entry.raw_file_position(), entry.size());
            let regular = entry.header().entry_type().is_file();
            if regular && place.saturating_add(packed) > length {
                let fault = Fault::new(DOING, "the archive is truncated").field(&name);
                let expected = format!("{packed} bytes");
                return Err(fault
                    .expected(expected, length.saturating_sub(place))
                    .hint("copy the archive again")
                    .into());
            }
            if regular {
                self.entries.push(Entry { name, place, packed });
            }
        }
        self.kind = Kind::Tar(tar.into_inner());
        self.source = Some(source);
        Ok(())
    }

    /// Unpacks gzip: a TAR archive is listed, anything else is the one file.
    fn expand(&mut self, source: Source) -> Result<()> {
        let packed = File::open(source.path()).map_err(damaged)?;
        let limit = limit(packed.metadata().map_err(damaged)?.len());
        let name = Path::new(source.shown()).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(&name).trim_matches(['<', '>']).to_owned();
        let spool = ScratchFile::new().map_err(no_folder)?;
        copy(&mut MultiGzDecoder::new(packed), &mut spool.file().map_err(no_folder)?, limit, &name)?;
        let file = File::open(spool.path()).map_err(no_folder)?;
        let mut head = Vec::new();
        (&file).take(512).read_to_end(&mut head).map_err(no_folder)?;
        (&file).seek(SeekFrom::Start(0)).map_err(no_folder)?;
        if Packing::of(&head) == Some(Packing::Tar) {
            return self.list_tar(file, source); // the spool loses its name here, and cannot be left behind
        }
        let folder = ScratchFolder::new().map_err(no_folder)?;
        let path = folder.path().join(plain(&name));
        spool.persist(&path).map_err(no_folder)?;
        self.kind = Kind::Single(Some(Source::unpacked(path, source.shown().to_owned(), Arc::new(folder))));
        Ok(())
    }

    /// Marks what the headers of WFDB records of several segments name: it may stand before them.
    fn mark_segments(&mut self) -> Result<()> {
        for k in (0..self.entries.len()).filter(|&k| self.is_short_header(k)).collect::<Vec<_>>() {
            let folder = ScratchFolder::new().map_err(no_folder)?;
            let name = self.entries.get(k).map(|e| e.name.clone()).unwrap_or_default();
            let Ok(path) = self.extract(k, folder.path()) else { continue }; // told when it is read
            if wfdb::has_segments(&path) {
                let mut parts = self.companions(&name, &path)?;
                parts.retain(|part| *part != k);
                self.used.extend(parts);
            }
        }
        Ok(())
    }

    fn is_short_header(&self, k: usize) -> bool {
        self.entries.get(k).is_some_and(|e| e.name.ends_with(".hea") && e.packed <= HEADER_BYTES)
    }

    /// Unpacks an entry, and what a WFDB header names, into a folder of its own.
    fn unpack(&mut self, k: usize) -> Result<Source> {
        let folder = ScratchFolder::new().map_err(no_folder)?;
        let name = self.entries.get(k).map(|e| e.name.clone()).unwrap_or_default();
        let path = self.extract(k, folder.path())?;
        let mut wanted = vec![(name.clone(), path.clone())];
        let mut taken = HashSet::from([k]);
        while let Some((name, path)) = wanted.pop() {
            for also in self.companions(&name, &path)? {
                if taken.insert(also) {
                    let name = self.entries.get(also).map(|e| e.name.clone()).unwrap_or_default();
                    wanted.push((name, self.extract(also, folder.path())?));
                }
            }
        }
        self.used.extend(taken);
        let shown = format!("{}/{name}", self.shown);
        Ok(Source::unpacked(path, shown, Arc::new(folder)))
    }

    /// The entries beside a WFDB header that it names, headers of segments among them.
    fn companions(&self, name: &str, path: &Path) -> Result<Vec<usize>> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(no_folder)?;
        file.take(HEADER_BYTES).read_to_end(&mut bytes).map_err(no_folder)?;
        let head = bytes.get(..bytes.len().min(super::HEAD as usize)).unwrap_or(&bytes);
        if !wfdb::recognise(head, name) {
            return Ok(Vec::new());
        }
        let folder = name.rfind('/').and_then(|slash| name.get(..=slash)).unwrap_or("");
        let text = String::from_utf8_lossy(&bytes);
        let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        let places = words.flat_map(|word| [format!("{folder}{word}"), format!("{folder}{word}.hea")]);
        Ok(places.filter_map(|place| self.by_name.get(&place).copied()).collect())
    }

    /// Writes one entry into `folder`, under the last part of its name.
    fn extract(&mut self, k: usize, folder: &Path) -> Result<PathBuf> {
        let Some(entry) = self.entries.get(k) else { return Err(Fault::new(DOING, "no such entry").into()) };
        let path = folder.join(plain(&entry.name));
        let mut out = File::create(&path).map_err(no_folder)?;
        match &mut self.kind {
            Kind::Zip(zip) => {
                let place = usize::try_from(entry.place).unwrap_or(usize::MAX);
                let bad =
                    |e: zip::result::ZipError| Fault::new(DOING, "").field(&entry.name).expected("a readable entry", e);
                let mut from = zip.by_index(place).map_err(bad)?;
                copy(&mut from, &mut out, limit(entry.packed), &entry.name)?;
            }
            Kind::Tar(file) => {
                file.seek(SeekFrom::Start(entry.place)).map_err(damaged)?;
                copy(&mut file.take(entry.packed), &mut out, entry.packed, &entry.name)?;
            }
            Kind::Single(_) => {}
        }
        Ok(path)
    }
}

impl Iterator for Archive {
    type Item = Result<Source>;

    fn next(&mut self) -> Option<Result<Source>> {
        let k = (self.next..self.entries.len()).find(|k| !self.used.contains(k))?;
        self.next = k + 1;
        Some(self.unpack(k).map_err(|e| e.in_file(&self.shown)))
    }
}

/// Whether an entry is hidden, or what macOS adds to archives.
fn is_hidden(name: &str) -> bool {
    let hides = |part: &str| part == "__MACOSX" || (part.starts_with('.') && !matches!(part, "." | ".."));
    name.split(['/', '\\']).any(hides)
}

/// The most bytes that `packed` bytes may become.
fn limit(packed: u64) -> u64 {
    packed.saturating_mul(GROWTH).saturating_add(ALLOWED)
}

/// The last part of a name in an archive, which cannot lead anywhere.
fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    match last {
        "" | "." | ".." => "entry".to_owned(),
        last => last.replace('\0', ""),
    }
}

fn copy(from: &mut dyn Read, into: &mut File, limit: u64, name: &str) -> Result<()> {
    let wrong = |e: io::Error| {
        let fault = Fault::new(DOING, "the archive is damaged").field(name).expected("a readable entry", e);
        fault.hint("copy the archive again")
    };
    let written = io::copy(&mut from.take(limit.saturating_add(1)), into).map_err(wrong)?;
    if written > limit {
        let fault = Fault::new(DOING, "the entry grows like an archive bomb").field(name);
        let expected = format!("at most {limit} bytes ({GROWTH} times its packed size and {ALLOWED})");
        return Err(fault.expected(expected, "more").hint("unpack it yourself if you trust it").into());
    }
    Ok(())
}

fn damaged(error: io::Error) -> Error {
    let fault = Fault::new(DOING, "the archive is damaged").expected("a readable archive", error);
    fault.hint("copy the archive again").into()
}

fn no_folder(error: io::Error) -> Error {
    Error::io("unpacking into", std::env::temp_dir())(error)
}
