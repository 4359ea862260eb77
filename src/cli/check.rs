//! `ecg-prep --check`: looks at every record, says what is wrong and what to do about it, writes no ECG.

use std::io::{self, BufWriter, ErrorKind, Write};

use super::log::Log;
use super::prepare::{Prepared, ReportWriter};
use crate::data::ecg::Verdict;
use crate::error::{Error, Fault, Result};
use crate::signal::quality::advice::advice;
use crate::signal::quality::Report;

/// Says what was found in every record, on standard output; adds it to a table, where one is wanted. Where the table goes to
/// standard output, it stands there alone.
///
/// # Errors
/// Where a record is bad, after all were looked at; where the findings cannot be written.
pub fn check(
    records: impl Iterator<Item = Result<Prepared>>,
    mut table: Option<ReportWriter>,
    log: &Log,
) -> Result<()> {
    let words_wanted = !table.as_ref().is_some_and(ReportWriter::is_on_stdout);
    let mut out: Box<dyn Write> =
        if words_wanted { Box::new(BufWriter::new(io::stdout().lock())) } else { Box::new(io::sink()) };
    let bar = log.records();
    let mut counts = [0usize; 3];
    for prepared in records {
        let Prepared { file, report, .. } = prepared?;
        if let Some(table) = &mut table {
            table.put(&file, &report)?;
        }
        out.write_all(words(&file, &report).as_bytes()).map_err(closed)?;
        counts.iter_mut().skip(report.verdict as usize).take(1).for_each(|n| *n += 1);
        bar.inc(1);
    }
    let [bad, usable, good] = counts;
    writeln!(out, "{} records: {good} good, {usable} usable, {bad} bad", bad + usable + good).map_err(closed)?;
    out.flush().map_err(closed)?;
    drop(out); // the table may want standard output
    bar.finish_and_clear();
    table.map_or(Ok(()), ReportWriter::finish)?;
    match bad {
        0 if usable + good == 0 => Err(Fault::new("checking ECG", "").expected("at least one record", "none").into()),
        0 => Ok(()),
        _ => Err(Fault::new("checking ECG", "").expected("no bad record", format!("{bad} bad")).into()),
    }
}

/// One line, and two more a reason: what was found, what to do; a record that is not good says where it lies.
fn words(file: &str, report: &Report) -> String {
    let facts = report.measures.as_ref().filter(|m| m.heart_rate.is_finite());
    let facts = facts.map_or(String::new(), |m| format!(" ({:.0} beats a minute, {} beats)", m.heart_rate, m.beats));
    let place = if report.verdict == Verdict::Good || report.id == file { None } else { Some(plain(file)) };
    let place = place.map_or(String::new(), |file| format!(", {file}"));
    let mut text = format!("{}: {}{facts}{place}\n", plain(&report.id), report.verdict);
    for reason in &report.reasons {
        text.push_str(&format!("  {}\n", plain(reason)));
        if let Some(advice) = reason.split_once(": ").and_then(|(code, _)| advice(code)) {
            text.push_str(&format!("    -> {advice}\n"));
        }
    }
    debug_assert!(report.verdict == Verdict::Good || !report.reasons.is_empty());
    text
}

/// What a file says cannot break the line or steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn closed(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::io("writing", "<stdout>")(error),
    }
}
