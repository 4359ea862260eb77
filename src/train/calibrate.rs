//! Probabilities that mean what they say, and the threshold that decides: both from the validation records.
//!
//! ```text
//! p = sigmoid(y / T) or softmax(y / T); T minimises the mean negative log likelihood         (Guo et al., ICML 2017)
//! threshold: the probability at which sensitivity + specificity is highest                   (Youden 1950)
//! ```

/// Natural logarithms of the temperatures that are looked at.
const RANGE: (f64, f64) = (-3.0, 4.0);
/// Steps of the search; each narrows the interval by the golden ratio.
const STEPS: usize = 60;

/// The place where f is smallest between two numbers, for an f with one valley.
fn smallest(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..STEPS {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if f(a) <= f(b) {
            high = b;
        } else {
            low = a;
        }
    }
    (low + high) / 2.0
}

/// ln(1 + exp(x)) without overflow.
fn soft_plus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The temperature of logits of a question: pairs of answer and logit. 1 where one answer is missing.
pub fn temperature(answers: &[(bool, f64)]) -> f64 {
    if answers.iter().all(|(yes, _)| *yes) || answers.iter().all(|(yes, _)| !yes) {
        return 1.0;
    }
    let loss = |log: f64| {
        let t = log.exp();
        answers.iter().map(|(yes, y)| soft_plus(if *yes { -y / t } else { y / t })).sum::<f64>()
    };
    smallest(RANGE.0, RANGE.1, loss).exp()
}

/// The temperature of the logits of several classes: pairs of class and logits. 1 where there is no pair.
pub fn temperature_of_classes(answers: &[(usize, Vec<f64>)]) -> f64 {
    if answers.is_empty() {
        return 1.0;
    }
    let loss = |log: f64| {
        let of = |(class, y): &(usize, Vec<f64>)| -softmax(y, log.exp()).get(*class).map_or(f64::NAN, |p| p.ln());
        answers.iter().map(of).sum::<f64>()
    };
    smallest(RANGE.0, RANGE.1, loss).exp()
}

/// softmax(y / T).
pub fn softmax(y: &[f64], temperature: f64) -> Vec<f64> {
    let top = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = y.iter().map(|v| ((v - top) / temperature).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|part| (part / sum).max(f64::MIN_POSITIVE)).collect()
}

/// sigmoid(y / T).
pub fn sigmoid(y: f64, temperature: f64) -> f64 {
    1.0 / (1.0 + (-y / temperature).exp())
}

/// The threshold of probabilities of a question: pairs of answer and probability. One half where one answer is missing.
pub fn threshold(answers: &[(bool, f64)]) -> f64 {
    let mut sorted = answers.to_vec();
    sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
    let yes = sorted.iter().filter(|(yes, _)| *yes).count() as f64;
    let no = sorted.len() as f64 - yes;
    if yes == 0.0 || no == 0.0 {
        return 0.5;
    }
    // Below each place between two different probabilities: the share of "no" minus the share of "yes".
    let (mut below, mut best) = ([0.0, 0.0], (0.0, 0.5));
    for (i, (is, p)) in sorted.iter().enumerate() {
        below[usize::from(*is)] += 1.0;
        let next = sorted.get(i + 1).map_or(f64::NAN, |(_, next)| *next);
        let gain = below[0] / no - below[1] / yes;
        if next > *p && gain > best.0 {
            best = (gain, (p + next) / 2.0);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn logits_that_are_twice_too_large_get_temperature_2() {
        let mut stream = Stream::new("calibrate", 0, "", 0);
        let answers: Vec<(bool, f64)> = (0..40_000)
            .map(|_| {
                let logit = 2.0 * stream.normal();
                (stream.uniform() < sigmoid(logit, 1.0), 2.0 * logit)
            })
            .collect();
        let found = temperature(&answers);
        assert!((found - 2.0).abs() < 0.1, "{found}");
        let classes: Vec<(usize, Vec<f64>)> =
            answers.iter().map(|(yes, y)| (usize::from(*yes), vec![0.0, *y])).collect();
        assert!((temperature_of_classes(&classes) - found).abs() < 1e-3, "two classes are a question");
        assert_eq!(temperature(&[(true, 1.0)]), 1.0);
    }

    #[test]
    fn the_threshold_lies_where_most_is_told_apart() {
        let answers = [(false, 0.1), (false, 0.2), (true, 0.15), (true, 0.4), (true, 0.6), (false, 0.3)];
        assert!((threshold(&answers) - 0.35).abs() < 1e-12);
        assert_eq!(threshold(&[(true, 0.9)]), 0.5);
        assert!((softmax(&[1.0, 1.0], 3.0)[0] - 0.5).abs() < 1e-12 && sigmoid(0.0, 2.0) == 0.5);
    }
}
