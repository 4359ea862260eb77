//! Bad records: the first stops the run, or with `--keep-going` each is left out and listed.

use std::cell::RefCell;

use super::args::RejectArgs;
use super::log::Log;
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::table::TableWriter;
use crate::io::Sink;

/// The records left out so far.
pub struct Rejects<'a> {
    args: &'a RejectArgs,
    log: &'a Log,
    rows: RefCell<Vec<Row>>,
}

impl<'a> Rejects<'a> {
    /// Nothing left out yet.
    pub fn new(args: &'a RejectArgs, log: &'a Log) -> Self {
        Rejects { args, log, rows: RefCell::new(Vec::new()) }
    }

    /// A good record, or `None` for one that is left out.
    ///
    /// # Errors
    /// The record's error, unless the run keeps going.
    pub fn check<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(item) => Ok(Some(item)),
            Err(Error::Input(fault)) if self.args.keep_going => {
                self.log.info(&format!("left out: {fault}"));
                let text = |t: &Option<String>| t.clone().map_or(Value::Missing, Value::Text);
                let cells = vec![
                    text(&fault.file),
                    text(&fault.field),
                    Value::Text(fault.cause.clone()),
                    text(&fault.expected),
                    text(&fault.found),
                ];
                self.rows.borrow_mut().push(Row { id: fault.record.clone().unwrap_or_default(), cells });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the list and says how many were left out.
    ///
    /// # Errors
    /// Where the list cannot be written.
    pub fn finish(self, provenance: &Provenance) -> Result<()> {
        let rows = self.rows.into_inner();
        if !rows.is_empty() {
            self.log.warn(&format!("{} records left out", rows.len()));
        }
        let Some(path) = &self.args.rejects else { return Ok(()) };
        let columns = ["file", "field", "cause", "expected", "found"].map(str::to_owned);
        let mut table = TableWriter::begin(path, &columns, provenance, false)?;
        for row in &rows {
            table.put(row)?;
        }
        table.finish()
    }
}
