//! Which records validate, and in which order the others train: from their ids and the seed alone.

use std::collections::BTreeMap;

use crate::error::{Fault, Result};
use crate::random::Stream;

/// The records of training and of validation, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Trained on, in the order of the data.
    pub train: Vec<usize>,
    /// Validated on.
    pub validation: Vec<usize>,
}

impl Split {
    /// Each record falls into validation with probability `share`, by its own id, so that adding records moves no other.
    /// Draws and beats of one record, as this toolkit names them, always stand on the same side.
    /// Where a share above 0 chooses none, the record nearest to it is taken; one record is always left to train.
    ///
    /// # Errors
    /// Where there is no record to train on.
    pub fn new(ids: &[String], share: f64, seed: u64) -> Result<Split> {
        let mut records: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, id) in ids.iter().enumerate() {
            records.entry(recorded(id)).or_default().push(i);
        }
        if records.is_empty() {
            return Err(Fault::new("training", "").expected("at least one record", "none").into());
        }
        let draw = |(id, all): (&str, Vec<usize>)| (Stream::new("validation", seed, id, 0).uniform(), all);
        let mut drawn: Vec<(f64, Vec<usize>)> = records.into_iter().map(draw).collect();
        drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
        let least = usize::from(share > 0.0);
        let chosen = drawn.iter().filter(|(value, _)| *value <= share).count().max(least).min(drawn.len() - 1);
        let numbers = |part: &[(f64, Vec<usize>)]| {
            let mut numbers: Vec<usize> = part.iter().flat_map(|(_, all)| all.iter().copied()).collect();
            numbers.sort_unstable();
            numbers
        };
        let (validation, train) = drawn.split_at(chosen);
        Ok(Split { train: numbers(train), validation: numbers(validation) })
    }

    /// The names of the records, those who train first; an empty name between.
    pub fn names(&self, ids: &[String]) -> Vec<String> {
        let name = |i: &usize| ids.get(*i).cloned().unwrap_or_default();
        self.train.iter().map(name).chain([String::new()]).chain(self.validation.iter().map(name)).collect()
    }

    /// Steps of one epoch with `batch` records a step; the last may have fewer.
    pub fn steps(&self, batch: usize) -> u64 {
        self.train.len().div_ceil(batch.max(1)) as u64
    }

    /// The records of step `step`, from 0, and its epoch. Every epoch has an order of its own.
    pub fn batch(&self, step: u64, batch: usize, seed: u64) -> (u64, Vec<usize>) {
        let (epoch, place) = (step / self.steps(batch), step % self.steps(batch));
        let draw = u32::try_from(epoch).unwrap_or(u32::MAX);
        let order = Stream::new("order", seed, "", draw).shuffle(self.train.len());
        let chosen = order.into_iter().skip(place as usize * batch).take(batch);
        (epoch, chosen.filter_map(|i| self.train.get(i).copied()).collect())
    }
}

/// The record that an id belongs to: `p1` of `p1`, `p1.draw0` and `p1.beat2.draw0`.
pub fn recorded(id: &str) -> &str {
    let part = |kind: &str| {
        let (record, number) = id.rsplit_once(kind)?;
        (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(record)
    };
    match part(".draw").or_else(|| part(".beat")) {
        Some(record) => recorded(record),
        None => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_and_beats_of_one_record_stand_on_the_same_side() {
        assert_eq!(["p1", "p1.draw0", "p1.beat2.draw10", "a.drawn"].map(recorded), ["p1", "p1", "p1", "a.drawn"]);
        let draws: Vec<String> = (0..200).map(|i| format!("p{}.draw{}", i / 2, i % 2)).collect();
        let split = Split::new(&draws, 0.2, 0).unwrap();
        assert!(split.validation.len() > 10);
        assert!(split.validation.iter().all(|i| split.validation.contains(&(i ^ 1))));
        for seed in 0..20 {
            let split = Split::new(&draws[..4], 1e-9, seed).unwrap(); // a share that chooses none
            assert!([[0, 1], [2, 3]].contains(&split.validation[..].try_into().unwrap()), "{split:?}");
            let split = Split::new(&draws[..4], 1.0, seed).unwrap(); // and one that chooses all
            assert!([[0, 1], [2, 3]].contains(&split.train[..].try_into().unwrap()), "{split:?}");
            assert!(Split::new(&draws[..2], 0.5, seed).unwrap().validation.is_empty());
        }
    }

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("p{i}")).collect()
    }

    #[test]
    fn a_record_stays_where_it_is_when_others_are_added() {
        let (few, many) = (Split::new(&ids(200), 0.1, 3).unwrap(), Split::new(&ids(400), 0.1, 3).unwrap());
        assert!((10..=32).contains(&few.validation.len()), "{}", few.validation.len());
        let of_few: Vec<usize> = many.validation.iter().copied().filter(|i| *i < 200).collect();
        assert_eq!(of_few, few.validation);
        assert_ne!(few, Split::new(&ids(200), 0.1, 4).unwrap());
    }

    #[test]
    fn something_is_left_for_both() {
        let split = Split::new(&ids(2), 0.01, 0).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (1, 1));
        let split = Split::new(&ids(1), 0.9, 0).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (1, 0));
        assert!(Split::new(&[], 0.1, 0).is_err());
    }

    #[test]
    fn an_epoch_holds_every_record_once() {
        let split = Split::new(&ids(23), 0.0, 0).unwrap();
        let epoch = |n: u64| (0..3).flat_map(|i| split.batch(3 * n + i, 8, 7).1).collect::<Vec<usize>>();
        let (mut first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        assert_eq!(split.batch(5, 8, 7), (1, second[16..].to_vec()));
        first.sort_unstable();
        assert_eq!(first, (0..23).collect::<Vec<_>>());
    }
}
