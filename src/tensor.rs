//! The bridge between nouns and tensors: device choice, our seeded noise, arrays to tensors and back.

use std::str::FromStr;

use candle_core::{Device, Tensor};
use ndarray::{ArrayD, ArrayView, Dimension};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

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
            DeviceChoice::Cuda(n) => Device::new_cuda(n).map_err(Error::compute(format!("opening GPU {n}"))),
        }
    }
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
/// or the number of threads. The key is SHA-256 of the three; the generator is xoshiro256++ (Blackman and Vigna, 2019)
/// in f64, the normal values come in pairs by the Box-Muller transform.
pub struct Noise {
    state: [u64; 4],
    spare: Option<f64>,
}

impl Noise {
    /// The stream of draw `draw` of record `id`.
    pub fn new(seed: u64, id: &str, draw: u32) -> Noise {
        let mut hash = Sha256::new();
        hash.update(b"ecgflow noise 1\0");
        hash.update(seed.to_le_bytes());
        hash.update(draw.to_le_bytes());
        hash.update(id.as_bytes());
        let key = hash.finalize();
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(key.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        }
        Noise { state, spare: None }
    }

    fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// The next value.
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
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
