//! The bridge between nouns and tensors: device choice, our seeded noise, arrays to tensors and back.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::random::Stream;
use candle_core::{Device, Tensor};
use ndarray::{ArrayD, ArrayView, Dimension};

/// Where the models run, as the user asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// The n-th NVIDIA GPU.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = match text {
            "cpu" => return Ok(DeviceChoice::Cpu),
            "cuda" => "0",
            _ => text.strip_prefix("cuda:").unwrap_or("?"),
        };
        number.parse().map(DeviceChoice::Cuda).map_err(|_| format!("expected cpu, cuda or cuda:N, found {text}"))
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// Where this build has no CUDA, or the GPU does not answer; there is no silent fall-back.
    pub fn open(self) -> Result<Device> {
        match self {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Cuda(_) if !candle_core::utils::cuda_is_available() => Err(Error::Usage {
                cause: "--device cuda: this build has no CUDA".to_owned(),
                hint: Some("build with --features cuda, or use --device cpu".to_owned()),
            }),
            DeviceChoice::Cuda(n) => gpu(n).map_err(Error::compute(format!("opening GPU {n}"))),
        }
    }

    /// Lets products on a GPU be made in TF32: three to four digits, several times as fast.
    ///
    /// # Errors
    /// On the processor, which has no such products.
    pub fn allow_tf32(self) -> Result<()> {
        if self == DeviceChoice::Cpu {
            return Err(Error::usage("--tf32 is for --device cuda"));
        }
        candle_core::cuda::set_gemm_reduced_precision_f32(true);
        Ok(())
    }
}

fn gpu(n: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda(n)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(gpu) = &device {
        crate::kernel::gpu::keep_memory(gpu)?;
    }
    Ok(device)
}

/// An array as a tensor on `device`.
///
/// # Errors
/// Where the device has no room.
pub fn from_array<D: Dimension>(array: ArrayView<'_, f32, D>, device: &Device) -> candle_core::Result<Tensor> {
    let shape = array.shape().to_vec();
    Tensor::from_vec(array.iter().copied().collect(), shape, device)
}

/// A tensor as an array.
///
/// # Errors
/// Where the tensor is not f32 or cannot be fetched.
pub fn to_array<D: Dimension>(tensor: &Tensor) -> candle_core::Result<ndarray::Array<f32, D>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let array = ArrayD::from_shape_vec(tensor.dims().to_vec(), values).map_err(candle_core::Error::wrap)?;
    array.into_dimensionality().map_err(candle_core::Error::wrap)
}

/// Standard normal noise of one draw of one record.
///
/// The stream depends on (seed, record id, draw) alone, so a record gives the same clip whatever the batch, the shard
/// or the number of threads.
pub struct Noise(Stream);

impl Noise {
    /// The stream of draw `draw` of record `id`.
    pub fn new(seed: u64, id: &str, draw: u32) -> Noise {
        Noise(Stream::new("ecgflow noise 1", seed, id, draw))
    }

    /// The next value.
    pub fn normal(&mut self) -> f64 {
        self.0.normal()
    }

    /// A tensor of values, drawn on the CPU whatever the device.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn tensor(&mut self, shape: &[usize], device: &Device) -> candle_core::Result<Tensor> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.normal() as f32).collect();
        Tensor::from_vec(values, shape, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_the_help() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert!("gpu".parse::<DeviceChoice>().is_err());
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn the_stream_depends_on_seed_id_and_draw() {
        let first = |seed, id, draw| Noise::new(seed, id, draw).normal();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        assert_ne!(first(1, "a", 0), first(2, "a", 0));
        assert_ne!(first(1, "a", 0), first(1, "b", 0));
        assert_ne!(first(1, "a", 0), first(1, "a", 1));
    }

    #[test]
    fn noise_is_standard_normal() {
        let mut noise = Noise::new(0, "moments", 0);
        let values: Vec<f64> = (0..200_000).map(|_| noise.normal()).collect();
        let mean = |f: &dyn Fn(f64) -> f64| values.iter().map(|v| f(*v)).sum::<f64>() / values.len() as f64;
        assert!(mean(&|v| v).abs() < 0.01);
        assert!((mean(&|v| v * v) - 1.0).abs() < 0.02);
        assert!((mean(&|v| v.powi(4)) - 3.0).abs() < 0.15);
    }
}
