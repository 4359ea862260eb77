//! Plain Rust: 8 lanes in an array. The oracle of the others, and what runs where they do not.

use super::{to_bf16, Simd};

/// Whatever the target guarantees.
#[derive(Clone, Copy)]
pub struct Portable;

const LANES: usize = 8;
type V = [f32; LANES];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> V {
    let mut v = [0.0; LANES];
    for (i, x) in v.iter_mut().enumerate() {
        *x = f(i);
    }
    v
}

/// The bf16 in the low and in the high half of a word.
#[inline(always)]
fn halves(x: f32) -> [f32; 2] {
    [f32::from_bits(x.to_bits() << 16), f32::from_bits(x.to_bits() & 0xFFFF_0000)]
}

#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
        a.mul_add(b, c)
    } else {
        a * b + c // without the instruction mul_add is a slow call
    }
}

impl Simd for Portable {
    type V = V;
    const LANES: usize = LANES;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        p.cast::<V>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        p.cast::<V>().write_unaligned(v);
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> V {
        each(|i| if i < n { *p.add(i) } else { 0.0 })
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: V, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            *p.add(i) = x;
        }
    }

    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        each(|i| a[i] / b[i])
    }

    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        each(|i| fma(a[i], b[i], c[i]))
    }

    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn fraction(a: V) -> V {
        each(|i| a[i] - a[i].floor())
    }

    #[inline(always)]
    unsafe fn scale(a: V, n: V) -> V {
        each(|i| a[i] * f32::from_bits(((n[i].clamp(-127.0, 127.0).floor() as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    unsafe fn select(sign: V, a: V, b: V) -> V {
        each(|i| if sign[i] >= 0.0 { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn any_above(a: V, b: V) -> bool {
        (0..LANES).any(|i| a[i] > b[i])
    }

    #[inline(always)]
    unsafe fn sum(a: V) -> f32 {
        a.iter().sum()
    }

    #[inline(always)]
    unsafe fn dot2(a: V, b: V, acc: V) -> V {
        each(|i| {
            let ([a0, a1], [b0, b1]) = (halves(a[i]), halves(b[i]));
            fma(a1, b1, fma(a0, b0, acc[i]))
        })
    }

    #[inline(always)]
    unsafe fn pair(low: V, high: V) -> V {
        each(|i| f32::from_bits(u32::from(to_bf16(high[i])) << 16 | u32::from(to_bf16(low[i]))))
    }

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        for (i, x) in v.into_iter().enumerate() {
            *p.add(i) = to_bf16(x);
        }
    }
}
