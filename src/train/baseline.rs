//! What the network on clips is compared with: linear rules, and a small head on numbers.
//!
//! ```text
//! ridge: W = argmin |X W - Y|^2 + l |W|^2, X standardised by the training records, l chosen on the validation records
//! head:  y = W2 gelu(W1 x + b1) + b2, trained as the network is
//! ```
//!
//! Answers and classes are ridge's to predict as 0 and 1; its numbers are then scaled like logits.

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use rayon::prelude::*;

use super::input::Rows;
use super::learn::Forward;
use super::truth::Truth;
use super::Split;
use crate::metric::{classification::auc, regression};
use crate::model::layers::{gelu, linear, xavier, Linear};
use crate::train::truth::Question;

/// Strengths l that are tried, in units of the mean square of a row.
const STRENGTHS: [f64; 8] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4];
/// Units between the inputs of the small head and its outputs.
const UNITS: usize = 64;

/// Two layers on rows of numbers.
#[derive(Debug, Clone)]
pub struct Head {
    first: Linear,
    second: Linear,
}

impl Head {
    /// Reads `head.0` and `head.2`.
    ///
    /// # Errors
    /// Where a tensor is missing.
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> candle_core::Result<Head> {
        let first = linear(inputs, UNITS, xavier(inputs, UNITS), vb.pp("head.0"))?;
        Ok(Head { first, second: linear(UNITS, outputs, xavier(UNITS, outputs), vb.pp("head.2"))? })
    }
}

impl Forward for Head {
    fn outputs(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.second.forward(&gelu(&self.first.forward(x)?)?)
    }
}

/// Outputs of ridge regression for all records: z-scores, or numbers that serve as logits.
pub fn ridge(rows: &Rows, truth: &Truth, split: &Split) -> Vec<Vec<f32>> {
    let rows = rows.standardised(&split.train);
    let mut alike: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new(); // outputs that are known of the same records
    for k in 0..truth.outputs() {
        alike.entry(known(truth, &split.train, k)).or_default().push(k);
    }
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); truth.outputs()];
    for (train, outputs) in alike {
        for (k, column) in outputs.iter().zip(fitted(&rows, truth, &train, &split.validation, &outputs)) {
            if let Some(place) = columns.get_mut(*k) {
                *place = column;
            }
        }
    }
    (0..rows.values().len()).map(|i| columns.iter().map(|c| c.get(i).map_or(0.0, |v| *v as f32)).collect()).collect()
}

/// The records of which output `k` is known.
fn known(truth: &Truth, records: &[usize], k: usize) -> Vec<usize> {
    records.iter().copied().filter(|i| truth.answer(*i, k).is_finite()).collect()
}

/// Products of all pairs of rows: there are fewer records than numbers of a clip, so as many unknowns as records.
fn products(rows: &Rows, train: &[usize]) -> Vec<f64> {
    let n = train.len();
    let x: Vec<Vec<f64>> = train.iter().map(|i| row(rows, *i).iter().map(|v| f64::from(*v)).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(p, q)| p * q).sum::<f64>();
    let lines: Vec<Vec<f64>> = x.par_iter().map(|a| x.iter().map(|b| dot(a, b)).collect()).collect();
    debug_assert_eq!(lines.len(), n);
    lines.concat()
}

fn row(rows: &Rows, i: usize) -> &[f32] {
    rows.values().get(i).map_or(&[], Vec::as_slice)
}

/// The predictions of some outputs for all records.
fn fitted(rows: &Rows, truth: &Truth, train: &[usize], validation: &[usize], outputs: &[usize]) -> Vec<Vec<f64>> {
    let n = train.len();
    let kernel = products(rows, train);
    let scale = (0..n).map(|a| kernel.get(a * n + a).copied().unwrap_or(0.0)).sum::<f64>() / n.max(1) as f64;
    let factors: Vec<Option<Vec<f64>>> =
        STRENGTHS.par_iter().map(|strength| factor(&kernel, n, strength * scale.max(1e-12))).collect();
    let one = |k: &usize| {
        let mean = train.iter().map(|i| truth.answer(*i, *k)).sum::<f64>() / n.max(1) as f64;
        let y: Vec<f64> = train.iter().map(|i| truth.answer(*i, *k) - mean).collect();
        let judged = known(truth, validation, *k);
        let truths: Vec<f64> = judged.iter().map(|i| truth.answer(*i, *k)).collect();
        let predict =
            |w: &[f64], i: usize| mean + row(rows, i).iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>();
        let rules = factors.iter().flatten().map(|factor| {
            let mut w = vec![0.0; rows.width()];
            for (i, a) in train.iter().zip(solve(factor, &y)) {
                w.iter_mut().zip(row(rows, *i)).for_each(|(w, x)| *w += a * f64::from(*x));
            }
            let found: Vec<f64> = judged.iter().map(|i| predict(&w, *i)).collect();
            let score = match truth.question {
                Question::Numbers => regression::r2(&truths, &found),
                _ => auc(&truths.iter().map(|v| *v > 0.5).collect::<Vec<bool>>(), &found),
            };
            (if score.is_finite() { score } else { f64::MIN }, w)
        });
        let best = rules.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, w)| w).unwrap_or_default();
        (0..rows.values().len()).map(|i| predict(&best, i)).collect()
    };
    outputs.par_iter().map(one).collect()
}

/// The lower factor of Cholesky of K + l I, n x n; none where that is not positive.
fn factor(kernel: &[f64], n: usize, l: f64) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        let (done, rest) = factor.split_at_mut(i * n);
        let row = rest.get_mut(..n)?;
        for j in 0..i {
            let other = done.get(j * n..j * n + j + 1)?;
            let sum: f64 = row.iter().zip(other).take(j).map(|(a, b)| a * b).sum();
            row[j] = (kernel.get(i * n + j)? - sum) / other[j];
        }
        let left = kernel.get(i * n + i)? + l - row.iter().take(i).map(|a| a * a).sum::<f64>();
        if left <= 0.0 || !left.is_finite() {
            return None;
        }
        row[i] = left.sqrt();
    }
    Some(factor)
}

/// Solves L L' a = y.
fn solve(factor: &[f64], y: &[f64]) -> Vec<f64> {
    let (n, mut a) = (y.len(), y.to_vec());
    for i in 0..n {
        let row = &factor[i * n..i * n + i + 1];
        let sum: f64 = row.iter().zip(&a).take(i).map(|(f, a)| f * a).sum();
        a[i] = (a[i] - sum) / row[i];
    }
    for i in (0..n).rev() {
        let row = &factor[i * n..i * n + i + 1];
        a[i] /= row[i];
        let value = a[i];
        a.iter_mut().zip(row).take(i).for_each(|(a, f)| *a -= f * value);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::target::{Meaning, Targets};
    use crate::random::Stream;

    #[test]
    fn cholesky_solves_by_hand() {
        // (4 2; 2 3) + 1 I = (5 2; 2 4): a = (5 2; 2 4)^-1 (9, 8) = (20, 22) / 16.
        let a = solve(&factor(&[4.0, 2.0, 2.0, 3.0], 2, 1.0).unwrap(), &[9.0, 8.0]);
        assert!((a[0] - 1.25).abs() < 1e-12 && (a[1] - 1.375).abs() < 1e-12, "{a:?}");
        assert!(factor(&[-4.0], 1, 1.0).is_none());
    }

    #[test]
    fn ridge_finds_a_linear_rule_and_nothing_in_noise() {
        let mut stream = Stream::new("ridge", 0, "", 0);
        let rows: Vec<Vec<f32>> = (0..200).map(|_| (0..10).map(|_| stream.normal() as f32).collect()).collect();
        let rule = |row: &Vec<f32>| 50.0 + 3.0 * f64::from(row[0]) - 2.0 * f64::from(row[4]);
        let values = rows.iter().map(|row| vec![rule(row) + 0.1 * stream.normal(), stream.normal()]).collect();
        let ids: Vec<String> = (0..200).map(|i| format!("p{i}")).collect();
        let labels = ["a", "b"].map(str::to_owned).to_vec();
        let meaning = Meaning::Phenotypes(vec![24100, 24101]);
        let targets = Targets { meaning, labels, ids: ids.clone(), values, unused: Vec::new() };
        let split = Split { train: (0..100).collect(), validation: (100..150).collect() };
        let truth = Truth::of(&targets, &ids).unwrap().0.scaled(&split.train).unwrap();
        let found = ridge(&Rows::new(ids, rows), &truth, &split);
        let r2 = |k: usize| {
            let pair = |i: usize| (truth.answer(i, k), f64::from(found[i][k]));
            let (y, p): (Vec<f64>, Vec<f64>) = (150..200).map(pair).unzip();
            regression::r2(&y, &p)
        };
        assert!(r2(0) > 0.99, "{}", r2(0));
        assert!(r2(1) < 0.05, "{}", r2(1));
    }
}
