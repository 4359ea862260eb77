//! Messages and progress, on standard error only.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::args::LogArgs;
use crate::checkpoint::{Kind, Weights};
use crate::error::Error;

/// Where messages of one program go.
#[derive(Debug)]
pub struct Log {
    name: &'static str,
    level: i16,
}

impl Log {
    /// Messages of `name`.
    pub fn new(name: &'static str, args: &LogArgs) -> Log {
        let level = if args.quiet { -1 } else { i16::from(args.verbose) };
        Log { name, level }
    }

    fn line(&self, text: &str) {
        // One write a line, so that the stages of a pipe do not mix theirs. A closed stderr is nobody's error.
        let _ = io::stderr().lock().write_all(format!("{}: {}\n", self.name, one_line(text)).as_bytes());
    }

    /// `tool: error: ...` and, when the cure is known, a hint. A reader that left early is no error.
    pub fn error(&self, error: &Error) {
        if !matches!(error, Error::Closed) {
            self.line(&format!("error: {error}"));
            if let Some(hint) = error.hint() {
                self.line(&format!("hint: {hint}"));
            }
        }
    }

    /// Something the user should know even when nobody asked.
    pub fn warn(&self, text: &str) {
        if self.level >= 0 {
            self.line(&format!("warning: {text}"));
        }
    }

    /// Something the user must know that is no cause for worry.
    pub fn note(&self, text: &str) {
        if self.level >= 0 {
            self.line(text);
        }
    }

    /// What was done, with `-v`.
    pub fn info(&self, text: &str) {
        if self.level >= 1 {
            self.line(text);
        }
    }

    /// Details, with `-vv`.
    pub fn detail(&self, text: &str) {
        if self.level >= 2 {
            self.line(text);
        }
    }

    /// Says which weights run, and warns where they were never trained.
    pub fn weights(&self, weights: &Weights, kind: Kind) {
        self.info(&format!("{kind} weights: {}", weights.id()));
        if weights.untrained(kind) {
            self.warn(&format!(
                "the {kind} weights were never trained: for trying the tools, the output means nothing"
            ));
        }
    }

    /// A counter of records whose number is not known before, with records a second; drawn on a terminal only.
    pub fn records(&self) -> ProgressBar {
        self.bar(None, "{prefix} {spinner} {human_pos} records, {rate}, {elapsed} {wide_msg}")
    }

    /// A progress bar over the steps of a training, with a message of its own; drawn on a terminal only.
    pub fn steps(&self, steps: u64) -> ProgressBar {
        self.bar(Some(steps), "{prefix} {wide_bar} {pos}/{len} {msg}, {rate}, {eta} left")
    }

    /// A progress bar over `records`; drawn on a terminal only.
    pub fn progress(&self, records: usize) -> ProgressBar {
        self.bar(Some(records as u64), "{prefix} {wide_bar} {pos}/{len} {rate} {eta} left")
    }

    fn bar(&self, length: Option<u64>, template: &str) -> ProgressBar {
        if self.level < 0 || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        }
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("rate", rate));
        }
        bar.with_prefix(self.name)
    }
}

/// How many a second, in three digits or more.
fn rate(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    let value = state.per_sec();
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let _ = write!(out, "{value:.digits$}/s"); // into memory
}

/// Without control characters: what a file says cannot break the line or steer the terminal.
fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_steer_no_terminal() {
        assert_eq!(one_line("record a\nb\x1b[31m\u{9b}2J\n"), "record a b [31m 2J");
        assert_eq!(one_line("p\u{e9}re: 5 \u{b5}V"), "p\u{e9}re: 5 \u{b5}V");
    }
}
