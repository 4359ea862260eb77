//! Times of single kernels, for every instruction set of this processor: `cargo bench --bench kernels`.

use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use ecgflow::kernel::attention::{attention, Shape};
use ecgflow::kernel::gemm::{linear, Packed, Precision};
use ecgflow::kernel::norm::{Groups, Layer};
use ecgflow::kernel::winograd::{cube, gradient, Cube, Direction, Map};
use ecgflow::kernel::Isa;

/// Numbers in [-1, 1) that do not repeat.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("linear 7200 x 512 x 512");
    group.throughput(Throughput::Elements(2 * 7200 * 512 * 512));
    let (x, w, mut y) = (numbers(7200 * 512), numbers(512 * 512), vec![0f32; 7200 * 512]);
    for isa in Isa::all() {
        for precision in [Precision::F32, Precision::Bf16] {
            if precision == Precision::F32 || isa.has_bf16() {
                let packed = Packed::from_weight(isa, precision, &w, (512, 512));
                group.bench_function(format!("{isa:?} {precision:?}"), |b| {
                    b.iter(|| linear(&x, &packed, &[], &mut y, false));
                });
            }
        }
    }
}

fn attends(c: &mut Criterion) {
    let shape = Shape { groups: 1, queries: 3600, keys: 3600, heads: 2, d: 32, e: 32 };
    let mut group = c.benchmark_group("attention 3600 tokens x 2 heads x 32");
    group.throughput(Throughput::Elements(4 * 3600 * 3600 * 64));
    let (x, mut y) = (numbers(3600 * 64), vec![0f32; 3600 * 64]);
    for isa in Isa::all() {
        for precision in [Precision::F32, Precision::Bf16] {
            if precision == Precision::F32 || isa.has_bf16() {
                group.bench_function(format!("{isa:?} {precision:?}"), |b| {
                    b.iter(|| attention(isa, precision, shape, [&x, &x, &x], &mut y, None));
                });
            }
        }
    }
}

fn convolutions(c: &mut Criterion) {
    let (map, channels) = (Map { t: 10, h: 48, w: 48 }, (64, 64));
    let (x, weight, mut y) = (numbers(map.places() * 64), numbers(64 * 64 * 27), vec![0f32; map.places() * 64]);
    let mut group = c.benchmark_group("conv 3 x 3 x 3, 10 x 48 x 48, 64 channels");
    group.throughput(Throughput::Elements((54 * map.places() * 64 * 64) as u64));
    for isa in Isa::all() {
        let one = Cube {
            map,
            doubles: false,
            alone: false,
            channels,
            weight: &weight,
            direction: Direction::Forward,
            bias: &[],
            before: None,
        };
        group.bench_function(format!("{isa:?}"), |b| b.iter(|| cube(isa, one, &x, &mut y, false)));
        group.bench_function(format!("{isa:?} gradient of the kernel"), |b| {
            b.iter(|| gradient::weight_gradient(isa, one, &x, &y));
        });
    }
}

fn normalisations(c: &mut Criterion) {
    let (x, w) = (numbers(7200 * 256), numbers(256));
    let mut y = vec![0f32; x.len()];
    let mut group = c.benchmark_group("normalisation of 7200 x 256");
    group.throughput(Throughput::Bytes(4 * x.len() as u64));
    for isa in Isa::all() {
        let groups = Groups { channels: 256, groups: 32, eps: 1e-6, swish: true };
        group.bench_function(format!("{isa:?} group and swish"), |b| {
            b.iter(|| groups.apply(isa, &x, &groups.moments(isa, &x), [&w, &w], &mut y));
        });
        let layer = Layer { width: 256, eps: 1e-6, gain: &w, shift: &w };
        group.bench_function(format!("{isa:?} layer"), |b| b.iter(|| layer.apply(isa, &x, &mut y)));
    }
}

criterion_group!(kernels, products, attends, convolutions, normalisations);
criterion_main!(kernels);
