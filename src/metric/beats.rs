//! Beats that were found beside the true ones (ANSI/AAMI EC57):
//!
//! ```text
//! sensitivity = matched / true        precision = matched / found
//! ```
//!
//! A found beat matches a true one within 0.15 s; each matches once. Beats in the first and last 0.15 s do not count.

/// Distance at which a found beat is the true one, s.
pub const NEAR_SECONDS: f64 = 0.15;

/// Counts of beats; add them up over records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// True beats.
    pub beats: usize,
    /// Found beats: the matched ones and those where no true beat is.
    pub found: usize,
    /// True beats that were found.
    pub matched: usize,
}

impl Counts {
    /// Counts of one record of `seconds`; times of the beats in s, rising.
    ///
    /// ```
    /// use ecgflow::metric::beats::Counts;
    /// let counts = Counts::of(&[0.1, 1.0, 2.0, 3.0], &[1.05, 2.5, 3.0], 10.0);
    /// assert_eq!((counts.beats, counts.found, counts.matched), (3, 3, 2)); // the beat at 0.1 s does not count
    /// assert_eq!(counts.sensitivity(), 2.0 / 3.0);
    /// ```
    pub fn of(truth: &[f64], found: &[f64], seconds: f64) -> Counts {
        let inside = |t: &&f64| (NEAR_SECONDS..seconds - NEAR_SECONDS).contains(*t);
        let mut free = found.to_vec();
        let mut counts = Counts::default();
        for beat in truth.iter().filter(inside) {
            counts.beats += 1;
            if let Some(k) = free.iter().position(|f| (f - beat).abs() <= NEAR_SECONDS) {
                free.remove(k);
                counts.matched += 1;
            }
        }
        let is_true = |f: &f64| truth.iter().any(|t| (t - f).abs() <= NEAR_SECONDS); // one at the edge
        counts.found = counts.matched + free.iter().filter(inside).filter(|f| !is_true(f)).count();
        counts
    }

    /// Sums of the counts.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Counts>) -> Counts {
        all.into_iter().fold(Counts::default(), |sum, counts| Counts {
            beats: sum.beats + counts.beats,
            found: sum.found + counts.found,
            matched: sum.matched + counts.matched,
        })
    }

    /// Share of the true beats that were found; NaN where there is none.
    pub fn sensitivity(self) -> f64 {
        self.matched as f64 / self.beats as f64
    }

    /// Share of the found beats that are true; NaN where there is none.
    pub fn precision(self) -> f64 {
        self.matched as f64 / self.found as f64
    }
}
