//! Attention.

use std::sync::OnceLock;

use candle_core::{bail, CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{done, gradient, slice, three, values, Three};
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
    let op = Attention { shape, precision, log_total: OnceLock::new() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

struct Attention {
    shape: attention::Shape,
    precision: Precision,
    log_total: OnceLock<Vec<f32>>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        of_q: &Layout,
        k: &CpuStorage,
        of_k: &Layout,
        v: &CpuStorage,
        of_v: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let attention::Shape { groups, queries, heads, e, .. } = self.shape;
        let qkv = [slice(q, of_q)?, slice(k, of_k)?, slice(v, of_v)?];
        let mut y = vec![0f32; groups * queries * heads * e];
        let mut log_total = vec![0f32; groups * heads * queries];
        attention::attention(Isa::best(), self.precision, self.shape, qkv, &mut y, Some(&mut log_total));
        let _ = self.log_total.set(log_total);
        done(y, (groups, queries, heads * e))
    }

    fn bwd(&self, q: &Tensor, k: &Tensor, v: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Three> {
        let Some(log_total) = self.log_total.get() else { bail!("attention: no forward pass") };
        if self.precision != Precision::F32 {
            bail!("attention in bf16 has no gradient")
        }
        let (y, dy) = (values(y)?, values(dy)?);
        let [dq, dk, dv] = three([q, k, v], |[q, k, v]| {
            attention::gradient::gradient(Isa::best(), self.shape, Past { q, k, v, y: &y, log_total, dy: &dy })
        })?;
        Ok((gradient(dq, q)?, gradient(dk, k)?, gradient(dv, v)?))
    }
}
