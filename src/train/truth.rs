//! What each record is to give, as the loss wants it: z-scores, answers or classes, with gaps.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::data::target::{Meaning, Targets};
use crate::error::{Fault, Result};

const DOING: &str = "matching clips and table";

/// What is asked of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Numbers: phenotypes.
    Numbers,
    /// Answers, yes or no, independent of each other.
    Answers,
    /// One class of several.
    Classes,
}

/// The truth of all records of a training, those without any left aside.
#[derive(Debug, Clone)]
pub struct Truth {
    /// What is asked.
    pub question: Question,
    /// Names of the outputs.
    pub labels: Vec<String>,
    /// Fields of the phenotypes, where numbers are asked.
    pub fields: Vec<u32>,
    /// In their own units; NaN where missing.
    values: Vec<Vec<f64>>,
    /// As the loss wants them.
    rows: Vec<Vec<f32>>,
    /// Mean and standard deviation of each number over the training records.
    pub statistics: Vec<(f64, f64)>,
}

/// Which records have a truth, and what was left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Numbers of the records that have one.
    pub records: Vec<usize>,
    /// Records without a row in the table.
    pub without_row: usize,
    /// Rows without a record.
    pub without_record: usize,
}

impl Truth {
    /// The truth of records that belong to these participants. Numbers are not scaled yet.
    ///
    /// # Errors
    /// Where no record has a row in the table.
    pub fn of(targets: &Targets, participants: &[String]) -> Result<(Truth, Matched)> {
        let place: HashMap<&str, usize> = targets.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let question = match targets.meaning {
            Meaning::Phenotypes(_) => Question::Numbers,
            Meaning::Questions => Question::Answers,
            Meaning::Classes => Question::Classes,
        };
        let width = if question == Question::Classes { 1 } else { targets.labels.len() };
        let row = |id: &String| place.get(id.as_str()).and_then(|i| targets.values.get(*i)).cloned();
        let found: Vec<Option<Vec<f64>>> = participants.iter().map(row).collect();
        let records: Vec<usize> =
            found.iter().enumerate().filter(|(_, row)| row.is_some()).map(|(record, _)| record).collect();
        let held: HashSet<&str> = participants.iter().map(String::as_str).collect();
        let without_record = targets.ids.iter().filter(|id| !held.contains(id.as_str())).count();
        if records.is_empty() {
            let first = |ids: &[String]| ids.first().cloned().unwrap_or_default();
            let fault = Fault::new(DOING, "no clip has a row in the table");
            let expected = format!("ids such as {}", first(participants));
            return Err(fault.expected(expected, format!("ids such as {}", first(&targets.ids))).into());
        }
        let matched = Matched { without_row: participants.len() - records.len(), without_record, records };
        let values: Vec<Vec<f64>> = found.into_iter().map(|row| row.unwrap_or_else(|| vec![f64::NAN; width])).collect();
        let rows = values.iter().map(|row| row.iter().map(|v| *v as f32).collect()).collect();
        let fields = if let Meaning::Phenotypes(fields) = &targets.meaning { fields.clone() } else { Vec::new() };
        let labels = targets.labels.clone();
        Ok((Truth { question, labels, fields, values, rows, statistics: Vec::new() }, matched))
    }

    /// The same, scaled by the statistics of the records that train, after a look at whether there is anything to learn.
    ///
    /// # Errors
    /// Where a number does not vary or an answer or class is missing among them.
    pub fn scaled(&self, train: &[usize]) -> Result<Truth> {
        let mut truth = self.clone();
        match self.question {
            Question::Numbers => {
                truth.statistics = (0..self.labels.len()).map(|k| self.spread(k, train)).collect::<Result<_>>()?;
                let scale = |row: &Vec<f64>| {
                    row.iter().zip(&truth.statistics).map(|(v, (mean, sd))| ((v - mean) / sd) as f32).collect()
                };
                truth.rows = self.values.iter().map(scale).collect();
            }
            Question::Answers => (0..self.labels.len()).try_for_each(|k| self.both_answers(k, train))?,
            Question::Classes => self.all_classes(train)?,
        }
        Ok(truth)
    }

    fn fault(&self, k: usize) -> Fault {
        Fault::new(DOING, "").field(self.labels.get(k).map_or("", String::as_str))
    }

    /// What these records say of output `k`, gaps left out.
    fn known(&self, k: usize, records: &[usize]) -> Vec<f64> {
        let value = |i: &usize| self.values.get(*i)?.get(k).copied().filter(|v| v.is_finite());
        records.iter().filter_map(value).collect()
    }

    /// Mean and standard deviation of number `k`.
    fn spread(&self, k: usize, train: &[usize]) -> Result<(f64, f64)> {
        let known = self.known(k, train);
        let n = known.len() as f64;
        let mean = known.iter().sum::<f64>() / n;
        let sd = (known.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        if known.len() >= 2 && sd > 1e-9 * mean.abs().max(1e-9) {
            return Ok((mean, sd));
        }
        let found = if known.len() < 2 { format!("{} values", known.len()) } else { format!("{n} times {mean}") };
        let fault = self.fault(k).expected("values that differ, among the records that train", found);
        Err(fault.hint("leave this field out: --fields").into())
    }

    /// Fails where question `k` has one answer only.
    fn both_answers(&self, k: usize, train: &[usize]) -> Result<()> {
        let known = self.known(k, train);
        let [no, yes] = [0.0, 1.0].map(|wanted| known.iter().filter(|v| **v == wanted).count());
        if no > 0 && yes > 0 {
            return Ok(());
        }
        let expected = "0 and 1, both among the records that train";
        Err(self.fault(k).expected(expected, format!("{no} times 0 and {yes} times 1")).into())
    }

    /// Fails where a class has no record, or there is only one class.
    fn all_classes(&self, train: &[usize]) -> Result<()> {
        let is_missing = |class: &usize| !train.iter().any(|i| self.class(*i) == Some(*class));
        if let Some(class) = (0..self.labels.len()).find(is_missing) {
            return Err(self.fault(class).expected("at least one record of every class that trains", "none").into());
        }
        match self.labels.len() {
            n if n < 2 => Err(self.fault(0).expected("two classes or more", n).into()),
            _ => Ok(()),
        }
    }

    /// What a training depends on: names and numbers.
    pub fn fingerprint(&self) -> String {
        let mut words = self.labels.clone();
        words.extend(self.values.iter().flatten().map(|value| format!("{value:?}")));
        super::state::fingerprint(&words)
    }

    /// Numbers asked of a record.
    pub fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Outputs that a network gives for a record.
    pub fn outputs(&self) -> usize {
        self.labels.len()
    }

    /// What the loss wants of a record.
    pub fn row(&self, record: usize) -> &[f32] {
        self.rows.get(record).map_or(&[], Vec::as_slice)
    }

    /// A record's numbers in their own units.
    pub fn values(&self, record: usize) -> &[f64] {
        self.values.get(record).map_or(&[], Vec::as_slice)
    }

    /// What output `k` is to say of a record: a z-score, or 1 for yes and 0 for no; NaN where unknown.
    pub fn answer(&self, record: usize, k: usize) -> f64 {
        match self.question {
            Question::Classes => self.class(record).map_or(f64::NAN, |class| f64::from(u8::from(class == k))),
            _ => self.row(record).get(k).map_or(f64::NAN, |v| f64::from(*v)),
        }
    }

    /// The class of a record.
    pub fn class(&self, record: usize) -> Option<usize> {
        let value = self.values.get(record)?.first().copied().filter(|v| v.is_finite())?;
        (self.question == Question::Classes).then_some(value as usize)
    }

    /// Weights of each output's answers no and yes, or of each class (the second number): 1, or n / (K n_c).
    pub fn weights(&self, train: &[usize], balanced: bool) -> Vec<[f32; 2]> {
        let of = |k: usize| {
            if !balanced || self.question == Question::Numbers {
                return [1.0; 2];
            }
            if self.question == Question::Classes {
                let n = train.iter().filter(|i| self.class(**i) == Some(k)).count().max(1);
                return [1.0, train.len() as f32 / (self.labels.len() * n) as f32];
            }
            let known = self.known(k, train);
            let n = |wanted: f64| known.iter().filter(|v| **v == wanted).count();
            let [no, yes] = [n(0.0), n(1.0)];
            [no, yes].map(|count| (no + yes) as f32 / (2 * count.max(1)) as f32)
        };
        (0..self.labels.len()).map(of).collect()
    }

    /// The records in groups of the same answers, or by a quarter of the first number.
    pub fn strata(&self, records: &[usize]) -> Vec<Vec<usize>> {
        let mut known = self.known(0, records);
        known.sort_by(f64::total_cmp);
        let cuts = [1, 2, 3].map(|q| known.get(q * known.len() / 4).copied().unwrap_or(f64::NAN));
        let mut groups: BTreeMap<Vec<i64>, Vec<usize>> = BTreeMap::new();
        for record in records {
            let key: Vec<i64> = match self.question {
                Question::Numbers => {
                    let value = self.values(*record).first().copied().unwrap_or(f64::NAN);
                    vec![if value.is_finite() { cuts.iter().filter(|cut| value >= **cut).count() as i64 } else { -1 }]
                }
                _ => self.values(*record).iter().map(|v| if v.is_finite() { *v as i64 } else { -1 }).collect(),
            };
            groups.entry(key).or_default().push(*record);
        }
        groups.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(meaning: Meaning, labels: &[&str], rows: &[(&str, &[f64])]) -> Targets {
        Targets {
            meaning,
            labels: labels.iter().map(|l| (*l).to_owned()).collect(),
            ids: rows.iter().map(|(id, _)| (*id).to_owned()).collect(),
            values: rows.iter().map(|(_, v)| v.to_vec()).collect(),
            unused: Vec::new(),
        }
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn numbers_are_scaled_by_the_training_records_and_gaps_stay() {
        let rows: &[(&str, &[f64])] = &[("a", &[10.0]), ("b", &[14.0]), ("c", &[100.0]), ("d", &[f64::NAN])];
        let t = targets(Meaning::Phenotypes(vec![24100]), &["lv_edv_ml"], rows);
        let (truth, matched) = Truth::of(&t, &ids(&["a", "b", "x", "c", "d"])).unwrap();
        assert_eq!(
            (matched.records.as_slice(), matched.without_row, matched.without_record),
            ([0, 1, 3, 4].as_slice(), 1, 0)
        );
        let truth = truth.scaled(&[0, 1]).unwrap();
        assert_eq!(truth.statistics, [(12.0, 2.0)]);
        assert_eq!((truth.row(0), truth.row(3)), ([-1.0].as_slice(), [44.0].as_slice()));
        assert!(truth.row(2)[0].is_nan() && truth.row(4)[0].is_nan());
    }

    #[test]
    fn what_cannot_be_learnt_is_named() {
        let rows: &[(&str, &[f64])] = &[("a", &[1.0]), ("b", &[1.0]), ("c", &[0.0])];
        let participants = ids(&["a", "b", "c"]);
        let message = |meaning, train: &[usize]| {
            let t = targets(meaning, &["x"], rows);
            Truth::of(&t, &participants).unwrap().0.scaled(train).unwrap_err().to_string()
        };
        assert!(message(Meaning::Phenotypes(vec![24100]), &[0, 1]).contains("field x: expected values that differ"));
        assert!(message(Meaning::Questions, &[0, 1]).contains("found 0 times 0 and 2 times 1"));
        let t = targets(Meaning::Questions, &["x"], rows);
        assert!(Truth::of(&t, &ids(&["z"])).unwrap_err().to_string().contains("no clip has a row"));
    }

    #[test]
    fn balanced_weights_make_answers_equal_and_strata_hold_everyone_once() {
        let rows: &[(&str, &[f64])] =
            &[("a", &[1.0, 0.0]), ("b", &[0.0, 0.0]), ("c", &[0.0, 1.0]), ("d", &[0.0, f64::NAN])];
        let t = targets(Meaning::Questions, &["x", "y"], rows);
        let truth = Truth::of(&t, &ids(&["a", "b", "c", "d"])).unwrap().0;
        let all = [0, 1, 2, 3];
        assert_eq!(truth.weights(&all, true), [[4.0 / 6.0, 2.0], [0.75, 1.5]]);
        assert_eq!(truth.weights(&all, false), [[1.0, 1.0], [1.0, 1.0]]);
        let mut held: Vec<usize> = truth.strata(&all).concat();
        held.sort_unstable();
        assert_eq!(held, all);
    }
}
