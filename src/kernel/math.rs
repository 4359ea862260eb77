//! Exponential, sigmoid and GELU on vectors. 2^x is exact to a unit of the last place; GELU and its slope to 3e-7 of the
//! largest of 1 and x, as the error function is; the sigmoid to 1e-7, and nowhere below 2^-126.

use super::simd::Simd;

/// 1 / ln 2.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// 2^f on [0, 1) as a polynomial from f^0 on; the largest relative error, 8e-8, is a unit of the last place. Found by
/// reweighted least squares.
const EXP2: [f32; 6] = [1.0, 0.693_151_3, 0.240_164_45, 0.055_799_913, 0.009_017_03, 0.001_867_13];

/// 2^x; what is below the normal numbers may be 0.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    let f = S::fraction(x);
    let [c0, c1, c2, c3, c4, c5] = EXP2;
    let mut p = S::fma(S::splat(c5), f, S::splat(c4));
    for c in [c3, c2, c1, c0] {
        p = S::fma(p, f, S::splat(c));
    }
    S::scale(p, x)
}

/// 1 / (1 + e^-x).
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    let e = exp2::<S>(S::min(S::mul(x, S::splat(-LOG2_E)), S::splat(126.0)));
    S::div(S::splat(1.0), S::add(S::splat(1.0), e))
}

/// erfc(|x| / sqrt 2) and e^(-x^2 / 2). Abramowitz and Stegun 7.1.26: largest error 1.5e-7.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn erfc_and_bell<S: Simd>(x: S::V) -> (S::V, S::V) {
    const P: f32 = 0.327_591_1;
    const A: [f32; 5] = [0.254_829_6, -0.284_496_72, 1.421_413_8, -1.453_152_1, 1.061_405_4];
    let z = S::mul(S::max(x, S::sub(S::splat(0.0), x)), S::splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = S::div(S::splat(1.0), S::fma(S::splat(P), z, S::splat(1.0)));
    let mut p = S::splat(A[4]);
    for a in [A[3], A[2], A[1], A[0]] {
        p = S::fma(p, t, S::splat(a));
    }
    let square = S::min(S::mul(x, x), S::splat(400.0)); // beyond, 0 in f32; infinity would make NaN
    let bell = exp2::<S>(S::mul(square, S::splat(-0.5 * LOG2_E)));
    (S::mul(S::mul(p, t), bell), bell)
}

/// x Phi(x), the exact GELU.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub unsafe fn gelu<S: Simd>(x: S::V) -> S::V {
    let (erfc, _) = erfc_and_bell::<S>(x);
    let size = S::max(x, S::sub(S::splat(0.0), x));
    S::fma(S::mul(size, S::splat(-0.5)), erfc, S::max(x, S::splat(0.0))) // max(x, 0) - |x| erfc / 2
}

/// Its slope, Phi(x) + x phi(x).
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
pub unsafe fn gelu_slope<S: Simd>(x: S::V) -> S::V {
    const DENSITY_AT_0: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    let (erfc, bell) = erfc_and_bell::<S>(x);
    let half = S::mul(erfc, S::splat(0.5));
    let below = S::select(x, S::sub(S::splat(1.0), half), half);
    S::fma(S::mul(x, S::splat(DENSITY_AT_0)), bell, below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{dispatch, Isa, Job};

    struct Each<'a>(&'a [f32], &'a mut [Vec<f32>; 4]);

    impl Job for Each<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for chunk in self.0.chunks(S::LANES) {
                let x = S::load_n(chunk.as_ptr(), chunk.len());
                let all = [exp2::<S>(x), sigmoid::<S>(x), gelu::<S>(x), gelu_slope::<S>(x)];
                for (v, out) in all.into_iter().zip(self.1.iter_mut()) {
                    let mut lanes = [0f32; 16];
                    S::store(lanes.as_mut_ptr(), v);
                    out.extend(&lanes[..chunk.len()]);
                }
            }
        }
    }

    /// erfc by its continued fraction or series in f64.
    fn erfc(z: f64) -> f64 {
        if z < 2.0 {
            let (mut term, mut sum) = (z, z);
            for n in 1..60 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let tail = (1..80).rev().fold(z, |tail, n| z + f64::from(n) / 2.0 / tail);
        (-z * z).exp() / tail / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn functions_equal_those_of_f64() {
        let x: Vec<f32> = (-1200..=1200).map(|i| i as f32 * 0.011).collect();
        for isa in Isa::all() {
            let mut got: [Vec<f32>; 4] = Default::default();
            // SAFETY: `isa` is here; the job reads within its slice.
            unsafe { dispatch(isa, Each(&x, &mut got)) };
            for (i, x) in x.iter().map(|x| f64::from(*x)).enumerate() {
                let upper = 0.5 * erfc(x.abs() / 2f64.sqrt());
                let phi = if x < 0.0 { upper } else { 1.0 - upper };
                let density = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
                let want = [x.exp2(), 1.0 / (1.0 + (-x).exp()), x * phi, phi + x * density];
                for (k, (want, scale)) in want.into_iter().zip([x.exp2(), 1.0, 1.0, 1.0]).enumerate() {
                    let off = (f64::from(got[k][i]) - want).abs() / scale;
                    assert!(off < 6e-7, "{isa:?}: function {k} at {x}: {} for {want}", got[k][i]);
                }
            }
        }
    }

    #[test]
    fn far_ends_are_finite() {
        let x = [-1e30f32, -2000.0, -150.0, 1e30, 2000.0];
        for isa in Isa::all() {
            let mut got: [Vec<f32>; 4] = Default::default();
            // SAFETY: `isa` is here; the job reads within its slice.
            unsafe { dispatch(isa, Each(&x, &mut got)) };
            assert_eq!(got[0][..3], [0.0; 3], "{isa:?}");
            assert_eq!(got[1], [0.0, 0.0, 0.0, 1.0, 1.0].map(|v: f32| if v == 0.0 { got[1][0] } else { v }), "{isa:?}");
            assert!(got[1][0] < 1e-30);
            assert_eq!(got[2], [0.0, 0.0, 0.0, 1e30, 2000.0], "{isa:?}");
            assert_eq!(got[3], [0.0, 0.0, 0.0, 1.0, 1.0], "{isa:?}");
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for isa in Isa::all() {
            let mut got: [Vec<f32>; 4] = Default::default();
            // SAFETY: `isa` is here; the job reads within its slice.
            unsafe { dispatch(isa, Each(&[f32::NAN, 1.0], &mut got)) };
            assert!(got[0][0].is_nan() && got[2][0].is_nan() && got[3][0].is_nan(), "{isa:?} {got:?}");
            assert!(got.iter().all(|v| v[1].is_finite()));
        }
    }
}
