//! Linear layers and what stands between them.

use candle_core::{bail, CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

use super::{done, gradient, slice, three, Three};
use crate::kernel::gemm::{self, Packed, Precision};
use crate::kernel::{elementwise, Isa};

/// x (.., in) W^T + b: weight (out, in), bias (out).
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, precision: Precision) -> Result<Tensor> {
    let (out, inputs) = weight.dims2()?;
    if x.dims().last() != Some(&inputs) || bias.dims() != [out] {
        bail!("a linear layer for {inputs} values and {out} biases got {:?} and {:?}", x.dims(), bias.dims())
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { precision })
}

struct Linear {
    precision: Precision,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (out, inputs) = (of_weight.dims()[0], of_weight.dims()[1]);
        let packed = Packed::from_weight(Isa::best(), self.precision, slice(weight, of_weight)?, (inputs, out));
        let x = slice(x, layout)?;
        let mut y = vec![0f32; x.len() / inputs * out];
        gemm::linear(x, &packed, slice(bias, of_bias)?, &mut y, false);
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        done(y, dims)
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Three> {
        if self.precision != Precision::F32 {
            bail!("a linear layer in bf16 has no gradient")
        }
        let (out, inputs) = weight.dims2()?;
        let [dx, dw, db] = three([x, weight, dy], |[x, weight, dy]| {
            let packed = Packed::new(Isa::best(), Precision::F32, (out, inputs), |o, i| weight[o * inputs + i]);
            let mut dx = vec![0f32; x.len()];
            gemm::linear(dy, &packed, &[], &mut dx, false);
            [dx, gemm::outer(Isa::best(), dy, x, out, inputs), gemm::column_sums(dy, out)]
        })?;
        Ok((gradient(dx, x)?, gradient(dw, weight)?, gradient(db, bias)?))
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
        done(elementwise::gelu(Isa::best(), slice(x, layout)?), layout.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = three([x, dy, dy], |[x, dy, _]| elementwise::gelu_gradient(Isa::best(), x, dy))?;
        gradient(dx, x)
    }
}
