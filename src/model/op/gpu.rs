//! The kernels of an NVIDIA GPU ([`crate::kernel::gpu`]) as operations on tensors (B, C, ..), with gradients.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView};
use candle_core::op::BackpropOp;
use candle_core::{bail, CudaDevice, CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor};

use crate::kernel::gpu::{Cube, Norm, GRID, LONGEST_LINE};
use crate::kernel::norm::Groups;
use crate::model::recompute::with_gradient;

fn device(x: &Tensor) -> Result<&CudaDevice> {
    match x.device() {
        Device::Cuda(device) => Ok(device),
        _ => bail!("expected a tensor on a GPU"),
    }
}

fn view<'a>(storage: &'a Storage, layout: &Layout) -> Result<CudaView<'a, f32>> {
    let Storage::Cuda(storage) = storage else { bail!("expected a tensor on a GPU") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("expected a contiguous tensor") };
    match storage.as_cuda_slice::<f32>()?.try_slice(start..end) {
        Some(view) => Ok(view),
        None => bail!("a tensor outside its storage"),
    }
}

/// Calls `f` with the numbers of contiguous tensors.
fn with_views<R, const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&CudaView<'_, f32>; N]) -> Result<R>,
) -> Result<R> {
    let all = tensors.map(Tensor::storage_and_layout);
    let views: Vec<CudaView<'_, f32>> = all.iter().map(|(s, layout)| view(s, layout)).collect::<Result<_>>()?;
    let views: Vec<&CudaView<'_, f32>> = views.iter().collect();
    match views.as_slice().try_into() {
        Ok(views) => f(views),
        Err(_) => bail!("expected {N} tensors"),
    }
}

fn tensor(numbers: CudaSlice<f32>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(numbers, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// Whether [`cube`] and [`cube_gradient`] compute this convolution.
pub fn has_cube(x: &Tensor, weight: &Tensor, padding: [usize; 3]) -> bool {
    let small = |x: &Tensor| x.dims().first().is_some_and(|b| b * x.dim(2).unwrap_or(GRID) < GRID);
    x.device().is_cuda()
        && x.dtype() == DType::F32
        && weight.dims().ends_with(&[3; 3])
        && padding == [1; 3]
        && small(x)
        && x.dim(4).is_ok_and(|w| w <= LONGEST_LINE)
}

fn sizes(x: &Tensor, o: usize) -> Result<Cube> {
    let (batch, c, t, h, w) = x.dims5()?;
    Ok(Cube { batch, channels: (c, o), map: [t, h, w] })
}

/// Convolution of x (B, C, T, H, W) by weight (O, C, 3, 3, 3) and bias (O) with margin 1; nothing is recorded.
pub fn cube(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (o, ..) = weight.dims5()?;
    let (sizes, device) = (sizes(x, o)?, device(x)?);
    let taps = weight.permute((2, 3, 4, 1, 0))?.contiguous()?; // (3, 3, 3, C, O)
    let bias = bias.map_or_else(|| Tensor::zeros(o, x.dtype(), x.device()), Tensor::contiguous)?;
    let y = with_views([&x.contiguous()?, &taps, &bias], |views| sizes.forward(device, views))?;
    let (batch, _, t, h, w) = x.dims5()?;
    Ok(tensor(y, device, (batch, o, t, h, w)))
}

/// The gradient of the weight of [`cube`]: (O, C, 3, 3, 3).
pub fn cube_gradient(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (o, c) = (dy.dim(1)?, x.dim(1)?);
    let (sizes, device) = (sizes(x, o)?, device(x)?);
    let (parts, n) = with_views([&x.contiguous()?, &dy.contiguous()?], |views| sizes.weight_gradient(device, views))?;
    let sum = tensor(parts, device, (n, 27 * c * o)).sum(0)?;
    sum.reshape((3, 3, 3, c, o))?.permute((4, 3, 0, 1, 2))?.contiguous()
}

/// Whether [`group_norm`] computes on this tensor.
pub fn has_norm(x: &Tensor) -> bool {
    let maps = x.dims().iter().take(2).product::<usize>();
    x.device().is_cuda() && x.dtype() == DType::F32 && x.elem_count() > 0 && maps < GRID
}

/// Group normalisation of x (B, C, ..), then y sigmoid(y) where the groups say so.
pub fn group_norm(x: &Tensor, [scale, offset]: [&Tensor; 2], groups: Groups) -> Result<Tensor> {
    let (x, dims) = (x.contiguous()?, x.dims().to_vec());
    let (batch, c) = (x.dim(0)?, groups.channels);
    if x.dim(1)? != c || scale.dims() != [c] || offset.dims() != [c] {
        bail!("group normalisation: expected {c} channels, found {dims:?}")
    }
    let places = x.elem_count() / (batch * c);
    let sizes = Norm { batch, channels: (c, groups.groups), places, eps: groups.eps as f32, swish: groups.swish };
    let gpu = device(&x)?.clone();
    let moments = with_views([&x], |[x]| sizes.moments(&gpu, x))?;
    let moments = tensor(moments, &gpu, (batch, groups.groups, 2));
    let y = with_views([&x, &moments, scale, offset], |views| sizes.forward(&gpu, views))?;
    let y = tensor(y, &gpu, dims.clone());
    with_gradient([&x, scale, offset], y, move |[x, scale, offset], dy| {
        let dy = dy.contiguous()?;
        let all = [x, &dy, &moments, scale, offset];
        let (dx, sums) = with_views(all, |views| sizes.backward(&gpu, views))?;
        let sums = tensor(sums, &gpu, (2, batch, c)).sum(1)?;
        Ok((Some(tensor(dx, &gpu, dims.clone())), Some(sums.get(1)?), Some(sums.get(0)?)))
    })
}
