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
