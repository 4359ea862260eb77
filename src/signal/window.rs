//! The ten seconds of a recording that the models see.
//!
//! A longer recording is cut: its centre, or from a start the user names. A shorter one is refused, or, where the user
//! asks for it, followed by zeros (the resting line of a filtered ECG), so that recorded samples keep their numbers.

use crate::error::{Fault, Result};

/// Length of a prepared ECG, s.
pub const SECONDS: f64 = 10.0;
/// Least length that may be filled up, s: two beats at 60 a minute.
pub const LEAST_SECONDS: f64 = 2.0;

/// Which ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Window {
    /// Those in the middle.
    #[default]
    Centre,
    /// From this second of the recording on.
    Start(f64),
}

/// A run of input samples: start and end (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First sample.
    pub start: usize,
    /// The sample after the last.
    pub end: usize,
}

impl Window {
    /// The input samples of the window in a recording of `samples` samples; shorter than ten seconds only where `pad`
    /// allows it.
    ///
    /// ```
    /// use ecgflow::signal::window::{Span, Window};
    /// assert_eq!(Window::Centre.span(6000, 500.0, false).unwrap(), Span { start: 500, end: 5500 });
    /// assert_eq!(Window::Start(1.5).span(6000, 500.0, false).unwrap(), Span { start: 750, end: 5750 });
    /// assert!(Window::Centre.span(4999, 500.0, false).is_err());
    /// ```
    ///
    /// # Errors
    /// Where the window does not lie in the recording.
    pub fn span(self, samples: usize, rate_hz: f64, pad: bool) -> Result<Span> {
        let fault = || Fault::new("cutting ECG", "").field("length");
        let needed = (SECONDS * rate_hz - 1e-9).ceil().max(1.0) as usize;
        let start = match self {
            Window::Centre => samples.saturating_sub(needed) / 2,
            Window::Start(second) if second >= 0.0 && second.is_finite() => (second * rate_hz).round() as usize,
            Window::Start(second) => {
                return Err(fault().expected("a window that starts at 0 s or later", second).into())
            }
        };
        let seconds = |n: usize| n as f64 / rate_hz;
        let left = samples.saturating_sub(start);
        if left >= needed {
            return Ok(Span { start, end: start + needed });
        }
        let found = match self {
            Window::Centre => format!("{} s ({samples} samples at {rate_hz} Hz)", seconds(samples)),
            Window::Start(_) => format!("{} s after second {}", seconds(left), seconds(start)),
        };
        match pad {
            false => {
                Err(fault().expected(format!("at least {SECONDS} s"), found).hint("--pad fills with zeros").into())
            }
            true if seconds(left) < LEAST_SECONDS => {
                Err(fault().expected(format!("at least {LEAST_SECONDS} s to fill up"), found).into())
            }
            true => Ok(Span { start, end: samples }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_recordings_are_refused_unless_filled() {
        let error = Window::Centre.span(2500, 500.0, false).unwrap_err();
        assert!(error.to_string().contains("expected at least 10 s, found 5 s (2500 samples at 500 Hz)"), "{error}");
        assert_eq!(Window::Centre.span(2500, 500.0, true).unwrap(), Span { start: 0, end: 2500 });
        assert!(Window::Centre.span(999, 500.0, true).is_err());
    }

    #[test]
    fn windows_outside_the_recording_are_refused() {
        for second in [-1.0, 2.1, 1e300, f64::NAN, f64::INFINITY] {
            assert!(Window::Start(second).span(6000, 500.0, false).is_err(), "{second}");
        }
        assert!(Window::Start(1e300).span(6000, 500.0, true).is_err());
    }

    #[test]
    fn whole_ten_seconds_at_odd_rates_are_taken() {
        assert_eq!(Window::Centre.span(3600, 360.0, false).unwrap(), Span { start: 0, end: 3600 });
        assert_eq!(Window::Centre.span(2572, 257.13, false).unwrap(), Span { start: 0, end: 2572 });
    }
}
