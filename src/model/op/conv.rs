//! Convolution.

use candle_core::{bail, Result, Tensor};

use super::{add, apply, refuse_gradient, sizes, values, with_values, Operation};
use crate::kernel::norm::Groups;
use crate::kernel::winograd::{self, Cube, Direction, Map};
use crate::kernel::{conv, elementwise, gemm, Isa};

/// Convolution of x (B, T, H, W, C) with kernel (O, C, kt, kh, kw) and bias (O).
pub fn conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2], stride: [usize; 3], padding: [usize; 3]) -> Result<Tensor> {
    let ((_, map, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if i != c || bias.dims() != [o] {
        bail!("conv3d: the kernel expects {i} channels, the input has {c}")
    }
    if ([kt, kh, kw], stride, padding) == ([3; 3], [1; 3], [1; 3]) {
        return apply([x, weight, bias], Cube3 { doubles: false });
    }
    let shape = conv::Shape { map, channels: (c, o), kernel: [kt, kh, kw], stride, padding };
    if shape.output().is_none() {
        bail!(
            "conv3d: a kernel of {:?} with stride {stride:?} does not fit {map:?} padded by {padding:?}",
            shape.kernel
        )
    }
    apply([x, weight, bias], Conv3d { shape })
}

/// Rows and columns doubled (nearest neighbour), then convolved 3 x 3 x 3.
pub fn double_conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2]) -> Result<Tensor> {
    let ((_, _, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if (i, [kt, kh, kw]) != (c, [3; 3]) || bias.dims() != [o] {
        bail!("conv3d: expected a 3 x 3 x 3 kernel for {c} channels, found {:?}", weight.dims())
    }
    apply([x, weight, bias], Cube3 { doubles: true })
}

/// Weight and bias of a layer.
type Affine<'a> = [&'a Tensor; 2];

/// The parts of a residual block.
#[derive(Debug, Clone, Copy)]
pub struct Residual<'a> {
    /// Normalisation, with its groups, and kernel of the first half.
    pub first: (Affine<'a>, Groups, Affine<'a>),
    /// The same of the second half.
    pub second: (Affine<'a>, Groups, Affine<'a>),
    /// 1 x 1 x 1 kernel of the way around, where the widths differ.
    pub around: Option<Affine<'a>>,
}

impl<'a> Residual<'a> {
    /// All that it computes with.
    pub fn tensors(&self, x: &'a Tensor) -> Vec<&'a Tensor> {
        let halves = [self.first, self.second].into_iter().flat_map(|(norm, _, conv)| [norm, conv]);
        std::iter::once(x).chain(halves.chain(self.around).flatten()).collect()
    }
}

/// conv(swish(norm(x))) without a map of what is normalised; no gradient. x (B, T, H, W, C), kernel (O, C, 3, 3, 3).
pub fn norm_conv3d(x: &Tensor, norm: Affine<'_>, groups: Groups, conv: Affine<'_>) -> Result<Tensor> {
    refuse_gradient(&[x, norm[0], norm[1], conv[0], conv[1]])?;
    let ((b, map, c), o) = (sizes(x.dims())?, conv[0].dim(0)?);
    let mut y = vec![0f32; b * map.places() * o];
    with_values(&x.contiguous()?, |x| {
        for (x, y) in x.chunks_exact(map.places() * c).zip(y.chunks_exact_mut(map.places() * o)) {
            half((x, map), norm, groups, conv, y, false)?;
        }
        Ok::<(), candle_core::Error>(())
    })??;
    Tensor::from_vec(y, (b, map.t, map.h, map.w, o), x.device())
}

/// One half of a residual block, stored or added to y.
fn half(
    (x, map): (&[f32], Map),
    [norm, shift]: Affine<'_>,
    groups: Groups,
    [weight, bias]: Affine<'_>,
    y: &mut [f32],
    adds: bool,
) -> Result<()> {
    let (o, c, ..) = weight.dims5()?;
    if [norm.dims(), shift.dims()] != [[c]; 2] || groups.channels != c || weight.dims() != [o, c, 3, 3, 3] {
        bail!("a residual block: expected kernels of 3 x 3 x 3 for {c} channels, found {:?}", weight.dims())
    }
    let moments = groups.moments(Isa::best(), x);
    let (scale, offset) = groups.affine(&moments, &values(norm)?, &values(shift)?);
    let (bias, direction) = (values(bias)?, Direction::Forward);
    let before = Some(winograd::Affine { scale: &scale, offset: &offset });
    with_values(&weight.contiguous()?, |weight| {
        let cube = Cube { map, doubles: false, alone: false, channels: (c, o), weight, direction, bias: &bias, before };
        winograd::cube(Isa::best(), cube, x, y, adds);
    })
}

/// around(x) + conv(swish(norm(conv(swish(norm(x)))))), holding no more than input, middle and output; no gradient.
pub fn residual(x: &Tensor, parts: Residual<'_>) -> Result<Tensor> {
    refuse_gradient(&parts.tensors(x))?;
    let ((b, map, c), o) = (sizes(x.dims())?, parts.second.2[0].dim(0)?);
    if parts.around.is_none() && c != o {
        bail!("a residual block from {c} to {o} channels needs a way around")
    }
    let mut y = match parts.around {
        None => values(x)?,
        Some([weight, bias]) => {
            let shape = conv::Shape { map, channels: (c, o), kernel: [1; 3], stride: [1; 3], padding: [0; 3] };
            let (mut y, bias) = (vec![0f32; b * map.places() * o], values(bias)?);
            let (x, weight) = (x.contiguous()?, weight.contiguous()?);
            with_values(&x, |x| {
                with_values(&weight, |weight| {
                    for (x, y) in x.chunks_exact(map.places() * c).zip(y.chunks_exact_mut(map.places() * o)) {
                        shape.forward(Isa::best(), x, weight, &bias, y);
                    }
                })
            })??;
            y
        }
    };
    let (norm, groups, conv) = parts.first;
    let middle = norm_conv3d(x, norm, groups, conv)?;
    let (norm, groups, conv) = parts.second;
    with_values(&middle, |x| {
        for (x, y) in x.chunks_exact(map.places() * o).zip(y.chunks_exact_mut(map.places() * o)) {
            half((x, map), norm, groups, conv, y, true)?;
        }
        Ok::<(), candle_core::Error>(())
    })??;
    Tensor::from_vec(y, (b, map.t, map.h, map.w, o), x.device())
}

/// 3 x 3 x 3, stride 1, margin 1.
struct Cube3 {
    doubles: bool,
}

impl Cube3 {
    fn map(&self, Map { t, h, w }: Map) -> Map {
        let zoom = if self.doubles { 2 } else { 1 };
        Map { t, h: h * zoom, w: w * zoom }
    }

    /// What a convolution of clips (B, T, H, W, C) with that kernel and bias (O) computes at a time, and how many times: clips
    /// of one frame are worked on together, as the frames of one map.
    fn parts<'a>(&self, dims: &[usize], weight: &'a [f32], bias: &'a [f32]) -> Result<(usize, Cube<'a>)> {
        let ((clips, map, c), o) = (sizes(dims)?, bias.len());
        let (map, alone) = (self.map(map), map.t == 1);
        let (parts, map) = if alone { (1, Map { t: clips, ..map }) } else { (clips, map) };
        let (doubles, direction) = (self.doubles, Direction::Forward);
        Ok((parts, Cube { map, doubles, alone, channels: (c, o), weight, direction, bias, before: None }))
    }
}

impl Operation for Cube3 {
    const NAME: &'static str = "conv3x3x3";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let ((b, map, _), o) = (sizes(dims[0])?, bias.len());
        let (parts, cube) = self.parts(dims[0], weight, bias)?;
        let places = cube.map.places();
        let mut y = vec![0f32; parts * places * o];
        for (x, y) in x.chunks_exact(x.len() / parts).zip(y.chunks_exact_mut(places * o)) {
            winograd::cube(Isa::best(), cube, x, y, false);
        }
        let Map { t, h, w } = self.map(map);
        Ok((y, vec![b, t, h, w, o]))
    }

    fn backward(&self, x: [&[f32]; 3], dims: [&[usize]; 3], _: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let [x, weight, bias] = x;
        let (parts, cube) = self.parts(dims[0], weight, bias)?;
        let ((_, small, c), o, map) = (sizes(dims[0])?, bias.len(), cube.map);
        let back = Cube { doubles: false, channels: (o, c), direction: Direction::Backward, bias: &[], ..cube };
        let each = (x.len() / parts, dy.len() / parts);
        let (mut dx, mut dw) = (vec![0f32; x.len()], vec![0f32; weight.len()]);
        for ((x, dy), dx) in x.chunks_exact(each.0).zip(dy.chunks_exact(each.1)).zip(dx.chunks_exact_mut(each.0)) {
            add(&mut dw, &winograd::gradient::weight_gradient(Isa::best(), cube, x, dy));
            if self.doubles {
                let mut fine = vec![0f32; map.places() * c];
                winograd::cube(Isa::best(), back, dy, &mut fine, false);
                elementwise::sum_of_four(&fine, (small.w, c), dx);
            } else {
                winograd::cube(Isa::best(), back, dy, dx, false);
            }
        }
        Ok([dx, dw, gemm::column_sums(dy, o)])
    }
}

/// Any other convolution.
struct Conv3d {
    shape: conv::Shape,
}

impl Operation for Conv3d {
    const NAME: &'static str = "conv3d";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let ((b, ..), o) = (sizes(dims[0])?, bias.len());
        let Some(out) = self.shape.output() else { bail!("conv3d: the kernel does not fit") };
        let mut y = vec![0f32; b * out.places() * o];
        for (x, y) in x.chunks_exact(x.len() / b).zip(y.chunks_exact_mut(out.places() * o)) {
            self.shape.forward(Isa::best(), x, weight, bias, y);
        }
        Ok((y, vec![b, out.t, out.h, out.w, o]))
    }

    fn backward(&self, x: [&[f32]; 3], dims: [&[usize]; 3], _: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let ([x, weight, bias], b) = (x, dims[0][0]);
        let (mut dx, mut dw) = (Vec::with_capacity(x.len()), vec![0f32; weight.len()]);
        for (x, dy) in x.chunks_exact(x.len() / b).zip(dy.chunks_exact(dy.len() / b)) {
            add(&mut dw, &self.shape.weight_gradient(Isa::best(), x, dy));
            dx.extend(self.shape.input_gradient(Isa::best(), weight, dy));
        }
        Ok([dx, dw, gemm::column_sums(dy, bias.len())])
    }
}
