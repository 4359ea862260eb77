//! Clips as the networks are trained on them: values from -1 to 1 by the clip's own extremes.

use candle_core::{Device, Tensor};
use ndarray::{Array3, Axis, Slice};

use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::random::Stream;
use crate::tensor;

/// The clip of a record with its smallest value at -1 and its largest at 1: T x H x W.
///
/// # Errors
/// Where all values are the same.
pub fn stretched(cine: &Cine, doing: &str) -> Result<Array3<f32>> {
    let extremes = cine.clip.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let (low, high) = extremes;
    if !(low < high && low.is_finite() && high.is_finite()) {
        let fault = Fault::new(doing, "").record(&cine.id).field("/cine");
        return Err(fault.expected("a clip with light and shade", format!("values from {low} to {high}")).into());
    }
    Ok(cine.clip.mapv(|v| ((v - low) / (high - low)).mul_add(2.0, -1.0)))
}

/// `frames` consecutive frames from a random first one; all of them where `frames` is 0 or the clip has no more.
pub fn run(clip: Array3<f32>, frames: usize, stream: &mut Stream) -> Array3<f32> {
    let length = clip.dim().0;
    if frames == 0 || frames >= length {
        return clip;
    }
    let first = stream.below(length - frames + 1);
    clip.slice_axis(Axis(0), Slice::from(first..first + frames)).to_owned()
}

/// As a tensor (1, T, H, W).
///
/// # Errors
/// Where the device has no room.
pub fn tensor(clip: &Array3<f32>, device: &Device) -> Result<Tensor> {
    tensor::from_array(clip.view(), device).and_then(|clip| clip.unsqueeze(0)).map_err(Error::compute("reading a clip"))
}

/// Standard normal numbers of a stream, as many as a shape holds.
pub fn normals(stream: &mut Stream, shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product()).map(|_| stream.normal() as f32).collect()
}

/// [`normals`] as a tensor.
///
/// # Errors
/// Where the device has no room.
pub fn normal(stream: &mut Stream, shape: &[usize], device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_vec(normals(stream, shape), shape, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cine(clip: Array3<f32>) -> Cine {
        let (id, source) = ("p".to_owned(), "p".to_owned());
        Cine { id, source, sample: 0, clip, pixel_spacing_mm: None, heart_rate: f32::NAN }
    }

    #[test]
    fn a_clip_spans_from_minus_one_to_one() {
        let clip = Array3::from_shape_vec((3, 1, 1), vec![0.25, 0.5, 0.75]).unwrap();
        assert_eq!(stretched(&cine(clip), "").unwrap().into_raw_vec_and_offset().0, [-1.0, 0.0, 1.0]);
        let error = stretched(&cine(Array3::zeros((2, 2, 2))), "training").unwrap_err().to_string();
        assert!(error.contains("record p") && error.contains("values from 0 to 0"), "{error}");
    }

    #[test]
    fn a_run_is_of_consecutive_frames() {
        let clip = Array3::from_shape_fn((5, 1, 1), |(t, _, _)| t as f32);
        let mut stream = Stream::new("frames", 0, "p", 0);
        let firsts: Vec<f32> = (0..200).map(|_| run(clip.clone(), 3, &mut stream)[[0, 0, 0]]).collect();
        assert!([0.0, 1.0, 2.0].iter().all(|first| firsts.contains(first)) && !firsts.contains(&3.0));
        assert_eq!(run(clip.clone(), 3, &mut stream).dim(), (3, 1, 1));
        assert_eq!(run(clip.clone(), 0, &mut stream).dim(), (5, 1, 1));
        assert_eq!(run(clip, 9, &mut stream).dim(), (5, 1, 1));
    }
}
