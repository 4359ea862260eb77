//! The learning rate of every step: an optional linear rise, then half a cosine down to a floor.
//!
//! ```text
//! rate(i) = peak (i + 1) / warm_up                                              i < warm_up
//! rate(i) = floor + (peak - floor) (1 + cos(pi (i - warm_up) / (steps - warm_up))) / 2    else
//! ```

use serde::{Deserialize, Serialize};

/// Where the cosine ends.
pub const FLOOR: f64 = 1e-6;

/// A schedule over a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Lowest rate; never above `peak`.
    pub floor: f64,
    /// Steps of the rise.
    pub warm_up: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// A cosine from `peak` to [`FLOOR`].
    pub fn cosine(peak: f64, warm_up: u64, steps: u64) -> Schedule {
        Schedule { peak, floor: FLOOR.min(peak), warm_up, steps }
    }

    /// The rate of step `i`, from 0.
    ///
    /// ```
    /// use ecgflow::train::schedule::Schedule;
    /// let schedule = Schedule { peak: 1.0, floor: 0.0, warm_up: 2, steps: 6 };
    /// let rates: Vec<f64> = (0..7).map(|i| (schedule.rate(i) * 1000.0).round() / 1000.0).collect();
    /// assert_eq!(rates, [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]);
    /// ```
    pub fn rate(&self, i: u64) -> f64 {
        if i < self.warm_up {
            return self.peak * (i + 1) as f64 / self.warm_up as f64;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(1);
        let done = (i - self.warm_up).min(length) as f64 / length as f64;
        self.floor + (self.peak - self.floor) * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0
    }
}
