//! What Inception networks are made of: convolution, batch normalisation without a gain, ReLU; and pictures enlarged to
//! the size that the networks were trained on.
//!
//! y = relu(w * x / sqrt(var + 0.001) + beta - mean / sqrt(var + 0.001)), the quotients folded into kernel and bias when
//! the layer is made.

use candle_core::{Result, Tensor};
use candle_nn::init::{ONE, ZERO};
use candle_nn::VarBuilder;

use super::layers::uniform;
use super::pool::{first_axis, Window};
use super::{conv3d, op};

/// Added to the variance.
const EPS: f64 = 1e-3;

/// How far a kernel reaches over the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Margin {
    /// Frames, rows, columns on both sides.
    Fixed([usize; 3]),
    /// TensorFlow's SAME, which depends on the size of the map.
    Same,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Unit {
    weight: Tensor,
    bias: Tensor,
    stride: [usize; 3],
    margin: Margin,
}

impl Unit {
    /// A layer over frames, rows and columns: `weight` (out, in, kt, kh, kw), `beta`, `mean`, `var` (out).
    pub fn new(
        sizes: (usize, usize),
        kernel: [usize; 3],
        stride: [usize; 3],
        margin: Margin,
        vb: VarBuilder,
    ) -> Result<Self> {
        let (from, out) = sizes;
        let [kt, kh, kw] = kernel;
        let weight = vb.get_with_hints((out, from, kt, kh, kw), "weight", uniform(from * kt * kh * kw))?;
        Unit::fold(weight, out, stride, margin, vb)
    }

    /// A layer over rows and columns of each frame, stored as for pictures: `weight` (out, in, kh, kw), the rest as above.
    pub fn planar(
        (from, out): (usize, usize),
        kernel: [usize; 2],
        stride: usize,
        margin: [usize; 2],
        vb: VarBuilder,
    ) -> Result<Self> {
        let ([kh, kw], [mh, mw]) = (kernel, margin);
        let weight = vb.get_with_hints((out, from, kh, kw), "weight", uniform(from * kh * kw))?.unsqueeze(2)?;
        Unit::fold(weight, out, [1, stride, stride], Margin::Fixed([0, mh, mw]), vb)
    }

    fn fold(weight: Tensor, out: usize, stride: [usize; 3], margin: Margin, vb: VarBuilder) -> Result<Self> {
        let vector = |name, init| vb.get_with_hints(out, name, init);
        let scale = (vector("var", ONE)? + EPS)?.sqrt()?.recip()?;
        let bias = (vector("beta", ZERO)? - (vector("mean", ZERO)? * &scale)?)?;
        let weight = weight.broadcast_mul(&scale.reshape((out, 1, 1, 1, 1))?)?;
        Ok(Unit { weight, bias, stride, margin })
    }

    /// x (B, in, T, H, W) -> (B, out, T', H', W'); channels last where the kernels of the processor compute.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, kt, kh, kw) = self.weight.dims5()?;
        let (mut x, mut padding) = (x.clone(), [0; 3]);
        match self.margin {
            Margin::Fixed(margin) => padding = margin,
            Margin::Same => {
                for (i, side) in [kt, kh, kw].into_iter().enumerate() {
                    let axis = first_axis(&x) + i;
                    let [before, after] = Window::same(side, self.stride[i], x.dim(axis)?).margins;
                    match before == after {
                        true => padding[i] = before,
                        false => x = x.pad_with_zeros(axis, before, after)?,
                    }
                }
            }
        }
        let y = match op::has_kernels(&x) {
            true => op::conv3d(&x, [&self.weight, &self.bias], self.stride, padding)?,
            false => conv3d::conv3d(&x, &self.weight, Some(&self.bias), self.stride, padding)?,
        };
        y.relu()
    }
}

/// Side by side along the channels.
pub fn beside(maps: &[Tensor]) -> Result<Tensor> {
    let channels = maps.first().map_or(1, |x| if op::has_kernels(x) { 4 } else { 1 });
    Tensor::cat(maps, channels)
}

/// Where the pixels of an enlarged picture lie in the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    /// Pixel i lies at i / zoom: TensorFlow 1, which the weights of the Frechet inception distance were used with.
    Corners,
    /// Pixel i lies at (i + 1/2) / zoom - 1/2: the middles of the pixels stay where they are.
    Centres,
}

/// Pictures (N, H, W) to (N, side, side), linear between pixels, unchanged beyond the outermost.
pub fn enlarge(x: &Tensor, side: usize, grid: Grid) -> Result<Tensor> {
    let (n, h, w) = x.dims3()?;
    let to = |from: usize| linear(from, side, grid, x);
    let x = x.reshape((n * h, w))?.matmul(&to(w)?.t()?)?.reshape((n, h, side))?; // (N, H, side)
    to(h)?.unsqueeze(0)?.broadcast_as((n, side, h))?.contiguous()?.matmul(&x) // (N, side, side)
}

/// The matrix (side, from) of linear interpolation.
fn linear(from: usize, side: usize, grid: Grid, like: &Tensor) -> Result<Tensor> {
    let mut values = vec![0f64; side * from];
    for (i, row) in values.chunks_exact_mut(from.max(1)).enumerate() {
        let zoom = from as f64 / side as f64;
        let at = match grid {
            Grid::Corners => i as f64 * zoom,
            Grid::Centres => ((i as f64 + 0.5) * zoom - 0.5).max(0.0),
        };
        let low = (at as usize).min(from - 1);
        row[low] += 1.0 - at.fract();
        row[(low + 1).min(from - 1)] += at.fract();
    }
    Tensor::from_vec(values, (side, from), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use std::collections::HashMap;

    #[test]
    fn the_statistics_are_folded_into_the_kernel() {
        let one = |value: f64| Tensor::new(&[value], &Device::Cpu).unwrap();
        let tensors = HashMap::from([
            ("weight".to_owned(), one(3.0).reshape((1, 1, 1, 1)).unwrap()),
            ("beta".to_owned(), one(0.5)),
            ("mean".to_owned(), one(2.0)),
            ("var".to_owned(), one(4.0 - EPS)),
        ]);
        let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
        let unit = Unit::planar((1, 1), [1, 1], 1, [0, 0], vb).unwrap();
        let x = Tensor::new(&[1.0, 2.0, -4.0], &Device::Cpu).unwrap().reshape((1, 1, 1, 1, 3)).unwrap();
        let y: Vec<f64> = unit.forward(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(y, [1.0, 2.5, 0.0]); // (3 x - 2) / 2 + 0.5
    }

    #[test]
    fn pictures_are_enlarged_from_corners_or_from_centres() {
        let x = Tensor::new(&[[[0.0, 1.0], [0.0, 1.0]]], &Device::Cpu).unwrap();
        let row = |grid| enlarge(&x, 4, grid).unwrap().to_vec3::<f64>().unwrap()[0][1].clone();
        assert_eq!(row(Grid::Corners), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(row(Grid::Centres), [0.0, 0.25, 0.75, 1.0]);
    }
}
