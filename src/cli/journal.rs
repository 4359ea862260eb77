//! The log of a training: a CSV file with a row for every step.
//!
//! A resumed training goes on after the row of its checkpoint; rows after it are cut, so that the file ends up the same
//! as without the interruption. Hence no wall clock in it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Fault, Result};
use crate::train::Row;

const DOING: &str = "writing the log";
/// How every log begins.
const FIRST_COLUMN: &[u8; 5] = b"step,";

/// A log under way.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins the log, or goes on after step `step`; true where rows before that step are missing.
    ///
    /// # Errors
    /// Where it cannot be written, or is not the log of such a training.
    pub fn begin(path: &Path, columns: &[String], step: u64) -> Result<(Journal, bool)> {
        refuse_foreign(path)?;
        let header = format!("{}\n", columns.join(","));
        let text = match std::fs::read_to_string(path) {
            Ok(text) if step > 0 => text,
            Err(error) if step > 0 && error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("reading the log", path)(error))
            }
            _ => String::new(),
        };
        if !text.is_empty() && !text.starts_with(&header) {
            let fault = Fault::new("reading the log", "").file(path);
            let found = text.lines().next().unwrap_or_default();
            let hint = "give another --log";
            return Err(fault.expected(header.trim_end(), found).hint(hint).into());
        }
        let is_kept = |line: &&str| step_of(line).is_some_and(|found| found <= step);
        let rows: Vec<&str> = text.split_inclusive('\n').skip(1).take_while(is_kept).collect();
        let kept = header.len() + rows.iter().map(|row| row.len()).sum::<usize>();
        let complete = step == 0 || rows.last().and_then(|row| step_of(row)) == Some(step);
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io(DOING, path))?;
        let begun =
            if text.is_empty() { file.set_len(0).and_then(|()| file.write_all(header.as_bytes())) } else { Ok(()) };
        let begun = begun.and_then(|()| file.set_len(kept as u64)).and_then(|()| file.seek(SeekFrom::End(0)));
        begun.map_err(Error::io(DOING, path))?;
        Ok((Journal { path: path.to_owned(), file }, !complete))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn put(&mut self, row: &Row) -> Result<()> {
        let number = |value: &Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let mut cells = vec![row.step.to_string(), row.epoch.to_string(), row.rate.to_string()];
        cells.extend(row.parts.iter().map(f64::to_string));
        cells.extend(row.norms.iter().map(number));
        cells.push(number(&row.validation));
        let line = format!("{}\n", cells.join(","));
        self.file.write_all(line.as_bytes()).map_err(Error::io(DOING, &self.path))
    }
}

/// Refuses a file that is there and is no log: it would be emptied.
fn refuse_foreign(path: &Path) -> Result<()> {
    let Ok(about) = std::fs::metadata(path) else { return Ok(()) };
    let mut head = [0; FIRST_COLUMN.len()];
    let is_log = about.is_file()
        && (about.len() == 0
            || File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok_and(|()| head == *FIRST_COLUMN));
    if is_log {
        return Ok(());
    }
    let fault = Fault::new(DOING, "").file(path).expected("a new file, or the log of a training", "another file");
    Err(fault.hint("give another --log").into())
}

/// The step of a complete row.
fn step_of(line: &str) -> Option<u64> {
    line.strip_suffix('\n')?.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64) -> Row {
        let (parts, norms) = (vec![0.5, 0.25], vec![Some(2.0), None]);
        Row { step, epoch: 0, rate: 1e-3, parts, norms, validation: None, ends_epoch: false }
    }

    #[test]
    fn rows_after_the_checkpoint_are_cut_even_where_the_last_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let columns = ["step", "epoch", "learning_rate", "a", "b", "x", "y", "validation"].map(str::to_owned);
        let (mut journal, missing) = Journal::begin(&path, &columns, 0).unwrap();
        assert!(!missing);
        (1..=3).for_each(|step| journal.put(&row(step)).unwrap());
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().nth(1), Some("1,0,0.001,0.5,0.25,2,,"));
        std::fs::write(&path, format!("{whole}4,0,0.0")).unwrap();
        let (mut journal, missing) = Journal::begin(&path, &columns, 2).unwrap();
        assert!(!missing);
        journal.put(&row(3)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        assert!(Journal::begin(&path, &columns, 9).unwrap().1);
        let error = Journal::begin(&path, &columns[..2], 2).map(drop).unwrap_err().to_string();
        assert!(error.contains("expected step,epoch, found step,epoch,learning_rate"), "{error}");
    }
}
