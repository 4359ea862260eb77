//! Attention.

use std::sync::OnceLock;

use candle_core::{bail, Result, Tensor};

use super::{apply, check, Operation};
use crate::kernel::attention::{self, gradient::Past};
use crate::kernel::gemm::Precision;
use crate::kernel::Isa;

/// softmax(Q K^T / sqrt d) V with all heads side by side: q (G, N, heads d), k (G, M, heads d), v (G, M, heads e) ->
/// (G, N, heads e). bf16 has no gradient.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, precision: Precision) -> Result<Tensor> {
    let ((groups, queries, width), (_, keys, out)) = (q.dims3()?, v.dims3()?);
    if heads == 0 || !width.is_multiple_of(heads) || !out.is_multiple_of(heads) || keys == 0 {
        bail!("attention: {width} and {out} values cannot be split among {heads} heads")
    }
    if k.dims() != [groups, keys, width] || v.dim(0)? != groups {
        bail!("attention: queries {:?}, keys {:?} and values {:?} do not fit", q.dims(), k.dims(), v.dims())
    }
    let shape = attention::Shape { groups, queries, keys, heads, d: width / heads, e: out / heads };
    check(precision)?;
    apply([q, k, v], Attention { shape, precision, log_total: OnceLock::new() })
}

struct Attention {
    shape: attention::Shape,
    precision: Precision,
    log_total: OnceLock<Vec<f32>>,
}

impl Operation for Attention {
    const NAME: &'static str = "attention";

    fn forward(&self, qkv: [&[f32]; 3], _: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let attention::Shape { groups, queries, heads, e, .. } = self.shape;
        let mut y = vec![0f32; groups * queries * heads * e];
        let mut log_total = vec![0f32; groups * heads * queries];
        attention::attention(Isa::best(), self.precision, self.shape, qkv, &mut y, Some(&mut log_total));
        let _ = self.log_total.set(log_total);
        Ok((y, vec![groups, queries, heads * e]))
    }

    fn backward(&self, x: [&[f32]; 3], _: [&[usize]; 3], y: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let Some(log_total) = self.log_total.get() else { bail!("attention: no forward pass") };
        if self.precision != Precision::F32 {
            bail!("attention in bf16 has no gradient")
        }
        let [q, k, v] = x;
        Ok(attention::gradient::gradient(Isa::best(), self.shape, Past { q, k, v, y, log_total, dy }))
    }
}
