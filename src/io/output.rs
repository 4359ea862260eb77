//! Finish or nothing: an output appears complete, by rename or by one copy into the pipe, or not at all.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{TempDir, TempPath};

use crate::error::{Error, Result};

/// Temporary files that are not finished yet, and where they go; a signal handler removes them.
static UNFINISHED: Mutex<Option<HashMap<PathBuf, Destination>>> = Mutex::new(None);

fn unfinished<T>(change: impl FnOnce(&mut HashMap<PathBuf, Destination>) -> T) -> T {
    let mut map = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner);
    change(map.get_or_insert_with(HashMap::new))
}

/// Files that are read, which no output may replace.
static INPUTS: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Notes files that this run reads: from now on an output that would replace one of them is refused.
pub fn protect<'a>(paths: impl IntoIterator<Item = &'a Path>) {
    let mut inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    let inputs = inputs.get_or_insert_with(HashSet::new);
    let mut folders: HashMap<PathBuf, PathBuf> = HashMap::new(); // a cohort lies in few folders
    for path in paths.into_iter().filter(|path| *path != Path::new("-")) {
        let known = |folder: &Path| folders.entry(folder.to_owned()).or_insert_with(|| real(folder)).clone();
        inputs.insert(resolve(path, known));
    }
}

/// Refuses an output, its path resolved, that would replace a file which is read.
fn refuse_input(destination: &Path, shown: &Path) -> Result<()> {
    let inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    match inputs.as_ref().is_some_and(|inputs| inputs.contains(destination)) {
        true => Err(Error::usage(format!("output {} would replace an input", shown.display()))
            .or_hint("give the output another name")),
        false => Ok(()),
    }
}

/// Removes every output that is not finished; for the moment before a signal ends the program.
pub fn remove_unfinished() {
    unfinished(|map| {
        for (path, _) in map.drain() {
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
            // the most that can be done
        }
    });
}

/// Longest chain of symbolic links followed.
const LINKS: usize = 40;

/// Where a finished output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Stdout,
    File(PathBuf),
    /// A device or named pipe, which rename would replace.
    Special(PathBuf),
}

/// An output under way. Dropped before [`finish`](Output::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    temporary: Option<TempPath>,
    destination: Destination,
    shown: String,
}

impl Output {
    /// Begins an output; `-` is standard output. The temporary file stands beside the final one. A symbolic link stays:
    /// the file that it names is written.
    ///
    /// # Errors
    /// Where the folder cannot be written, `binary` data would go to a terminal, an input would be replaced, or another output
    /// under way has the same destination.
    pub fn begin(path: &Path, binary: bool) -> Result<Output> {
        let destination = destination(path, binary)?;
        let folder = match &destination {
            Destination::File(path) => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
                _ => PathBuf::from("."),
            },
            _ => std::env::temp_dir(),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ecgflow-").suffix(".unfinished");
        let temporary = builder.tempfile_in(&folder).map_err(Error::io("writing in the folder", &folder))?;
        let temporary = temporary.into_temp_path(); // a thousand outputs may be open at once
        let taken = unfinished(|map| {
            let taken = map.values().any(|other| *other == destination && !matches!(other, Destination::Special(_)));
            if !taken {
                map.insert(temporary.to_path_buf(), destination.clone());
            }
            taken
        });
        if taken {
            return Err(Error::usage(format!("two outputs go to {}", path.display())));
        }
        let shown = match &destination {
            Destination::Stdout => "<stdout>".to_owned(),
            _ => path.display().to_string(),
        };
        Ok(Output { temporary: Some(temporary), destination, shown })
    }

    /// An output that holds these bytes, not in its place yet.
    ///
    /// # Errors
    /// Those of [`begin`](Output::begin), and where the bytes cannot be written.
    pub fn holding(path: &Path, binary: bool, bytes: impl AsRef<[u8]>) -> Result<Output> {
        let output = Output::begin(path, binary)?;
        std::fs::write(output.path(), bytes).map_err(Error::io("writing", output.shown()))?;
        Ok(output)
    }

    /// The temporary file to write to, for libraries that open files themselves.
    pub fn path(&self) -> &Path {
        self.temporary.as_ref().map_or(Path::new(""), |t| t)
    }

    /// The temporary file to write to.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn file(&self) -> Result<File> {
        File::create(self.path()).map_err(Error::io("writing", self.path()))
    }

    /// The name the user knows it by.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether it goes to standard output.
    pub fn is_on_stdout(&self) -> bool {
        self.destination == Destination::Stdout
    }

    /// Puts the output in its place.
    ///
    /// # Errors
    /// Where it cannot be renamed or copied; [`Error::Closed`] where the reader of the pipe has left.
    pub fn finish(mut self) -> Result<()> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let path = temporary.to_path_buf();
        let done = match &self.destination {
            Destination::Stdout => copy(&path, &mut io::stdout().lock(), &self.shown),
            Destination::Special(to) => {
                let mut file = File::options().write(true).open(to).map_err(Error::io("writing", to))?;
                copy(&path, &mut file, &self.shown)
            }
            Destination::File(to) => persist(temporary, to),
        };
        unfinished(|map| map.remove(&path));
        done
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            unfinished(|map| map.remove::<Path>(&temporary));
        }
    }
}

/// A folder of outputs under way. Its files appear together when it is finished; dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct Folder {
    temporary: TempDir,
    inside: PathBuf,
    destination: PathBuf,
    shown: String,
}

impl Folder {
    /// Begins a folder, which may be there already; its files are written to a temporary one beside it.
    ///
    /// # Errors
    /// Where the folder above cannot be written, `path` is a file, or another output under way goes there.
    pub fn begin(path: &Path) -> Result<Folder> {
        let shown = path.display().to_string();
        if path.exists() && !path.is_dir() {
            return Err(Error::usage(format!("output {shown} is a file, expected a folder")));
        }
        let destination = resolve(path, real);
        let parent = destination.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ecgflow-").suffix(".unfinished");
        let temporary = builder.tempdir_in(parent).map_err(Error::io("writing in the folder", parent))?;
        let inside = temporary.path().join("files");
        std::fs::create_dir(&inside).map_err(Error::io("writing in the folder", parent))?;
        let goes_to = Destination::File(destination.clone());
        let taken = unfinished(|map| {
            let taken = map.values().any(|other| *other == goes_to);
            if !taken {
                map.insert(temporary.path().to_owned(), goes_to);
            }
            taken
        });
        match taken {
            true => Err(Error::usage(format!("two outputs go to {shown}"))),
            false => Ok(Folder { temporary, inside, destination, shown }),
        }
    }

    /// The same for a folder that must be new or empty: what is written belongs together and with nothing else.
    ///
    /// # Errors
    /// As [`Folder::begin`], and where the folder holds something.
    pub fn begin_new(path: &Path) -> Result<Folder> {
        let holds_something = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if holds_something {
            let error = Error::usage(format!("output {} is a folder that is not empty", path.display()));
            return Err(error.or_hint("give a new folder, or remove this one"));
        }
        Folder::begin(path)
    }

    /// The temporary folder to write to.
    pub fn path(&self) -> &Path {
        &self.inside
    }

    /// Where the file `name` is to be written.
    ///
    /// # Errors
    /// Where it would replace an input.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let place = real(&self.destination).join(name);
        refuse_input(&place, &place)?;
        Ok(self.inside.join(name))
    }

    /// The name the user knows it by.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Puts the files in their place, over those of the same names.
    ///
    /// # Errors
    /// Where they cannot be moved.
    pub fn finish(self) -> Result<()> {
        let failed = || Error::io("writing", &self.destination);
        if !self.destination.exists() {
            return std::fs::rename(&self.inside, &self.destination).map_err(failed());
        }
        for entry in std::fs::read_dir(&self.inside).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            std::fs::rename(entry.path(), self.destination.join(entry.file_name())).map_err(failed())?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        unfinished(|map| map.remove(self.temporary.path()));
    }
}

/// Refuses what cannot be an output before anything is read: `binary` data to a terminal, a folder in place of a file, an input.
///
/// # Errors
/// Why it cannot.
pub fn look(path: &Path, binary: bool) -> Result<()> {
    destination(path, binary).map(drop)
}

fn destination(path: &Path, binary: bool) -> Result<Destination> {
    if path == Path::new("-") || path == Path::new("/dev/stdout") {
        if binary && io::stdout().is_terminal() {
            let hint = "give -o FILE, or pipe into the next stage".to_owned();
            return Err(Error::Usage { cause: "binary output to a terminal".to_owned(), hint: Some(hint) });
        }
        return Ok(Destination::Stdout);
    }
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            Err(Error::usage(format!("output {} is a directory, expected a file", path.display())))
        }
        Ok(about) if !about.is_file() => Ok(Destination::Special(path.to_owned())),
        _ => {
            let file = resolve(path, real);
            refuse_input(&file, path)?;
            Ok(Destination::File(file))
        }
    }
}

/// The file that a path means: behind its symbolic links, also where there is no file yet, and under one name however the
/// path is spelt; `real` names a folder.
fn resolve(path: &Path, real: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(to);
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => real(folder).join(name),
        _ => path,
    }
}

/// The one name of a folder; what was given where there is none.
fn real(folder: &Path) -> PathBuf {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// Renames into place with the permissions a new file would have.
fn persist(temporary: TempPath, to: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(to).map_or(mask(&temporary), |about| about.permissions().mode());
        let allowed = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&temporary, allowed).map_err(Error::io("writing", to))?;
    }
    temporary.persist(to).map(drop).map_err(|e| Error::io("writing", to)(e.error))
}

/// The permissions a new file gets, read off one made beside the temporary one.
#[cfg(unix)]
fn mask(beside: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let probe = beside.with_extension("mask");
    let mode = File::create_new(&probe).and_then(|f| f.metadata()).map(|about| about.permissions().mode());
    let _ = std::fs::remove_file(&probe);
    mode.unwrap_or(0o644)
}

fn copy(from: &Path, to: &mut dyn Write, shown: &str) -> Result<()> {
    let mut file = File::open(from).map_err(Error::io("reading", from))?;
    match io::copy(&mut file, to).and_then(|_| to.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Error::Closed),
        other => other.map_err(Error::io("writing", shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_output_leaves_no_file_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        std::fs::write(&path, "old").unwrap();
        let output = Output::begin(&path, false).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        drop(output);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["out.txt"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_stays_and_its_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, chain) =
            (folder.path().join("a/out"), folder.path().join("link"), folder.path().join("chain"));
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a/out", &link).unwrap();
        std::os::unix::fs::symlink(&link, &chain).unwrap();
        for (path, content) in [(&link, "first"), (&chain, "second")] {
            let output = Output::begin(path, false).unwrap();
            output.file().unwrap().write_all(content.as_bytes()).unwrap();
            output.finish().unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
        }
        assert!(link.is_symlink() && chain.is_symlink());
    }

    #[test]
    fn two_outputs_under_way_may_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = Output::begin(&folder.path().join("x"), false).unwrap();
        let error = Output::begin(&folder.path().join("./x"), false).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        drop(first);
        assert!(Output::begin(&folder.path().join("x"), false).is_ok());
        let (_one, two) = (Output::begin("/dev/null".as_ref(), true), Output::begin("/dev/null".as_ref(), true));
        assert!(two.is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn an_input_is_not_replaced_however_its_path_is_spelt() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("in.csv"), folder.path().join("link"));
        std::fs::write(&file, "data").unwrap();
        std::os::unix::fs::symlink("in.csv", &link).unwrap();
        protect([link.as_path(), Path::new("-"), Path::new("in.csv")]);
        for path in [&file, &link, &folder.path().join("./in.csv")] {
            let error = Output::begin(path, false).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().ends_with("in.csv would replace an input") || path == &link, "{error}");
        }
        assert!(Folder::begin(folder.path()).unwrap().file("in.csv").is_err());
        assert!(Folder::begin(folder.path()).unwrap().file("out.csv").is_ok());
        assert!(Output::begin(&folder.path().join("out.csv"), false).is_ok());
    }

    #[test]
    fn finished_output_replaces_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        std::fs::write(&path, "old").unwrap();
        let output = Output::begin(&path, false).unwrap();
        output.file().unwrap().write_all(b"new").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
