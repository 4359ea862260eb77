//! Operations that candle lacks or does slowly: slices in, slices out, on the processor but for `gpu`.
//!
//! | file | what |
//! |---|---|
//! | `simd` | vectors, and the choice of instruction set at run time |
//! | `buffer` | aligned memory, scratch memory of a thread |
//! | `math` | exponential, error function, sigmoid on vectors |
//! | `gemm` | products of matrices with a packed right factor, f32 or bf16 |
//! | `product` | the tiles that they are made of |
//! | `attention` | softmax(Q K^T) V without the matrix of scores, and its gradient |
//! | `winograd` | 3 x 3 x 3 convolution with fewer multiplications, and its gradient |
//! | `gpu` | 3 x 3 x 3 convolution and group normalisation on an NVIDIA GPU, with gradients |
//! | `conv` | convolution of any kernel and stride, and gradients |
//! | `elementwise` | GELU, sums of pixels |
//! | `norm` | group and layer normalisation |
//! | `transformer` | the layers of a DiT block, each in one pass over the tokens |
//!
//! Maps are channels-last: (T, H, W, C), tokens are rows: (N, C). Results do not depend on the number of threads: work
//! is split over outputs, and sums over many parts are added in a fixed order.
//!
//! This is the only place with `unsafe`: intrinsics, and pointers into slices whose bounds the safe functions around them
//! check first. The safe functions take sizes and assert that the slices have them.
#![allow(unsafe_code)]
// Lanes, rows and taps index several arrays at once.
#![allow(clippy::needless_range_loop)]

pub mod attention;
pub mod buffer;
pub mod conv;
pub mod elementwise;
pub mod gemm;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod math;
pub mod norm;
mod product;
pub mod signal;
pub mod simd;
pub mod transformer;
pub mod winograd;

pub use simd::Isa;
