//! Linear layers and what stands between them.

use candle_core::{bail, CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{apply, check, slice, with_values, Operation};
use crate::kernel::gemm::{self, Packed, Precision};
use crate::kernel::{elementwise, Isa};

/// x (.., in) W^T + b: weight (out, in), bias (out). bf16 has no gradient.
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Tensor> {
    let (out, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || bias.dims() != [out] || inputs == 0 || out == 0 {
        bail!("a linear layer for {inputs} values and {out} biases got {:?} and {:?}", x.dims(), bias.dims())
    }
    check(precision)?;
    apply([x, weight, bias], Linear { precision })
}

struct Linear {
    precision: Precision,
}

impl Operation for Linear {
    const NAME: &'static str = "linear";

    fn forward(&self, [x, weight, bias]: [&[f32]; 3], dims: [&[usize]; 3]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (out, inputs) = (dims[1][0], dims[1][1]);
        let packed = Packed::from_weight(Isa::best(), self.precision, weight, (inputs, out));
        let mut y = vec![0f32; x.len() / inputs * out];
        gemm::linear(x, &packed, bias, &mut y, false);
        let mut dims = dims[0].to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        Ok((y, dims))
    }

    fn backward(&self, x: [&[f32]; 3], dims: [&[usize]; 3], y: &[f32], dy: &[f32]) -> Result<[Vec<f32>; 3]> {
        let [_, dw, db] = self.backward_of_weights(x, dims, y, dy)?;
        let ([x, weight, _], (out, inputs)) = (x, (dims[1][0], dims[1][1]));
        let packed = Packed::new(Isa::best(), Precision::F32, (out, inputs), |o, i| weight[o * inputs + i]);
        let mut dx = vec![0f32; x.len()];
        gemm::linear(dy, &packed, &[], &mut dx, false);
        Ok([dx, dw, db])
    }

    fn backward_of_weights(
        &self,
        [x, ..]: [&[f32]; 3],
        dims: [&[usize]; 3],
        _: &[f32],
        dy: &[f32],
    ) -> Result<[Vec<f32>; 3]> {
        if self.precision != Precision::F32 {
            bail!("a linear layer in bf16 has no gradient")
        }
        let (out, inputs) = (dims[1][0], dims[1][1]);
        Ok([Vec::new(), gemm::outer(Isa::best(), dy, x, out, inputs), gemm::column_sums(dy, out)])
    }
}

/// The exact GELU.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(elementwise::gelu(Isa::best(), slice(x, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (values, dy) = (x.contiguous()?, dy.contiguous()?);
        let dx = with_values(&values, |x| with_values(&dy, |dy| elementwise::gelu_gradient(Isa::best(), x, dy)))??;
        Tensor::from_vec(dx, x.dims(), x.device()).map(Some)
    }
}
