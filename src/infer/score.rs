//! Clips to what scores compare: perceptual distance, features of frames, features of clips.

use candle_core::{Device, Tensor};

use super::finite;
use crate::checkpoint::{Kind, Weights};
use crate::data::cine::Cine;
use crate::error::{Error, Result};
use crate::model::i3d::{self, I3d};
use crate::model::inception::{self, Inception};
use crate::model::lpips::{self, Lpips};
use crate::tensor;

const DOING: &str = "computing a score";
/// Frames that go through Inception-v3 at a time: their maps take 0.2 GB.
const FRAMES: usize = 8;

/// LPIPS with AlexNet.
pub struct Perceptual {
    net: Lpips,
    device: Device,
}

impl Perceptual {
    /// Loads the network.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(weights: &Weights, device: &Device) -> Result<Perceptual> {
        let config: lpips::Config = weights.config(Kind::LpipsAlex)?;
        let net = Lpips::new(&config, weights.builder(Kind::LpipsAlex, device)?);
        Ok(Perceptual { net: net.map_err(Error::compute("loading weights"))?, device: device.clone() })
    }

    /// Mean distance of the frames of two clips of the same size.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn distance(&self, a: &Cine, b: &Cine) -> Result<f64> {
        let distance = || -> candle_core::Result<f64> {
            let of = |cine: &Cine| {
                let x = ((clip(cine, &self.device)? * 2.0)? - 1.0)?;
                x.unsqueeze(0)?.unsqueeze(0) // (1, 1, T, H, W)
            };
            let frames: Vec<f32> = self.net.forward(&of(a)?, &of(b)?)?.flatten_all()?.to_vec1()?;
            finite("LPIPS", &a.id, &frames)?;
            Ok(frames.iter().map(|d| f64::from(*d)).sum::<f64>() / frames.len() as f64)
        };
        distance().map_err(Error::compute(DOING))
    }
}

fn clip(cine: &Cine, device: &Device) -> candle_core::Result<Tensor> {
    tensor::from_array(cine.clip.view(), device)
}

/// Inception-v3: features of frames.
pub struct Frames {
    net: Inception,
    width: usize,
    device: Device,
}

impl Frames {
    /// Loads the network.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(weights: &Weights, device: &Device) -> Result<Frames> {
        let config: inception::Config = weights.config(Kind::Inception)?;
        let net = Inception::new(&config, weights.builder(Kind::Inception, device)?);
        let net = net.map_err(Error::compute("loading weights"))?;
        Ok(Frames { net, width: config.features(), device: device.clone() })
    }

    /// Features of a frame.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of each frame of a clip, one after another.
    ///
    /// # Errors
    /// Where the computation fails.
    pub fn run(&self, cine: &Cine) -> Result<Vec<f32>> {
        let run = || -> candle_core::Result<Vec<f32>> {
            let (clip, mut all) = (clip(cine, &self.device)?, Vec::new());
            let frames = clip.dim(0)?;
            for from in (0..frames).step_by(FRAMES) {
                let part = clip.narrow(0, from, FRAMES.min(frames - from))?;
                all.extend(self.net.forward(&part)?.flatten_all()?.to_vec1::<f32>()?);
            }
            finite("Inception features", &cine.id, &all)?;
            Ok(all)
        };
        run().map_err(Error::compute(DOING))
    }
}

/// I3D: features of clips.
pub struct Clips {
    net: I3d,
    width: usize,
    device: Device,
}

impl Clips {
    /// Loads the network.
    ///
    /// # Errors
    /// Where the weights lack it or do not fit their configuration.
    pub fn open(weights: &Weights, device: &Device) -> Result<Clips> {
        let config: i3d::Config = weights.config(Kind::I3d)?;
        let net = I3d::new(&config, weights.builder(Kind::I3d, device)?);
        let net = net.map_err(Error::compute("loading weights"))?;
        Ok(Clips { net, width: config.features(), device: device.clone() })
    }

    /// Features of a clip.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of a clip.
    ///
    /// # Errors
    /// Where the computation fails, as for clips of fewer than nine frames.
    pub fn run(&self, cine: &Cine) -> Result<Vec<f32>> {
        let run = || -> candle_core::Result<Vec<f32>> {
            let features = self.net.forward(&clip(cine, &self.device)?)?.to_vec1()?;
            finite("I3D features", &cine.id, &features)?;
            Ok(features)
        };
        run().map_err(Error::compute(DOING))
    }
}
