//! Tables: one row per record, `id` first.

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, written with nine significant digits at most.
    Number(f64),
    /// Words.
    Text(String),
    /// Nothing: an empty cell.
    Missing,
}

/// One row: the record's id and a cell per further column.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The record's name.
    pub id: String,
    /// The cells after the id, in the order of the table's columns.
    pub cells: Vec<Value>,
}

/// A table as it stands in a file, the `id` column apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Names of the columns after `id`.
    pub columns: Vec<String>,
    /// Its rows, in the order of the file.
    pub rows: Vec<Line>,
}

/// One row of text cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands in the file, from 1.
    pub number: u64,
    /// The record's name.
    pub id: String,
    /// The cells after the id; as many as there are columns.
    pub cells: Vec<String>,
}

impl Table {
    /// The place of a column.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Whether a cell means "not known".
pub fn is_missing(cell: &str) -> bool {
    ["", "nan", "na", "null", "none"].contains(&cell.trim().to_ascii_lowercase().as_str())
}
