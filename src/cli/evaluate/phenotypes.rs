//! Predictions of phenotypes against the truth.

use super::tables::{common, is_spread, pick, subgroups, warn, TablesArgs, DOING};
use super::{picture, Findings, Score};
use crate::cli::log::Log;
use crate::data::phenotype::{fields_of, of_field, Group, Phenotype};
use crate::data::table::Table;
use crate::data::target::{Meaning, Targets};
use crate::error::{Error, Fault, Result};
use crate::metric::bootstrap::intervals;
use crate::metric::correlation::is_constant;
use crate::metric::regression::{agreement, pairs, Regression};

/// Columns that a warning names.
const SHOWN: usize = 5;

/// A phenotype, and both series, missing values as NaN.
struct Output {
    is: &'static Phenotype,
    truth: Vec<f64>,
    predicted: Vec<f64>,
}

/// The fields that `--fields` names; none where it is not given.
fn wanted(words: &[String]) -> Result<Option<Vec<u32>>> {
    let mut fields: Vec<u32> = Vec::new();
    for word in words {
        let unknown = || Error::usage(format!("--fields: {word} is no phenotype and no group"));
        let named = fields_of(word.trim()).ok_or_else(|| unknown().or_hint("docs/models.md lists the names"))?;
        let new: Vec<u32> = named.into_iter().filter(|field| !fields.contains(field)).collect();
        fields.extend(new);
    }
    Ok((!fields.is_empty()).then_some(fields))
}

fn fields(targets: &Targets) -> &[u32] {
    match &targets.meaning {
        Meaning::Phenotypes(fields) => fields,
        _ => &[],
    }
}

/// Warns of predictions that nothing is compared with.
fn say_unused(y: &Targets, p: &Targets, predicted: &(Table, String), found: &mut Findings, log: &Log) {
    let lonely = fields(p).iter().filter(|field| !fields(y).contains(field)).count();
    if lonely > 0 {
        warn(log, found, format!("{lonely} predicted phenotypes have no true values: left out"));
    }
    let strange: Vec<&String> = p.unused.iter().filter(|name| !is_spread(name, &predicted.0)).collect();
    if !strange.is_empty() {
        let shown = strange.iter().take(SHOWN).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let more = strange.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warn(log, found, format!("columns of {} that are no phenotypes: left out: {shown}{more}", predicted.1));
    }
}

/// The phenotypes of both tables, over the participants of `rows`.
fn outputs(y: &Targets, p: &Targets, rows: &[(usize, usize)]) -> Vec<Output> {
    let column = |targets: &Targets, field: u32, side: fn(&(usize, usize)) -> usize| -> Vec<f64> {
        let place = fields(targets).iter().position(|held| *held == field);
        let cell = |row| targets.values.get(side(row)).and_then(|values| values.get(place?).copied());
        rows.iter().map(|row| cell(row).unwrap_or(f64::NAN)).collect()
    };
    let both = fields(p).iter().filter(|field| fields(y).contains(field));
    let output = |is: &'static Phenotype| Output {
        is,
        truth: column(y, is.field, |row| row.0),
        predicted: column(p, is.field, |row| row.1),
    };
    both.filter_map(|field| of_field(*field)).map(output).collect()
}

pub(super) fn score(
    args: &TablesArgs,
    truth: &(Table, String),
    predicted: &(Table, String),
    found: &mut Findings,
    log: &Log,
) -> Result<()> {
    let wanted = wanted(&args.fields)?;
    let read = |(table, shown): &(Table, String)| {
        Targets::phenotypes(table, wanted.as_deref()).map_err(|error| error.in_file(shown))
    };
    let (y, p) = (read(truth)?, read(predicted)?);
    if !fields(&p).iter().any(|field| fields(&y).contains(field)) {
        let fault = Fault::new(DOING, "the tables have no phenotype in common").file(&predicted.1);
        return Err(fault.expected(y.labels.join(", "), p.labels.join(", ")).into());
    }
    say_unused(&y, &p, predicted, found, log);
    let rows = common(&y.ids, &p.ids, [&truth.1, &predicted.1], found, log)?;
    let ids: Vec<String> = rows.iter().filter_map(|(i, _)| y.ids.get(*i).cloned()).collect();
    let outputs = outputs(&y, &p, &rows);
    let mut drawn = Vec::new();
    for output in &outputs {
        let (y, p) = pairs(&output.truth, &output.predicted);
        if y.is_empty() {
            warn(log, found, format!("{}: no participant has both values", output.is.name));
            continue;
        }
        if is_constant(&y) {
            warn(log, found, format!("{}: the truth does not vary: R2 and r are not defined", output.is.name));
        }
        drawn.push((output.is.label.to_owned(), output.is.unit, y, p));
    }
    for (subgroup, members) in subgroups(&args.by, truth, &ids, log)? {
        score_group(&outputs, &subgroup, &members, args.scores.seed, found);
    }
    found.parts.push(picture::phenotypes(&drawn));
    Ok(())
}

/// The mean of those that are defined.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let known: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

fn score_group(outputs: &[Output], subgroup: &str, members: &[usize], seed: u64, found: &mut Findings) {
    const EACH: [&str; 6] = ["r2", "mae", "rmse", "pearson", "bias", "limits_sd"];
    let groups: Vec<(&'static str, Vec<usize>)> = Group::ALL
        .into_iter()
        .map(|group| (group.name(), (0..outputs.len()).filter(|k| outputs[*k].is.group == group).collect()))
        .chain([("all", (0..outputs.len()).collect())])
        .filter(|(_, places): &(_, Vec<usize>)| !places.is_empty())
        .collect();
    let statistics = |sample: &[usize]| -> Vec<f64> {
        let mut all = Vec::new();
        for output in outputs {
            let (y, p) = pairs(&pick(&output.truth, sample), &pick(&output.predicted, sample));
            let (score, found) = (Regression::new(&y, &p), agreement(&y, &p));
            all.extend([score.r2, score.mae, score.rmse, score.pearson, found.bias, found.sd]);
        }
        let of = |places: &Vec<usize>, which: usize| mean(places.iter().map(|k| all[k * EACH.len() + which]));
        let means: Vec<f64> = groups.iter().flat_map(|(_, places)| [of(places, 0), of(places, 3)]).collect();
        all.extend(means);
        all
    };
    let values = statistics(members);
    let around = intervals(members.len(), seed, |sample| statistics(&pick(members, sample)));
    let mut rows = values.into_iter().zip(around);
    let mut next = |score: &'static str, name: &str, group: &str, unit: &'static str, n: usize| {
        if let Some((value, interval)) = rows.next() {
            let (name, group, subgroup) = (name.to_owned(), group.to_owned(), subgroup.to_owned());
            found.scores.push(Score {
                score,
                name,
                group,
                subgroup,
                value,
                interval: Some(interval),
                n,
                unit,
                ..Score::default()
            });
        }
    };
    for output in outputs {
        let n = pairs(&pick(&output.truth, members), &pick(&output.predicted, members)).0.len();
        for score in EACH {
            let unit = if matches!(score, "r2" | "pearson") { "" } else { output.is.unit };
            next(score, output.is.name, output.is.group.name(), unit, n);
        }
    }
    for (group, _) in &groups {
        next("mean_r2", group, group, "", members.len());
        next("mean_pearson", group, group, "", members.len());
    }
}
