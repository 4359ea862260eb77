//! What the vision transformer and its baselines are given: patches of clips, or rows of numbers.
//!
//! Clips are pooled and standardised as the network's configuration says and held in memory as 16-bit numbers, up to a
//! limit; what does not fit is read again. In training a clip is moved, turned and made lighter or darker a little, never
//! stretched: size is what is to be learnt.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::Array3;
use rayon::prelude::*;

use super::task::Records;
use crate::data::cine::Cine;
use crate::error::{Error, Fault, Result};
use crate::model::vit::{prepared, Config};
use crate::random::Stream;

const DOING: &str = "reading the training clips";
/// Most bytes of clips held in memory.
const HELD_BYTES: usize = 4 << 30;
/// Numbers that vary less than this share of their mean do not vary: it is rounding.
const LEAST_SHARE: f64 = 1e-6;

/// Inputs of a network, record by record.
pub trait Inputs {
    /// Names of the records, each once.
    fn ids(&self) -> &[String];

    /// These records as one tensor (B, ..), changed at random where streams are given.
    ///
    /// # Errors
    /// Where a record cannot be read.
    fn batch(&self, records: &[usize], change: Option<&dyn Fn(&str) -> Stream>, device: &Device) -> Result<Tensor>;
}

/// How much a clip is changed at random.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Augment {
    /// Furthest way along rows and columns, pixels of the clip.
    pub shift_px: f64,
    /// Furthest turn, degrees.
    pub turn_deg: f64,
    /// Largest relative change of the grey levels.
    pub gain: f64,
}

impl Augment {
    /// No change.
    pub const NONE: Augment = Augment { shift_px: 0.0, turn_deg: 0.0, gain: 0.0 };
    /// What the trainers do.
    pub const USUAL: Augment = Augment { shift_px: 4.0, turn_deg: 8.0, gain: 0.1 };
}

/// Clips, as the network takes them.
pub struct Clips<R> {
    records: R,
    config: Config,
    augment: Augment,
    held: RefCell<Held>,
}

#[derive(Default)]
struct Held {
    clips: HashMap<usize, Arc<Vec<f16>>>,
    bytes: usize,
}

impl<R: Records<Item = Cine>> Clips<R> {
    /// The clips of `records` for a network of that configuration.
    pub fn new(records: R, config: Config, augment: Augment) -> Clips<R> {
        Clips { records, config, augment, held: RefCell::default() }
    }

    /// A prepared clip.
    fn get(&self, i: usize) -> Result<Arc<Vec<f16>>> {
        if let Some(clip) = self.held.borrow().clips.get(&i) {
            return Ok(clip.clone());
        }
        let cine = self.records.get(i)?;
        let Config { frames, image, .. } = self.config;
        if cine.clip.dim() != (frames, image, image) {
            let (t, h, w) = cine.clip.dim();
            let fault = Fault::new(DOING, "").record(&cine.id).field("/cine");
            let expected = format!("{frames} frames of {image} x {image} (the network's)");
            return Err(fault.expected(expected, format!("{t} of {h} x {w}")).into());
        }
        let values: Vec<f32> = prepared(cine.clip.view(), &self.config).into_iter().collect();
        let clip = Arc::new(values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<f16>>());
        let mut held = self.held.borrow_mut();
        let bytes = 2 * clip.len();
        if held.bytes + bytes <= HELD_BYTES {
            held.bytes += bytes;
            held.clips.insert(i, clip.clone());
        }
        Ok(clip)
    }

    /// All patches of each clip, row by row as the network takes them, P x (pf p p) values a clip.
    ///
    /// # Errors
    /// Where a clip cannot be read.
    pub fn patches(&self, records: &[usize], change: Option<&dyn Fn(&str) -> Stream>) -> Result<Vec<Vec<f32>>> {
        let clips = records.iter().map(|i| self.get(*i)).collect::<Result<Vec<_>>>()?;
        let ids = self.records.ids();
        let stream = |i: &usize| change.map(|stream| stream(ids.get(*i).map_or("", String::as_str)));
        let work: Vec<_> = clips.into_iter().zip(records.iter().map(stream)).collect();
        let (config, augment) = (&self.config, self.scaled());
        let prepare = |(clip, stream): (Arc<Vec<f16>>, Option<Stream>)| {
            let mut values = vec![0f32; clip.len()];
            clip.convert_to_f32_slice(&mut values);
            if let Some(mut stream) = stream {
                values = changed(&values, config.input(), augment, &mut stream);
            }
            tiled(&values, config)
        };
        Ok(work.into_par_iter().map(prepare).collect())
    }

    /// The mean over the frames of a prepared clip: H x W.
    ///
    /// # Errors
    /// Where the clip cannot be read.
    pub fn mean_frame(&self, record: usize) -> Result<Vec<f32>> {
        let clip = self.get(record)?;
        let [frames, h, w] = self.config.input();
        let mut mean = vec![0f32; h * w];
        for frame in clip.chunks_exact((h * w).max(1)) {
            mean.iter_mut().zip(frame).for_each(|(sum, value)| *sum += value.to_f32());
        }
        mean.iter_mut().for_each(|sum| *sum /= frames as f32);
        Ok(mean)
    }

    /// The changes in pooled pixels.
    fn scaled(&self) -> Augment {
        Augment { shift_px: self.augment.shift_px / self.config.pool.pixels.max(1) as f64, ..self.augment }
    }
}

impl<R: Records<Item = Cine>> Inputs for Clips<R> {
    fn ids(&self) -> &[String] {
        self.records.ids()
    }

    fn batch(&self, records: &[usize], change: Option<&dyn Fn(&str) -> Stream>, device: &Device) -> Result<Tensor> {
        let all = self.patches(records, change)?.concat();
        let shape = (records.len(), self.config.patches(), self.config.patch_values());
        Tensor::from_vec(all, shape, device).map_err(Error::compute(DOING))
    }
}

/// Where a pixel comes from: four neighbours and their weights.
struct From {
    place: [usize; 4],
    weight: [f32; 4],
}

/// A clip (T, H, W) turned about its middle, moved, and made lighter or darker.
fn changed(clip: &[f32], [_, h, w]: [usize; 3], by: Augment, stream: &mut Stream) -> Vec<f32> {
    let mut draw = |most: f64| stream.between(-most, most);
    let (sin, cos) = draw(by.turn_deg).to_radians().sin_cos();
    let (down, right) = (draw(by.shift_px), draw(by.shift_px));
    let (gain, offset) = (1.0 + draw(by.gain), draw(by.gain) / 2.0);
    let middle = ((h as f64 - 1.0) / 2.0, (w as f64 - 1.0) / 2.0);
    let from = |row: usize, column: usize| {
        let (y, x) = (row as f64 - middle.0, column as f64 - middle.1);
        let y1 = (cos * y - sin * x + middle.0 + down).clamp(0.0, h as f64 - 1.0);
        let x1 = (sin * y + cos * x + middle.1 + right).clamp(0.0, w as f64 - 1.0);
        let (i, j) = (y1 as usize, x1 as usize);
        let (a, b) = ((y1 - i as f64) as f32, (x1 - j as f64) as f32);
        let (below, beside) = ((i + 1).min(h - 1), (j + 1).min(w - 1));
        From {
            place: [i * w + j, i * w + beside, below * w + j, below * w + beside],
            weight: [(1.0 - a) * (1.0 - b), (1.0 - a) * b, a * (1.0 - b), a * b],
        }
    };
    let map: Vec<From> = (0..h * w).map(|i| from(i / w, i % w)).collect();
    let (gain, offset) = (gain as f32, offset as f32);
    let mut out = Vec::with_capacity(clip.len());
    for frame in clip.chunks_exact((h * w).max(1)) {
        out.extend(map.iter().map(|From { place, weight }| {
            let sum: f32 = place.iter().zip(weight).map(|(p, w)| frame.get(*p).copied().unwrap_or(0.0) * w).sum();
            gain * sum + offset
        }));
    }
    out
}

/// The patches of a clip as rows; the same order as [`crate::model::vit::patches`].
fn tiled(clip: &[f32], config: &Config) -> Vec<f32> {
    let [frames, h, w] = config.input();
    let (pf, p) = (config.patch_frames.max(1), config.patch.max(1));
    let mut rows = Vec::with_capacity(clip.len());
    for t in (0..frames).step_by(pf) {
        for y in (0..h).step_by(p) {
            for x in (0..w).step_by(p) {
                for frame in t..t + pf {
                    for row in y..y + p {
                        let start = (frame * h + row) * w + x;
                        rows.extend_from_slice(clip.get(start..start + p).unwrap_or(&[]));
                    }
                }
            }
        }
    }
    rows
}

/// The clip of all its patches: the inverse of the order of [`crate::model::vit::patches`].
pub fn untiled(rows: &[f32], config: &Config) -> Array3<f32> {
    let [frames, h, w] = config.input();
    let places = tiled(&(0..frames * h * w).map(|i| i as f32).collect::<Vec<f32>>(), config);
    let mut clip = Array3::zeros((frames, h, w));
    for (place, value) in places.iter().zip(rows) {
        let i = *place as usize; // exact: a pooled clip has fewer than 2^24 values
        if let Some(pixel) = clip.get_mut((i / (h * w), i / w % h, i % w)) {
            *pixel = *value;
        }
    }
    clip
}

/// Rows of numbers, such as features of ECGs; standardised with the statistics of some of them.
#[derive(Debug, Clone)]
pub struct Rows {
    ids: Vec<String>,
    values: Vec<Vec<f32>>,
}

impl Rows {
    /// These rows, all of one length.
    pub fn new(ids: Vec<String>, values: Vec<Vec<f32>>) -> Rows {
        Rows { ids, values }
    }

    /// The rows.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.values.first().map_or(0, Vec::len)
    }

    /// The same with mean 0 and standard deviation 1 over the rows `of`.
    #[must_use]
    pub fn standardised(&self, of: &[usize]) -> Rows {
        let chosen: Vec<&Vec<f32>> = of.iter().filter_map(|i| self.values.get(*i)).collect();
        let n = chosen.len().max(1) as f64;
        let statistics: Vec<(f64, f64)> = (0..self.width())
            .map(|j| {
                let at = |row: &&Vec<f32>| row.get(j).map_or(0.0, |v| f64::from(*v));
                let mean = chosen.iter().map(at).sum::<f64>() / n;
                let variance = chosen.iter().map(|row| (at(row) - mean).powi(2)).sum::<f64>() / n;
                let sd = variance.sqrt();
                (mean, if sd > (LEAST_SHARE * mean.abs()).max(1e-9) { sd } else { 1.0 })
            })
            .collect();
        let scale = |row: &Vec<f32>| {
            row.iter().zip(&statistics).map(|(v, (mean, sd))| ((f64::from(*v) - mean) / sd) as f32).collect()
        };
        Rows { ids: self.ids.clone(), values: self.values.iter().map(scale).collect() }
    }
}

impl Inputs for Rows {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn batch(&self, records: &[usize], _: Option<&dyn Fn(&str) -> Stream>, device: &Device) -> Result<Tensor> {
        let rows: Vec<f32> = records.iter().filter_map(|i| self.values.get(*i)).flatten().copied().collect();
        Tensor::from_vec(rows, (records.len(), self.width()), device).map_err(Error::compute(DOING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::vit::{patches, Task};

    #[test]
    fn tiles_are_the_patches_of_the_network() {
        let config = Config { patch_frames: 4, ..Config::tiny(Task::Backbone) };
        let clip: Vec<f32> = (0..8 * 32 * 32).map(|i| i as f32).collect();
        let tensor = Tensor::from_vec(clip.clone(), (1, 8, 32, 32), &Device::Cpu).unwrap();
        let want: Vec<f32> = patches(&tensor, &config).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(tiled(&clip, &config), want);
        assert!(untiled(&want, &config).iter().eq(clip.iter()));
    }

    #[test]
    fn a_change_moves_the_picture_and_none_leaves_it() {
        let mut clip = vec![0f32; 2 * 9 * 9];
        clip[4 * 9 + 4] = 1.0;
        let mut stream = Stream::new("augment", 0, "p", 0);
        assert_eq!(changed(&clip, [2, 9, 9], Augment::NONE, &mut stream), clip);
        let moved = Augment { shift_px: 2.0, ..Augment::NONE };
        let mut centres = Vec::new();
        for _ in 0..20 {
            let out = changed(&clip, [2, 9, 9], moved, &mut stream);
            assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-5, "light is kept");
            assert!(out[81..].iter().all(|v| *v == 0.0), "frames do not mix");
            centres.push(out.iter().enumerate().map(|(i, v)| (i / 9) as f32 * v).sum::<f32>());
        }
        assert!(centres.iter().all(|c| (c - 4.0).abs() <= 2.0) && centres.iter().any(|c| (c - 4.0).abs() > 0.5));
    }

    #[test]
    fn rows_are_standardised_by_the_chosen_alone() {
        let ids = ["a", "b", "c"].map(str::to_owned).to_vec();
        let rows = Rows::new(ids, vec![vec![1.0, 5.0], vec![3.0, 5.0], vec![100.0, 6.0]]).standardised(&[0, 1]);
        assert_eq!(rows.values(), [[-1.0, 0.0], [1.0, 0.0], [98.0, 1.0]]);
        let ids = ["a", "b"].map(str::to_owned).to_vec();
        let rounding = Rows::new(ids, vec![vec![1.0], vec![1.0 + f32::EPSILON]]).standardised(&[0, 1]);
        assert!(rounding.values().iter().all(|row| row[0].abs() < 1e-6), "{rounding:?}");
    }
}
