//! The nouns: plain structs with checked constructors. No files and no tensors here.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub mod cine;
pub mod consistency;
pub mod ecg;
pub mod features;
pub mod phenotype;
pub mod recording;
pub mod series;
pub mod table;
pub mod target;

/// Where an output comes from; written into every file the tools produce.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program, for example `pamae-encode`.
    pub tool: String,
    /// Its version.
    pub tool_version: String,
    /// The command line.
    pub command: String,
    /// Name and sha256 of the weights used, `NAME sha256:HEX`, where any.
    pub model: Option<String>,
    /// Seed of the random draws, where any.
    pub seed: Option<u64>,
    /// When the output was made, UTC, RFC 3339.
    pub created: String,
    /// True where the content was generated rather than acquired.
    pub synthetic: bool,
    /// The steps before this one, oldest first, each the provenance of the file it read.
    #[serde(default)]
    pub history: Vec<Provenance>,
}

impl Provenance {
    /// The provenance of a run that starts now.
    pub fn now(tool: &str, command: String) -> Self {
        Provenance {
            tool: tool.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            command,
            model: None,
            seed: None,
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            synthetic: false,
            history: Vec::new(),
        }
    }

    /// Adds the provenance of an input, its history first; a step of two inputs stands there once. What follows a
    /// synthetic input is synthetic.
    pub fn after(mut self, input: &Provenance) -> Self {
        let mut input = input.clone();
        self.synthetic |= input.synthetic;
        let mut steps = std::mem::take(&mut input.history);
        steps.push(input);
        for step in steps {
            if !self.history.contains(&step) {
                self.history.push(step);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_synthetic_input_is_synthetic() {
        let mut first = Provenance::now("a", "a x".into());
        first.synthetic = true;
        let second = Provenance::now("b", "b x".into()).after(&first);
        let third = Provenance::now("c", "c x".into()).after(&second);
        assert!(third.synthetic);
        let tools: Vec<&str> = third.history.iter().map(|p| p.tool.as_str()).collect();
        assert_eq!(tools, ["a", "b"]);
        assert!(third.history.iter().all(|p| p.history.is_empty()));
    }

    #[test]
    fn every_input_is_remembered_once() {
        let first = Provenance::now("a", "a x".into());
        let [left, right] = ["b l", "b r"].map(|command| Provenance::now("b", command.into()).after(&first));
        let joined = Provenance::now("c", "c l r".into()).after(&left).after(&right);
        let commands: Vec<&str> = joined.history.iter().map(|p| p.command.as_str()).collect();
        assert_eq!(commands, ["a x", "b l", "b r"]);
    }
}
