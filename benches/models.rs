//! Seconds and GFLOP/s of every stage at the published size, and of training steps at the compact size, beside products
//! of 4096 x 4096 matrices in the same run: `make bench`, or `cargo bench --bench models -- NAME...` for some figures.
//!
//! One line a figure: `bench NAME seconds=S gflops=G of_matmul=F`. Operations are those of the plain method (direct
//! convolution, full attention), without the cross-attention that guidance leaves out. `of_matmul` is relative to the
//! faster of candle's product and ours. Weights are numbers that mean nothing.

// A bench prints its figures, and stops at the first thing that fails.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{AdamW, Init, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use ecgflow::kernel::gemm::{linear, Packed, Precision};
use ecgflow::kernel::Isa;
use ecgflow::model::amdf::{self, TimeGrid, Velocity};
use ecgflow::model::vae::{self, Decoder, Vae};
use ecgflow::model::{op, pamae};

/// Rows and columns of the product that everything is compared with.
const SIDE: usize = 4096;
/// Runs of which the median counts.
const RUNS: usize = 3;
const STEPS: usize = 10;
const GUIDANCE: f64 = 2.0;

/// Weights for timing: small numbers that do not repeat.
struct Filled;

impl SimpleBackend for Filled {
    fn get(&self, shape: Shape, _: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let n = shape.elem_count();
        let gain = (3.0 / (n as f64 / shape.dims()[0] as f64)).sqrt() as f32;
        let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        Tensor::from_vec((0..n).map(|i| gain * value(i)).collect(), shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}: needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn filled() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Filled), DType::F32, Device::Cpu)
}

fn noise(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

/// Median seconds of some runs, after one that does not count.
fn seconds(runs: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut all: Vec<f64> = (0..runs).map(|_| time(&mut f)).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn time(f: impl FnOnce()) -> f64 {
    let watch = Instant::now();
    f();
    watch.elapsed().as_secs_f64()
}

/// What is asked for on the command line, and the rate to compare with.
struct Bench {
    names: Vec<String>,
    matmul: f64,
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }

    fn line(&self, name: &str, seconds: f64, operations: f64) {
        let gflops = operations / seconds / 1e9;
        println!("bench {name} seconds={seconds:.3} gflops={gflops:.0} of_matmul={:.2}", gflops / self.matmul);
    }
}

/// GFLOP/s of the faster of candle's product and ours.
fn matmul() -> f64 {
    let operations = 2.0 * (SIDE as f64).powi(3);
    let x = noise(&[SIDE, SIDE]);
    let by_candle = seconds(RUNS, || drop(x.matmul(&x).unwrap()));
    let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
    let packed = Packed::from_weight(Isa::best(), Precision::F32, &values, (SIDE, SIDE));
    let mut y = vec![0f32; SIDE * SIDE];
    let ours = seconds(RUNS, || linear(&values, &packed, &[], &mut y, false));
    let rate = operations / ours.min(by_candle) / 1e9;
    for (name, seconds) in [("matmul_candle", by_candle), ("matmul", ours)] {
        let gflops = operations / seconds / 1e9;
        println!("bench {name} seconds={seconds:.3} gflops={gflops:.0} of_matmul={:.2}", gflops / rate);
    }
    rate
}

/// Operations of the encoder for one ECG: its convolutions.
fn encoder_operations(config: &pamae::Config) -> f64 {
    let (w, mut sum) = (config.base_width, 2 * 12 * 7 * config.base_width * 2500);
    let mut from = w;
    for layer in 1..=4 {
        let (to, n) = (w << (layer - 1), if layer == 1 { 1250 } else { 625 });
        sum += 2 * n * (3 * from * to + 3 * 3 * to * to);
        if from != to {
            sum += 2 * n * from * to;
        }
        from = to;
    }
    (sum + 2 * 625 * (from * config.feature_dim + from * 256 + 512)) as f64
}

/// Operations of one velocity, with its cross-attention or without.
fn velocity_operations(config: &amdf::Config, cross: bool) -> f64 {
    let (w, t) = (config.width, config.frames);
    let places = (config.latent_side / config.patch).pow(2);
    let n = t * places;
    let own = |keys: usize| 2 * n * w * 4 * w + 4 * n * keys * w;
    let to_ecg = if cross { 2 * n * w * 2 * w + 4 * n * t * w } else { 0 };
    (config.depth * (own(t) + own(places) + to_ecg + 2 * n * w * 8 * w)) as f64
}

/// Operations of one decode: direct convolutions, full attention.
fn decode_operations(config: &vae::Config, (frames, side): (usize, usize)) -> f64 {
    let width = |level: usize| config.base_width * config.multipliers[level];
    let last = config.multipliers.len() - 1;
    let cube = |n: usize, from: usize, to: usize| (54 * n * from * to) as f64;
    let attention = |n: usize, c: usize| (4 * n * n * c + 8 * n * c * c) as f64;
    let mut n = frames * side * side;
    let mut from = width(last);
    let mut sum = cube(n, config.latent_channels, from) + 4.0 * cube(n, from, from) + attention(n, from);
    for level in (0..=last).rev() {
        let to = width(level);
        for _ in 0..=config.blocks {
            sum += cube(n, from, to) + cube(n, to, to) + if from == to { 0.0 } else { (2 * n * from * to) as f64 };
            from = to;
            if config.attention_levels.contains(&level) {
                sum += attention(n, to);
            }
        }
        if level > 0 {
            n *= 4;
            sum += cube(n, to, to);
        }
    }
    sum + cube(n, from, 1)
}

/// The stages of a clip in one precision.
fn stages(bench: &Bench, precision: Precision) {
    let name = |name: &str| if precision == Precision::Bf16 { format!("{name}_bf16") } else { name.to_owned() };
    let (pamae, flow, vae) = (pamae::Config::published(), amdf::Config::published(), vae::Config::published());
    if bench.wants(&name("encoder")) {
        let encoder = pamae::Encoder::new(&pamae, filled()).unwrap();
        let ecg = noise(&[1, 12, 5000]);
        let took = seconds(RUNS, || drop(encoder.forward_t(&ecg, false).unwrap()));
        bench.line(&name("encoder"), took, encoder_operations(&pamae)); // f32 in either case
    }
    let (x, feature) = (noise(&[1, 4, 50, 12, 12]), noise(&[1, 50, 768]));
    let pair = velocity_operations(&flow, true) + velocity_operations(&flow, false);
    let decode = decode_operations(&vae, (50, 12));
    let flow_wanted = ["velocity", "velocity_pair", "clip"].iter().any(|n| bench.wants(&name(n)));
    if flow_wanted {
        let velocity = Velocity::with_precision(&flow, precision, filled()).unwrap();
        let (t, none) = (Tensor::new(&[0.5f32], &Device::Cpu).unwrap(), feature.zeros_like().unwrap());
        let (ecg, none) = (velocity.see(&feature).unwrap(), velocity.see(&none).unwrap());
        if bench.wants(&name("velocity")) {
            let took = seconds(RUNS, || drop(velocity.at(&x, &t, &ecg).unwrap()));
            bench.line(&name("velocity"), took, velocity_operations(&flow, true));
        }
        if bench.wants(&name("velocity_pair")) {
            let took = seconds(RUNS, || {
                velocity.at(&x, &t, &ecg).unwrap();
                velocity.at(&x, &t, &none).unwrap();
            });
            bench.line(&name("velocity_pair"), took, pair);
        }
        if bench.wants(&name("clip")) {
            let decoder = Decoder::with_precision(&vae, precision, filled()).unwrap();
            let took = time(|| {
                let grid = TimeGrid::Middle;
                let z = amdf::sample(&velocity, &x, &feature, STEPS, GUIDANCE, grid, |_| ()).unwrap();
                decoder.forward(&z).unwrap();
            });
            bench.line(&name("clip"), took, STEPS as f64 * pair + decode);
        }
    }
    if bench.wants(&name("decode")) {
        let decoder = Decoder::with_precision(&vae, precision, filled()).unwrap();
        bench.line(&name("decode"), seconds(1, || drop(decoder.forward(&x).unwrap())), decode);
    }
}

/// Seconds of forward, backward and AdamW of the compact 3D-VAE.
fn vae_step() -> f64 {
    let (config, map) = (vae::Config::compact(), VarMap::new());
    let model = Vae::new(&config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
    let mut adam = AdamW::new(map.all_vars(), ParamsAdamW::default()).unwrap();
    let (clip, noise) =
        (noise(&[1, 1, config.training_frames, 96, 96]), noise(&[1, 4, config.training_frames, 12, 12]));
    seconds(RUNS, || {
        let posterior = model.encode(&clip).unwrap();
        let decoded = model.decode(&posterior.sample(&noise).unwrap()).unwrap();
        let loss = vae::loss(&clip, &decoded, &posterior).unwrap();
        adam.backward_step(&loss.total).unwrap();
    })
}

/// Seconds of forward, backward and AdamW of the compact flow, two records.
fn flow_step() -> f64 {
    let (config, map) = (amdf::Config::compact(), VarMap::new());
    let model = Velocity::new(&config, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).unwrap();
    let mut adam = AdamW::new(map.all_vars(), ParamsAdamW::default()).unwrap();
    let (x0, x1) = (noise(&[2, 4, 50, 12, 12]), noise(&[2, 4, 50, 12, 12]));
    let feature = noise(&[2, 50, config.feature_dim]);
    let t = Tensor::new(&[0.3f32, 0.7], &Device::Cpu).unwrap();
    seconds(RUNS, || {
        let loss = amdf::loss(&model, &x0, &x1, &t, &feature).unwrap();
        adam.backward_step(&loss).unwrap();
    })
}

/// A training step by candle's own operations and by the kernels.
fn training(bench: &Bench) {
    for (name, step) in [("vae_step", vae_step as fn() -> f64), ("flow_step", flow_step)] {
        if bench.wants(name) {
            let (before, after) = (op::by_candle(step), step());
            println!("bench {name} seconds={after:.3} by_candle={before:.3} times_faster={:.2}", before / after);
        }
    }
}

/// One thread against two.
fn threads(bench: &Bench) {
    let x = noise(&[1, 4, 50, 12, 12]);
    let velocity = || {
        let velocity = Velocity::new(&amdf::Config::published(), filled()).unwrap();
        let ecg = velocity.see(&noise(&[1, 50, 768])).unwrap();
        let t = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
        seconds(RUNS, || drop(velocity.at(&x, &t, &ecg).unwrap()))
    };
    let decode = || {
        let decoder = Decoder::new(&vae::Config::published(), filled()).unwrap();
        time(|| drop(decoder.forward(&x).unwrap()))
    };
    let on = |threads: usize, f: &(dyn Fn() -> f64 + Sync)| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
    };
    for (name, f) in [("velocity_threads", &velocity as &(dyn Fn() -> f64 + Sync)), ("decode_threads", &decode)] {
        if bench.wants(name) {
            let (one, two) = (on(1, f), on(2, f));
            println!("bench {name} seconds={two:.3} one_thread={one:.3} times_faster={:.2}", one / two);
        }
    }
}

/// One, two and four clips at the compact size, as the sampler makes them: one after the other.
fn clips(bench: &Bench) {
    if !bench.wants("clips") {
        return;
    }
    let (flow, vae) = (amdf::Config::compact(), vae::Config::compact());
    let (velocity, decoder) = (Velocity::new(&flow, filled()).unwrap(), Decoder::new(&vae, filled()).unwrap());
    let (x, feature) = (noise(&[1, 4, 50, 12, 12]), noise(&[1, 50, flow.feature_dim]));
    let clip = || {
        let z = amdf::sample(&velocity, &x, &feature, STEPS, GUIDANCE, TimeGrid::Middle, |_| ()).unwrap();
        decoder.forward(&z).unwrap();
    };
    for n in [1, 2, 4] {
        println!("bench clips_{n} seconds={:.3}", seconds(RUNS, || (0..n).for_each(|_| clip())));
    }
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let bench = Bench { matmul: matmul(), names };
    stages(&bench, Precision::F32);
    if Isa::best().has_bf16() {
        stages(&bench, Precision::Bf16);
    } else {
        println!("bench note: this processor has no products of bf16");
    }
    training(&bench);
    clips(&bench);
    threads(&bench);
}
