//! The figures of a cross-validation: scores of each fold and of all participants together, with bootstrap intervals.

use std::path::Path;

use serde_json::{json, Value as Json};

use super::log::Log;
use crate::data::phenotype::{of_field, Group};
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::output::Output;
use crate::io::table::TableWriter;
use crate::io::Sink as _;
use crate::metric::bootstrap::intervals;
use crate::metric::classification::{accuracy, auc, brier, decide, ece, macro_auc, Counts, BINS};
use crate::metric::regression::{pairs, Regression};
use crate::train::truth::{Question, Truth};

/// All participants together.
const POOLED: &str = "pooled";
/// The mean of the folds.
const MEAN: &str = "mean";
/// All outputs together.
const ALL: &str = "all";

/// What one participant got.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The participant.
    pub id: String,
    /// The fold that tested them, from 0.
    pub fold: usize,
    /// The truth, NaN where unknown: numbers, or 0 and 1 for each label.
    pub truth: Vec<f64>,
    /// What was predicted: numbers, or probabilities.
    pub values: Vec<f64>,
    /// Threshold of each probability.
    pub threshold: Vec<f64>,
}

/// A way to predict, and what it predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// For every participant who was tested.
    pub predictions: Vec<Prediction>,
}

impl Method {
    /// Nothing predicted yet.
    pub fn new(name: &'static str) -> Method {
        Method { name, predictions: Vec::new() }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The method.
    pub method: &'static str,
    /// `pooled`, `mean` or `fold N`.
    pub scope: String,
    /// Phenotype, group of phenotypes, label, or `all`.
    pub name: String,
    /// The score.
    pub metric: &'static str,
    /// Participants.
    pub n: usize,
    /// Its value.
    pub value: f64,
    /// 95 % interval, bootstrap over participants; none for the mean of folds.
    pub interval: Option<[f64; 2]>,
}

/// Names of all scores, in the order of [`scores`].
fn names(truth: &Truth) -> Vec<(String, &'static str)> {
    let each = |metrics: &[&'static str]| -> Vec<(String, &'static str)> {
        truth.labels.iter().flat_map(|label| metrics.iter().map(move |metric| (label.clone(), *metric))).collect()
    };
    match truth.question {
        Question::Numbers => {
            let mut all = each(&["r2", "mae", "rmse", "pearson"]);
            all.extend(groups(truth).into_iter().map(|(name, _)| (name, "mean_r2")));
            all
        }
        Question::Answers => {
            let metrics = ["auc", "brier", "ece", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1"];
            let mut all = each(&metrics);
            all.push((ALL.to_owned(), "auc"));
            all
        }
        Question::Classes => {
            let mut all = each(&["auc"]);
            all.extend([(ALL.to_owned(), "auc"), (ALL.to_owned(), "accuracy")]);
            all
        }
    }
}

/// Groups of phenotypes that are predicted, with the places of their members; all that a clip shows; all.
fn groups(truth: &Truth) -> Vec<(String, Vec<usize>)> {
    let group = |field: &u32| of_field(*field).map(|phenotype| phenotype.group);
    let places = |keep: &dyn Fn(Group) -> bool| -> Vec<usize> {
        let all = truth.fields.iter().enumerate();
        all.filter(|(_, field)| group(field).is_some_and(keep)).map(|(place, _)| place).collect()
    };
    let mut all: Vec<(String, Vec<usize>)> =
        Group::ALL.into_iter().map(|g| (g.name().to_owned(), places(&|other| other == g))).collect();
    all.push(("seen".to_owned(), places(&Group::is_seen)));
    all.push((ALL.to_owned(), places(&|_| true)));
    all.retain(|(_, places)| !places.is_empty());
    all
}

/// Mean of what is known.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let known: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    known.iter().sum::<f64>() / known.len() as f64
}

/// Truth and prediction of output `k` for those of whom it is known.
fn column(of: &[&Prediction], k: usize) -> (Vec<f64>, Vec<f64>) {
    let at = |values: &Vec<f64>| values.get(k).copied().unwrap_or(f64::NAN);
    let (y, p): (Vec<f64>, Vec<f64>) = of.iter().map(|one| (at(&one.truth), at(&one.values))).unzip();
    pairs(&y, &p)
}

/// All scores of these participants.
fn scores(truth: &Truth, groups: &[(String, Vec<usize>)], of: &[&Prediction]) -> Vec<f64> {
    match truth.question {
        Question::Numbers => of_numbers(truth.outputs(), groups, of),
        Question::Answers => of_answers(truth.outputs(), of),
        Question::Classes => of_classes(truth.outputs(), of),
    }
}

fn of_numbers(outputs: usize, groups: &[(String, Vec<usize>)], of: &[&Prediction]) -> Vec<f64> {
    let mut all = Vec::with_capacity(4 * outputs + groups.len());
    let mut explained = Vec::with_capacity(outputs);
    for k in 0..outputs {
        let (y, p) = column(of, k);
        let found = Regression::new(&y, &p);
        all.extend([found.r2, found.mae, found.rmse, found.pearson]);
        explained.push(found.r2);
    }
    let of_group = |(_, places): &(String, Vec<usize>)| mean(places.iter().filter_map(|k| explained.get(*k).copied()));
    all.extend(groups.iter().map(of_group));
    all
}

fn of_answers(outputs: usize, of: &[&Prediction]) -> Vec<f64> {
    let (mut all, mut areas) = (Vec::new(), Vec::new());
    for k in 0..outputs {
        let (y, p) = column(of, k);
        let y: Vec<bool> = y.iter().map(|v| *v > 0.5).collect();
        let known = of.iter().filter(|one| one.truth.get(k).is_some_and(|v| v.is_finite()));
        let called: Vec<bool> = known.map(|one| one.values.get(k) >= one.threshold.get(k)).collect();
        let counts = Counts::of(&y, &called);
        areas.push(auc(&y, &p));
        all.extend([auc(&y, &p), brier(&y, &p), ece(&y, &p, BINS), counts.accuracy(), counts.sensitivity()]);
        all.extend([counts.specificity(), counts.ppv(), counts.npv(), counts.f1()]);
    }
    all.push(mean(areas.into_iter()));
    all
}

fn of_classes(outputs: usize, of: &[&Prediction]) -> Vec<f64> {
    let known = |one: &&&Prediction| one.truth.iter().all(|v| v.is_finite());
    let of: Vec<&Prediction> = of.iter().filter(known).copied().collect();
    let class = |one: &&Prediction| one.truth.iter().position(|v| *v > 0.5).unwrap_or(0);
    let classes: Vec<usize> = of.iter().map(class).collect();
    let p: Vec<f64> = of.iter().flat_map(|one| one.values.iter().copied()).collect();
    let against_others = |k: usize| {
        let (y, p) = column(&of, k);
        auc(&y.iter().map(|v| *v > 0.5).collect::<Vec<bool>>(), &p)
    };
    let mut all: Vec<f64> = (0..outputs).map(against_others).collect();
    all.extend([macro_auc(&classes, &p, outputs), accuracy(&classes, &decide(&p, outputs))]);
    all
}

/// All figures of the methods.
pub fn of(truth: &Truth, methods: &[Method], folds: usize, seed: u64) -> Vec<Figure> {
    methods.iter().flat_map(|method| of_method(truth, method, folds, seed)).collect()
}

/// The figures of each fold, of all participants, and the means of the folds.
fn of_method(truth: &Truth, method: &Method, folds: usize, seed: u64) -> Vec<Figure> {
    let (names, groups) = (names(truth), groups(truth));
    let figure = |k: usize, scope: String, n: usize, value: f64, interval: Option<[f64; 2]>| {
        let (name, metric) = names.get(k).cloned().unwrap_or_default();
        Figure { method: method.name, scope, name, metric, n, value, interval }
    };
    let (mut all, mut of_folds) = (Vec::new(), Vec::new());
    for fold in (0..folds).map(Some).chain([None]) {
        let is_chosen = |p: &&Prediction| fold.is_none_or(|fold| p.fold == fold);
        let chosen: Vec<&Prediction> = method.predictions.iter().filter(is_chosen).collect();
        if chosen.is_empty() {
            continue;
        }
        let n = chosen.len();
        let values = scores(truth, &groups, &chosen);
        let around = intervals(n, seed, |sample| {
            scores(truth, &groups, &sample.iter().filter_map(|i| chosen.get(*i).copied()).collect::<Vec<_>>())
        });
        let scope = fold.map_or_else(|| POOLED.to_owned(), |fold| format!("fold {}", fold + 1));
        let each = values.iter().zip(around).enumerate();
        all.extend(each.map(|(k, (value, interval))| figure(k, scope.clone(), n, *value, Some(interval))));
        of_folds.extend(fold.map(|_| values));
    }
    let of_means = (0..names.len()).map(|k| {
        let value = mean(of_folds.iter().filter_map(|values: &Vec<f64>| values.get(k).copied()));
        figure(k, MEAN.to_owned(), method.predictions.len(), value, None)
    });
    all.extend(of_means);
    all
}

/// Writes `figures.csv` and `figures.json` into a folder.
///
/// # Errors
/// Where they cannot be written.
pub fn write(folder: &Path, figures: &[Figure], provenance: &Provenance) -> Result<()> {
    let columns = ["scope", "name", "metric", "n", "value", "low", "high"].map(str::to_owned);
    let mut table = TableWriter::begin_with("method", &folder.join("figures.csv"), &columns, provenance, true)?;
    for figure in figures {
        let number = |side: usize| figure.interval.map_or(Value::Missing, |interval| Value::Number(interval[side]));
        let text = |text: &str| Value::Text(text.to_owned());
        let mut cells = vec![text(&figure.scope), text(&figure.name), text(figure.metric)];
        cells.extend([Value::Number(figure.n as f64), Value::Number(figure.value), number(0), number(1)]);
        table.put(&Row { id: figure.method.to_owned(), cells })?;
    }
    table.finish()?;
    let row = |figure: &Figure| {
        json!({
            "method": figure.method, "scope": figure.scope, "name": figure.name, "metric": figure.metric,
            "n": figure.n, "value": figure.value, "interval": figure.interval,
        })
    };
    let rows: Vec<Json> = figures.iter().map(row).collect();
    let all = json!({"format": "ecgflow.figures", "provenance": provenance, "figures": rows});
    let path = folder.join("figures.json");
    let text = serde_json::to_string_pretty(&all).map_err(Error::compute("writing JSON"))?;
    Output::holding(&path, false, text + "\n")?.finish()
}

/// Says the main figures.
pub fn tell(truth: &Truth, figures: &[Figure], log: &Log) {
    let metric = if truth.question == Question::Numbers { "mean_r2" } else { "auc" };
    for figure in figures.iter().filter(|f| f.scope == POOLED && f.metric == metric && f.name == ALL) {
        let [low, high] = figure.interval.unwrap_or([f64::NAN; 2]);
        let word = if metric == "auc" { "AUC" } else { "R2" };
        log.note(&format!("{}: mean {word} {:.3} [{low:.3} {high:.3}]", figure.method, figure.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::target::{Meaning, Targets};

    fn truth(meaning: Meaning, labels: &[&str]) -> Truth {
        let labels: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
        let values = vec![vec![0.0; labels.len()]];
        let targets = Targets { meaning, labels, ids: vec!["p".into()], values, unused: Vec::new() };
        Truth::of(&targets, &["p".to_owned()]).unwrap().0
    }

    fn method(rows: &[(usize, [f64; 2], [f64; 2])]) -> Method {
        let one = |(i, (fold, truth, values)): (usize, &(usize, [f64; 2], [f64; 2]))| Prediction {
            id: format!("p{i}"),
            fold: *fold,
            truth: truth.to_vec(),
            values: values.to_vec(),
            threshold: vec![0.5; 2],
        };
        Method { name: "clip", predictions: rows.iter().enumerate().map(one).collect() }
    }

    fn value(figures: &[Figure], scope: &str, name: &str, metric: &str) -> f64 {
        figures.iter().find(|f| f.scope == scope && f.name == name && f.metric == metric).unwrap().value
    }

    #[test]
    fn phenotypes_are_scored_by_fold_by_group_and_without_gaps() {
        let truth = truth(Meaning::Phenotypes(vec![24100, 24118]), &["lv_edv_ml", "ascending_aorta_max_area_mm2"]);
        let rows = [
            (0, [1.0, 5.0], [1.0, 5.0]),
            (0, [3.0, 6.0], [3.0, 5.0]),
            (1, [2.0, f64::NAN], [3.0, 0.0]),
            (1, [4.0, 7.0], [3.0, 8.0]),
        ];
        let figures = of(&truth, &[method(&rows)], 2, 0);
        assert_eq!(value(&figures, "fold 1", "lv_edv_ml", "r2"), 1.0);
        assert_eq!(value(&figures, "fold 2", "lv_edv_ml", "r2"), 0.0);
        assert_eq!(value(&figures, "mean", "lv_edv_ml", "r2"), 0.5);
        assert!((value(&figures, "pooled", "lv_edv_ml", "r2") - 0.6).abs() < 1e-12);
        assert_eq!(value(&figures, "pooled", "ascending_aorta_max_area_mm2", "r2"), 0.0);
        assert_eq!(
            value(&figures, "pooled", "seen", "mean_r2"),
            value(&figures, "pooled", "left_ventricle", "mean_r2")
        );
        assert!((value(&figures, "pooled", "all", "mean_r2") - 0.3).abs() < 1e-12);
        let pooled = figures.iter().find(|f| f.scope == "pooled" && f.metric == "mae").unwrap();
        let [low, high] = pooled.interval.unwrap();
        assert!(low <= pooled.value && pooled.value <= high);
    }

    #[test]
    fn answers_and_classes_are_scored_by_hand() {
        let rows = [(0, [1.0, 0.0], [0.9, 0.1]), (0, [0.0, 1.0], [0.4, 0.6]), (0, [0.0, 1.0], [0.6, 0.4])];
        let answers = of(&truth(Meaning::Questions, &["hcm", "dcm"]), &[method(&rows)], 1, 0);
        assert_eq!(value(&answers, "pooled", "hcm", "auc"), 1.0);
        assert_eq!(value(&answers, "pooled", "hcm", "specificity"), 0.5);
        assert_eq!(value(&answers, "pooled", "dcm", "sensitivity"), 0.5);
        let classes = of(&truth(Meaning::Classes, &["hcm", "dcm"]), &[method(&rows)], 1, 0);
        assert!((value(&classes, "pooled", "all", "accuracy") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(value(&classes, "pooled", "all", "auc"), 1.0);
    }
}
