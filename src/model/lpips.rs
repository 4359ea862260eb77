//! LPIPS: how far apart two images look, by the features of an image classifier (Zhang et al. 2018, equation 1).
//!
//! d(x, x0) = sum over stages l of mean over places of w_l . (y_l - y0_l)^2
//!
//! with y_l the features of stage l, scaled to length 1 over the channels at each place, and w_l >= 0 learned from human
//! judgements. The frames of a clip are images; grey stands for red, green and blue.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | x, x0 | `clip`, in \[-1, 1\] | (B, 1, T, H, W) or (B, 3, T, H, W) |
//! | y_l | [`Lpips::features`] | (B, C_l, T, H_l, W_l) |
//! | w_l | `heads` | (1, C_l, 1, 1, 1) |
//! | d | the result of [`Lpips::distance`] | (B, T) |
//!
//! Version 0.1 of the weights. Lengths are sqrt(sum of squares + 1e-20) + 1e-10, where the paper's code has
//! sqrt(sum of squares) + 1e-10: equal in single precision, but the gradient at features that are all 0 is 0 and not
//! undefined. The dropout before the heads, which training them needed, is left out.

use candle_core::{bail, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::layers::Conv3d;
use super::op;
use super::pool::{max_pool, Window};

/// Mean and deviation of red, green and blue, for values in [-1, 1].
const SHIFT: [f64; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f64; 3] = [0.458, 0.448, 0.450];
/// Added to the length of a feature vector.
const EPS: f64 = 1e-10;

/// The classifier whose features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// VGG16: smooth gradients, for training.
    Vgg16,
    /// AlexNet: closest to human judgement, for scores.
    AlexNet,
}

/// Which network, and how wide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The classifier.
    pub network: Network,
    /// Channels of the first stage; those of the others are multiples. 64 as published.
    pub base_width: usize,
}

impl Config {
    /// The published weights' size.
    pub fn published(network: Network) -> Self {
        Config { network, base_width: 64 }
    }

    /// For tests.
    pub fn tiny(network: Network) -> Self {
        Config { network, base_width: 4 }
    }
}

/// A convolution: its number in torchvision's sequence, its width in units of the first, kernel, stride, margin.
type Layer = (usize, usize, usize, usize, usize);
/// A pooling before the stage (side of its window; 0 for none) and the stage's convolutions, each followed by a ReLU.
type Plan = (usize, &'static [Layer]);

const VGG16: [Plan; 5] = [
    (0, &[(0, 1, 3, 1, 1), (2, 1, 3, 1, 1)]),
    (2, &[(5, 2, 3, 1, 1), (7, 2, 3, 1, 1)]),
    (2, &[(10, 4, 3, 1, 1), (12, 4, 3, 1, 1), (14, 4, 3, 1, 1)]),
    (2, &[(17, 8, 3, 1, 1), (19, 8, 3, 1, 1), (21, 8, 3, 1, 1)]),
    (2, &[(24, 8, 3, 1, 1), (26, 8, 3, 1, 1), (28, 8, 3, 1, 1)]),
];
const ALEXNET: [Plan; 5] = [
    (0, &[(0, 1, 11, 4, 2)]),
    (3, &[(3, 3, 5, 1, 2)]),
    (3, &[(6, 6, 3, 1, 1)]),
    (0, &[(8, 4, 3, 1, 1)]),
    (0, &[(10, 4, 3, 1, 1)]),
];

impl Network {
    fn plan(self) -> &'static [Plan; 5] {
        match self {
            Network::Vgg16 => &VGG16,
            Network::AlexNet => &ALEXNET,
        }
    }

    /// Where torchvision numbers its convolutions, in their order.
    pub fn numbers(self) -> impl Iterator<Item = usize> {
        self.plan().iter().flat_map(|(_, layers)| layers.iter().map(|layer| layer.0))
    }
}

/// Pooling, then convolutions with ReLUs.
#[derive(Debug, Clone)]
struct Stage {
    pool: usize,
    convs: Vec<Conv3d>,
}

impl Stage {
    /// x (B, C, T, H, W) -> (B, C', T, H', W'); frames are never mixed.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (still, half) = (Window::inside(1, 1), Window::inside(self.pool, 2));
        let mut x = if self.pool == 0 { x.clone() } else { max_pool(x, [still, half, half])? };
        for conv in &self.convs {
            x = conv.forward(&x)?.relu()?;
        }
        Ok(x)
    }
}

/// The distance d.
#[derive(Debug, Clone)]
pub struct Lpips {
    stages: Vec<Stage>,
    heads: Vec<Tensor>,
}

impl Lpips {
    /// Reads `features.*`, numbered as in torchvision, and `lin0` to `lin4`.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (mut from, mut stages, mut heads) = (SHIFT.len(), Vec::new(), Vec::new());
        for (i, (pool, layers)) in config.network.plan().iter().enumerate() {
            let mut convs = Vec::new();
            for &(number, multiple, kernel, stride, margin) in *layers {
                let (to, vb) = (multiple * config.base_width, vb.pp(format!("features.{number}")));
                convs.push(Conv3d::planar((from, to), kernel, (stride, margin), vb)?);
                from = to;
            }
            stages.push(Stage { pool: *pool, convs });
            let head = vb.get((1, from, 1, 1), &format!("lin{i}.model.1.weight"))?;
            heads.push(head.unsqueeze(2)?); // (1, C, 1, 1, 1)
        }
        Ok(Lpips { stages, heads })
    }

    /// The features of each stage, of length 1 at each place: clip (B, 1 or 3, T, H, W) in \[-1, 1\] ->
    /// (B, C_l, T, H_l, W_l), channels last where the kernels of the processor compute.
    pub fn features(&self, clip: &Tensor) -> Result<Vec<Tensor>> {
        let (_, channels, ..) = clip.dims5()?;
        let colour = |values: [f64; 3]| {
            Tensor::new(&values, clip.device())?.to_dtype(clip.dtype())?.reshape((1, values.len(), 1, 1, 1))
        };
        if channels != 1 && channels != SHIFT.len() {
            bail!("LPIPS: expected 1 or 3 channels, found {channels}")
        }
        let x = clip.broadcast_sub(&colour(SHIFT)?)?.broadcast_div(&colour(SCALE)?)?; // (B, 3, T, H, W)
        let (mut x, mut features) = (op::enter(&x)?, Vec::new());
        for stage in &self.stages {
            x = stage.forward(&x)?;
            features.push(normalise(&x)?);
        }
        Ok(features)
    }

    /// d of each frame from the features of two clips: (B, T).
    pub fn distance(&self, features: &[Tensor], others: &[Tensor]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for ((y, other), head) in features.iter().zip(others).zip(&self.heads) {
            let squares = op::leave(&(y - other)?.sqr()?)?; // (B, C, T, H, W)
            let term = squares.broadcast_mul(head)?.sum(1)?.mean((2, 3))?; // (B, T)
            sum = Some(match sum {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("LPIPS of no stages".to_owned()))
    }

    /// d of each frame of two clips: (B, T).
    pub fn forward(&self, clip: &Tensor, other: &Tensor) -> Result<Tensor> {
        self.distance(&self.features(clip)?, &self.features(other)?)
    }
}

/// x / |x| over the channels.
fn normalise(x: &Tensor) -> Result<Tensor> {
    let channels = if op::has_kernels(x) { 4 } else { 1 };
    let length = ((x.sqr()?.sum_keepdim(channels)? + EPS * EPS)?.sqrt()? + EPS)?;
    x.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use candle_nn::VarMap;

    fn wave(shape: &[usize], speed: f64) -> Tensor {
        let n: usize = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|i| (i as f64 * speed).sin() * (i as f64 * 0.013).cos()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Waves for weights, positive for heads.
    fn waves(network: Network) -> Lpips {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F64, &Device::Cpu);
        Lpips::new(&Config::tiny(network), vb.clone()).unwrap();
        for (name, var) in map.data().lock().unwrap().iter() {
            let values = wave(var.dims(), 0.7);
            var.set(&if name.starts_with("lin") { values.abs().unwrap() } else { values }).unwrap();
        }
        Lpips::new(&Config::tiny(network), vb).unwrap()
    }

    #[test]
    fn an_image_is_at_no_distance_from_itself_and_grey_is_three_equal_colours() {
        for network in [Network::Vgg16, Network::AlexNet] {
            let net = waves(network);
            let (a, b) = (wave(&[2, 1, 3, 33, 40], 0.37), wave(&[2, 1, 3, 33, 40], 0.21));
            let zero = net.forward(&a, &a).unwrap();
            assert_eq!(zero.dims(), [2, 3]);
            assert_eq!(zero.sum_all().unwrap().to_scalar::<f64>().unwrap(), 0.0);
            let d = net.forward(&a, &b).unwrap().to_vec2::<f64>().unwrap();
            let colour = |x: &Tensor| Tensor::cat(&[x, x, x], 1).unwrap();
            assert_eq!(net.forward(&colour(&a), &colour(&b)).unwrap().to_vec2::<f64>().unwrap(), d);
            assert!(d.iter().flatten().all(|d| *d > 1e-4), "{d:?}");
            let alone = net.forward(&a.narrow(2, 1, 1).unwrap(), &b.narrow(2, 1, 1).unwrap()).unwrap();
            assert!((alone.to_vec2::<f64>().unwrap()[1][0] - d[1][1]).abs() < 1e-12);
        }
        assert!(waves(Network::AlexNet)
            .forward(&wave(&[1, 1, 1, 24, 24], 1.0), &wave(&[1, 1, 1, 24, 24], 2.0))
            .is_err());
    }

    #[test]
    fn gradients_equal_finite_differences_and_exist_where_an_image_is_flat() {
        for network in [Network::Vgg16, Network::AlexNet] {
            let net = waves(network);
            let other = wave(&[1, 1, 2, 35, 35], 0.37);
            let clip = Var::from_tensor(&wave(&[1, 1, 2, 35, 35], 0.21)).unwrap();
            let loss = |x: &Tensor| net.forward(x, &other).unwrap().mean_all().unwrap();
            let grads = loss(&clip).backward().unwrap();
            let direction = wave(clip.dims(), 0.9);
            let along =
                (grads.get(&clip).unwrap() * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            let moved = |step: f64| {
                loss(&(clip.as_tensor() + (&direction * step).unwrap()).unwrap()).to_scalar::<f64>().unwrap()
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((along - slope).abs() < 1e-4 * slope.abs(), "{network:?}: {along} and {slope}");
            let flat = Var::from_tensor(&clip.zeros_like().unwrap()).unwrap();
            let grads = loss(&flat).backward().unwrap();
            let sum = grads.get(&flat).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(sum.is_finite());
        }
    }

    #[test]
    fn published_widths_are_those_of_vgg16_and_alexnet() {
        let widths = |network| {
            let map = VarMap::new();
            let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
            Lpips::new(&Config::published(network), vb).unwrap();
            let data = map.data().lock().unwrap();
            (0..5).map(|i| data[&format!("lin{i}.model.1.weight")].dims()[1]).collect::<Vec<_>>()
        };
        assert_eq!(widths(Network::Vgg16), [64, 128, 256, 512, 512]);
        assert_eq!(widths(Network::AlexNet), [64, 192, 384, 256, 256]);
        assert_eq!(Network::Vgg16.numbers().count(), 13);
    }
}
