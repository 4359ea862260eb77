//! I3D (Carreira and Zisserman 2017): clips to 1024 features, for the Frechet video distance (Unterthiner et al. 2018).
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | clip | `clip` of [`I3d::forward`], in \[0, 1\] | (T, H, W) |
//! | input | 224 x 224, 2 v - 1, grey for red, green and blue | (1, 3, T, 224, 224) |
//! | features | the result: mean of the last map | (1024) |
//!
//! Trained on Kinetics-400. The features are what the classifier sees: means over two frames and all places of the last
//! map, then over time, so that the frames at both ends count half. Margins are TensorFlow's. Frames are enlarged about
//! the middles of the pixels ([`Grid::Centres`]).

use candle_core::{bail, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::op;
use super::pool::{first_axis, max_pool, Window};
use super::unit::{beside, enlarge, Grid, Margin, Unit};

/// Side of the frames the network was trained on, pixels.
pub const SIDE: usize = 224;
/// Features of a clip.
const FEATURES: usize = 1024;
/// Frames of the last map whose mean is one of the classifier's views.
const VIEW: usize = 2;

/// How narrow the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Every width is divided by this, a divisor of 8; 1 as published.
    pub narrow: usize,
}

impl Config {
    /// The published weights' size.
    pub fn published() -> Self {
        Config { narrow: 1 }
    }

    /// For tests.
    pub fn tiny() -> Self {
        Config { narrow: 8 }
    }

    /// Features of a clip.
    pub fn features(&self) -> usize {
        FEATURES / self.narrow.max(1)
    }
}

/// Widths of a block: its first branch, then bottleneck and width of two others, then the pooled one.
type Widths = [usize; 6];
/// A block or a pooling: name and widths; window and stride over frames, and the same over rows and columns.
enum Step {
    Mixed(&'static str, Widths),
    Pool([usize; 2], [usize; 2]),
}

const STEPS: [Step; 11] = [
    Step::Mixed("Mixed_3b", [64, 96, 128, 16, 32, 32]),
    Step::Mixed("Mixed_3c", [128, 128, 192, 32, 96, 64]),
    Step::Pool([3, 2], [3, 2]),
    Step::Mixed("Mixed_4b", [192, 96, 208, 16, 48, 64]),
    Step::Mixed("Mixed_4c", [160, 112, 224, 24, 64, 64]),
    Step::Mixed("Mixed_4d", [128, 128, 256, 24, 64, 64]),
    Step::Mixed("Mixed_4e", [112, 144, 288, 32, 64, 64]),
    Step::Mixed("Mixed_4f", [256, 160, 320, 32, 128, 128]),
    Step::Pool([2, 2], [2, 2]),
    Step::Mixed("Mixed_5b", [256, 160, 320, 32, 128, 128]),
    Step::Mixed("Mixed_5c", [384, 192, 384, 48, 128, 128]),
];

/// Largest values of windows with TensorFlow's margins: side and stride over frames, then over rows and columns.
fn pool(x: &Tensor, frames: [usize; 2], places: [usize; 2]) -> Result<Tensor> {
    let first = first_axis(x);
    let window = |i: usize, [side, stride]: [usize; 2]| {
        Ok::<_, candle_core::Error>(Window::same(side, stride, x.dim(first + i)?))
    };
    max_pool(x, [window(0, frames)?, window(1, places)?, window(2, places)?])
}

fn unit(sizes: (usize, usize), side: usize, stride: usize, vb: VarBuilder) -> Result<Unit> {
    Unit::new(sizes, [side; 3], [stride; 3], Margin::Same, vb)
}

/// Four branches side by side.
#[derive(Debug, Clone)]
struct Mixed {
    branches: [Vec<Unit>; 3],
    pooled: Unit,
}

impl Mixed {
    fn new(from: usize, [a, b0, b1, c0, c1, d]: Widths, vb: VarBuilder) -> Result<Self> {
        let branch = |i: usize| vb.pp(format!("Branch_{i}"));
        let two = |i: usize, middle: usize, out: usize| -> Result<Vec<Unit>> {
            let first = unit((from, middle), 1, 1, branch(i).pp("Conv3d_0a_1x1"))?;
            Ok(vec![first, unit((middle, out), 3, 1, branch(i).pp("Conv3d_0b_3x3"))?])
        };
        let one = vec![unit((from, a), 1, 1, branch(0).pp("Conv3d_0a_1x1"))?];
        let pooled = unit((from, d), 1, 1, branch(3).pp("Conv3d_0b_1x1"))?;
        Ok(Mixed { branches: [one, two(1, b0, b1)?, two(2, c0, c1)?], pooled })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let run = |units: &Vec<Unit>| units.iter().try_fold(x.clone(), |x, unit| unit.forward(&x));
        let mut maps = self.branches.iter().map(run).collect::<Result<Vec<_>>>()?;
        maps.push(self.pooled.forward(&pool(x, [3, 1], [3, 1])?)?);
        beside(&maps)
    }
}

/// The network without its classifier.
#[derive(Debug, Clone)]
pub struct I3d {
    stem: [Unit; 3],
    blocks: Vec<Mixed>,
}

impl I3d {
    /// Reads layers as TensorFlow names them, dots for slashes.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let narrow = |width: usize| width / config.narrow.max(1);
        let stem = [
            unit((3, narrow(64)), 7, 2, vb.pp("Conv3d_1a_7x7"))?,
            unit((narrow(64), narrow(64)), 1, 1, vb.pp("Conv3d_2b_1x1"))?,
            unit((narrow(64), narrow(192)), 3, 1, vb.pp("Conv3d_2c_3x3"))?,
        ];
        let (mut from, mut blocks) = (192, Vec::new());
        for step in &STEPS {
            if let Step::Mixed(name, widths) = step {
                blocks.push(Mixed::new(narrow(from), widths.map(narrow), vb.pp(name))?);
                let [a, _, b, _, c, d] = widths;
                from = a + b + c + d;
            }
        }
        Ok(I3d { stem, blocks })
    }

    /// The features of a clip: (T, H, W) in \[0, 1\] -> (1024); nine frames or more.
    pub fn forward(&self, clip: &Tensor) -> Result<Tensor> {
        let x = ((enlarge(clip, SIDE, Grid::Centres)? * 2.0)? - 1.0)?; // (T, 224, 224)
        let (t, h, w) = x.dims3()?;
        self.colour(&x.reshape((1, 1, t, h, w))?.broadcast_as((1, 3, t, h, w))?.contiguous()?)
    }

    /// The features of a colour clip (1, 3, T, H, W) in \[-1, 1\]: (1024).
    pub fn colour(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.stem;
        let x = first.forward(&op::enter(x)?)?; // (1, 64, T/2, 112, 112)
        let x = pool(&x, [1, 1], [3, 2])?;
        let x = third.forward(&second.forward(&x)?)?; // (1, 192, T/2, 56, 56)
        let mut x = pool(&x, [1, 1], [3, 2])?;
        let mut blocks = self.blocks.iter();
        for step in &STEPS {
            x = match step {
                Step::Pool(frames, places) => pool(&x, *frames, *places)?,
                Step::Mixed(..) => blocks.next().map_or(Ok(x.clone()), |block| block.forward(&x))?,
            };
        }
        let x = op::leave(&x)?.mean((3, 4))?.squeeze(0)?; // (1024, T/8)
        let frames = x.dim(1)?;
        let Some(views) = (frames + 1).checked_sub(VIEW).filter(|views| *views > 0) else {
            bail!("I3D: the clip is too short: nine frames or more are needed")
        };
        let sum = (x.narrow(1, 0, views)? + x.narrow(1, 1, views)?)?;
        (sum / VIEW as f64)?.mean(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn tiny() -> I3d {
        let map = VarMap::new();
        I3d::new(&Config::tiny(), VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap()
    }

    fn wave(t: usize, speed: f32) -> Tensor {
        let values: Vec<f32> = (0..3 * t * 32 * 32).map(|i| (i as f32 * speed).sin()).collect();
        Tensor::from_vec(values, (1, 3, t, 32, 32), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_clip_gives_its_features_by_kernels_and_by_candle() {
        let map = VarMap::new();
        let vb = || VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let net = I3d::new(&Config::tiny(), vb()).unwrap();
        let y = net.colour(&wave(20, 0.31)).unwrap();
        assert_eq!(y.dims(), [Config::tiny().features()]);
        let other = op::by_candle(|| I3d::new(&Config::tiny(), vb()).unwrap().colour(&wave(20, 0.31)).unwrap());
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(largest(&(&y - other).unwrap()) < 1e-4 * largest(&y).max(1e-3));
        assert!(largest(&(y - net.colour(&wave(20, 0.2)).unwrap()).unwrap()) > 0.0);
    }

    #[test]
    fn clips_shorter_than_nine_frames_are_refused() {
        assert!(tiny().colour(&wave(8, 0.3)).is_err());
        assert!(tiny().colour(&wave(9, 0.3)).is_ok());
    }
}
