//! The leads of an ECG side by side: one sample of all of them, then the next. A processor so does many sums in the time of one,
//! in the order in which each lead would have them.

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

use super::statistic::values;
use crate::data::ecg::LEADS;
use crate::kernel::simd::{vectorise, Plain};

/// Signals side by side.
pub const LANES: usize = LEADS;
/// Samples of all signals that are brought together at a time; they stay in the nearest cache.
pub const BLOCK: usize = 64;

/// One sample of every signal.
pub type Lanes = [f64; LANES];

/// Signals side by side, with room before and after.
pub struct SideBySide {
    samples: Vec<Lanes>,
    margin: usize,
}

/// One lane of the values, one place after the other.
fn put<'a>(places: impl Iterator<Item = &'a mut f64>, values: &[Lanes], lane: usize) {
    places.zip(values).for_each(|(place, v)| *place = v[lane]);
}

impl SideBySide {
    /// Brings rows together, at most [`LANES`]; those that are not there are 0.
    pub fn gather(rows: &ArrayView2<f64>, margin: usize) -> SideBySide {
        let length = rows.ncols();
        let mut samples = Vec::with_capacity(length + 2 * margin);
        samples.resize(margin, [0.0; LANES]);
        vectorise(Gather { rows: &slices(rows), length, samples: &mut samples });
        samples.resize(length + 2 * margin, [0.0; LANES]);
        SideBySide { samples, margin }
    }

    /// Puts the signals back into rows of the same length.
    pub fn scatter(&self, rows: &mut ArrayViewMut2<f64>) {
        let inside = self.samples.get(self.margin..self.margin + rows.ncols()).unwrap_or_default();
        for (block, values) in inside.chunks(BLOCK).enumerate() {
            for (lane, mut row) in rows.rows_mut().into_iter().take(LANES).enumerate() {
                match row.as_slice_mut() {
                    Some(row) => put(row.iter_mut().skip(block * BLOCK), values, lane),
                    None => put(row.iter_mut().skip(block * BLOCK), values, lane), // rows of a turned array
                }
            }
        }
    }

    /// The signals with `pad` samples, as far as there is room, reflected through each end point.
    pub fn reflected(&mut self, pad: usize) -> &mut [Lanes] {
        let n = self.samples.len() - 2 * self.margin;
        let pad = pad.min(self.margin).min(n.saturating_sub(1));
        let whole = self.samples.get_mut(self.margin - pad..self.margin + n + pad).unwrap_or_default();
        let (before, rest) = whole.split_at_mut(pad);
        let (inside, after) = rest.split_at_mut(n);
        let turned = |end: &Lanes, v: &Lanes| std::array::from_fn(|k| 2.0 * end[k] - v[k]);
        if let (Some(first), Some(last)) = (inside.first(), inside.last()) {
            before.iter_mut().rev().zip(inside.iter().skip(1)).for_each(|(place, v)| *place = turned(first, v));
            after.iter_mut().zip(inside.iter().rev().skip(1)).for_each(|(place, v)| *place = turned(last, v));
        }
        whole
    }
}

/// The rows, each value after the other; those that are not there have none.
pub fn slices<'a>(rows: &ArrayView2<'a, f64>) -> [Cow<'a, [f64]>; LANES] {
    let row = |k| values(rows.index_axis_move(Axis(0), k));
    std::array::from_fn(|k| if k < rows.nrows() { row(k) } else { Cow::Borrowed(&[][..]) })
}

struct Gather<'a> {
    rows: &'a [Cow<'a, [f64]>; LANES],
    length: usize,
    samples: &'a mut Vec<Lanes>,
}

impl Plain for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut block = [[0.0; LANES]; BLOCK];
        for start in (0..self.length).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.length);
            for (lane, row) in self.rows.iter().enumerate() {
                let row = row.get(start..end).unwrap_or_default(); // none where there is no such row
                block.iter_mut().zip(row).for_each(|(place, v)| place[lane] = *v);
            }
            self.samples.extend_from_slice(block.get(..end - start).unwrap_or_default());
        }
    }
}
