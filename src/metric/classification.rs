//! How well probabilities tell classes apart, and whether they mean what they say.
//!
//! ```text
//! AUC         = P(score of a positive > score of a negative) + 1/2 P(they are equal)   (Mann and Whitney)
//! sensitivity = TP / (TP + FN)     specificity = TN / (TN + FP)
//! PPV         = TP / (TP + FP)     NPV         = TN / (TN + FN)
//! F1          = 2 TP / (2 TP + FP + FN)
//! Brier       = mean (p - y)^2
//! ECE         = sum over bins of n_b / n |mean p in b - share of positives in b|       (equal bins of [0, 1])
//! ```
//!
//! Two classes: `truth` says which are positive, `score` or `probability` is that of being positive. K classes: `truth`
//! holds class numbers from 0, probabilities stand row by row, K a record. What is not defined (a class that does not
//! occur, a quotient by zero) is NaN.

/// Bins of the calibration error.
pub const BINS: usize = 10;

/// Area under the receiver operating characteristic; ties count one half; NaN where one class is missing.
///
/// ```
/// use ecgflow::metric::classification::auc;
/// assert_eq!(auc(&[false, false, true, true], &[0.1, 0.4, 0.35, 0.8]), 0.75);
/// assert_eq!(auc(&[false, true], &[0.5, 0.5]), 0.5);
/// ```
pub fn auc(truth: &[bool], score: &[f64]) -> f64 {
    let (mut area, mut positives, mut negatives) = (0.0, 0.0, 0.0);
    for [up, down] in steps(truth, score) {
        area += down * (positives + up / 2.0);
        positives += up;
        negatives += down;
    }
    area / (positives * negatives)
}

/// Positives and negatives at each score, from the highest score to the lowest.
fn steps(truth: &[bool], score: &[f64]) -> Vec<[f64; 2]> {
    let mut order: Vec<(f64, bool)> = score.iter().copied().zip(truth.iter().copied()).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = |group: &[(f64, bool)], class| group.iter().filter(|(_, is)| *is == class).count() as f64;
    order.chunk_by(|a, b| a.0 == b.0).map(|group| [count(group, true), count(group, false)]).collect()
}

/// The corners of the receiver operating characteristic, (1 - specificity, sensitivity) from (0, 0) to (1, 1).
///
/// ```
/// use ecgflow::metric::classification::roc;
/// assert_eq!(roc(&[false, true, true], &[0.5, 0.5, 0.9]), [[0.0, 0.0], [0.0, 0.5], [1.0, 1.0]]);
/// ```
pub fn roc(truth: &[bool], score: &[f64]) -> Vec<[f64; 2]> {
    let steps = steps(truth, score);
    let total = steps.iter().fold([0.0, 0.0], |sum, [up, down]| [sum[0] + up, sum[1] + down]);
    let mut at = [0.0, 0.0];
    let corner = |[up, down]: &[f64; 2]| {
        at = [at[0] + up, at[1] + down];
        [at[1] / total[1], at[0] / total[0]]
    };
    std::iter::once([0.0, 0.0]).chain(steps.iter().map(corner)).collect()
}

/// True and false positives and negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub true_positive: usize,
    pub false_positive: usize,
    pub true_negative: usize,
    pub false_negative: usize,
}

impl Counts {
    /// The counts where probabilities of `threshold` and more mean positive.
    pub fn at(threshold: f64, truth: &[bool], probability: &[f64]) -> Counts {
        let called: Vec<bool> = probability.iter().map(|p| *p >= threshold).collect();
        Counts::of(truth, &called)
    }

    /// The counts of decisions.
    ///
    /// ```
    /// use ecgflow::metric::classification::Counts;
    /// let counts = Counts::of(&[true, true, true, false], &[true, true, false, false]);
    /// assert_eq!([counts.accuracy(), counts.specificity(), counts.ppv(), counts.npv()], [0.75, 1.0, 1.0, 0.5]);
    /// assert!((counts.f1() - 0.8).abs() < 1e-12 && (counts.sensitivity() - 2.0 / 3.0).abs() < 1e-12);
    /// ```
    pub fn of(truth: &[bool], called: &[bool]) -> Counts {
        let mut counts = Counts::default();
        for pair in truth.iter().zip(called) {
            match pair {
                (true, true) => counts.true_positive += 1,
                (false, true) => counts.false_positive += 1,
                (false, false) => counts.true_negative += 1,
                (true, false) => counts.false_negative += 1,
            }
        }
        counts
    }

    /// Share of right decisions.
    pub fn accuracy(&self) -> f64 {
        let right = self.true_positive + self.true_negative;
        ratio(right, right + self.false_positive + self.false_negative)
    }

    /// Share of the positives that are called so.
    pub fn sensitivity(&self) -> f64 {
        ratio(self.true_positive, self.true_positive + self.false_negative)
    }

    /// Share of the negatives that are called so.
    pub fn specificity(&self) -> f64 {
        ratio(self.true_negative, self.true_negative + self.false_positive)
    }

    /// Positive predictive value: share of those called positive that are.
    pub fn ppv(&self) -> f64 {
        ratio(self.true_positive, self.true_positive + self.false_positive)
    }

    /// Negative predictive value: share of those called negative that are.
    pub fn npv(&self) -> f64 {
        ratio(self.true_negative, self.true_negative + self.false_negative)
    }

    /// Harmonic mean of sensitivity and positive predictive value.
    pub fn f1(&self) -> f64 {
        let twice = 2 * self.true_positive;
        ratio(twice, twice + self.false_positive + self.false_negative)
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Mean squared difference of probability and truth.
///
/// ```
/// use ecgflow::metric::classification::brier;
/// assert!((brier(&[true, false], &[0.9, 0.2]) - 0.025).abs() < 1e-12);
/// ```
pub fn brier(truth: &[bool], probability: &[f64]) -> f64 {
    let sum: f64 = truth.iter().zip(probability).map(|(y, p)| (p - f64::from(*y)).powi(2)).sum();
    sum / truth.len().min(probability.len()) as f64
}

/// One bin of a calibration curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Records in the bin, at least 1.
    pub n: usize,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of them that is positive.
    pub observed: f64,
}

/// The calibration curve: [0, 1] in `bins` equal bins, those that are empty left out; a probability on a border belongs to
/// the bin above it, 1 to the last.
pub fn calibration(truth: &[bool], probability: &[f64], bins: usize) -> Vec<Bin> {
    let mut sums = vec![(0usize, 0.0, 0usize); bins];
    for (y, p) in truth.iter().zip(probability) {
        let place = ((p * bins as f64) as usize).min(bins.saturating_sub(1));
        if let Some((n, sum, positives)) = sums.get_mut(place) {
            *n += 1;
            *sum += p;
            *positives += usize::from(*y);
        }
    }
    let bin = |(n, sum, positives)| Bin { n, predicted: sum / n as f64, observed: positives as f64 / n as f64 };
    sums.into_iter().filter(|(n, ..)| *n > 0).map(bin).collect()
}

/// Expected calibration error over `bins` equal bins.
///
/// ```
/// use ecgflow::metric::classification::ece;
/// // Two in one bin: mean probability 0.62, half of them positive. One in another: 0.9, positive.
/// let error = ece(&[true, false, true], &[0.61, 0.63, 0.9], 10);
/// assert!((error - (2.0 * 0.12 + 0.1) / 3.0).abs() < 1e-12);
/// ```
pub fn ece(truth: &[bool], probability: &[f64], bins: usize) -> f64 {
    let curve = calibration(truth, probability, bins);
    let n: usize = curve.iter().map(|bin| bin.n).sum();
    curve.iter().map(|bin| bin.n as f64 * (bin.predicted - bin.observed).abs()).sum::<f64>() / n as f64
}

/// The number of the highest probability of each record, the first of equal ones.
///
/// ```
/// use ecgflow::metric::classification::decide;
/// assert_eq!(decide(&[0.2, 0.5, 0.3, 0.6, 0.2, 0.2], 3), [1, 0]);
/// ```
pub fn decide(probability: &[f64], classes: usize) -> Vec<usize> {
    let highest = |row: &[f64]| (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
    probability.chunks_exact(classes.max(1)).map(highest).collect()
}

/// Share of equal class numbers.
pub fn accuracy(truth: &[usize], called: &[usize]) -> f64 {
    ratio(truth.iter().zip(called).filter(|(a, b)| a == b).count(), truth.len().min(called.len()))
}

/// How many records of each true class (row) were called each class (column); numbers of `classes` and more are left out.
///
/// ```
/// use ecgflow::metric::classification::confusion;
/// assert_eq!(confusion(&[0, 0, 1, 1], &[0, 1, 1, 1], 2), [[1, 1], [0, 2]]);
/// ```
pub fn confusion(truth: &[usize], called: &[usize], classes: usize) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; classes]; classes];
    for (t, c) in truth.iter().zip(called) {
        if let Some(cell) = table.get_mut(*t).and_then(|row| row.get_mut(*c)) {
            *cell += 1;
        }
    }
    table
}

/// One class against the rest: which records are of it, and its probabilities.
pub fn one_against_rest(truth: &[usize], probability: &[f64], classes: usize, class: usize) -> (Vec<bool>, Vec<f64>) {
    let is = truth.iter().map(|t| *t == class).collect();
    (is, probability.chunks_exact(classes.max(1)).filter_map(|row| row.get(class).copied()).collect())
}

/// Mean over the classes of the AUC of one against the rest; NaN where a class does not occur.
///
/// ```
/// use ecgflow::metric::classification::macro_auc;
/// let probability = [0.8, 0.1, 0.1, 0.2, 0.7, 0.1, 0.3, 0.3, 0.4];
/// assert_eq!(macro_auc(&[0, 1, 2], &probability, 3), 1.0);
/// ```
pub fn macro_auc(truth: &[usize], probability: &[f64], classes: usize) -> f64 {
    over_classes(classes, |class| {
        let (truth, score) = one_against_rest(truth, probability, classes, class);
        auc(&truth, &score)
    })
}

/// Mean over the classes of a score of the decisions, one class against the rest.
///
/// ```
/// use ecgflow::metric::classification::{macro_counts, Counts};
/// assert_eq!(macro_counts(&[0, 0, 1, 1], &[0, 1, 1, 1], 2, Counts::sensitivity), 0.75);
/// ```
pub fn macro_counts(truth: &[usize], called: &[usize], classes: usize, score: impl Fn(&Counts) -> f64) -> f64 {
    over_classes(classes, |class| {
        let is = |numbers: &[usize]| numbers.iter().map(|t| *t == class).collect::<Vec<bool>>();
        score(&Counts::of(&is(truth), &is(called)))
    })
}

fn over_classes(classes: usize, score: impl Fn(usize) -> f64) -> f64 {
    (0..classes).map(score).sum::<f64>() / classes as f64
}

/// Mean over the records of the squared differences of all K probabilities from the truth (Brier 1950): for two classes
/// twice [`brier`].
pub fn brier_of_classes(truth: &[usize], probability: &[f64], classes: usize) -> f64 {
    let rows = probability.chunks_exact(classes.max(1));
    let of = |(truth, row): (&usize, &[f64])| -> f64 {
        row.iter().enumerate().map(|(class, p)| (p - f64::from(class == *truth)).powi(2)).sum()
    };
    truth.iter().zip(rows).map(of).sum::<f64>() / truth.len() as f64
}

/// Expected calibration error of the highest probability: whether decisions are right as often as it says.
pub fn ece_of_classes(truth: &[usize], probability: &[f64], classes: usize, bins: usize) -> f64 {
    let called = decide(probability, classes);
    let right: Vec<bool> = truth.iter().zip(&called).map(|(a, b)| a == b).collect();
    let rows = probability.chunks_exact(classes.max(1));
    let highest: Vec<f64> = rows.map(|row| row.iter().copied().fold(0.0, f64::max)).collect();
    ece(&right, &highest, bins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_alone_has_no_area() {
        assert!(auc(&[true, true], &[0.1, 0.9]).is_nan());
        assert!(auc(&[], &[]).is_nan());
        assert!(macro_auc(&[0, 1], &[0.9, 0.1, 0.0, 0.1, 0.8, 0.1], 3).is_nan());
    }

    #[test]
    fn the_area_under_the_corners_is_the_area() {
        let truth = [true, false, true, true, false, false, true, false];
        let score = [0.9, 0.8, 0.8, 0.6, 0.6, 0.5, 0.3, 0.1];
        let corners = roc(&truth, &score);
        let trapezes = corners.windows(2).map(|w| (w[1][0] - w[0][0]) * (w[1][1] + w[0][1]) / 2.0);
        assert!((trapezes.sum::<f64>() - auc(&truth, &score)).abs() < 1e-12);
        assert_eq!(corners.last(), Some(&[1.0, 1.0]));
    }

    #[test]
    fn borders_of_bins_belong_to_the_bin_above() {
        let bins = calibration(&[true, false, true], &[0.5, 0.49, 1.0], 2);
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn undefined_quotients_are_not_numbers() {
        let none = Counts::of(&[false], &[false]);
        assert!(none.sensitivity().is_nan() && none.ppv().is_nan() && none.f1().is_nan());
        assert_eq!([none.specificity(), none.npv()], [1.0, 1.0]);
    }
}
