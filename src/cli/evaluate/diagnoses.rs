//! Predictions of diagnoses against the truth.

use std::collections::HashMap;

use super::tables::{common, is_spread, pick, subgroups, warn, TablesArgs, DOING};
use super::{picture, Findings, Score};
use crate::cli::log::Log;
use crate::data::table::{is_missing, Line, Table};
use crate::data::target::{Meaning, Targets};
use crate::error::{Fault, Result};
use crate::metric::bootstrap::intervals;
use crate::metric::classification as class;
use crate::metric::classification::{Counts, BINS};
use crate::metric::regression::pairs;

/// How far a sum of probabilities may be from 1: tables are rounded.
const ROUNDING: f64 = 0.01;

/// A diagnosis: its name, whether it is so, and its probability; missing values are NaN.
struct Output {
    name: String,
    truth: Vec<f64>,
    predicted: Vec<f64>,
}

/// The true columns that the predictions are about.
fn labels(args: &TablesArgs, truth: &(Table, String), predicted: &(Table, String)) -> Result<Vec<String>> {
    if !args.label.is_empty() {
        return Ok(args.label.clone());
    }
    let (table, shown) = truth;
    let same: Vec<String> = table.columns.iter().filter(|name| predicted.0.column(name).is_some()).cloned().collect();
    if !same.is_empty() {
        return Ok(same);
    }
    let fits = |place: usize| {
        let mut cells =
            table.rows.iter().filter_map(|line| line.cells.get(place)).filter(|cell| !is_missing(cell)).peekable();
        cells.peek().is_some() && cells.all(|cell| predicted.0.column(cell).is_some())
    };
    let classes: Vec<String> =
        (0..table.columns.len()).filter(|k| fits(*k)).filter_map(|k| table.columns.get(k).cloned()).collect();
    if classes.len() == 1 {
        return Ok(classes);
    }
    let fault = Fault::new(DOING, "").file(shown);
    let expected = format!("a column of {}, or one with their names", predicted.0.columns.join(", "));
    let fault = fault.expected(expected, table.columns.join(", "));
    Err(fault.hint("name the column with --label; for phenotypes use their names").into())
}

pub(super) fn score(
    args: &TablesArgs,
    truth: &(Table, String),
    predicted: &(Table, String),
    found: &mut Findings,
    log: &Log,
) -> Result<()> {
    let wanted = labels(args, truth, predicted)?;
    let mut y = Targets::diagnoses(&truth.0, &wanted).map_err(|error| error.in_file(&truth.1))?;
    let mut p = probabilities(&y.labels, predicted)?;
    if y.meaning == Meaning::Classes {
        if let Some(place) = not_whole(&p) {
            // Classes that no participant is of: without them others would seem to be decided for.
            let strange: Vec<String> = others(&y.labels, &predicted.0);
            y.labels.extend(strange);
            p = probabilities(&y.labels, predicted)?;
            if not_whole(&p).is_some() {
                let line = predicted.0.rows.get(place);
                let fault = Fault::new(DOING, "").file(&predicted.1);
                let fault = fault.record(line.map_or("", |line| &line.id)).field(y.labels.join(", "));
                let sum = p.get(place).map_or(f64::NAN, |row| row.iter().sum());
                return Err(fault.expected("probabilities that add up to 1", format!("{sum:.4}")).into());
            }
        }
    }
    let ids: Vec<String> = predicted.0.rows.iter().map(|line| line.id.clone()).collect();
    let rows = common(&y.ids, &ids, [&truth.1, &predicted.1], found, log)?;
    // A participant without a truth or without a probability is in no score.
    let complete = |(i, j): &(usize, usize)| p[*j].iter().chain(&y.values[*i]).all(|v| v.is_finite());
    let (rows, lost): (Vec<_>, Vec<_>) = match y.meaning {
        Meaning::Classes => rows.into_iter().partition(complete),
        _ => (rows, Vec::new()),
    };
    if !lost.is_empty() {
        warn(log, found, format!("{} participants lack a class or a probability: left out", lost.len()));
    }
    let ids: Vec<String> = rows.iter().map(|(i, _)| y.ids[*i].clone()).collect();
    let groups = subgroups(&args.by, truth, &ids, log)?;
    match y.meaning {
        Meaning::Classes => {
            let truth: Vec<usize> = rows.iter().map(|(i, _)| y.values[*i][0] as usize).collect();
            let p: Vec<Vec<f64>> = rows.iter().map(|(_, j)| p[*j].clone()).collect();
            classes(&y.labels, &truth, &p, &groups, args.scores.seed, found, log);
        }
        _ => {
            let column = |k: usize, label: &String| Output {
                name: label.clone(),
                truth: rows.iter().map(|(i, _)| y.values[*i][k]).collect(),
                predicted: rows.iter().map(|(_, j)| p[*j][k]).collect(),
            };
            let outputs: Vec<Output> = y.labels.iter().enumerate().map(|(k, label)| column(k, label)).collect();
            answers(&outputs, args.threshold, &groups, args.scores.seed, found, log);
        }
    }
    Ok(())
}

/// The first row whose probabilities do not add up to 1; rows with a missing one do not count.
fn not_whole(p: &[Vec<f64>]) -> Option<usize> {
    p.iter().position(|row| (row.iter().sum::<f64>() - 1.0).abs() > ROUNDING)
}

/// The other columns that hold probabilities.
fn others(labels: &[String], table: &Table) -> Vec<String> {
    let holds = |place: usize| {
        let mut cells = table.rows.iter().filter_map(|line| line.cells.get(place));
        cells.all(|cell| cell.parse().is_ok_and(|p: f64| (0.0..=1.0).contains(&p)))
    };
    let names = table.columns.iter().enumerate();
    names
        .filter(|(k, name)| !labels.contains(name) && !is_spread(name, table) && holds(*k))
        .map(|(_, name)| name.clone())
        .collect()
}

/// The probability of each label, row by row.
fn probabilities(labels: &[String], predicted: &(Table, String)) -> Result<Vec<Vec<f64>>> {
    let (table, shown) = predicted;
    let mut seen = HashMap::new();
    let places = labels.iter().map(|label| {
        let fault = || Fault::new(DOING, "").file(shown).field(label);
        Ok(table
            .column(label)
            .ok_or_else(|| fault().expected(format!("a column {label}"), table.columns.join(", ")))
            .map_err(|fault| fault.hint("a question has 0 and 1; of other words, each is a class with a column"))?)
    });
    let places = places.collect::<Result<Vec<usize>>>()?;
    let row = |line: &Line| {
        let fault = || Fault::new(DOING, "").file(shown).record(format!("{} (line {})", line.id, line.number));
        if let Some(before) = seen.insert(line.id.clone(), line.number) {
            return Err(fault().field("id").expected("different ids", format!("the same in line {before}")).into());
        }
        let of = |(place, label): (&usize, &String)| {
            let cell = line.cells.get(*place).map_or("", String::as_str);
            let value = cell.parse().ok().filter(|p: &f64| (0.0..=1.0).contains(p));
            match is_missing(cell) {
                true => Ok(f64::NAN),
                false => Ok(value
                    .ok_or_else(|| fault().field(label).expected("a probability from 0 to 1", format!("{cell:?}")))?),
            }
        };
        places.iter().zip(labels).map(of).collect::<Result<Vec<f64>>>()
    };
    table.rows.iter().map(row).collect()
}

/// Names and values of all statistics, for all participants and for samples of them.
fn add(
    names: &[(&'static str, String)],
    (subgroup, members): &(String, Vec<usize>),
    seed: u64,
    statistics: impl Fn(&[usize]) -> (Vec<f64>, usize) + Sync,
    found: &mut Findings,
) {
    let (values, n) = statistics(members);
    let around = intervals(members.len(), seed, |sample| statistics(&pick(members, sample)).0);
    for ((value, interval), (score, name)) in values.into_iter().zip(around).zip(names) {
        let (name, subgroup) = (name.clone(), subgroup.clone());
        found.scores.push(Score { score, name, subgroup, value, interval: Some(interval), n, ..Score::default() });
    }
}

fn answers(
    outputs: &[Output],
    threshold: f64,
    groups: &[(String, Vec<usize>)],
    seed: u64,
    found: &mut Findings,
    log: &Log,
) {
    const EACH: [&str; 9] = ["auc", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "brier", "ece"];
    let mut drawn = Vec::new();
    for output in outputs {
        let known = |sample: &[usize]| -> (Vec<bool>, Vec<f64>) {
            let (y, p) = pairs(&pick(&output.truth, sample), &pick(&output.predicted, sample));
            (y.into_iter().map(|y| y > 0.5).collect(), p)
        };
        let statistics = |sample: &[usize]| {
            let (y, p) = known(sample);
            let c = Counts::at(threshold, &y, &p);
            let mut all =
                vec![class::auc(&y, &p), c.accuracy(), c.sensitivity(), c.specificity(), c.ppv(), c.npv(), c.f1()];
            all.extend([class::brier(&y, &p), class::ece(&y, &p, BINS)]);
            (all, y.len())
        };
        let names = EACH.map(|score| (score, output.name.clone()));
        groups.iter().for_each(|group| add(&names, group, seed, statistics, found));
        let (y, p) = known(&groups.first().map(|(_, all)| all.clone()).unwrap_or_default());
        if y.iter().all(|is| *is) || !y.iter().any(|is| *is) {
            warn(log, found, format!("{}: all participants are of one class: AUC is not defined", output.name));
        }
        let table = [false, true].map(|truth| {
            let of =
                |called: bool| y.iter().zip(&p).filter(|(y, p)| **y == truth && (**p >= threshold) == called).count();
            vec![of(false), of(true)]
        });
        let title = format!("{}: confusion at a threshold of {threshold}", output.name);
        drawn.push((output.name.clone(), y, p));
        found.parts.push(picture::confusion(&title, &["no".to_owned(), "yes".to_owned()], &table));
    }
    found.parts.insert(0, picture::classes(&drawn));
}

fn classes(
    labels: &[String],
    truth: &[usize],
    rows: &[Vec<f64>],
    groups: &[(String, Vec<usize>)],
    seed: u64,
    found: &mut Findings,
    log: &Log,
) {
    const MEANS: [&str; 8] =
        ["accuracy", "auc_macro", "sensitivity_macro", "specificity_macro", "ppv_macro", "f1_macro", "brier", "ece"];
    let k = labels.len();
    let missing: Vec<&String> =
        labels.iter().enumerate().filter(|(i, _)| !truth.contains(i)).map(|(_, label)| label).collect();
    if k - missing.len() < 2 {
        warn(log, found, "all participants are of one class: AUC is not defined".to_owned());
    } else if let Some(label) = missing.first() {
        warn(log, found, format!("no participant is of class {label}: means over the classes are not defined"));
    }
    let statistics = |sample: &[usize]| {
        let (y, p) = (pick(truth, sample), sample.iter().flat_map(|i| rows[*i].iter().copied()).collect::<Vec<f64>>());
        let called = class::decide(&p, k);
        let macros = |score: fn(&Counts) -> f64| class::macro_counts(&y, &called, k, score);
        let mut all = vec![class::accuracy(&y, &called), class::macro_auc(&y, &p, k), macros(Counts::sensitivity)];
        all.extend([macros(Counts::specificity), macros(Counts::ppv), macros(Counts::f1)]);
        all.extend([class::brier_of_classes(&y, &p, k), class::ece_of_classes(&y, &p, k, BINS)]);
        for i in 0..k {
            let (is, score) = class::one_against_rest(&y, &p, k, i);
            all.push(class::auc(&is, &score));
        }
        (all, y.len())
    };
    let names: Vec<(&'static str, String)> = MEANS
        .into_iter()
        .map(|score| (score, "all".to_owned()))
        .chain(labels.iter().map(|label| ("auc", label.clone())))
        .collect();
    groups.iter().for_each(|group| add(&names, group, seed, statistics, found));
    let p: Vec<f64> = rows.iter().flatten().copied().collect();
    let against = |(i, label): (usize, &String)| {
        let (is, score) = class::one_against_rest(truth, &p, k, i);
        (label.clone(), is, score)
    };
    let drawn: Vec<_> = labels.iter().enumerate().map(against).collect();
    found.parts.push(picture::classes(&drawn));
    let table = class::confusion(truth, &class::decide(&p, k), k);
    found.parts.push(picture::confusion("Confusion", labels, &table));
}
