//! Slices of numbers to numbers: how far two things agree. Each file opens with its formula.

pub mod beats;
pub mod bootstrap;
pub mod cavity;
pub mod classification;
pub mod correlation;
pub mod eigen;
pub mod frechet;
pub mod neighbour;
pub mod psnr;
pub mod regression;
pub mod ssim;
