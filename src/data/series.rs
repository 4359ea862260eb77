//! A cine series as a scanner stores it: whole numbers on the acquired matrix, with the plane it was taken in.

use ndarray::Array3;

use crate::error::{Fault, Result};

/// Most a pixel of 12 bits holds.
pub const PIXEL_MAX: u16 = 4095;

/// One cine series of one participant.
#[derive(Debug, Clone, PartialEq)]
pub struct CineSeries {
    /// The participant's name.
    pub id: String,
    /// T frames x H rows x W columns, 0 to [`PIXEL_MAX`].
    pub frames: Array3<u16>,
    /// Distance of rows and of columns, mm.
    pub pixel_spacing_mm: [f64; 2],
    /// Thickness of the slice, mm.
    pub slice_thickness_mm: f64,
    /// Where the slice lies in the patient.
    pub plane: Plane,
    /// Time of each frame after the R peak, ms, rising.
    pub trigger_ms: Vec<f64>,
    /// Length of the cardiac cycle, ms.
    pub rr_ms: f64,
    /// How it was, or would have been, acquired.
    pub scanner: Scanner,
}

/// The place of a picture in the patient, in the directions of DICOM: to the left, to the back, to the head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// Along a row, to the right of the picture.
    pub right: [f64; 3],
    /// Along a column, down the picture.
    pub down: [f64; 3],
    /// The middle of the picture, mm.
    pub centre_mm: [f64; 3],
}

impl Plane {
    /// A four-chamber plane: the axial plane, its left side turned 30 degrees to the feet and its back 20 degrees to
    /// the head, through the middle of the heart.
    ///
    /// ```
    /// let plane = ecgflow::data::series::Plane::four_chamber();
    /// let dot: f64 = plane.right.iter().zip(plane.down).map(|(a, b)| a * b).sum();
    /// assert!(dot.abs() < 1e-12);
    /// ```
    pub fn four_chamber() -> Plane {
        let ((sin_a, cos_a), (sin_b, cos_b)) = (30f64.to_radians().sin_cos(), 20f64.to_radians().sin_cos());
        Plane {
            right: [cos_a, 0.0, -sin_a],
            down: [sin_a * sin_b, cos_b, cos_a * sin_b],
            centre_mm: [30.0, -20.0, 0.0],
        }
    }

    /// The middle of the first pixel of a picture of `size` rows and columns, mm.
    pub fn corner_mm(&self, size: (usize, usize), spacing_mm: [f64; 2]) -> [f64; 3] {
        let half = |n: usize, spacing: f64| (n.saturating_sub(1)) as f64 / 2.0 * spacing;
        let (down, right) = (half(size.0, spacing_mm[0]), half(size.1, spacing_mm[1]));
        std::array::from_fn(|i| self.centre_mm[i] - right * self.right[i] - down * self.down[i])
    }
}

/// How a series was acquired.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scanner {
    /// Repetition time, ms.
    pub repetition_ms: f64,
    /// Echo time, ms.
    pub echo_ms: f64,
    /// Flip angle, degrees.
    pub flip_deg: f64,
    /// Field strength, T.
    pub field_t: f64,
}

impl Scanner {
    /// Balanced steady-state free precession at 1.5 T, as UK Biobank acquires cines (Petersen et al., J Cardiovasc Magn
    /// Reson 2016;18:8).
    pub fn biobank() -> Scanner {
        Scanner { repetition_ms: 2.6, echo_ms: 1.1, flip_deg: 80.0, field_t: 1.5 }
    }
}

impl CineSeries {
    /// Checks sizes, values and times.
    ///
    /// # Errors
    /// A fault that names the field.
    pub fn check(&self) -> Result<()> {
        let fault = |field: &str| Fault::new("checking cine series", "").record(&self.id).field(field);
        let (frames, rows, columns) = self.frames.dim();
        if !(1..=9999).contains(&frames) || ![rows, columns].iter().all(|side| (1..=65_535).contains(side)) {
            let found = format!("{frames} x {rows} x {columns}");
            return Err(fault("frames").expected("1 to 9999 frames of 1 to 65535 a side", found).into());
        }
        if let Some(found) = self.frames.iter().find(|value| **value > PIXEL_MAX) {
            return Err(fault("frames").expected(format!("values from 0 to {PIXEL_MAX}"), found).into());
        }
        let rising = self.trigger_ms.windows(2).all(|pair| pair[0] < pair[1]);
        if self.trigger_ms.len() != frames || !rising || !self.trigger_ms.iter().all(|t| t.is_finite() && *t >= 0.0) {
            let found = format!("{:?}", self.trigger_ms);
            return Err(fault("trigger_ms").expected(format!("{frames} rising times"), found).into());
        }
        let [down, right] = self.pixel_spacing_mm;
        let positive = [("rr_ms", self.rr_ms), ("slice_thickness_mm", self.slice_thickness_mm)];
        let positive = positive.into_iter().chain([("pixel_spacing_mm", down), ("pixel_spacing_mm", right)]);
        for (field, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(fault(field).expected("a number above zero", value).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> CineSeries {
        CineSeries {
            id: "p1".into(),
            frames: Array3::zeros((2, 3, 4)),
            pixel_spacing_mm: [1.5, 2.0],
            slice_thickness_mm: 6.0,
            plane: Plane::four_chamber(),
            trigger_ms: vec![0.0, 500.0],
            rr_ms: 1000.0,
            scanner: Scanner::biobank(),
        }
    }

    #[test]
    fn the_middle_of_the_picture_is_where_the_plane_says() {
        let plane = Plane { right: [1.0, 0.0, 0.0], down: [0.0, 1.0, 0.0], centre_mm: [10.0, 20.0, 30.0] };
        // 3 rows of 1.5 mm and 4 columns of 2 mm: the first pixel is 1 row up and 1.5 columns to the left.
        assert_eq!(plane.corner_mm((3, 4), [1.5, 2.0]), [7.0, 18.5, 30.0]);
    }

    #[test]
    fn impossible_series_are_refused_by_field() {
        series().check().unwrap();
        let says = |change: fn(&mut CineSeries)| {
            let mut series = series();
            change(&mut series);
            series.check().unwrap_err().to_string()
        };
        assert!(says(|s| s.trigger_ms[1] = 0.0).contains("record p1, field trigger_ms: expected 2 rising times"));
        assert!(says(|s| s.frames[[0, 0, 0]] = 4096).contains("expected values from 0 to 4095, found 4096"));
        assert!(says(|s| s.pixel_spacing_mm[1] = 0.0).contains("field pixel_spacing_mm: expected a number above zero"));
        assert!(says(|s| s.rr_ms = f64::NAN).contains("field rr_ms"));
        assert!(says(|s| s.frames = Array3::zeros((0, 3, 4))).contains("found 0 x 3 x 4"));
    }
}
