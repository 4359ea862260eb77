//! Tables of text that come from elsewhere: phenotypes, diagnoses.
//!
//! ```text
//! # comment lines are skipped
//! id,lv_edv_ml,24101-2.0,...     commas, semicolons or tabs; the column of ids is called id, eid or participant
//! H0-000001,142.1,58.3,...       or stands first
//! ```
//!
//! A table is read whole; memory grows with the file, never with what it claims.

use csv::{Position, ReaderBuilder, StringRecord};

use super::Source;
use crate::data::table::{Line, Table};
use crate::error::{Error, Fault, Result};

const DOING: &str = "reading a table";
/// Names of the column of ids.
const ID: [&str; 5] = ["id", "eid", "participant", "participant_id", "record"];

/// Reads a table.
///
/// # Errors
/// Where it is empty, a row has another number of cells than the header, or a row has no id.
pub fn read(source: &Source) -> Result<Table> {
    let head = source.head()?;
    let text = String::from_utf8_lossy(&head);
    let header = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    let count = |byte: u8| header.bytes().filter(|b| *b == byte).count();
    let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|byte| (count(*byte), *byte == b',')).unwrap_or(b',');
    let bytes = std::fs::read(source.path()).map_err(Error::io("reading", source.shown()))?;
    let mut reader = ReaderBuilder::new();
    reader.delimiter(delimiter).has_headers(false).flexible(true).comment(Some(b'#'));
    let rows = reader.from_reader(bytes.as_slice()).into_records();
    from_rows(rows, |position| line(&bytes, position)).map_err(|error| error.in_file(source.shown()))
}

/// The line of a row: the reader tells where it began to look, and comments and empty lines may follow.
fn line(bytes: &[u8], position: Option<&Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let rest = usize::try_from(position.byte()).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
    let is_skipped = |line: &&[u8]| line.is_empty() || *line == b"\r" || line.starts_with(b"#");
    position.line() + rest.split(|byte| *byte == b'\n').take_while(is_skipped).count() as u64
}

fn from_rows(
    rows: impl Iterator<Item = csv::Result<StringRecord>>,
    line: impl Fn(Option<&Position>) -> u64,
) -> Result<Table> {
    let mut rows = rows.map(|row| row.map_err(|error| malformed(&error, line(error.position()))));
    let header = rows.next().transpose()?.ok_or_else(|| Fault::new(DOING, "the table is empty"))?;
    let mut columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if let Some(first) = columns.first_mut() {
        *first = first.trim_start_matches('\u{feff}').to_owned(); // spreadsheets mark UTF-8 so
    }
    let id = columns.iter().position(|name| ID.contains(&name.to_ascii_lowercase().as_str())).unwrap_or(0);
    let mut table = Table::default();
    for row in rows {
        let row = row?;
        let number = line(row.position());
        let mut cells: Vec<String> = row.iter().map(|cell| cell.trim().to_owned()).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let fault = Fault::new(DOING, "").record(format!("line {number}"));
        if cells.len() != columns.len() {
            return Err(fault.expected(format!("{} cells", columns.len()), cells.len()).into());
        }
        let name = cells.remove(id);
        if name.is_empty() {
            let field = columns.get(id).cloned().unwrap_or_default();
            return Err(fault.field(field).expected("an id", "an empty cell").into());
        }
        table.rows.push(Line { number, id: name, cells });
    }
    columns.remove(id);
    table.columns = columns;
    if table.rows.is_empty() {
        return Err(Fault::new(DOING, "").expected("at least one row", "a header only").into());
    }
    Ok(table)
}

fn malformed(error: &csv::Error, line: u64) -> Error {
    let fault = Fault::new(DOING, "").record(format!("line {line}"));
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => fault.expected("UTF-8 text", "other bytes").into(),
        _ => fault.expected("a row of cells", error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<Table> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        read(&Source::open(&path).unwrap())
    }

    #[test]
    fn separators_comments_and_the_column_of_ids_are_found() {
        let want = [("p1", ["1", "x"]), ("p2", ["", "y;z"])];
        for text in [
            "# by us\nid,a,b\np1,1,x\np2,,y;z\n",
            "a\teid\tb\n1\tp1\tx\n\tp2\ty;z\n\n",
            "\u{feff}subject;a;b\np1;1;x\np2;;\"y;z\"\n",
        ] {
            let table = table(text).unwrap();
            assert_eq!(table.columns, ["a", "b"]);
            let rows: Vec<_> = table.rows.iter().map(|r| (r.id.as_str(), [&*r.cells[0], &*r.cells[1]])).collect();
            assert_eq!(rows, want);
        }
        assert_eq!(table("# c\nid,a\n# c\np,1\n").unwrap().rows[0].number, 4);
    }

    #[test]
    fn ragged_rows_and_empty_tables_are_named() {
        let message = |text: &str| table(text).unwrap_err().to_string();
        assert!(message("id,a\np,1,2\n").contains("t.csv, record line 2: expected 2 cells, found 3"));
        assert!(message("id,a\n,1\n").contains("record line 2, field id: expected an id"));
        assert!(message("").contains("the table is empty"));
        assert!(message("id,a\n").contains("expected at least one row"));
    }
}
