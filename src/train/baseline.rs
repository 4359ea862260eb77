//! What the network on clips is compared with: linear rules, and a small head on numbers.
//!
//! ```text
//! ridge: W = argmin |X W - Y|^2 + l |W|^2, X standardised by the training records, l by R2 on the validation records
//! head:  y = W2 gelu(W1 x + b1) + b2, trained as the network is
//! ```
//!
//! Answers and classes are ridge's to predict as 0 and 1; its numbers, of answers less one half, are then scaled like logits.

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use rayon::prelude::*;

use super::input::Rows;
use super::learn::Forward;
use super::truth::{Question, Truth};
use super::Split;
use crate::metric::regression;
use crate::model::layers::{gelu, linear, xavier, Linear};

/// Strengths l that are tried, in units of the mean square of a row.
const STRENGTHS: [f64; 8] = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4];
/// Rows of a factor that are worth a thread.
const ROWS: usize = 32;
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

/// Rows that a rule is fitted to, with mean 0, and their products: of rows or of columns, whichever are fewer.
struct Fit {
    middle: Vec<f64>,
    x: Vec<Vec<f64>>,
    products: Vec<f64>,
}

impl Fit {
    fn new(rows: &Rows, train: &[usize]) -> Fit {
        let n = train.len().max(1) as f64;
        let mut x: Vec<Vec<f64>> =
            train.iter().map(|i| row(rows, *i).iter().map(|v| f64::from(*v)).collect()).collect();
        let middle: Vec<f64> = sum(&x, &vec![1.0; x.len()], rows.width()).iter().map(|s| s / n).collect();
        x.iter_mut().for_each(|row| row.iter_mut().zip(&middle).for_each(|(v, m)| *v -= m));
        let columns: Vec<Vec<f64>>;
        let few = if x.len() <= rows.width() {
            &x
        } else {
            columns = (0..rows.width()).map(|j| x.iter().filter_map(|row| row.get(j)).copied().collect()).collect();
            &columns
        };
        let line = |a: &Vec<f64>| -> Vec<f64> { few.iter().map(|b| dot(a, b)).collect() };
        let products = few.par_iter().map(line).collect::<Vec<_>>().concat();
        Fit { middle, x, products }
    }

    /// Unknowns of the equations.
    fn size(&self) -> usize {
        self.x.len().min(self.middle.len())
    }

    /// Mean square of a row: the trace of either products, divided by the rows.
    fn scale(&self) -> f64 {
        let trace: f64 = self.products.iter().step_by(self.size() + 1).sum();
        (trace / self.x.len().max(1) as f64).max(1e-12)
    }

    /// The rule W for y with mean 0: X' (X X' + l I)^-1 y = (X' X + l I)^-1 X' y.
    fn rule(&self, factor: &[f64], y: &[f64]) -> Vec<f64> {
        let width = self.middle.len();
        if self.x.len() <= width {
            return sum(&self.x, &solve(factor, y), width);
        }
        solve(factor, &sum(&self.x, y, width))
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The sum of rows, each times its own number.
fn sum(rows: &[Vec<f64>], times: &[f64], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for (row, a) in rows.iter().zip(times) {
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += a * v);
    }
    sum
}

fn row(rows: &Rows, i: usize) -> &[f32] {
    rows.values().get(i).map_or(&[], Vec::as_slice)
}

/// The predictions of some outputs for all records.
fn fitted(rows: &Rows, truth: &Truth, train: &[usize], validation: &[usize], outputs: &[usize]) -> Vec<Vec<f64>> {
    let fit = Fit::new(rows, train);
    let predict = |mean: f64, w: &[f64], i: usize| {
        let x = row(rows, i).iter().zip(&fit.middle).map(|(x, m)| f64::from(*x) - m);
        mean + x.zip(w).map(|(x, w)| x * w).sum::<f64>()
    };
    let mean = |k: usize| train.iter().map(|i| truth.answer(*i, k)).sum::<f64>() / train.len().max(1) as f64;
    let mut best = vec![(f64::NEG_INFINITY, Vec::new()); outputs.len()]; // score on the validation records, and rule
    for strength in STRENGTHS {
        let Some(factor) = factor(&fit.products, fit.size(), strength * fit.scale()) else { continue };
        outputs.par_iter().zip(&mut best).for_each(|(k, best)| {
            let mean = mean(*k);
            let y: Vec<f64> = train.iter().map(|i| truth.answer(*i, *k) - mean).collect();
            let w = fit.rule(&factor, &y);
            let (truths, found): (Vec<f64>, Vec<f64>) =
                known(truth, validation, *k).into_iter().map(|i| (truth.answer(i, *k), predict(mean, &w, i))).unzip();
            let score = Some(regression::r2(&truths, &found)).filter(|r2| r2.is_finite()).unwrap_or(f64::MIN);
            if score >= best.0 {
                *best = (score, w);
            }
        });
    }
    let border = if truth.question == Question::Answers { 0.5 } else { 0.0 };
    let of = |(k, (_, w)): (&usize, &(f64, Vec<f64>))| {
        let mean = mean(*k);
        (0..rows.values().len()).map(|i| predict(mean, w, i) - border).collect()
    };
    outputs.par_iter().zip(&best).map(of).collect()
}

/// The lower factor of Cholesky of K + l I, n x n, in the lower half of the result; none where that is not positive.
fn factor(products: &[f64], n: usize, l: f64) -> Option<Vec<f64>> {
    let mut factor = products.to_vec();
    for j in 0..n {
        let (done, below) = factor.split_at_mut((j + 1) * n);
        let row = done.get_mut(j * n..j * n + j + 1)?;
        let left = row[j] + l - dot(&row[..j], &row[..j]);
        if left <= 0.0 || !left.is_finite() {
            return None;
        }
        row[j] = left.sqrt();
        let row = &*row;
        below
            .par_chunks_mut(n)
            .with_min_len(ROWS)
            .for_each(|other| other[j] = (other[j] - dot(&row[..j], other)) / row[j]);
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
    fn more_records_than_numbers_or_fewer_give_the_same_rule() {
        let mut stream = Stream::new("ridge sizes", 0, "", 0);
        let rows: Vec<Vec<f32>> = (0..60).map(|_| (0..5).map(|_| stream.normal() as f32).collect()).collect();
        let wide = rows.iter().map(|row| [row.as_slice(), &[0.0; 80]].concat()).collect(); // 80 that say nothing
        let ids: Vec<String> = (0..60).map(|i| format!("p{i}")).collect();
        let unknown = |i: usize, v: f64| if i.is_multiple_of(9) { f64::NAN } else { f64::from(u8::from(v > 0.3)) };
        let values = rows.iter().enumerate().map(|(i, row)| vec![unknown(i, f64::from(row[1]))]).collect();
        let (meaning, labels) = (Meaning::Questions, vec!["a".to_owned()]);
        let targets = Targets { meaning, labels, ids: ids.clone(), values, unused: Vec::new() };
        let split = Split { train: (0..40).collect(), validation: (40..50).collect() };
        let truth = Truth::of(&targets, &ids).unwrap().0.scaled(&split.train).unwrap();
        let few = ridge(&Rows::new(ids.clone(), rows.clone()), &truth, &split);
        let many = ridge(&Rows::new(ids, wide), &truth, &split);
        assert!(few.iter().zip(&many).all(|(a, b)| (a[0] - b[0]).abs() < 1e-6), "{few:?} {many:?}");
        let is_said = |i: &usize| (few[*i][0] > 0.0) == (rows[*i][1] > 0.3);
        assert!((50..60).filter(is_said).count() >= 8, "above one half is yes: {few:?}");
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
