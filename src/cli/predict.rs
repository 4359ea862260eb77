//! What `cmr-phenotype` and `cmr-classify` share: clips in, a table out.
//!
//! | table | columns |
//! |---|---|
//! | wide | `id`, one a phenotype or label; where several numbers were averaged, `NAME_sd` beside it; with `--decide` `NAME_call` |
//! | long | `id`, `field`, `name`, `value`, `unit`, `group`; where several were averaged, `n`, `sd`, `low` and `high` |
//!
//! Clips of one record (`/source`) are averaged, over all networks; `low` and `high` are the mean -+ 1.96 sd.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;

use super::args::{count, ComputeArgs, RejectArgs, StreamArgs, TableArgs};
use super::log::Log;
use super::reject::Rejects;
use crate::bundled;
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::Cine;
use crate::data::consistency::Consistency;
use crate::data::table::{Row, Value};
use crate::error::{Error, Fault, Result};
use crate::infer::predict::{Column, Predict};
use crate::io::hdf5::CineReader;
use crate::io::table::TableWriter;
use crate::io::Sink;

/// Half the width of an interval that holds 95 % of a normal distribution, in standard deviations.
const WIDTH: f64 = 1.96;

/// How predictions are put together and written.
#[derive(Args, Debug, Clone)]
pub struct PredictArgs {
    /// One row for each number: id, field, name, value, unit, group.
    #[arg(long)]
    pub long: bool,
    /// Expect K clips of every record, as amdf-sample --samples K draws them.
    #[arg(long, value_name = "K", value_parser = count, conflicts_with = "each")]
    pub samples: Option<usize>,
    /// A row for every clip, also where several were drawn for one record [default: their mean and standard deviation].
    #[arg(long)]
    pub each: bool,
    /// More weights files; the networks' numbers are averaged.
    #[arg(long, num_args = 1.., value_name = "FILE", help_heading = "Computing")]
    pub ensemble: Vec<PathBuf>,
}

/// The options of a prediction.
pub struct Asked<'a> {
    /// Input and output.
    pub stream: &'a StreamArgs,
    /// Origin lines.
    pub table: &'a TableArgs,
    /// How predictions are put together.
    pub predict: &'a PredictArgs,
    /// Weights and device.
    pub compute: &'a ComputeArgs,
    /// Bad records.
    pub rejects: &'a RejectArgs,
    /// Whether to write answers too.
    pub decide: bool,
}

/// The numbers of one record so far.
struct Pile {
    id: String,
    heart_rate: f64,
    values: Vec<Vec<f64>>,
}

/// What the table looks like.
struct Layout {
    columns: Vec<Column>,
    long: bool,
    spread: bool,
    decide: bool,
    exclusive: bool,
}

impl Layout {
    fn new(networks: &[Predict], asked: &Asked<'_>, spread: bool) -> Result<Layout> {
        let first = networks.first().ok_or_else(|| Error::usage("no network"))?;
        let (mut columns, exclusive) = (first.columns(), first.is_exclusive());
        for (k, column) in columns.iter_mut().enumerate() {
            let thresholds = networks.iter().filter_map(|network| network.columns().get(k)?.threshold);
            column.threshold = column.threshold.map(|_| thresholds.sum::<f64>() / networks.len() as f64);
        }
        Ok(Layout { columns, long: asked.predict.long, spread, decide: asked.decide, exclusive })
    }

    fn header(&self) -> Vec<String> {
        if self.long {
            let plain = ["field", "name", "value", "unit", "group"];
            let spread = ["n", "sd", "low", "high"];
            let call = ["call"];
            let all =
                plain.iter().chain(spread.iter().filter(|_| self.spread)).chain(call.iter().filter(|_| self.decide));
            return all.map(|name| (*name).to_owned()).collect();
        }
        let mut header: Vec<String> = Vec::new();
        for column in &self.columns {
            header.push(column.name.clone());
            header.extend(self.spread.then(|| format!("{}_sd", column.name)));
            header.extend((self.decide && !self.exclusive).then(|| format!("{}_call", column.name)));
        }
        header.extend((self.decide && self.exclusive).then(|| "call".to_owned()));
        header
    }

    /// The answer of a question, or whether it is the likeliest class.
    fn call(&self, k: usize, means: &[f64]) -> Value {
        let value = means.get(k).copied().unwrap_or(f64::NAN);
        let is = match self.columns.get(k).and_then(|column| column.threshold) {
            Some(threshold) => value >= threshold,
            None => likeliest(means) == Some(k),
        };
        Value::Number(f64::from(u8::from(is)))
    }

    fn means(&self, values: &[Vec<f64>]) -> Vec<f64> {
        let column = |k: usize| values.iter().filter_map(move |row| row.get(k).copied());
        (0..self.columns.len()).map(|k| column(k).sum::<f64>() / values.len() as f64).collect()
    }

    /// The rows of a record: one, or one a number.
    fn rows(&self, id: &str, values: &[Vec<f64>]) -> Vec<Row> {
        let means = self.means(values);
        let n = values.len() as f64;
        let sd = |k: usize| {
            let mean = means.get(k).copied().unwrap_or(f64::NAN);
            let squares = values.iter().filter_map(|row| row.get(k)).map(|v| (v - mean).powi(2));
            (squares.sum::<f64>() / (n - 1.0)).sqrt() // NaN, an empty cell, of one
        };
        let sds: Vec<f64> = (0..means.len()).map(sd).collect();
        match self.long {
            true => self.long_rows(id, n, &means, &sds),
            false => vec![self.wide_row(id, &means, &sds)],
        }
    }

    fn wide_row(&self, id: &str, means: &[f64], sds: &[f64]) -> Row {
        let mut cells = Vec::new();
        for (k, (mean, sd)) in means.iter().zip(sds).enumerate() {
            cells.push(Value::Number(*mean));
            cells.extend(self.spread.then_some(Value::Number(*sd)));
            cells.extend((self.decide && !self.exclusive).then(|| self.call(k, means)));
        }
        if self.decide && self.exclusive {
            let name = likeliest(means).and_then(|k| self.columns.get(k)).map(|column| column.name.clone());
            cells.push(name.map_or(Value::Missing, Value::Text));
        }
        Row { id: id.to_owned(), cells }
    }

    fn long_rows(&self, id: &str, n: f64, means: &[f64], sds: &[f64]) -> Vec<Row> {
        let text = |text: &str| Value::Text(text.to_owned());
        let row = |(k, (column, (mean, sd))): (usize, (&Column, (&f64, &f64)))| {
            let known = column.phenotype;
            let field = known.map_or(Value::Missing, |p| Value::Number(f64::from(p.field)));
            let mut cells = vec![field, text(&column.name), Value::Number(*mean)];
            cells.push(text(known.map_or("probability", |p| p.unit)));
            cells.push(text(known.map_or("diagnosis", |p| p.group.name())));
            if self.spread {
                cells.extend([n, *sd, mean - WIDTH * sd, mean + WIDTH * sd].map(Value::Number));
            }
            cells.extend(self.decide.then(|| self.call(k, means)));
            Row { id: id.to_owned(), cells }
        };
        self.columns.iter().zip(means.iter().zip(sds)).enumerate().map(row).collect()
    }
}

fn likeliest(means: &[f64]) -> Option<usize> {
    means.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(k, _)| k)
}

/// The table under way.
struct Book {
    layout: Layout,
    fields: Vec<u32>,
    writer: TableWriter,
    each: bool,
    /// Clips that are still to come of each record.
    left: HashMap<String, usize>,
    piles: Vec<Pile>,
    consistency: Consistency,
    rows: usize,
}

impl Book {
    /// Takes in the numbers of one clip; writes its record where that was its last.
    fn put(&mut self, cine: &Cine, values: Vec<Vec<f64>>) -> Result<()> {
        let id = if self.each || cine.source.is_empty() { &cine.id } else { &cine.source };
        let wanted = self.left.remove(id).unwrap_or(1);
        let place = pile_of(&mut self.piles, id, cine, wanted);
        if let Some(pile) = self.piles.get_mut(place) {
            pile.values.extend(values);
        }
        if wanted > 1 {
            self.left.insert(id.clone(), wanted - 1);
            return Ok(());
        }
        let pile = self.piles.remove(place);
        self.write(&pile)
    }

    fn write(&mut self, pile: &Pile) -> Result<()> {
        self.consistency.add(&self.fields, &self.layout.means(&pile.values), pile.heart_rate);
        self.rows += 1;
        self.layout.rows(&pile.id, &pile.values).iter().try_for_each(|row| self.writer.put(row))
    }

    /// Writes the records of which clips were left out.
    fn write_rest(&mut self) -> Result<()> {
        std::mem::take(&mut self.piles).iter().try_for_each(|pile| self.write(pile))
    }
}

/// Runs the networks of `kind` over every clip of the input.
///
/// # Errors
/// Whatever stops the work.
pub fn predict(name: &'static str, kind: Kind, asked: &Asked<'_>, log: &Log) -> Result<()> {
    let Asked { stream, compute, predict, .. } = asked;
    super::use_threads(compute.threads.threads)?;
    let weights = compute.open_weights(kind, bundled::downstream, log)?;
    let (networks, models) = open(kind, &weights, asked, log)?;
    let source = stream.open()?;
    let shown = source.shown().to_owned();
    let mut reader = CineReader::open(source)?;
    networks.iter().try_for_each(|network| network.check(reader.size())).map_err(|e| e.in_file(&shown))?;
    let left = clips_of_records(&mut reader, predict).map_err(|e| e.in_file(&shown))?;
    let several = networks.len() > 1 || left.values().any(|n| *n > 1) || predict.samples.is_some();
    let layout = Layout::new(&networks, asked, several)?;
    let mut provenance = super::provenance_after(name, &reader.provenance(), &weights);
    provenance.model = Some(models.join("; "));
    let writer = TableWriter::begin(&stream.output, &layout.header(), &provenance, !asked.table.no_comments)?;
    let fields = layout.columns.iter().map(|c| c.phenotype.map_or(0, |p| p.field)).collect(); // 0: none
    let (piles, consistency) = (Vec::new(), Consistency::default());
    let mut book = Book { layout, fields, writer, each: predict.each, left, piles, consistency, rows: 0 };
    let rejects = Rejects::begin(asked.rejects, log, &provenance)?;
    let bar = log.progress(reader.records());
    for batch in super::batches(reader, compute.batch, &rejects) {
        let batch = batch?;
        let found = networks.iter().map(|network| network.run(&batch)).collect::<Result<Vec<_>>>()?;
        for (i, cine) in batch.iter().enumerate() {
            book.put(cine, found.iter().filter_map(|rows| rows.get(i).cloned()).collect())?;
        }
        bar.inc(batch.len() as u64);
    }
    book.write_rest()?;
    rejects.finish()?;
    if book.rows == 0 {
        return Err(Fault::new("predicting", "no record could be used").file(shown).into());
    }
    book.consistency.lines().iter().for_each(|line| log.info(line));
    book.writer.finish()
}

/// The networks, and the names of their weights.
fn open(kind: Kind, weights: &Weights, asked: &Asked<'_>, log: &Log) -> Result<(Vec<Predict>, Vec<String>)> {
    let device = asked.compute.device.open()?;
    let mut networks = vec![Predict::open(weights, kind, &device)?];
    log.weights(weights, kind);
    let mut models = vec![weights.id()];
    for path in &asked.predict.ensemble {
        let more = Weights::open(path)?;
        let network = Predict::open(&more, kind, &device)?;
        agree(&networks, &network).map_err(|error| error.in_file(path))?;
        log.weights(&more, kind);
        models.push(more.id());
        networks.push(network);
    }
    Ok((networks, models))
}

/// The place of a record's pile; a new one where there is none.
fn pile_of(piles: &mut Vec<Pile>, id: &str, cine: &Cine, wanted: usize) -> usize {
    if let Some(place) = piles.iter().position(|pile| pile.id == id) {
        return place;
    }
    let id = if wanted > 1 { id.to_owned() } else { single(id, cine) };
    piles.push(Pile { id, heart_rate: f64::from(cine.heart_rate), values: Vec::new() });
    piles.len() - 1
}

/// A record of one clip goes by the clip's own name.
fn single(id: &str, cine: &Cine) -> String {
    if cine.sample > 0 || cine.id.ends_with(".draw0") {
        return id.to_owned();
    }
    cine.id.clone()
}

/// How many clips there are of each record, or 1 of each clip.
fn clips_of_records(reader: &mut CineReader, args: &PredictArgs) -> Result<HashMap<String, usize>> {
    let ids = reader.ids()?;
    let sources = reader.texts("source").unwrap_or_else(|| ids.clone());
    let mut counts: HashMap<String, usize> = HashMap::new();
    let name = |(id, source): (&String, &String)| if args.each || source.is_empty() { id } else { source }.clone();
    let names: Vec<String> = ids.iter().zip(&sources).map(name).collect();
    names.iter().for_each(|name| *counts.entry(name.clone()).or_default() += 1);
    if let Some(wanted) = args.samples {
        let differs = |name: &&String| counts.get(*name) != Some(&wanted);
        if let Some(name) = names.iter().find(differs) {
            let fault = Fault::new("reading cine", "").record(name).field("/source");
            let found = counts.get(name).copied().unwrap_or(0);
            let fault = fault.expected(format!("{wanted} clips of every record"), found);
            return Err(fault.hint("amdf-sample --samples K draws K of each").into());
        }
    }
    Ok(counts)
}

/// Refuses a network that predicts something else.
fn agree(networks: &[Predict], other: &Predict) -> Result<()> {
    let names = |network: &Predict| network.columns().into_iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
    match networks.first() {
        Some(first) if names(first) != names(other) || first.is_exclusive() != other.is_exclusive() => {
            let fault = Fault::new("opening weights", "the networks do not predict the same");
            Err(fault.expected(names(first), names(other)).into())
        }
        _ => Ok(()),
    }
}
