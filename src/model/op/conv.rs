//! Convolution.

use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{add, done, gradient, sizes, slice, three, values, with_values, Three};
use crate::kernel::norm::Groups;
use crate::kernel::winograd::{self, Cube, Direction, Map};
use crate::kernel::{conv, elementwise, gemm, Isa};

/// Convolution of x (B, T, H, W, C) with kernel (O, C, kt, kh, kw) and bias (O).
pub fn conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2], stride: [usize; 3], padding: [usize; 3]) -> Result<Tensor> {
    let ((_, map, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if i != c || bias.dims() != [o] {
        bail!("conv3d: the kernel expects {i} channels, the input has {c}")
    }
    let weight = weight.contiguous()?;
    if ([kt, kh, kw], stride, padding) == ([3; 3], [1; 3], [1; 3]) {
        return x.contiguous()?.apply_op3(&weight, bias, Cube3 { doubles: false });
    }
    let shape = conv::Shape { map, channels: (c, o), kernel: [kt, kh, kw], stride, padding };
    if shape.output().is_none() {
        bail!(
            "conv3d: a kernel of {:?} with stride {stride:?} does not fit {map:?} padded by {padding:?}",
            shape.kernel
        )
    }
    x.contiguous()?.apply_op3(&weight, bias, Conv3d { shape })
}

/// Rows and columns doubled (nearest neighbour), then convolved 3 x 3 x 3.
pub fn double_conv3d(x: &Tensor, [weight, bias]: [&Tensor; 2]) -> Result<Tensor> {
    let ((_, _, c), (o, i, kt, kh, kw)) = (sizes(x.dims())?, weight.dims5()?);
    if (i, [kt, kh, kw]) != (c, [3; 3]) || bias.dims() != [o] {
        bail!("conv3d: expected a 3 x 3 x 3 kernel for {c} channels, found {:?}", weight.dims())
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, bias, Cube3 { doubles: true })
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

/// conv(swish(norm(x))) without a map of what is normalised; no gradient. x (B, T, H, W, C), kernel (O, C, 3, 3, 3).
pub fn norm_conv3d(x: &Tensor, norm: Affine<'_>, groups: Groups, conv: Affine<'_>) -> Result<Tensor> {
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
        let cube = Cube { map, doubles: false, channels: (c, o), weight, direction, bias: &bias, before };
        winograd::cube(Isa::best(), cube, x, y, adds);
    })
}

/// around(x) + conv(swish(norm(conv(swish(norm(x)))))), holding no more than input, middle and output; no gradient.
pub fn residual(x: &Tensor, parts: Residual<'_>) -> Result<Tensor> {
    let ((b, map, c), o) = (sizes(x.dims())?, parts.second.2[0].dim(0)?);
    if parts.around.is_none() && c != o {
        bail!("a residual block from {c} to {o} channels needs a way around")
    }
    let mut y = match parts.around {
        None => values(x)?,
        Some([weight, bias]) => {
            let shape = conv::Shape { map, channels: (c, o), kernel: [1; 3], stride: [1; 3], padding: [0; 3] };
            let (mut y, bias) = (vec![0f32; b * map.places() * o], values(bias)?);
            three([x, weight, weight], |[x, weight, _]| {
                for (x, y) in x.chunks_exact(map.places() * c).zip(y.chunks_exact_mut(map.places() * o)) {
                    shape.forward(Isa::best(), x, weight, &bias, y);
                }
            })?;
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
}

impl CustomOp3 for Cube3 {
    fn name(&self) -> &'static str {
        "conv3x3x3"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, map, c), o) = (sizes(layout.dims())?, of_weight.dims()[0]);
        let (x, weight, bias) = (slice(x, layout)?, slice(weight, of_weight)?, slice(bias, of_bias)?);
        let map = self.map(map);
        let direction = Direction::Forward;
        let cube = Cube { map, doubles: self.doubles, channels: (c, o), weight, direction, bias, before: None };
        let mut y = vec![0f32; b * map.places() * o];
        for (x, y) in x.chunks_exact(x.len() / b).zip(y.chunks_exact_mut(map.places() * o)) {
            winograd::cube(Isa::best(), cube, x, y, false);
        }
        done(y, (b, map.t, map.h, map.w, o))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let ((b, small, c), o) = (sizes(x.dims())?, weight.dim(0)?);
        let map = self.map(small);
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let (mut dx, mut dw) = (vec![0f32; x.len()], vec![0f32; weight.len()]);
            let direction = Direction::Backward;
            let back = Cube { map, doubles: false, channels: (o, c), weight, direction, bias: &[], before: None };
            let each = (x.len() / b, dy.len() / b);
            for ((x, dy), dx) in x.chunks_exact(each.0).zip(dy.chunks_exact(each.1)).zip(dx.chunks_exact_mut(each.0)) {
                add(&mut dw, &winograd::gradient::weight_gradient(Isa::best(), map, self.doubles, (c, o), x, dy));
                if self.doubles {
                    let mut fine = vec![0f32; map.places() * c];
                    winograd::cube(Isa::best(), back, dy, &mut fine, false);
                    elementwise::sum_of_four(&fine, (small.w, c), dx);
                } else {
                    winograd::cube(Isa::best(), back, dy, dx, false);
                }
            }
            [dx, dw, gemm::column_sums(dy, o)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// Any other convolution.
struct Conv3d {
    shape: conv::Shape,
}

impl CustomOp3 for Conv3d {
    fn name(&self) -> &'static str {
        "conv3d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((b, _, _), o) = (sizes(layout.dims())?, self.shape.channels.1);
        let Some(out) = self.shape.output() else { bail!("conv3d: the kernel does not fit") };
        let (x, weight, bias) = (slice(x, layout)?, slice(weight, of_weight)?, slice(bias, of_bias)?);
        let mut y = vec![0f32; b * out.places() * o];
        for (x, y) in x.chunks_exact(x.len() / b).zip(y.chunks_exact_mut(out.places() * o)) {
            self.shape.forward(Isa::best(), x, weight, bias, y);
        }
        done(y, (b, out.t, out.h, out.w, o))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let (b, o) = (x.dim(0)?, self.shape.channels.1);
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let (mut dx, mut dw) = (Vec::with_capacity(x.len()), vec![0f32; weight.len()]);
            for (x, dy) in x.chunks_exact(x.len() / b).zip(dy.chunks_exact(dy.len() / b)) {
                add(&mut dw, &self.shape.weight_gradient(Isa::best(), x, dy));
                dx.extend(self.shape.input_gradient(Isa::best(), weight, dy));
            }
            [dx, dw, gemm::column_sums(dy, o)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}
