//! Scaled dot-product attention that never holds the full matrix of scores, and PyTorch's multi-head layer on top. The
//! processor has a kernel for it; what stands here serves other devices and double precision.
//!
//! attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V, computed for a block of queries at a time. A clip of 50 x 24 x 24
//! tokens would need 3 GB of scores a head; a block needs a few MB.

use candle_core::{Result, Tensor, D};
use candle_nn::VarBuilder;
use rayon::prelude::*;

use super::recompute::recomputed;
use super::{layers, op};
use crate::kernel::gemm::Precision;
use crate::kernel::transformer::{CrossAttention, SelfAttention};

/// Bytes of scores in a block on the CPU, for each thread at work; small enough to stay near the processor.
const BLOCK_BYTES_CPU: usize = 4 << 20;
/// Bytes of scores in a block on a GPU.
const BLOCK_BYTES_GPU: usize = 256 << 20;

/// Queries (.., N, d) attend to keys (.., M, d) with values (.., M, e) -> (.., N, e); the leading sizes are equal.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (&[.., n, d], &[.., m, e]) = (q.dims(), v.dims()) else {
        candle_core::bail!("attention: expected at least two dimensions, found {:?} and {:?}", q.dims(), v.dims())
    };
    let mut shape = q.dims().to_vec();
    shape.pop();
    shape.push(e);
    let scale = 1.0 / (d as f64).sqrt();
    let q = (q.reshape(((), n, d))?.contiguous()? * scale)?; // (G, N, d), G = every leading size at once
    let k = k.reshape(((), m, d))?.contiguous()?.transpose(1, 2)?; // (G, d, M)
    let v = v.reshape(((), m, e))?.contiguous()?; // (G, M, e)
    blocks(&q, &k, &v)?.reshape(shape)
}

/// softmax(q k) v of one block: q (G, N, d), k (G, d, M), v (G, M, e).
fn block([q, k, v]: [&Tensor; 3]) -> Result<Tensor> {
    let scores = q.matmul(k)?; // (G, N, M)
    if layers::is_tracked(&[&scores]) {
        candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(v)
    } else {
        candle_nn::ops::softmax_last_dim(&scores)?.matmul(v)
    }
}

/// softmax(q k) v over pieces of (G, N), several heads or one part of a head at a time.
fn blocks(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (g, n, _) = q.dims3()?;
    let m = k.dim(2)?;
    let budget = if q.device().is_cpu() { BLOCK_BYTES_CPU } else { BLOCK_BYTES_GPU };
    let row = (m * q.dtype().size_in_bytes()).max(1);
    let rows = (budget / row).clamp(1, n.max(1));
    let heads = (budget / (row * n.max(1))).clamp(1, g.max(1));
    let part = |(head, row): (usize, usize)| {
        let (heads, rows) = (heads.min(g - head), rows.min(n - row));
        let heads = |x: &Tensor| x.narrow(0, head, heads);
        recomputed([&heads(q)?.narrow(1, row, rows)?.contiguous()?, &heads(k)?, &heads(v)?], block)
        // (heads, rows, e)
    };
    let starts: Vec<_> =
        (0..g).step_by(heads).flat_map(|head| (0..n).step_by(rows).map(move |row| (head, row))).collect();
    let parts: Vec<Tensor> = if q.device().is_cpu() {
        starts.into_par_iter().map(part).collect::<Result<_>>()?
    } else {
        starts.into_iter().map(part).collect::<Result<_>>()?
    };
    let per_head = n.div_ceil(rows);
    let heads: Vec<Tensor> = parts.chunks(per_head).map(|rows| Tensor::cat(rows, 1)).collect::<Result<_>>()?;
    Tensor::cat(&heads, 0)
}

/// Attention of all heads side by side: q (G, N, heads d), k (G, M, heads d), v (G, M, heads e) -> (G, N, heads e).
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if op::has_kernels(q) {
        return op::attention(q, k, v, heads, Precision::F32);
    }
    merge_heads(&attention(&split_heads(q, heads)?, &split_heads(k, heads)?, &split_heads(v, heads)?)?)
}

/// (G, N, heads d) -> (G, heads, N, d).
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (g, n, width) = x.dims3()?;
    x.reshape((g, n, heads, width / heads.max(1)))?.transpose(1, 2)
}

/// (G, heads, N, d) -> (G, N, heads d).
fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (g, heads, n, d) = x.dims4()?;
    x.transpose(1, 2)?.reshape((g, n, heads * d))
}

/// Multi-head attention with the tensors of PyTorch's `MultiheadAttention`.
#[derive(Debug, Clone)]
pub struct MultiHead {
    weight: Tensor,
    bias: Tensor,
    out: layers::Linear,
    heads: usize,
}

impl MultiHead {
    /// Reads `in_proj_weight` (3 width, width: rows of q, then k, then v), `in_proj_bias` and `out_proj`.
    pub fn new(width: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            candle_core::bail!("a width of {width} cannot be split among {heads} heads")
        }
        let weight = vb.get_with_hints((3 * width, width), "in_proj_weight", layers::xavier(width, 3 * width))?;
        let bias = vb.get_with_hints(3 * width, "in_proj_bias", candle_nn::init::ZERO)?;
        let out = layers::linear(width, width, layers::xavier(width, width), vb.pp("out_proj"))?;
        Ok(MultiHead { weight, bias, out, heads })
    }

    /// Query (0), key (1) or value (2): x (G, N, width) -> (G, N, width).
    fn project(&self, x: &Tensor, which: usize) -> Result<Tensor> {
        let width = x.dim(D::Minus1)?;
        let part = |x: &Tensor| x.narrow(0, which * width, width);
        layers::linear_forward(x, &part(&self.weight)?, &part(&self.bias)?)
    }

    /// Attention within groups, packed for the kernels of the processor.
    pub fn packed(&self, precision: Precision) -> Result<SelfAttention> {
        let qkv = op::dense(&self.weight, &self.bias, precision)?;
        Ok(SelfAttention { qkv, out: op::dense(self.out.weight(), self.out.bias(), precision)? })
    }

    /// Attention to other tokens, packed for the kernels of the processor.
    pub fn packed_cross(&self, precision: Precision) -> Result<CrossAttention> {
        let width = self.weight.dim(1)?;
        let part = |from: usize, n: usize| {
            let (weight, bias) = (self.weight.narrow(0, from, n)?, self.bias.narrow(0, from, n)?);
            op::dense(&weight, &bias, precision)
        };
        let out = op::dense(self.out.weight(), self.out.bias(), precision)?;
        Ok(CrossAttention { q: part(0, width)?, kv: part(width, 2 * width)?, out })
    }

    /// Tokens x (G, N, width) attend to tokens y (G, M, width) -> (G, N, width).
    pub fn forward(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.project(x, 0)?, self.project(y, 1)?, self.project(y, 2)?);
        self.out.forward(&attend(&q, &k, &v, self.heads)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    fn random(shape: (usize, usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn blocks_of_queries_equal_the_full_matrix() {
        // 1,500 keys and 2,000 queries: 12 MB of scores a head, so a head falls into several blocks.
        let (q, k, v) = (random((2, 2000, 8)), random((2, 1500, 8)), random((2, 1500, 4)));
        let scores = (q.matmul(&k.t().unwrap()).unwrap() / 8f64.sqrt()).unwrap();
        let want = candle_nn::ops::softmax(&scores, D::Minus1).unwrap().matmul(&v).unwrap();
        assert!(worst(&attention(&q, &k, &v).unwrap(), &want) < 1e-5);
    }

    #[test]
    fn gradient_flows_to_queries_keys_and_values() {
        let vars: Vec<Var> = [(3, 5, 4), (3, 7, 4), (3, 7, 2)]
            .map(|s| Var::from_tensor(&random(s).to_dtype(DType::F64).unwrap()).unwrap())
            .to_vec();
        let loss = |t: &[Tensor]| attention(&t[0], &t[1], &t[2]).unwrap().sqr().unwrap().sum_all().unwrap();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let grads = loss(&tensors).backward().unwrap();
        for (i, var) in vars.iter().enumerate() {
            let direction = var.ones_like().unwrap();
            let along = grads.get(var).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            let moved = |step: f64| {
                let mut t: Vec<Tensor> = tensors.iter().map(|t| t.detach()).collect();
                t[i] = (&t[i] + (&direction * step).unwrap()).unwrap();
                loss(&t).to_scalar::<f64>().unwrap()
            };
            // Shifting every key alike changes nothing, so that slope is 0 up to rounding.
            assert!((along - (moved(1e-4) - moved(-1e-4)) / 2e-4).abs() < 1e-6, "argument {i}");
        }
    }

    #[test]
    fn heads_split_and_merge_back() {
        let x = random((2, 3, 8));
        assert_eq!(worst(&merge_heads(&split_heads(&x, 4).unwrap()).unwrap(), &x), 0.0);
    }
}
