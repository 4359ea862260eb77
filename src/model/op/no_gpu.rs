//! A build without CUDA has no kernels for a GPU.

use candle_core::{bail, Result, Tensor};

use crate::kernel::norm::Groups;

/// Never.
pub fn has_cube(_: &Tensor, _: &Tensor, _: [usize; 3]) -> bool {
    false
}

/// An error.
pub fn cube(_: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Tensor> {
    bail!("this build has no CUDA")
}

/// An error.
pub fn cube_gradient(_: &Tensor, _: &Tensor) -> Result<Tensor> {
    bail!("this build has no CUDA")
}

/// Never.
pub fn has_norm(_: &Tensor) -> bool {
    false
}

/// An error.
pub fn group_norm(_: &Tensor, _: [&Tensor; 2], _: Groups) -> Result<Tensor> {
    bail!("this build has no CUDA")
}
