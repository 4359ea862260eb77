//! Normalisation.

use std::sync::OnceLock;

use candle_core::{bail, Result, Tensor};

use super::{add, apply, sizes, Operation};
use crate::kernel::norm::{Groups, Layer, Moments};
use crate::kernel::Isa;

/// x (B, T, H, W, C) normalised in groups of channels, then swish where wanted.
pub fn group_norm(x: &Tensor, [weight, bias]: [&Tensor; 2], groups: Groups) -> Result<Tensor> {
    let (_, _, channels) = sizes(x.dims())?;
    if [weight.dims(), bias.dims()] != [[groups.channels]; 2] || channels != groups.channels {
        bail!("group normalisation: expected {} channels, found {:?}", groups.channels, x.dims())
    }
    apply([x, weight, bias], GroupNorm { groups, moments: OnceLock::new() })
}

struct GroupNorm {
    groups: Groups,
    /// Of each record.
    moments: OnceLock<Vec<Moments>>,
}

impl Operation for GroupNorm {
    const NAME: &'static str = "group-norm";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (mut y, each) = (vec![0f32; x.len()], x.len() / dims[0][0]);
        let moments = x.chunks_exact(each).zip(y.chunks_exact_mut(each)).map(|(x, y)| {
            let moments = self.groups.moments(Isa::best(), x);
            self.groups.apply(Isa::best(), x, &moments, [weight, bias], y);
            moments
        });
        let _ = self.moments.set(moments.collect());
        Ok((y, dims[0].to_vec()))
    }

    fn backward(&self, x: [&[f32]; 3], _: [&[usize]; 3], _: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let Some(moments) = self.moments.get() else { bail!("group normalisation: no forward pass") };
        let [x, weight, bias] = x;
        let mut gradients = [x, weight, bias].map(|x| vec![0f32; x.len()]);
        let [dx, dw, db] = &mut gradients;
        let each = x.len() / moments.len();
        let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
        for (((x, dy), dx), moments) in records.zip(moments) {
            let [w, b] = self.groups.gradient(Isa::best(), (x, dy), moments, [weight, bias], dx);
            add(dw, &w);
            add(db, &b);
        }
        Ok(gradients)
    }
}

/// (x - mean) / sqrt(var + eps) gain + shift within each row: x (B, .., width), gain and shift (B, width), or (1, width)
/// for all records.
pub fn layer_norm(x: &Tensor, gain: &Tensor, shift: &Tensor, eps: f32) -> Result<Tensor> {
    let (b, width) = gain.dims2()?;
    let fits = x.dims().last() == Some(&width) && shift.dims() == gain.dims();
    if !fits || b == 0 || width == 0 || !x.dim(0)?.is_multiple_of(b) {
        bail!("layer normalisation: {:?} with gain {:?} and shift {:?}", x.dims(), gain.dims(), shift.dims())
    }
    apply([x, gain, shift], LayerNorm { eps })
}

struct LayerNorm {
    eps: f32,
}

impl Operation for LayerNorm {
    const NAME: &'static str = "layer-norm";

    fn forward(&self, [x, gain, shift]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (b, width) = (dims[1][0], dims[1][1]);
        let (mut y, each) = (vec![0f32; x.len()], (x.len() / b).max(1));
        let records = x.chunks_exact(each).zip(y.chunks_exact_mut(each));
        for ((x, y), (gain, shift)) in records.zip(gain.chunks_exact(width).zip(shift.chunks_exact(width))) {
            Layer { width, eps: self.eps, gain, shift }.apply(Isa::best(), x, y);
        }
        Ok((y, dims[0].to_vec()))
    }

    fn backward(&self, x: [&[f32]; 3], dims: [&[usize]; 3], _: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let ([x, gain, shift], (b, width)) = (x, (dims[1][0], dims[1][1]));
        let (mut dx, mut dg, mut ds, each) = (vec![0f32; x.len()], Vec::new(), Vec::new(), (x.len() / b).max(1));
        let records = x.chunks_exact(each).zip(dy.chunks_exact(each)).zip(dx.chunks_exact_mut(each));
        for (((x, dy), dx), (gain, shift)) in records.zip(gain.chunks_exact(width).zip(shift.chunks_exact(width))) {
            let layer = Layer { width, eps: self.eps, gain, shift };
            let [g, s] = layer.gradient(Isa::best(), x, dy, dx);
            dg.extend(g);
            ds.extend(s);
        }
        Ok([dx, dg, ds])
    }
}
