//! What a recording looked like before it was cleaned: [`Quality`].

use ndarray::ArrayView2;

use super::rpeak;
use crate::data::ecg::{Quality, LEADS};

/// A lead that moves less than this is flat, mV.
const FLAT_MV: f64 = 1e-3;

/// Quality of one record.
///
/// `recorded_mv`: 12 x samples before filtering, mV; `einthoven_mv`: see
/// [`Sources::einthoven_mv`](super::lead::Sources::einthoven_mv); `r_peak`: sample numbers at `rate_hz`.
pub fn assess(recorded_mv: ArrayView2<f64>, einthoven_mv: f64, r_peak: &[usize], rate_hz: f64) -> Quality {
    let mut flat = [false; LEADS];
    for (flat, row) in flat.iter_mut().zip(recorded_mv.rows()) {
        *flat = row.std(0.0) < FLAT_MV;
    }
    Quality { flat, einthoven_mv: einthoven_mv as f32, rr_sd_ms: rpeak::rr_sd_ms(r_peak, rate_hz) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn names_the_leads_that_do_not_move() {
        let moves = |(lead, n): (usize, usize)| if lead == 4 { 0.7 } else { (n % 2) as f64 * 0.01 };
        let quality = assess(Array2::from_shape_fn((12, 100), moves).view(), 0.25, &[0, 50, 90], 500.0);
        let flat: Vec<usize> = (0..12).filter(|&k| quality.flat[k]).collect();
        assert_eq!((flat, quality.einthoven_mv), (vec![4], 0.25));
        assert!((quality.rr_sd_ms - 14.142).abs() < 1e-3);
    }
}
