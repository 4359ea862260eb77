//! The one error type. Every message says what was being done, in which file, record and field, what was expected
//! and what was found, and, when the cure is known, a hint.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a piece of work stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input holds something it must not, or lacks something it must have. Exit code 1.
    #[error("{0}")]
    Input(Box<Fault>),
    /// The command line asks for something that cannot be done. Exit code 2.
    #[error("{cause}")]
    Usage {
        /// What is wrong with the command line.
        cause: String,
        /// What to write instead, when we know.
        hint: Option<String>,
    },
    /// The operating system refused. Exit code 1.
    #[error("{doing}: {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The reader of our pipe left early. Exit code 0.
    #[error("the reader of the output left early")]
    Closed,
    /// A computation failed. Exit code 1.
    #[error("{doing}: {source}")]
    Compute {
        /// What was being done.
        doing: String,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What is wrong with an input: where it stands, what was expected and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// What was being done, for example "reading WFDB header".
    pub doing: String,
    /// The file, as the user named it.
    pub file: Option<String>,
    /// The record id or its place in the file.
    pub record: Option<String>,
    /// The dataset, column, lead, tensor or attribute.
    pub field: Option<String>,
    /// What is wrong, in words; may be empty where expected and found say it all.
    pub cause: String,
    /// What should stand there.
    pub expected: Option<String>,
    /// What stands there.
    pub found: Option<String>,
    /// The cure, when known.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault met while `doing` something, with its cause in words.
    pub fn new(doing: impl Into<String>, cause: impl Into<String>) -> Self {
        Fault { doing: doing.into(), cause: cause.into(), ..Fault::default() }
    }

    /// Names the file.
    pub fn file(mut self, file: impl AsRef<Path>) -> Self {
        self.file = Some(file.as_ref().display().to_string());
        self
    }

    /// Names the record.
    pub fn record(mut self, record: impl fmt::Display) -> Self {
        self.record = Some(record.to_string());
        self
    }

    /// Names the field.
    pub fn field(mut self, field: impl fmt::Display) -> Self {
        self.field = Some(field.to_string());
        self
    }

    /// Says what should stand there and what does.
    pub fn expected(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self.found = Some(found.to_string());
        self
    }

    /// Says how to mend it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.doing)?;
        let place = [
            self.file.clone(),
            self.record.as_ref().map(|r| format!("record {r}")),
            self.field.as_ref().map(|x| format!("field {x}")),
        ];
        let place: Vec<String> = place.into_iter().flatten().collect();
        if !place.is_empty() {
            write!(f, ": {}", place.join(", "))?;
        }
        if !self.cause.is_empty() {
            write!(f, ": {}", self.cause)?;
        }
        if let (Some(expected), Some(found)) = (&self.expected, &self.found) {
            let (open, close) = if self.cause.is_empty() { (": ", "") } else { (" (", ")") };
            write!(f, "{open}expected {expected}, found {found}{close}")?;
        }
        Ok(())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::Input(Box::new(fault))
    }
}

impl Error {
    /// A command line that cannot be obeyed.
    pub fn usage(cause: impl Into<String>) -> Self {
        Error::Usage { cause: cause.into(), hint: None }
    }

    /// Wraps a refusal of the operating system.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { doing, path, source }
    }

    /// Wraps the failure of a computation.
    pub fn compute<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Error
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let doing = doing.into();
        move |source| Error::Compute { doing, source: source.into() }
    }

    /// Names the file of a fault that does not name one yet.
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Self {
        if let Error::Input(fault) = &mut self {
            fault.file.get_or_insert_with(|| file.as_ref().display().to_string());
        }
        self
    }

    /// Names the record of a fault that does not name one yet.
    pub fn in_record(mut self, record: impl fmt::Display) -> Self {
        if let Error::Input(fault) = &mut self {
            fault.record.get_or_insert_with(|| record.to_string());
        }
        self
    }

    /// Adds a hint where there is none yet.
    pub fn or_hint(mut self, text: impl fmt::Display) -> Self {
        match &mut self {
            Error::Input(fault) => {
                fault.hint.get_or_insert_with(|| text.to_string());
            }
            Error::Usage { hint, .. } => {
                hint.get_or_insert_with(|| text.to_string());
            }
            _ => {}
        }
        self
    }

    /// The cure, when known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Input(fault) => fault.hint.as_deref(),
            Error::Usage { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// 0: the reader of our pipe left early; 1: the work failed; 2: the command line was wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Closed => 0,
            Error::Usage { .. } => 2,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_file_record_field_expected_and_found() {
        let fault = Fault::new("reading features", "")
            .file("f.h5")
            .record("p7")
            .field("/feature")
            .expected("50 x 768", "50 x 48");
        assert_eq!(
            fault.to_string(),
            "reading features: f.h5, record p7, field /feature: expected 50 x 768, found 50 x 48"
        );
    }

    #[test]
    fn keeps_the_first_file_named() {
        let error = Error::from(Fault::new("reading", "bad").file("inner")).in_file("outer");
        assert_eq!(error.to_string(), "reading: inner: bad");
        assert_eq!(error.exit_code(), 1);
    }
}
