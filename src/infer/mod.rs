//! From noun to noun by a network: what each stage computes, without paths, options or printing.
//!
//! On the processor every record is computed by itself, so a result does not depend on its neighbours in the batch;
//! on a GPU a batch goes through together.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

pub mod chain;
pub mod encode;
pub mod generate;
pub mod predict;
pub mod score;

/// Runs `f` over the batch: whole on a GPU, one item at a time on the processor.
fn by_device<T, U>(batch: &[T], device: &Device, f: impl Fn(&[T]) -> candle_core::Result<Vec<U>>) -> Result<Vec<U>> {
    let parts = if device.is_cpu() { batch.chunks(1) } else { batch.chunks(batch.len().max(1)) };
    let mut all = Vec::with_capacity(batch.len());
    for part in parts {
        all.extend(f(part).map_err(Error::compute("running the model"))?);
    }
    Ok(all)
}

/// Refuses what a network computed for record `id` where it is not finite.
fn finite<'a>(what: &str, id: &str, values: impl IntoIterator<Item = &'a f32>) -> candle_core::Result<()> {
    if values.into_iter().all(|v| v.is_finite()) {
        return Ok(());
    }
    candle_core::bail!("the {what} of record {id} is not finite: damaged weights, or an extreme input or setting")
}

/// One tensor for each item, stacked along a new first axis.
fn stack<T>(batch: &[T], f: impl Fn(&T) -> candle_core::Result<Tensor>) -> candle_core::Result<Tensor> {
    let tensors = batch.iter().map(f).collect::<candle_core::Result<Vec<Tensor>>>()?;
    Tensor::stack(&tensors, 0)
}
