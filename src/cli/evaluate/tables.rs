//! `cmr-eval tables`: predictions against the truth.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{diagnoses, phenotypes, write, Findings, ScoreArgs};
use crate::cli::args::ThreadArgs;
use crate::cli::{log::Log, provenance, use_threads};
use crate::data::phenotype::of_column;
use crate::data::table::{is_missing, Table};
use crate::error::{Error, Fault, Result};
use crate::io::{columns, origin::origin, Source};

pub(super) const DOING: &str = "comparing tables";
/// Most values of a column that makes subgroups.
const MOST_SUBGROUPS: usize = 50;
/// Fewest participants of a subgroup that is scored.
const FEWEST: usize = 2;

/// Score predictions against the truth.
///
/// Phenotypes (wide or long; names, field numbers or UK Biobank columns) are scored as numbers, other columns as
/// probabilities of diagnoses. Example: cmr-eval tables --truth phenotypes.csv --predicted table.csv --by sex
#[derive(Args, Debug)]
pub struct TablesArgs {
    /// Table of true values (CSV); - is standard input.
    #[arg(long, value_name = "CSV")]
    truth: PathBuf,
    /// Table of predictions, as cmr-phenotype or cmr-classify writes it; - is standard input.
    #[arg(long, value_name = "CSV")]
    predicted: PathBuf,
    /// Only these phenotypes: fields, names, groups, or all [default: those in both tables].
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(super) fields: Vec<String>,
    /// True diagnoses: columns of 0 and 1, or one with names of classes [default: those that fit the predictions].
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', conflicts_with = "fields")]
    pub(super) label: Vec<String>,
    /// Probability from which a yes-or-no diagnosis is called.
    #[arg(long, value_name = "P", default_value_t = 0.5)]
    pub(super) threshold: f64,
    /// Columns of the true table whose values make subgroups, such as sex.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(super) by: Vec<String>,
    #[command(flatten)]
    pub(super) scores: ScoreArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Reads, scores and writes.
///
/// # Errors
/// Where a table is malformed, the tables have nothing in common, or an output cannot be written.
pub fn tables(args: &TablesArgs, log: &Log) -> Result<()> {
    if !(0.0..=1.0).contains(&args.threshold) {
        return Err(Error::usage(format!("--threshold: expected 0 to 1, found {}", args.threshold)));
    }
    if [&args.truth, &args.predicted].iter().all(|path| path.as_path() == Path::new("-")) {
        return Err(Error::usage("only one input can be standard input"));
    }
    use_threads(args.threads.threads)?;
    let mut provenance = provenance("cmr-eval");
    let mut read = |path: &Path| -> Result<(Table, String)> {
        let source = Source::open(path)?;
        let table = columns::read(&source)?;
        if let Some(before) = origin(&source) {
            provenance = provenance.clone().after(&before);
        }
        Ok((table, source.shown().to_owned()))
    };
    let (truth, predicted) = (read(&args.truth)?, read(&args.predicted)?);
    provenance.seed = Some(args.scores.seed);
    let mut found = Findings { scores: Vec::new(), notes: Vec::new(), parts: Vec::new() };
    let held = |table: &Table| {
        let long = table.column("field").or_else(|| table.column("name")).zip(table.column("value"));
        long.is_some() || table.columns.iter().any(|name| of_column(name).is_some())
    };
    let is_numbers = args.label.is_empty() && held(&predicted.0);
    let title = if is_numbers {
        "Phenotypes: predictions against the truth"
    } else {
        "Diagnoses: predictions against the truth"
    };
    match is_numbers {
        true => phenotypes::score(args, &truth, &predicted, &mut found, log)?,
        false => diagnoses::score(args, &truth, &predicted, &mut found, log)?,
    }
    write(&args.scores, title, &found, &provenance)
}

pub(super) fn warn(log: &Log, found: &mut Findings, text: String) {
    log.warn(&text);
    found.notes.push(text);
}

/// The places in both tables of the participants that both know; warns of the others.
pub(super) fn common(
    truth: &[String],
    predicted: &[String],
    names: [&str; 2],
    found: &mut Findings,
    log: &Log,
) -> Result<Vec<(usize, usize)>> {
    let places: HashMap<&String, usize> = predicted.iter().zip(0..).collect();
    let both: Vec<(usize, usize)> =
        truth.iter().enumerate().filter_map(|(i, id)| Some((i, *places.get(id)?))).collect();
    if both.is_empty() {
        let fault = Fault::new(DOING, "").file(names[1]).field("id");
        let example = |ids: &[String]| ids.first().cloned().unwrap_or_default();
        let expected = format!("ids of {}, such as {}", names[0], example(truth));
        return Err(fault.expected(expected, format!("others, such as {}", example(predicted))).into());
    }
    for (missing, of, where_) in
        [(truth.len() - both.len(), truth.len(), names[1]), (predicted.len() - both.len(), predicted.len(), names[0])]
    {
        if missing > 0 {
            warn(log, found, format!("{missing} of {of} participants are not in {where_}: left out"));
        }
    }
    Ok(both)
}

/// The participants of each subgroup, by `COLUMN=VALUE`; the first, without a name, holds all.
pub(super) fn subgroups(
    by: &[String],
    truth: &(Table, String),
    ids: &[String],
    log: &Log,
) -> Result<Vec<(String, Vec<usize>)>> {
    let (table, shown) = truth;
    let mut all = vec![(String::new(), (0..ids.len()).collect())];
    let lines: HashMap<&String, usize> = table.rows.iter().map(|line| &line.id).zip(0..).collect();
    for name in by {
        let fault = || Fault::new(DOING, "").file(shown).field(name);
        let place =
            table.column(name).ok_or_else(|| fault().expected(format!("one of {}", table.columns.join(", ")), name))?;
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, id) in ids.iter().enumerate() {
            let cell = lines.get(id).and_then(|row| table.rows.get(*row)?.cells.get(place)).map_or("", String::as_str);
            if !is_missing(cell) {
                groups.entry(cell).or_default().push(i);
            }
        }
        if groups.len() > MOST_SUBGROUPS {
            let expected = format!("at most {MOST_SUBGROUPS} different values");
            return Err(fault().expected(expected, groups.len()).hint("give a column of categories").into());
        }
        for (value, members) in groups {
            match members.len() < FEWEST {
                true => log.warn(&format!("{name}={value} holds one participant: not scored")),
                false => all.push((format!("{name}={value}"), members)),
            }
        }
    }
    Ok(all)
}

/// Whether a column tells how another one scatters.
pub(super) fn is_spread(name: &str, table: &Table) -> bool {
    name.strip_suffix("_sd").is_some_and(|of| table.column(of).is_some())
}

/// Values at some places.
pub(super) fn pick<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
    places.iter().filter_map(|i| values.get(*i).copied()).collect()
}
