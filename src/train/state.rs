//! Everything that is needed to go on, in one file.
//!
//! | tensors | what |
//! |---|---|
//! | `NETWORK.value.*` | the variables, running statistics included |
//! | `NETWORK.first.*`, `NETWORK.second.*` | the moments of the optimiser |
//! | `average.*` | the running average of the first network, where it is on |
//! | `best.*` | the weights of the first network that validated best |
//!
//! | texts | what |
//! |---|---|
//! | `format`, `format_version` | `ecgflow.state`, `1` |
//! | `settings` | all that the result depends on; a resume with others is refused |
//! | `data` | a fingerprint of the ids, and their number |
//! | `progress` | [`Progress`] |
//! | `provenance` | how the training was started |

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::snapshot::{self, Texts};
use super::variables::Tensors;
use crate::error::{Error, Fault, Result};

const FORMAT: &str = "ecgflow.state";
const FORMAT_VERSION: &str = "1";
const DOING: &str = "resuming a training";

/// Settings by name.
pub type Settings = Map<String, Value>;

/// How far a training is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps made.
    pub step: u64,
    /// Steps of each optimiser, by network.
    pub optimiser_steps: BTreeMap<String, u64>,
    /// The best score so far and the step after which it was found; a text, so that no digit is lost.
    pub best: Option<(String, u64)>,
    /// The last score, likewise.
    pub last: Option<(String, u64)>,
    /// Validations since the best.
    #[serde(default)]
    pub stale: u64,
}

/// A state in memory.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// How far the training is.
    pub progress: Progress,
    /// All that the result depends on.
    pub settings: Settings,
    /// Fingerprint of the data.
    pub data: String,
    /// How the training was started, JSON.
    pub provenance: String,
    /// Its tensors.
    pub tensors: Tensors,
}

/// A fingerprint of ids in their order, and their number.
pub fn fingerprint(ids: &[String]) -> String {
    let mut hash = Sha256::new();
    for id in ids {
        hash.update((id.len() as u64).to_le_bytes());
        hash.update(id.as_bytes());
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} records, sha256:{digits}", ids.len())
}

/// Settings inside settings under dotted names, so that a message can name one.
pub fn flat(settings: Settings) -> Settings {
    let mut all = Settings::new();
    for (name, value) in settings {
        match value {
            Value::Object(inner) => {
                all.extend(flat(inner).into_iter().map(|(inner, value)| (format!("{name}.{inner}"), value)));
            }
            value => {
                all.insert(name, value);
            }
        }
    }
    all
}

impl State {
    /// Writes it.
    ///
    /// # Errors
    /// Where the stream cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let json = |text: serde_json::Result<String>| text.map_err(Error::compute("writing JSON"));
        let texts = [
            ("format", FORMAT.to_owned()),
            ("format_version", FORMAT_VERSION.to_owned()),
            ("settings", json(serde_json::to_string(&self.settings))?),
            ("data", self.data.clone()),
            ("progress", json(serde_json::to_string(&self.progress))?),
            ("provenance", self.provenance.clone()),
        ];
        let texts = texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        snapshot::write(out, &texts, &self.tensors)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where it is no state of ours.
    pub fn read(from: &mut dyn Read) -> Result<State> {
        let (texts, tensors) = snapshot::read(from)?;
        let found = (text(&texts, "format")?, text(&texts, "format_version")?);
        if found != (FORMAT, FORMAT_VERSION) {
            let expected = format!("{FORMAT} version {FORMAT_VERSION}");
            let found = format!("{} version {}", found.0, found.1);
            return Err(Fault::new(DOING, "").expected(expected, found).into());
        }
        Ok(State {
            progress: json(&texts, "progress")?,
            settings: json(&texts, "settings")?,
            data: text(&texts, "data")?.to_owned(),
            provenance: text(&texts, "provenance")?.to_owned(),
            tensors,
        })
    }

    /// Refuses to go on with other settings or other data than the training was started with.
    ///
    /// # Errors
    /// Names the first that differs.
    pub fn check(&self, settings: &Settings, data: &str) -> Result<()> {
        let hint = "give what the training was started with, or another --state to start afresh";
        let shown = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
        let names: std::collections::BTreeSet<&String> = self.settings.keys().chain(settings.keys()).collect();
        if let Some(name) = names.into_iter().find(|name| self.settings.get(*name) != settings.get(*name)) {
            let fault = Fault::new(DOING, "the settings differ").field(name);
            let (expected, found) = (shown(self.settings.get(name)), shown(settings.get(name)));
            return Err(fault.expected(expected, found).hint(hint).into());
        }
        if self.data != data {
            return Err(Fault::new(DOING, "the data differ").expected(&self.data, data).hint(hint).into());
        }
        Ok(())
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn part(&self, prefix: &str) -> Tensors {
        let of = |(name, tensor): (&String, &candle_core::Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        };
        self.tensors.iter().filter_map(of).collect()
    }

    /// Adds tensors under a prefix.
    pub fn add(&mut self, prefix: &str, tensors: Tensors) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }
}

fn text<'a>(texts: &'a Texts, name: &str) -> Result<&'a str> {
    let text = texts.get(name).map(String::as_str);
    text.ok_or_else(|| Fault::new(DOING, "not a state of a training").field(name).expected("a text", "none").into())
}

fn json<T: serde::de::DeserializeOwned>(texts: &Texts, name: &str) -> Result<T> {
    let value = serde_json::from_str(text(texts, name)?);
    value.map_err(|error| Fault::new(DOING, error.to_string()).field(name).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: Value) -> Settings {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn another_setting_or_other_data_are_named() {
        let ids = ["a".to_owned(), "b".to_owned()];
        let state = State {
            settings: settings(json!({"batch": 4, "rate": 1e-4})),
            data: fingerprint(&ids),
            ..State::default()
        };
        state.check(&settings(json!({"rate": 1e-4, "batch": 4})), &fingerprint(&ids)).unwrap();
        let error = state.check(&settings(json!({"rate": 1e-4, "batch": 8})), &fingerprint(&ids)).unwrap_err();
        assert_eq!(error.to_string(), "resuming a training: field batch: the settings differ (expected 4, found 8)");
        let error = state.check(&state.settings, &fingerprint(&ids[..1])).unwrap_err().to_string();
        assert!(error.contains("2 records") && error.contains("1 records"), "{error}");
        assert_ne!(fingerprint(&["ab".into(), "c".into()]), fingerprint(&["a".into(), "bc".into()]));
    }

    #[test]
    fn settings_inside_settings_get_names_of_their_own() {
        let all = flat(settings(json!({"plan": {"schedule": {"peak": 1}, "batch": 2}, "x": [3]})));
        assert_eq!(Value::from(all), json!({"plan.batch": 2, "plan.schedule.peak": 1, "x": [3]}));
    }

    #[test]
    fn a_state_survives_writing_and_reading() {
        let best = Some((0.1f64.to_string(), 7));
        let progress = Progress { step: 9, best, ..Progress::default() };
        let state = State { progress, provenance: "{}".into(), ..State::default() };
        let mut bytes = Vec::new();
        state.write(&mut bytes).unwrap();
        let again = State::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(again.progress, state.progress);
    }
}
