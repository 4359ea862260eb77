//! Tables as CSV (RFC 4180): a header, `id` first, one row a record; before it `#` lines that tell the origin.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::output::Output;
use crate::io::Sink;

/// A table under way.
pub struct TableWriter {
    csv: csv::Writer<BufWriter<File>>,
    output: Output,
    columns: usize,
}

impl TableWriter {
    /// Begins a table; `columns` are those after `id`. `comments` off drops the `#` lines.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin(path: &Path, columns: &[String], provenance: &Provenance, comments: bool) -> Result<TableWriter> {
        TableWriter::begin_with("id", path, columns, provenance, comments)
    }

    /// The same for rows that stand for something else than a record: `first` is the name of the first column.
    ///
    /// # Errors
    /// Where the output cannot be begun.
    pub fn begin_with(
        first: &str,
        path: &Path,
        columns: &[String],
        provenance: &Provenance,
        comments: bool,
    ) -> Result<TableWriter> {
        let output = Output::begin(path, false)?;
        let mut file = BufWriter::new(output.file()?);
        if comments {
            let origin = comment_lines(provenance);
            file.write_all(origin.as_bytes()).map_err(Error::io("writing", output.shown()))?;
        }
        // Cells with # are quoted: readers take the # lines for comments.
        let mut csv = csv::WriterBuilder::new().comment(Some(b'#')).from_writer(file);
        let header = std::iter::once(first).chain(columns.iter().map(String::as_str));
        csv.write_record(header).map_err(Error::compute(format!("writing {}", output.shown())))?;
        Ok(TableWriter { csv, output, columns: columns.len() })
    }

    /// Whether it goes to standard output.
    pub fn is_on_stdout(&self) -> bool {
        self.output.is_on_stdout()
    }
}

/// The origin of a table, one `# key: value` a line; newlines inside values become spaces.
pub(super) fn comment_lines(provenance: &Provenance) -> String {
    let mut lines = vec![
        format!("tool: {} {}", provenance.tool, provenance.tool_version),
        format!("command: {}", provenance.command),
    ];
    lines.extend(provenance.model.iter().map(|model| format!("model: {model}")));
    lines.extend(provenance.seed.iter().map(|seed| format!("seed: {seed}")));
    lines.push(format!("created: {}", provenance.created));
    lines.push(format!("synthetic: {}", if provenance.synthetic { "yes" } else { "no" }));
    let told = provenance.history.iter().filter(|step| !step.command.is_empty());
    lines.extend(told.map(|step| format!("before: {}", step.command)));
    lines.iter().map(|line| format!("# {}\n", line.replace(['\n', '\r'], " "))).collect()
}

/// Nine significant digits at most, no trailing zeros: what an f32 holds.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return String::new();
    }
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if !(-5..9).contains(&magnitude) {
        return format!("{value:e}");
    }
    let decimals = usize::try_from(8 - magnitude).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

impl Sink<Row> for TableWriter {
    fn put(&mut self, row: &Row) -> Result<()> {
        if row.cells.len() != self.columns {
            let fault = Fault::new("writing table", "").record(&row.id);
            return Err(fault.expected(format!("{} cells", self.columns), row.cells.len()).into());
        }
        let cells = row.cells.iter().map(|cell| match cell {
            Value::Number(value) => number(*value),
            Value::Text(text) => text.clone(),
            Value::Missing => String::new(),
        });
        let record = std::iter::once(row.id.clone()).chain(cells);
        self.csv.write_record(record).map_err(Error::compute(format!("writing {}", self.output.shown())))
    }

    fn finish(mut self) -> Result<()> {
        self.csv.flush().map_err(Error::io("writing", self.output.shown()))?;
        drop(self.csv);
        self.output.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_nine_digits_and_no_zeros() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(62.5), "62.5");
        assert_eq!(number(123456789.0), "123456789");
        assert_eq!(number(-0.1f32 as f64), "-0.100000001");
        assert_eq!(number(1e-7), "1e-7");
        assert_eq!(number(f64::NAN), "");
    }

    #[test]
    fn ids_with_commas_and_quotes_are_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let provenance = Provenance::now("test", "test\n-o t.csv".into());
        let mut table = TableWriter::begin(&path, &["x".into(), "y".into()], &provenance, true).unwrap();
        let cells = vec![Value::Number(1.5), Value::Missing];
        table.put(&Row { id: "a,\"b\"".into(), cells }).unwrap();
        table.put(&Row { id: "#7".into(), cells: vec![Value::Missing, Value::Missing] }).unwrap();
        assert!(table.put(&Row { id: "c".into(), cells: vec![] }).is_err());
        table.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (comments, rows): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| l.starts_with('#'));
        assert_eq!(comments[1], "# command: test -o t.csv");
        assert_eq!(rows, ["id,x,y", "\"a,\"\"b\"\"\",1.5,", "\"#7\",,"]);
    }
}
