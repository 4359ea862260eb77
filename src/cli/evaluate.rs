//! `cmr-eval`: scores of clips and of predictions, as CSV, JSON and a page.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{json, Value as Json};

use super::args::{named, TableArgs};
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::chart;
use crate::io::output::Output;
use crate::io::table::TableWriter;
use crate::io::Sink as _;

pub mod clips;
mod diagnoses;
mod features;
mod pairs;
mod phenotypes;
mod picture;
pub mod tables;

/// Where scores go.
#[derive(Args, Debug, Clone)]
pub struct ScoreArgs {
    /// Table of scores to write (CSV); - or nothing is standard output.
    #[arg(short, long, value_name = "OUTPUT", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    #[command(flatten)]
    table: TableArgs,
    /// Also write the scores as JSON.
    #[arg(long, value_name = "FILE", value_parser = named)]
    json: Option<PathBuf>,
    /// Also write a page with charts: one file of HTML that loads nothing from elsewhere.
    #[arg(long, value_name = "FILE", value_parser = named)]
    report: Option<PathBuf>,
    /// Seed of the samples behind the intervals.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// One score.
#[derive(Debug, Clone, PartialEq, Default)]
struct Score {
    /// Its name.
    score: &'static str,
    /// What is scored: a phenotype, a label, a group of phenotypes, `clips`.
    name: String,
    /// Group of the phenotype.
    group: String,
    /// `COLUMN=VALUE` of the participants it is of; empty for all.
    subgroup: String,
    value: f64,
    /// 95 % interval, where there is one.
    interval: Option<[f64; 2]>,
    /// Records behind it.
    n: usize,
    unit: &'static str,
    /// Network it rests on, and the sha256 of its weights.
    extractor: String,
    sha256: String,
}

/// Where the numbers of the page's table begin.
const FIRST_NUMBER: usize = 5;
/// Columns after `score`.
const COLUMNS: [&str; 10] = ["name", "group", "subgroup", "value", "low", "high", "n", "unit", "extractor", "sha256"];

impl Score {
    fn row(&self) -> Row {
        let text = |text: &str| match text {
            "" => Value::Missing,
            text => Value::Text(text.to_owned()),
        };
        let number = |value: f64| match value.is_infinite() {
            true => Value::Text(value.to_string()),
            false => Value::Number(value),
        };
        let side = |i: usize| self.interval.map_or(Value::Missing, |interval| number(interval[i]));
        let mut cells = vec![text(&self.name), text(&self.group), text(&self.subgroup), number(self.value)];
        cells.extend([side(0), side(1), Value::Number(self.n as f64), text(self.unit)]);
        cells.extend([text(&self.extractor), text(&self.sha256)]);
        Row { id: self.score.to_owned(), cells }
    }

    fn json(&self) -> Json {
        let finite = |value: f64| value.is_finite().then_some(value);
        json!({
            "score": self.score, "name": self.name, "group": self.group, "subgroup": self.subgroup,
            "value": finite(self.value), "interval": self.interval.map(|interval| interval.map(finite)), "n": self.n,
            "unit": self.unit, "extractor": self.extractor, "sha256": self.sha256,
        })
    }
}

/// What a run found.
struct Findings {
    scores: Vec<Score>,
    /// What readers must know.
    notes: Vec<String>,
    /// Parts of the page, HTML.
    parts: Vec<String>,
}

/// Writes everything that was asked for; the table, which may go down a pipe, last.
fn write(args: &ScoreArgs, title: &str, found: &Findings, provenance: &Provenance) -> Result<()> {
    let paths: Vec<&Path> = [Some(&args.output), args.json.as_ref(), args.report.as_ref()]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    if let Some((_, twice)) = paths.iter().enumerate().find(|(i, path)| paths[..*i].contains(path)) {
        return Err(Error::usage(format!("two outputs go to {}", twice.display())));
    }
    let mut ready = Vec::new();
    if let Some(path) = &args.json {
        let rows: Vec<Json> = found.scores.iter().map(Score::json).collect();
        let all = json!({"format": "ecgflow.scores", "notes": found.notes, "provenance": provenance, "scores": rows});
        ready.push(Output::holding(path, false, format!("{all:#}\n"))?);
    }
    if let Some(path) = &args.report {
        ready.push(Output::holding(path, false, chart::page(title, &parts(found, provenance)))?);
    }
    let columns = COLUMNS.map(str::to_owned);
    let mut table = TableWriter::begin_with("score", &args.output, &columns, provenance, !args.table.no_comments)?;
    found.scores.iter().try_for_each(|score| table.put(&score.row()))?;
    ready.into_iter().try_for_each(Output::finish)?;
    table.finish()
}

/// The table of scores, less the columns in which nothing stands.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let is_kept = |k: &usize| rows.iter().any(|row| row.get(*k).is_some_and(|cell| !cell.is_empty()));
    let kept: Vec<usize> = (0..header.len()).filter(is_kept).collect();
    let pick = |row: &Vec<String>| kept.iter().filter_map(|k| row.get(*k).cloned()).collect();
    let names: Vec<&str> = kept.iter().filter_map(|k| header.get(*k).copied()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(pick).collect();
    chart::table(&names, &rows, kept.iter().filter(|k| **k < FIRST_NUMBER).count())
}

/// The page: notes, charts, the table of scores, origin.
fn parts(found: &Findings, provenance: &Provenance) -> Vec<String> {
    let note = |note: &String| format!("<p class=\"note\">{}</p>", chart::escape(note));
    let mut parts: Vec<String> = found.notes.iter().map(note).collect();
    parts.extend(found.parts.iter().cloned());
    let header = ["score", "of", "group", "subgroup", "extractor", "value", "95 % interval", "n", "unit"];
    let row = |score: &Score| {
        let interval = score.interval.map(|[low, high]| format!("{} to {}", chart::short(low), chart::short(high)));
        let words = [score.score, &score.name, &score.group, &score.subgroup, &score.extractor].map(str::to_owned);
        let numbers =
            [chart::short(score.value), interval.unwrap_or_default(), score.n.to_string(), score.unit.to_owned()];
        words.into_iter().chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = found.scores.iter().map(row).collect();
    parts.push(format!("<h2>All scores</h2>\n{}", table(&header, rows)));
    let mut weights: Vec<String> = found
        .scores
        .iter()
        .filter(|s| !s.sha256.is_empty())
        .map(|s| format!("{} sha256:{}", s.extractor, s.sha256))
        .collect();
    weights.dedup();
    let before = provenance.history.iter().map(|step| step.command.clone());
    let lines: Vec<String> = [
        format!("{} {}: {}", provenance.tool, provenance.tool_version, provenance.command),
        format!("made {}; synthetic: {}", provenance.created, if provenance.synthetic { "yes" } else { "no" }),
    ]
    .into_iter()
    .chain(weights)
    .chain(before.map(|command| format!("before: {command}")))
    .map(|line| chart::escape(&line))
    .collect();
    parts.push(format!("<p class=\"origin\">{}</p>", lines.join("<br>\n")));
    parts
}
