//! What a user names, and the files that are meant: files, folders, patterns, archives, lists, manifests.
//!
//! ```text
//! record.xml          the file
//! folder              the ECGs in it and below, by name; hidden files and files of no known format are passed over
//! 'ukb/*_20205_*.xml' all that match, by name (**: folders below too), signals of WFDB records through their headers
//! cohort.tar.gz       the ECGs in it, in the archive's order; others are passed over
//! -                   standard input, an archive perhaps
//! ```
//!
//! A list has one path a line (or, as `find -print0` writes them, separated by NUL). A list whose first line is a table
//! header with a column `path` is a manifest: a CSV or TSV file; its column `id`, where there is one, names the records.
//! Whatever is named, twice or not, is read in that order. What was named itself must be an ECG; what was only found need not.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::{foreign, Archive, Packing};
use super::{csv, dicom, EcgFormat, Source, ECG_FORMATS};
use crate::error::{Error, Fault, Result};

const DOING: &str = "finding input";
/// Folders further down are not looked into.
const DEPTH: usize = 64;
/// A longer WFDB header is none.
const HEADER_BYTES: u64 = 1 << 20;
/// A longer list is none.
const LIST_BYTES: u64 = 1 << 30;

/// A path that was named or found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    path: PathBuf,
    id: Option<String>,
    /// Found in a folder: passed over where it is no ECG.
    found: bool,
    /// No file, but where the files of a named folder begin or end.
    edge: Option<Edge>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

/// The files to read, in order; iterates them.
pub struct Inputs {
    items: VecDeque<Result<Item>>,
    /// The archive that is being read: whether it was found, its name, and how many ECGs came out of it.
    archive: Option<(Archive, Opened)>,
    passed_over: Vec<String>,
    /// How many files of the folder that is being read were passed over.
    passed: usize,
    /// ECGs found since a folder began.
    in_folder: usize,
}

/// The archive that is being read.
struct Opened {
    shown: String,
    id: Option<String>,
    found: bool,
    ecgs: usize,
}

impl Inputs {
    /// Finds what `named` and the list mean; without either, standard input.
    ///
    /// # Errors
    /// Where the list cannot be read, or standard input is named twice. A path that is not there is found out later.
    pub fn begin(named: &[PathBuf], list: Option<&Path>) -> Result<Inputs> {
        let stdin = Path::new("-");
        let mut named = named.to_vec();
        if named.is_empty() && list.is_none() {
            named.push(stdin.to_owned());
        }
        let twice = named.iter().map(PathBuf::as_path).chain(list).filter(|path| *path == stdin).count() > 1;
        if twice {
            return Err(Error::usage("standard input is named twice"));
        }
        let mut items: VecDeque<Result<Item>> = VecDeque::new();
        let listed = list.map(read_list).transpose()?.unwrap_or_default();
        let named = named.into_iter().map(|path| Item { path, id: None, found: false, edge: None });
        for item in named.chain(listed) {
            expand(item, &mut items);
        }
        Ok(Inputs { items, archive: None, passed_over: Vec::new(), passed: 0, in_folder: 0 })
    }

    /// The files that are named and found, archives as such; those that are read later too.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.items.iter().flatten().map(|item| item.path.as_path())
    }

    /// Takes out the files in folders and archives that were no ECG, since this was asked last.
    pub fn passed_over(&mut self) -> impl Iterator<Item = String> + '_ {
        self.passed_over.drain(..)
    }

    /// The next of an open archive; none at its end, where it must have given something.
    fn next_in_archive(&mut self) -> Option<Result<Source>> {
        let (archive, opened) = self.archive.as_mut()?;
        for source in archive.by_ref() {
            let source = match source {
                Ok(source) => source,
                Err(error) => return Some(Err(error)),
            };
            match is_ecg(&source) {
                Ok(true) => {
                    opened.ecgs += 1;
                    self.in_folder += 1;
                    return Some(Ok(source.with_id(opened.id.clone())));
                }
                Ok(false) => {
                    self.passed += 1;
                    self.passed_over.push(source.shown().to_owned());
                }
                Err(error) => return Some(Err(error)),
            }
        }
        let opened = self.archive.take().map(|(_, opened)| opened)?;
        (opened.ecgs == 0 && !opened.found).then(|| Err(no_ecg("archive", &opened.shown)))
    }

    /// Opens a path: an archive is entered, a found file that is no ECG gives nothing.
    fn enter(&mut self, item: Item) -> Option<Result<Source>> {
        let opened = Source::open(&item.path).and_then(|source| {
            let head = source.head()?;
            Ok((Packing::of(&head), foreign(&head), source))
        });
        let (packing, foreign, source) = match opened {
            Ok(opened) => opened,
            Err(error) => return Some(Err(error)),
        };
        let shown = source.shown().to_owned();
        match packing {
            Some(packing) => match Archive::open(source, packing) {
                Ok(archive) if archive.is_npz() => {
                    archive.into_source().and_then(|source| self.plain(Ok(source), item))
                }
                Ok(mut archive) => match archive.single() {
                    Some(source) => self.plain(Ok(source), item),
                    None => {
                        self.archive = Some((archive, Opened { shown, id: item.id, found: item.found, ecgs: 0 }));
                        None
                    }
                },
                Err(error) => Some(Err(error)),
            },
            None => match foreign.filter(|_| !item.found) {
                Some(name) => {
                    let fault = Fault::new(DOING, "compressed in a way that is not read").file(&shown);
                    Some(Err(fault.expected("ZIP, TAR or gzip", name).hint("unpack it first").into()))
                }
                None => self.plain(Ok(source), item),
            },
        }
    }

    /// A file as it is; a found one must be an ECG.
    fn plain(&mut self, source: Result<Source>, item: Item) -> Option<Result<Source>> {
        let wanted = source.and_then(|source| Ok((!item.found || is_ecg(&source)?, source)));
        match wanted {
            Ok((true, source)) => {
                self.in_folder += 1;
                Some(Ok(source.with_id(item.id)))
            }
            Ok((false, source)) => {
                self.passed += 1;
                self.passed_over.push(source.shown().to_owned());
                None
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Iterator for Inputs {
    type Item = Result<Source>;

    fn next(&mut self) -> Option<Result<Source>> {
        loop {
            if let Some(source) = self.next_in_archive() {
                return Some(source);
            }
            match self.items.pop_front()? {
                Ok(Item { edge: Some(Edge::Begin), .. }) => (self.in_folder, self.passed) = (0, 0),
                Ok(Item { edge: Some(Edge::End), path, .. }) => {
                    if self.in_folder == 0 {
                        let error = no_ecg("folder", &path.to_string_lossy());
                        let hint = format!("files passed over: {}; -v lists them", self.passed);
                        return Some(Err(if self.passed > 0 { error.or_hint(hint) } else { error }));
                    }
                }
                Ok(item) => {
                    if let Some(source) = self.enter(item) {
                        return Some(source);
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Whether some format takes the file for its own; text with commas in it and images are no ECGs.
fn is_ecg(source: &Source) -> Result<bool> {
    let head = source.head()?;
    let format = ECG_FORMATS.iter().find(|format| (format.recognise)(&head, source.shown()));
    let holds = |format: &EcgFormat| match format.name {
        "CSV" => csv::holds_samples(&head),
        "DICOM" => dicom::holds_waveform(&head),
        _ => true,
    };
    Ok(!head.is_empty() && format.is_some_and(holds))
}

fn no_ecg(what: &str, shown: &str) -> Error {
    let fault = Fault::new(DOING, format!("there is no ECG in the {what}")).file(shown);
    let known: Vec<&str> = ECG_FORMATS.iter().map(|f| f.name).collect();
    fault.expected(known.join(", "), "none of them").into()
}

/// A folder or a pattern becomes the files it means; anything else stays.
fn expand(item: Item, into: &mut VecDeque<Result<Item>>) {
    let text = item.path.to_string_lossy().into_owned();
    if item.path.is_dir() {
        let edge = |edge| Ok(Item { edge: Some(edge), ..item.clone() });
        into.push_back(edge(Edge::Begin));
        walk(&item.path, item.id.as_ref(), DEPTH, into);
        return into.push_back(edge(Edge::End));
    }
    if item.path.exists() || !text.contains(['*', '?', '[']) {
        return into.push_back(Ok(item));
    }
    let before = into.len();
    let fault = |cause: &str| Fault::new(DOING, cause).file(&text);
    let (pattern, deep) = (glob_of(&text), text.contains("**"));
    match glob::glob(&pattern) {
        Ok(paths) => {
            let (paths, unreadable): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_ok());
            let paths: Vec<PathBuf> = paths.into_iter().flatten().collect();
            let matched: HashSet<&PathBuf> = paths.iter().collect();
            let parts: HashSet<PathBuf> = paths.iter().flat_map(|path| parts(path)).collect();
            let has_header = |path: &Path| belongs_to_header(path) && matched.contains(&path.with_extension("hea"));
            for path in paths.iter().filter(|path| !parts.contains(*path) && !has_header(path)) {
                match path.is_dir() {
                    true if deep => {} // what it holds matches by itself
                    true => expand_folder(Item { path: path.clone(), ..item.clone() }, into),
                    false => into.push_back(Ok(Item { path: path.clone(), ..item.clone() })),
                }
            }
            let refused = |e: glob::GlobError| Error::io("opening", e.path().to_owned())(e.into());
            into.extend(unreadable.into_iter().filter_map(|path| path.err().map(refused).map(Err)));
            if into.len() == before {
                into.push_back(Err(fault("nothing matches the pattern").expected("files", "none").into()));
            }
        }
        Err(e) => into.push_back(Err(fault("malformed pattern").expected("*, ?, [a-z] or **", e.msg).into())),
    }
}

/// `**` at the end means the files in all folders below, which the library writes `**/*`.
fn glob_of(text: &str) -> String {
    if text == "**" || text.ends_with("/**") {
        format!("{text}/*")
    } else {
        text.to_owned()
    }
}

fn expand_folder(item: Item, into: &mut VecDeque<Result<Item>>) {
    let before = into.len();
    walk(&item.path, item.id.as_ref(), DEPTH, into);
    if into.len() == before {
        into.push_back(Err(no_ecg("folder", &item.path.to_string_lossy())));
    }
}

/// The files in a folder and below, by name. Links to folders are not followed: they may lead in circles.
fn walk(folder: &Path, id: Option<&String>, depth: usize, into: &mut VecDeque<Result<Item>>) {
    let listed = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = match listed {
        Ok(entries) => entries,
        Err(error) => return into.push_back(Err(Error::io("opening folder", folder)(error))),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    let parts: HashSet<PathBuf> = entries.iter().flat_map(|entry| parts(&entry.path())).collect();
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&path, id, depth - 1, into),
            Ok(_) if path.is_file() && !belongs_to_header(&path) && !parts.contains(&path) => {
                into.push_back(Ok(Item { path, id: id.cloned(), found: true, edge: None }));
            }
            Ok(_) => {}
            Err(error) => into.push_back(Err(Error::io("opening", path)(error))),
        }
    }
}

/// A signal file of a WFDB record is read through the header beside it, not by itself.
fn belongs_to_header(path: &Path) -> bool {
    let is_signal = matches!(path.extension().and_then(|e| e.to_str()), Some("dat" | "mat"));
    is_signal && path.with_extension("hea").is_file()
}

/// The signal files that a WFDB header names, or the headers of its segments: they are read through it.
fn parts(path: &Path) -> Vec<PathBuf> {
    if path.extension().and_then(|e| e.to_str()) != Some("hea") {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let _ = fs::File::open(path).and_then(|file| file.take(HEADER_BYTES).read_to_end(&mut bytes)); // read again, and told, later
    let text = String::from_utf8_lossy(&bytes);
    let mut names = text.lines().filter(|l| !l.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    match names.next() {
        Some(name) if name.contains('/') => names.map(|name| path.with_file_name(format!("{name}.hea"))).collect(),
        Some(_) => names.map(|name| path.with_file_name(name)).collect(),
        None => Vec::new(),
    }
}

/// The items of a list or a manifest.
fn read_list(list: &Path) -> Result<Vec<Item>> {
    let source = Source::open(list)?;
    let mut text = Vec::new();
    let file = fs::File::open(source.path()).map_err(Error::io("opening", source.shown()))?;
    file.take(LIST_BYTES).read_to_end(&mut text).map_err(Error::io("reading", source.shown()))?;
    parse_list(&text).map_err(|e| e.in_file(source.shown()))
}

fn parse_list(bytes: &[u8]) -> Result<Vec<Item>> {
    let separator = if bytes.contains(&0) { '\0' } else { '\n' };
    let holes = bytes.windows(2).any(|pair| pair == [0, 0]); // binary: no tool writes empty names
    let text = std::str::from_utf8(bytes).ok().filter(|_| !holes).ok_or_else(|| {
        let fault = Fault::new("reading list", "this is no list of paths");
        fault.expected("UTF-8 text, one path a line", "other bytes").hint("--from-list takes a list, not an ECG")
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or("");
    for delimiter in [',', ';', '\t'] {
        let mut cells = first.split(delimiter).map(|cell| cell.trim().trim_matches('"'));
        if separator == '\n' && cells.any(|cell| cell.eq_ignore_ascii_case("path")) {
            return parse_manifest(text, delimiter as u8);
        }
    }
    let lines = text.split(separator).map(|line| line.trim_end_matches('\r')).filter(|line| !line.trim().is_empty());
    Ok(lines.map(|line| Item { path: line.into(), id: None, found: false, edge: None }).collect())
}

fn parse_manifest(text: &str, delimiter: u8) -> Result<Vec<Item>> {
    let mut reader = ::csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let malformed = |e: ::csv::Error| Fault::new("reading manifest", "malformed table").expected("CSV", e);
    let header = reader.headers().map_err(malformed)?.clone();
    let column = |name: &str| header.iter().position(|cell| cell.trim().eq_ignore_ascii_case(name));
    let (path, id) = (column("path"), column("id"));
    let mut items = Vec::new();
    for row in reader.records() {
        let row = row.map_err(malformed)?;
        let cell =
            |place: Option<usize>| place.and_then(|place| row.get(place)).map(str::trim).filter(|c| !c.is_empty());
        let line = row.position().map_or(0, ::csv::Position::line);
        let absent = |what: &str| {
            let fault = Fault::new("reading manifest", "").field(format!("line {line}, column {what}"));
            Error::from(fault.expected("some text", "an empty cell"))
        };
        let path = cell(path).ok_or_else(|| absent("path"))?;
        if id.is_some() && cell(id).is_none() {
            return Err(absent("id"));
        }
        items.push(Item { path: path.into(), id: cell(id).map(str::to_owned), found: false, edge: None });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, Option<String>)> {
        let items = parse_list(text.as_bytes()).unwrap();
        items.into_iter().map(|i| (i.path.to_string_lossy().into_owned(), i.id)).collect()
    }

    #[test]
    fn a_list_has_one_path_a_line() {
        let expected = [("a b.xml".to_owned(), None), ("c,d".to_owned(), None)];
        assert_eq!(parsed("a b.xml\r\n\nc,d\n"), expected);
        assert_eq!(parsed("a b.xml\0c,d\0"), expected);
        assert_eq!(parsed(""), []);
    }

    #[test]
    fn a_manifest_names_paths_and_ids() {
        let expected = [("a,b.xml".to_owned(), Some("p1".to_owned())), ("c".to_owned(), Some("p2".to_owned()))];
        assert_eq!(parsed("id,sex,path\np1,f,\"a,b.xml\"\np2,m,c\n"), expected);
        assert_eq!(parsed("\u{feff}path\tid\na,b.xml\tp1\nc\tp2\n"), expected);
        assert_eq!(parsed("path\nx.xml\n"), [("x.xml".to_owned(), None)]);
    }

    #[test]
    fn holes_in_a_manifest_and_other_files_are_refused() {
        let says = |bytes: &[u8]| parse_list(bytes).unwrap_err().to_string();
        assert_eq!(
            says(b"path,id\na,\n"),
            "reading manifest: field line 2, column id: expected some text, found an empty cell"
        );
        assert!(says(b"path,id\n,p1\n").contains("column path"));
        assert!(says(b"\x89HDF\r\n").contains("this is no list of paths"));
        assert!(says(b"r.hea\0\0\0/\0\0").contains("this is no list of paths"));
    }
}
