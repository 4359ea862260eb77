//! Pooling over frames, rows and columns, one axis after another: the largest or the mean of a window.
//!
//! Maps are (B, C, T, H, W), or channels last where the kernels of the processor compute.

use candle_core::{bail, Result, Tensor};

use super::op;

/// What one axis is pooled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Places in a window; 1 leaves the axis as it is.
    pub side: usize,
    /// Places from one window to the next.
    pub stride: usize,
    /// Places before the first and after the last that are no part of the map.
    pub margins: [usize; 2],
}

impl Window {
    /// Windows inside the map alone.
    pub fn inside(side: usize, stride: usize) -> Window {
        Window { side, stride, margins: [0, 0] }
    }

    /// TensorFlow's SAME: ceil(n / stride) windows, the odd place of the margins at the end.
    ///
    /// ```
    /// use ecgflow::model::pool::Window;
    /// assert_eq!(Window::same(7, 2, 224).margins, [2, 3]);
    /// assert_eq!(Window::same(3, 1, 10).margins, [1, 1]);
    /// ```
    pub fn same(side: usize, stride: usize, n: usize) -> Window {
        let stride = stride.max(1);
        let reach = n.div_ceil(stride).saturating_sub(1) * stride + side;
        let margin = reach.saturating_sub(n);
        Window { side, stride, margins: [margin / 2, margin - margin / 2] }
    }
}

/// The axis of the frames; rows and columns follow.
pub fn first_axis(x: &Tensor) -> usize {
    if op::has_kernels(x) {
        1
    } else {
        2
    }
}

/// Values at a window's place 0, 1, 2..., for all windows along an axis.
fn taps(x: &Tensor, axis: usize, window: Window) -> Result<(Vec<Tensor>, usize)> {
    let Window { side, stride, margins: [before, after] } = window;
    let n = x.dim(axis)? + before + after;
    let Some(room) = n.checked_sub(side).filter(|_| side > 0 && stride > 0) else {
        bail!("the map is too small: {n} places are left where a window needs {side}")
    };
    let out = room / stride + 1;
    let blocks = out + side.div_ceil(stride) - 1;
    let whole = blocks * stride;
    let x = x.pad_with_zeros(axis, before, after + whole.saturating_sub(n))?.narrow(axis, 0, whole)?.contiguous()?;
    let mut shape = x.dims().to_vec();
    shape.splice(axis..=axis, [blocks, stride]);
    let x = x.reshape(shape)?;
    let tap = |i: usize| x.narrow(axis + 1, i % stride, 1)?.squeeze(axis + 1)?.narrow(axis, i / stride, out);
    Ok(((0..side).map(tap).collect::<Result<_>>()?, out))
}

/// Largest value of each window along one axis; margins count as 0, so that values must be 0 or more where there are any.
pub fn max_along(x: &Tensor, axis: usize, window: Window) -> Result<Tensor> {
    if (window.side, window.stride) == (1, 1) {
        return Ok(x.clone());
    }
    let (taps, _) = taps(x, axis, window)?;
    let mut taps = taps.into_iter();
    let Some(first) = taps.next() else { bail!("an empty window") };
    taps.try_fold(first, |most, tap| most.maximum(&tap))
}

/// Largest value of each window; margins count as 0.
pub fn max_pool(x: &Tensor, windows: [Window; 3]) -> Result<Tensor> {
    let first = first_axis(x);
    windows.into_iter().enumerate().try_fold(x.clone(), |x, (i, window)| max_along(&x, first + i, window))
}

/// Mean of each window along one axis, over those of its places that are part of the map.
pub fn mean_along(x: &Tensor, axis: usize, window: Window) -> Result<Tensor> {
    if (window.side, window.stride) == (1, 1) {
        return Ok(x.clone());
    }
    let n = x.dim(axis)?;
    let (taps, out) = taps(x, axis, window)?;
    let mut taps = taps.into_iter();
    let Some(first) = taps.next() else { bail!("an empty window") };
    let sum = taps.try_fold(first, |sum, tap| sum + tap)?;
    let share = |i: usize| {
        let held =
            (0..window.side).filter(|k| (window.margins[0]..window.margins[0] + n).contains(&(i * window.stride + k)));
        1.0 / held.count().max(1) as f64
    };
    let shares: Vec<f64> = (0..out).map(share).collect();
    let mut shape = vec![1; x.rank()];
    shape[axis] = out;
    sum.broadcast_mul(&Tensor::from_vec(shares, shape, x.device())?.to_dtype(x.dtype())?)
}

/// Mean of each window, over those of its places that are part of the map.
pub fn mean_pool(x: &Tensor, windows: [Window; 3]) -> Result<Tensor> {
    let first = first_axis(x);
    windows.into_iter().enumerate().try_fold(x.clone(), |x, (i, window)| mean_along(&x, first + i, window))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn line(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn windows_give_their_largest_value() {
        let x = line(&[5., 1., 4., 2., 3., 9., 0.]);
        let pool = |side| max_along(&x, 0, Window::inside(side, 2)).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(pool(2), [5., 4., 9.]);
        assert_eq!(pool(3), [5., 4., 9.]);
        let y = max_along(&x, 0, Window::same(3, 1, 7)).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [5., 5., 4., 4., 9., 9., 9.]);
        let y = max_along(&x, 0, Window::same(3, 2, 7)).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [5., 4., 9., 9.]);
        assert!(max_along(&line(&[1., 2.]), 0, Window::inside(3, 2)).is_err());
    }

    #[test]
    fn margins_do_not_count_in_means() {
        let x = line(&[3., 6., 9., 1.]);
        let y = mean_along(&x, 0, Window { side: 3, stride: 1, margins: [1, 1] }).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [4.5, 6., 16. / 3., 5.]);
        let y = mean_along(&x, 0, Window::inside(2, 1)).unwrap();
        assert_eq!(y.to_vec1::<f64>().unwrap(), [4.5, 7.5, 5.]);
    }

    #[test]
    fn a_map_is_pooled_along_frames_rows_and_columns() {
        let x = Tensor::arange(0f64, 2. * 4. * 6., &Device::Cpu).unwrap().reshape((1, 1, 2, 4, 6)).unwrap();
        let half = Window::inside(2, 2);
        let y = max_pool(&x, [Window::inside(1, 1), half, half]).unwrap();
        assert_eq!(y.dims(), [1, 1, 2, 2, 3]);
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f64>().unwrap()[..4], [7., 9., 11., 19.]);
        let y = mean_pool(&x, [half; 3]).unwrap();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f64>().unwrap()[0], (0. + 1. + 6. + 7.) / 4. + 12.);
    }
}
