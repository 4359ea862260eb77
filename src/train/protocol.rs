//! Who trains, validates and is tested: the folds of a cross-validation, by participant.
//!
//! Each of the k parts is the test of one fold, the next part validates there, the others train. Parts are dealt within
//! strata (the same answers, or a quarter of the first phenotype), in an order drawn from the seed. The test part of a fold
//! chooses nothing in it: no statistic, no weight, no stopping time, no threshold.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::split::{recorded, Split};
use crate::error::{Fault, Result};
use crate::random::Stream;

const FORMAT: &str = "ecgflow.protocol";
const DOING: &str = "reading a protocol";
/// Fewest parts: one to train on, one to validate, one to test.
pub const FEWEST: usize = 3;

/// The participants of one fold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fold {
    /// Those who train.
    pub train: Vec<String>,
    /// Those who validate.
    pub validation: Vec<String>,
    /// Those who are tested.
    pub test: Vec<String>,
}

/// All folds, as they are kept in a JSON file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    format: String,
    format_version: u32,
    /// Seed of the deal and of the trainings.
    pub seed: u64,
    /// The folds, in order.
    pub folds: Vec<Fold>,
}

/// The records of one fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Those who train and who validate.
    pub split: Split,
    /// Those who are tested.
    pub test: Vec<usize>,
}

/// The participant of each record, from the names of what the records were made from.
pub fn participants(sources: &[String]) -> Vec<String> {
    sources.iter().map(|source| recorded(source).to_owned()).collect()
}

impl Protocol {
    /// Deals participants, given in strata, into `k` folds.
    ///
    /// # Errors
    /// Where there are fewer participants than folds, or fewer than three folds.
    pub fn deal(strata: &[Vec<String>], k: usize, seed: u64) -> Result<Protocol> {
        let all: usize = strata.iter().map(Vec::len).sum();
        if k < FEWEST || all < k {
            let fault = Fault::new("dealing folds", "").field("--folds");
            return Err(fault.expected(format!("from {FEWEST} to {all}, the participants"), k).into());
        }
        let mut parts: Vec<Vec<String>> = vec![Vec::new(); k];
        let mut next = 0; // goes on over the strata, so that the parts are of one size
        for (number, stratum) in strata.iter().enumerate() {
            let mut sorted = stratum.clone();
            sorted.sort_unstable(); // the deal depends on who, not on the order of a file
            let order = Stream::new("folds", seed, &number.to_string(), 0).shuffle(sorted.len());
            for i in order {
                if let (Some(part), Some(id)) = (parts.get_mut(next % k), sorted.get(i)) {
                    part.push(id.clone());
                }
                next += 1;
            }
        }
        let part = |i: usize| parts.get(i % k).cloned().unwrap_or_default();
        let fold = |i: usize| Fold {
            train: (2..k).flat_map(|j| part(i + j)).collect(),
            validation: part(i + 1),
            test: part(i),
        };
        let folds = (0..k).map(fold).collect();
        Ok(Protocol { format: FORMAT.to_owned(), format_version: 1, seed, folds })
    }

    /// Reads JSON and checks it.
    ///
    /// # Errors
    /// Where it is no protocol, or one participant stands in two parts of a fold or is tested twice.
    pub fn from_json(text: &str) -> Result<Protocol> {
        let read = serde_json::from_str::<Protocol>(text);
        let protocol = read.map_err(|error| Fault::new(DOING, "").expected("a protocol written by --folds", error))?;
        if (protocol.format.as_str(), protocol.format_version) != (FORMAT, 1) {
            let found = format!("{} version {}", protocol.format, protocol.format_version);
            return Err(Fault::new(DOING, "").field("format").expected(format!("{FORMAT} version 1"), found).into());
        }
        protocol.check()?;
        Ok(protocol)
    }

    /// As JSON.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(crate::error::Error::compute("writing JSON"))?;
        Ok(text + "\n")
    }

    /// Fails where a participant is in two parts of a fold, or is tested in two folds.
    fn check(&self) -> Result<()> {
        let mut tested: HashMap<&str, usize> = HashMap::new();
        for (number, fold) in self.folds.iter().enumerate() {
            let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
            for (name, part) in [("train", &fold.train), ("validation", &fold.validation), ("test", &fold.test)] {
                if part.is_empty() {
                    let fault = Fault::new(DOING, "").field(format!("fold {}, {name}", number + 1));
                    return Err(fault.expected("participants", "none").into());
                }
                for id in part {
                    // A draw or a beat is its record: p1.draw0 in train and p1 in test are the same person.
                    if let Some(before) = seen.insert(recorded(id), name) {
                        let fault = Fault::new(DOING, "a participant leaks").record(recorded(id));
                        let fault = fault.field(format!("fold {}", number + 1));
                        return Err(fault
                            .expected("each participant once in a fold", format!("{before} and {name}"))
                            .into());
                    }
                }
            }
            for id in &fold.test {
                if let Some(before) = tested.insert(recorded(id), number) {
                    let fault = Fault::new(DOING, "a participant leaks").record(recorded(id)).field("test");
                    let found = format!("folds {} and {}", before + 1, number + 1);
                    return Err(fault.expected("each participant tested in one fold", found).into());
                }
            }
        }
        if self.folds.is_empty() {
            return Err(Fault::new(DOING, "").field("folds").expected("at least one fold", "none").into());
        }
        Ok(())
    }

    /// The records of fold `i`; `participants` names that of each record, and only `records` may be used.
    ///
    /// # Errors
    /// Where the fold names someone who has no record, or a record's participant is in no part.
    pub fn part(&self, i: usize, participants: &[String], records: &[usize]) -> Result<Part> {
        let Some(fold) = self.folds.get(i) else {
            return Err(Fault::new(DOING, "")
                .field("folds")
                .expected(format!("fold {}", i + 1), self.folds.len())
                .into());
        };
        let held: HashSet<&str> = records.iter().filter_map(|r| participants.get(*r)).map(String::as_str).collect();
        let mut place: HashMap<&str, usize> = HashMap::new();
        for (part, ids) in [&fold.train, &fold.validation, &fold.test].into_iter().enumerate() {
            for id in ids {
                if !held.contains(recorded(id)) {
                    let fault = Fault::new(DOING, "").record(id).field(format!("fold {}", i + 1));
                    let fault = fault.expected("participants with a clip and a row in the table", "one without");
                    return Err(fault.hint("a protocol is for the cohort that it was made with").into());
                }
                place.insert(recorded(id), part);
            }
        }
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for record in records {
            let id = participants.get(*record).map_or("", String::as_str);
            let part = place.get(id).and_then(|part| parts.get_mut(*part));
            let fault = || {
                let fault = Fault::new(DOING, "").record(id).field(format!("fold {}", i + 1));
                fault.expected("every participant in train, validation or test", "this one in none")
            };
            part.ok_or_else(fault)?.push(*record);
        }
        let [train, validation, test] = parts;
        Ok(Part { split: Split { train, validation }, test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strata() -> Vec<Vec<String>> {
        vec![(0..40).map(|i| format!("y{i}")).collect(), (0..13).map(|i| format!("n{i}")).collect()]
    }

    #[test]
    fn everyone_is_tested_once_and_every_part_holds_every_stratum() {
        let protocol = Protocol::deal(&strata(), 5, 3).unwrap();
        protocol.check().unwrap();
        let tested: HashSet<&String> = protocol.folds.iter().flat_map(|fold| &fold.test).collect();
        assert_eq!(tested.len(), 53);
        for fold in &protocol.folds {
            assert_eq!(fold.train.len() + fold.validation.len() + fold.test.len(), 53);
            let rare = fold.test.iter().filter(|id| id.starts_with('n')).count();
            assert!((2..=3).contains(&rare) && (10..=11).contains(&fold.test.len()), "{fold:?}");
        }
        assert_eq!(protocol, Protocol::from_json(&protocol.to_json().unwrap()).unwrap());
        let mut turned = strata();
        turned[0].reverse();
        assert_eq!(protocol, Protocol::deal(&turned, 5, 3).unwrap());
        assert_ne!(protocol, Protocol::deal(&strata(), 5, 4).unwrap());
        assert!(Protocol::deal(&strata(), 2, 0).is_err() && Protocol::deal(&strata(), 54, 0).is_err());
    }

    #[test]
    fn a_participant_in_two_parts_or_two_tests_is_refused() {
        let mut protocol = Protocol::deal(&strata(), 4, 0).unwrap();
        let leaked = protocol.folds[1].test[0].clone();
        protocol.folds[1].train.push(format!("{leaked}.draw3"));
        let error = Protocol::from_json(&protocol.to_json().unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("record {leaked}, field fold 2: a participant leaks")), "{error}");
        assert!(error.contains("found train and test"), "{error}");
        let mut protocol = Protocol::deal(&strata(), 4, 0).unwrap();
        let twice = protocol.folds[0].test[0].clone();
        protocol.folds[2].train.retain(|id| *id != twice);
        protocol.folds[2].validation.retain(|id| *id != twice);
        protocol.folds[2].test.push(twice);
        let error = Protocol::from_json(&protocol.to_json().unwrap()).unwrap_err().to_string();
        assert!(error.contains("found folds 1 and 3"), "{error}");
    }

    #[test]
    fn draws_follow_their_participant_and_strangers_are_named() {
        let protocol = Protocol::deal(&[["a", "b", "c"].map(str::to_owned).to_vec()], 3, 0).unwrap();
        let people = participants(&["a", "b", "c", "a.draw1"].map(str::to_owned));
        for i in 0..3 {
            let part = protocol.part(i, &people, &[0, 1, 2, 3]).unwrap();
            assert_eq!(part.test.contains(&0), part.test.contains(&3));
        }
        assert!(protocol.part(0, &people[..2], &[0, 1]).unwrap_err().to_string().contains("record c"));
        let more = participants(&["a", "b", "c", "d"].map(str::to_owned));
        assert!(protocol.part(0, &more, &[0, 1, 2, 3]).unwrap_err().to_string().contains("record d"));
    }
}
