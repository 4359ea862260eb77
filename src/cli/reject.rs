//! Bad records: the first stops the run, or with `--keep-going` each is left out and listed.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use super::args::RejectArgs;
use super::log::Log;
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Fault, Result};
use crate::io::table::TableWriter;
use crate::io::Sink;

/// The records left out so far.
pub struct Rejects<'a> {
    keep_going: bool,
    log: &'a Log,
    table: RefCell<Option<TableWriter>>,
    count: Cell<usize>,
}

impl<'a> Rejects<'a> {
    /// Nothing left out yet; begins the list where one is wanted.
    ///
    /// # Errors
    /// Where the list cannot be begun, or another output goes to the same place.
    pub fn begin(args: &RejectArgs, log: &'a Log, provenance: &Provenance) -> Result<Self> {
        let columns = ["file", "field", "cause", "expected", "found"].map(str::to_owned);
        let begin = |path: &PathBuf| TableWriter::begin(path, &columns, provenance, false);
        let table = RefCell::new(args.rejects.as_ref().map(begin).transpose()?);
        Ok(Rejects { keep_going: args.keep_going, log, table, count: Cell::new(0) })
    }

    /// A good record, or `None` for one that is left out.
    ///
    /// # Errors
    /// The record's error, unless the run keeps going; where the list cannot be written.
    pub fn check<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(item) => Ok(Some(item)),
            Err(Error::Input(fault)) if self.keep_going => {
                self.leave_out(&fault)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves a record out, and lists it.
    ///
    /// # Errors
    /// Where the list cannot be written.
    pub fn leave_out(&self, fault: &Fault) -> Result<()> {
        self.log.info(&format!("left out: {fault}"));
        self.count.set(self.count.get() + 1);
        match self.table.borrow_mut().as_mut() {
            Some(table) => table.put(&row(fault)),
            None => Ok(()),
        }
    }

    /// Completes the list and says how many were left out.
    ///
    /// # Errors
    /// Where the list cannot be written.
    pub fn finish(self) -> Result<()> {
        if self.count.get() > 0 {
            self.log.warn(&format!("{} records left out", self.count.get()));
        }
        self.table.into_inner().map_or(Ok(()), TableWriter::finish)
    }
}

fn row(fault: &Fault) -> Row {
    let text = |t: &Option<String>| t.clone().map_or(Value::Missing, Value::Text);
    let cause = Value::Text(fault.cause.clone());
    let cells = vec![text(&fault.file), text(&fault.field), cause, text(&fault.expected), text(&fault.found)];
    Row { id: fault.record.clone().unwrap_or_default(), cells }
}
