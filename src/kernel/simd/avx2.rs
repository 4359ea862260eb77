//! AVX2 with fused multiply-add: 8 lanes, 16 registers.

use std::arch::x86_64::*;

use super::Simd;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2;

/// All ones in the first `n` lanes.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane)
}

/// The bits of a bf16 in the upper half of each word, rounded; the lower half is junk.
#[inline(always)]
unsafe fn rounded(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let even = _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7FFF), odd));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
    let is_none = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
    _mm256_blendv_epi8(even, quiet, is_none)
}

/// The bf16 in the low and in the high half of each word.
#[inline(always)]
unsafe fn halves(v: __m256) -> (__m256, __m256) {
    let bits = _mm256_castps_si256(v);
    let high = _mm256_and_si256(bits, _mm256_set1_epi32(0xFFFF_0000u32 as i32));
    (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)), _mm256_castsi256_ps(high))
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        _mm256_set1_ps(x)
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        _mm256_loadu_ps(p)
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        _mm256_storeu_ps(p, v);
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> __m256 {
        _mm256_maskload_ps(p, mask(n))
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: __m256, n: usize) {
        _mm256_maskstore_ps(p, mask(n), v);
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }

    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }

    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        _mm256_min_ps(a, b)
    }

    #[inline(always)]
    unsafe fn fraction(a: __m256) -> __m256 {
        _mm256_sub_ps(a, _mm256_floor_ps(a))
    }

    #[inline(always)]
    unsafe fn scale(a: __m256, n: __m256) -> __m256 {
        let n = _mm256_max_ps(_mm256_min_ps(n, _mm256_set1_ps(127.0)), _mm256_set1_ps(-127.0));
        let n = _mm256_floor_ps(n);
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    }

    #[inline(always)]
    unsafe fn select(sign: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GE_OQ>(sign, _mm256_setzero_ps()))
    }

    #[inline(always)]
    unsafe fn any_above(a: __m256, b: __m256) -> bool {
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) != 0
    }

    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        let mut lanes = [0f32; 8];
        _mm256_storeu_ps(lanes.as_mut_ptr(), a);
        lanes.iter().sum()
    }

    #[inline(always)]
    unsafe fn dot2(a: __m256, b: __m256, acc: __m256) -> __m256 {
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        _mm256_fmadd_ps(a1, b1, _mm256_fmadd_ps(a0, b0, acc))
    }

    #[inline(always)]
    unsafe fn pair(low: __m256, high: __m256) -> __m256 {
        let low = _mm256_srli_epi32::<16>(rounded(low));
        _mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(low, rounded(high)))
    }

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m256) {
        let words = _mm256_srli_epi32::<16>(rounded(v));
        let packed = _mm256_packus_epi32(words, words);
        let packed = _mm256_permute4x64_epi64::<0b1000>(packed);
        _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(packed));
    }
}
