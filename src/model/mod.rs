//! The networks of ECGFlowCMR, tensors to tensors.
//!
//! | file | model | paper |
//! |---|---|---|
//! | `pamae` | phase-aware masked autoencoder of the ECG | section 3.1 |
//! | `vae` | 3D variational autoencoder of the clip | section 3.2 |
//! | `amdf` | anatomy-motion disentangled flow: DiT velocity and sampler | section 3.2 |
//! | `vit` | vision transformer for phenotypes and diagnoses | section 3.3 |
//! | `mae` | masked autoencoder that prepares it without labels | section 3.3 |
//! | `discriminator` | PatchGAN of the clip: the adversarial term of the VAE's training | section 3.2 |
//! | `lpips` | learned perceptual distance of images: the perceptual term, and a score | section 3.2 |
//! | `inception` | features of frames for the Frechet inception distance: a score | |
//! | `i3d` | features of clips for the Frechet video distance: a score | |
//! | `layers` | blocks that two or more of them share | |
//! | `unit`, `pool` | layers of the two Inception networks; pooling | |
//! | `conv3d` | convolution over frames, rows and columns | |
//! | `attention` | attention that never holds the full score matrix | |
//! | `recompute` | operations whose inner values are computed again in the backward pass | |
//! | `op` | the kernels of the processor as operations on tensors | |
//!
//! Each model asks for its tensors by name, shape and initial distribution through a `VarBuilder`, and for no others, so
//! that any source of weights can serve it: a file, fresh numbers, or a list of what is needed. Errors are candle's; the
//! caller says what was being done. Where no tensor is a variable no graph is kept, and the shared layers then work in
//! small parts to save memory; results are the same either way up to rounding, whatever the number of threads.

pub mod amdf;
pub mod attention;
pub mod conv3d;
pub mod discriminator;
pub mod i3d;
pub mod inception;
pub mod layers;
pub mod lpips;
pub mod mae;
pub mod op;
pub mod pamae;
pub mod pool;
pub mod recompute;
pub mod unit;
pub mod vae;
pub mod vit;
