//! Normalisation.

use std::sync::OnceLock;

use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{add, done, gradient, sizes, slice, three, values, Three};
use crate::kernel::norm::{Groups, Layer, Moments};
use crate::kernel::Isa;

/// x (B, T, H, W, C) normalised in groups of channels, then swish where wanted.
pub fn group_norm(x: &Tensor, [weight, bias]: [&Tensor; 2], groups: Groups) -> Result<Tensor> {
    let (_, _, channels) = sizes(x.dims())?;
    if [weight.dims(), bias.dims()] != [[groups.channels]; 2] || channels != groups.channels {
        bail!("group normalisation: expected {} channels, found {:?}", groups.channels, x.dims())
    }
    x.contiguous()?.apply_op3(weight, bias, GroupNorm { groups, moments: OnceLock::new() })
}

struct GroupNorm {
    groups: Groups,
    /// Of each record.
    moments: OnceLock<Vec<Moments>>,
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
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
        let affine = [slice(weight, of_weight)?, slice(bias, of_bias)?];
        let x = slice(x, layout)?;
        let mut y = vec![0f32; x.len()];
        let each = x.len() / layout.dims()[0];
        let moments = x.chunks_exact(each).zip(y.chunks_exact_mut(each)).map(|(x, y)| {
            let moments = self.groups.moments(Isa::best(), x);
            self.groups.apply(Isa::best(), x, &moments, affine, y);
            moments
        });
        let _ = self.moments.set(moments.collect());
        done(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let Some(moments) = self.moments.get() else { bail!("group normalisation: no forward pass") };
        let affine = [values(weight)?, values(bias)?];
        let [dx, dw, db] = three([x, dy, weight], |[x, dy, _]| {
            let each = x.len() / moments.len();
            let (mut dx, mut dw, mut db) =
                (vec![0f32; x.len()], vec![0f32; affine[0].len()], vec![0f32; affine[0].len()]);
            let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
            for (((x, dy), dx), moments) in records.zip(moments) {
                let affine = [affine[0].as_slice(), affine[1].as_slice()];
                let [w, b] = self.groups.gradient(Isa::best(), (x, dy), moments, affine, dx);
                add(&mut dw, &w);
                add(&mut db, &b);
            }
            [dx, dw, db]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
    }
}

/// (x - mean) / sqrt(var + eps) gain + shift within each row: x (B, .., width), gain and shift (B, width), or (1, width)
/// for all records.
pub fn layer_norm(x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    let (b, width) = gain.dims2()?;
    if x.dims().last() != Some(&width) || shift.dims() != gain.dims() || b == 0 || x.dim(0)? % b != 0 {
        bail!("layer normalisation: {:?} with gain {:?} and shift {:?}", x.dims(), gain.dims(), shift.dims())
    }
    x.contiguous()?.apply_op3(&gain.contiguous()?, &shift.contiguous()?, LayerNorm { eps })
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        of_gain: &Layout,
        shift: &CpuStorage,
        of_shift: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gain, shift) = (slice(x, layout)?, slice(gain, of_gain)?, slice(shift, of_shift)?);
        let (b, width) = (of_gain.dims()[0], of_gain.dims()[1]);
        let mut y = vec![0f32; x.len()];
        let each = (x.len() / b).max(1);
        let records = x.chunks_exact(each).zip(y.chunks_exact_mut(each));
        for ((x, y), (gain, shift)) in records.zip(gain.chunks_exact(width).zip(shift.chunks_exact(width))) {
            Layer { width, eps: self.eps, gain, shift }.apply(Isa::best(), x, y);
        }
        done(y, layout.shape())
    }

    fn bwd(&self, x: &Tensor, gain: &Tensor, shift: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        let (b, width) = gain.dims2()?;
        let [dx, dg, ds] = three([x, gain, dy], |[x, gain, dy]| {
            let (mut dx, mut dg, mut ds) = (vec![0f32; x.len()], Vec::new(), Vec::new());
            let each = (x.len() / b).max(1);
            let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
            for (((x, dy), dx), gain) in records.zip(gain.chunks_exact(width)) {
                let layer = Layer { width, eps: self.eps, gain, shift: gain };
                let [g, s] = layer.gradient(Isa::best(), x, dy, dx);
                dg.extend(g);
                ds.extend(s);
            }
            [dx, dg, ds]
        })?;
        Ok((gradient(dx, x)?, gradient(dg, gain)?, gradient(ds, shift)?))
    }
}
