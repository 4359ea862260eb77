//! Vectors of f32, one implementation per instruction set, and the choice among them at run time.
//!
//! A kernel is a [`Job`]: generic code over [`Simd`], inlined whole into one function per instruction set that has the
//! features switched on. One binary so serves every machine of a mixed cluster. The last resort is plain Rust, which
//! compilers vectorise for whatever the target guarantees (NEON on 64-bit ARM); the tests hold the others against it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::OnceLock;

/// An instruction set that this processor has: there is no other way to get one than to ask for those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Whatever the target guarantees.
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with products of bf16 pairs.
    Avx512Bf16,
}

impl Isa {
    /// Every instruction set that this processor has.
    pub fn all() -> Vec<Isa> {
        let sets = [Set::Portable, Set::Avx2, Set::Avx512, Set::Avx512Bf16];
        sets.into_iter().filter(|set| set.is_here()).map(Isa).collect()
    }

    /// The best.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::all().last().copied().unwrap_or(Isa(Set::Portable)))
    }

    /// Whether products of bf16 pairs are instructions of their own, and fast.
    pub fn has_bf16(self) -> bool {
        self.0 == Set::Avx512Bf16
    }

    /// Whether products of bf16 pairs can be made at all, be it of other instructions.
    pub fn can_bf16(self) -> bool {
        self.0 != Set::Avx512
    }

    /// f32 in a vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            Set::Portable | Set::Avx2 => 8,
            Set::Avx512 | Set::Avx512Bf16 => 16,
        }
    }

    /// Rows of the largest tile of a product; see [`Simd::ROWS`].
    pub fn rows(self) -> usize {
        match self.0 {
            Set::Portable => 4,
            Set::Avx2 => 6,
            Set::Avx512 | Set::Avx512Bf16 => 12,
        }
    }
}

impl Set {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn is_here(self) -> bool {
        let avx512 = || {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        };
        match self {
            Set::Portable => true,
            Set::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Set::Avx512 => avx512(),
            Set::Avx512Bf16 => avx512() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    #[cfg(any(not(target_arch = "x86_64"), miri))]
    fn is_here(self) -> bool {
        self == Set::Portable
    }
}

/// Work that is compiled once for every instruction set. `run` and all it calls must be `#[inline(always)]`: what is
/// not inlined is compiled without the features and slow.
pub trait Job {
    /// What it gives.
    type Output;

    /// The work.
    ///
    /// # Safety
    /// The processor has the instructions of `S`; and what the job itself asks for.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs a job with the instructions of `isa`.
///
/// # Safety
/// What the job itself asks for. A job that makes products of bf16 pairs asks for [`Isa::can_bf16`].
#[inline]
pub unsafe fn dispatch<J: Job>(isa: Isa, job: J) -> J::Output {
    match isa.0 {
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => on_avx2(job),
        #[cfg(target_arch = "x86_64")]
        Set::Avx512 => on_avx512(job),
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Bf16 => on_avx512_bf16(job),
        _ => job.run::<portable::Portable>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<J: Job>(job: J) -> J::Output {
    job.run::<avx2::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn on_avx512<J: Job>(job: J) -> J::Output {
    job.run::<avx512::Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn on_avx512_bf16<J: Job>(job: J) -> J::Output {
    job.run::<avx512::Avx512>()
}

/// Work in plain Rust, on numbers of any type, that compilers make vectors of. `run` and all it calls must be
/// `#[inline(always)]`, as in a [`Job`].
pub trait Plain {
    /// What it gives.
    type Output;

    /// The work.
    fn run(self) -> Self::Output;
}

struct Vectorised<P>(P);

impl<P: Plain> Job for Vectorised<P> {
    type Output = P::Output;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> P::Output {
        self.0.run()
    }
}

/// Does work with vectors of four f64 where this processor has them: compilers make less of wider ones. The numbers are those of
/// any other processor: neither the order of sums nor how often they are rounded changes.
#[inline]
pub fn vectorise<P: Plain>(work: P) -> P::Output {
    let set = if Set::Avx2.is_here() { Set::Avx2 } else { Set::Portable };
    // SAFETY: the instructions are here, and the work asks for nothing.
    unsafe { dispatch(Isa(set), Vectorised(work)) }
}

/// Operations on vectors of f32. Every method is unsafe for one reason: the processor must have the instructions. Those
/// that take a pointer also read or write [`LANES`](Simd::LANES) values there, or the first `n` where `n` is given.
#[allow(clippy::missing_safety_doc)] // said once, above
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector.
    type V: Copy;
    /// f32 in a vector.
    const LANES: usize;
    /// Rows of the largest tile of a product: ROWS x 2 accumulators, two vectors and a broadcast stay in registers.
    const ROWS: usize;

    /// x in every lane.
    unsafe fn splat(x: f32) -> Self::V;
    /// Reads a vector.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Writes a vector.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Reads the first `n` lanes; the rest are 0.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V;
    /// Writes the first `n` lanes.
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize);
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a b + c, rounded once where the processor can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a less the largest whole number that is not above it.
    unsafe fn fraction(a: Self::V) -> Self::V;
    /// a 2^n for n rounded down to a whole number; may be 0 below the normal numbers, and a 2^127 or infinity above.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// a where `sign` >= 0, else b.
    unsafe fn select(sign: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Whether any lane of a is above that of b.
    unsafe fn any_above(a: Self::V, b: Self::V) -> bool;
    /// Sum of the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// acc + sum of the products of the two bf16 that each 32-bit word of a and b holds.
    unsafe fn dot2(a: Self::V, b: Self::V, acc: Self::V) -> Self::V;
    /// Words of two bf16: `low` in the low half.
    unsafe fn pair(low: Self::V, high: Self::V) -> Self::V;
    /// Writes LANES bf16.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
}

/// Rounds to bf16, halves to even; what is no number stays none.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40; // quiet
    }
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Every<'a>(&'a [f32], &'a [f32], &'a mut Vec<f32>);

    impl Job for Every<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Every(a, b, out) = self;
            let mut keep = |v: S::V| {
                let mut lanes = vec![0f32; S::LANES];
                S::store(lanes.as_mut_ptr(), v);
                out.extend(&lanes[..8]);
            };
            let (x, y) = (S::load(a.as_ptr()), S::load(b.as_ptr()));
            for v in [S::add(x, y), S::sub(x, y), S::mul(x, y), S::div(x, y), S::max(x, y), S::min(x, y)] {
                keep(v);
            }
            keep(S::fraction(x));
            keep(S::scale(y, x));
            keep(S::select(x, y, S::splat(7.0)));
            keep(S::load_n(a.as_ptr(), 3));
            keep(S::pair(x, y));
            let mut partial = [9f32; 16];
            S::store_n(partial.as_mut_ptr(), x, 5);
            keep(S::load(partial.as_ptr()));
            let mut halves = [0u16; 16];
            S::store_bf16(halves.as_mut_ptr(), x);
            out.extend(halves[..8].iter().map(|h| f32::from(*h)));
            out.push(f32::from(u8::from(S::any_above(x, y))));
            out.push(f32::from(u8::from(S::any_above(S::sub(x, y), S::splat(1e6)))));
        }
    }

    #[test]
    fn every_instruction_set_computes_what_plain_rust_does() {
        let a = [-200.5f32, -1.5, -0.4, 0.0, 0.49, 1.25, 90.0, 3.0e-3, 1., 2., 3., 4., 5., 6., 7., 8.];
        let b = [1.5f32, -2.0, 0.3, 1.0, -0.7, 1.0, 1.1, 5.0, 1., 2., 3., 4., 5., 6., 7., 8.];
        let mut want = Vec::new();
        // SAFETY: Portable is always there; both arrays hold the 16 values that the widest vector reads.
        unsafe { dispatch(Isa(Set::Portable), Every(&a, &b, &mut want)) };
        assert_eq!(want[0], -199.0);
        assert_eq!(want[8 * 6..8 * 8][..4], [0.5, 0.5, 1.0 - 0.4, 0.0]);
        assert_eq!(want[8 * 7..8 * 8], [0.0, -0.5, 0.15, 1.0, -0.7, 2.0, 1.1 * 2f32.powi(90), 5.0]);
        for isa in Isa::all().into_iter().filter(|isa| isa.can_bf16()) {
            let mut got = Vec::new();
            // SAFETY: as above, and `isa` is here.
            unsafe { dispatch(isa, Every(&a, &b, &mut got)) };
            assert_eq!(got.len(), want.len());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                // Fractions may be rounded once or twice.
                assert!((got - want).abs() <= 1e-6 * want.abs(), "{isa:?}: value {i} is {got}, not {want}");
            }
        }
    }

    struct Sum<'a>(&'a [f64]);

    impl Plain for Sum<'_> {
        type Output = f64;

        #[inline(always)]
        fn run(self) -> f64 {
            self.0.iter().sum()
        }
    }

    #[test]
    fn plain_work_gives_the_numbers_of_plain_rust() {
        let x: Vec<f64> = (0..1000).map(|n| (f64::from(n) * 0.7).sin()).collect();
        assert_eq!(vectorise(Sum(&x)), x.iter().sum::<f64>());
    }

    struct Halves<'a>(&'a [f32], &'a mut Vec<u32>);

    impl Job for Halves<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let x = S::load(self.0.as_ptr());
            let mut words = [0f32; 16];
            S::store(words.as_mut_ptr(), S::pair(x, x));
            self.1.extend(words[..8].iter().map(|w| w.to_bits()));
            let mut halves = [0u16; 16];
            S::store_bf16(halves.as_mut_ptr(), x);
            self.1.extend(halves[..8].iter().map(|h| u32::from(*h) << 16 | u32::from(*h)));
        }
    }

    #[test]
    fn rounding_to_bf16_keeps_what_is_no_number() {
        let bits =
            [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7F80_0001, 0x7F80_0000, 0x3F80_8000, 0x3F81_8000, 0x3F80_8001, 0xBF80_0000];
        let mut x = [0f32; 16];
        x.iter_mut().zip(bits).for_each(|(x, bits)| *x = f32::from_bits(bits));
        for isa in Isa::all().into_iter().filter(|isa| isa.can_bf16()) {
            let mut got = Vec::new();
            // SAFETY: 16 values are there.
            unsafe { dispatch(isa, Halves(&x, &mut got)) };
            for got in got.chunks(8) {
                assert!(
                    got[..3].iter().all(|w| f32::from_bits(w << 16).is_nan() && f32::from_bits(*w).is_nan()),
                    "{isa:?}"
                );
                let rest = [0x7F80_7F80, 0x3F80_3F80, 0x3F82_3F82, 0x3F81_3F81, 0xBF80_BF80];
                assert_eq!(got[3..], rest, "{isa:?}"); // infinity, two halves to even, above a half, exact
            }
        }
    }

    struct Products<'a>(&'a [f32], &'a mut Vec<f32>);

    impl Job for Products<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let x = S::load(self.0.as_ptr());
            self.1.push(S::sum(S::load_n(self.0.as_ptr(), 8)));
            let words = S::pair(x, S::splat(0.5));
            let mut lanes = vec![0f32; S::LANES];
            S::store(lanes.as_mut_ptr(), S::dot2(words, S::pair(S::splat(2.0), S::splat(4.0)), S::splat(1.0)));
            self.1.extend(&lanes[..8]);
        }
    }

    #[test]
    fn sums_and_products_of_pairs_by_hand() {
        let a = [1f32, 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15., 16.];
        for isa in Isa::all().into_iter().filter(|isa| isa.can_bf16()) {
            let mut got = Vec::new();
            // SAFETY: `isa` is here and reads at most the 16 values.
            unsafe { dispatch(isa, Products(&a, &mut got)) };
            assert_eq!(got, [36., 5., 7., 9., 11., 13., 15., 17., 19.], "{isa:?}");
            // 1 + 2 x + 4 * 0.5
        }
    }
}
