//! What a trainer brings to the loop.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::adamw::Settings;
use super::split::Split;
use super::variables::Variables;
use crate::error::Result;
use crate::random::Stream;

/// Records that are read one at a time, in any order.
pub trait Records: Sync {
    /// What a record holds.
    type Item;

    /// Their names, each once.
    fn ids(&self) -> &[String];

    /// Record `i` of `ids`.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn get(&self, i: usize) -> Result<Self::Item>;
}

impl<R: Records + ?Sized> Records for Box<R> {
    type Item = R::Item;

    fn ids(&self) -> &[String] {
        (**self).ids()
    }

    fn get(&self, i: usize) -> Result<R::Item> {
        (**self).get(i)
    }
}

/// How a network is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The optimiser.
    pub adamw: Settings,
    /// Gradients are scaled down to this norm.
    pub clip: f64,
}

/// What a trainer does unless it is told otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Passes over the data.
    pub epochs: u64,
    /// Records that go through the network together.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f64,
    /// Decay of the running average of the weights; 0 for none.
    pub ema: f64,
    /// Epochs in which the learning rate rises to its height.
    pub warm_up: u64,
}

/// A network with an optimiser of its own.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name in the state file and in the columns of the log.
    pub name: &'static str,
    /// Its tensors.
    pub variables: Variables,
    /// How it is optimised.
    pub recipe: Recipe,
    /// The part of it that moves at another rate.
    pub paced: Option<Paced>,
}

/// A part of a network that moves at a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paced {
    /// What the names of its tensors begin with.
    pub prefix: &'static str,
    /// Its learning rate, in units of the network's.
    pub pace: f64,
}

/// Where in the training a loss is computed; the key of its random numbers.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The seed of the training.
    pub seed: u64,
    /// Steps made before this one.
    pub step: u64,
}

impl At {
    /// Random numbers for a purpose and a record in this step.
    pub fn stream(&self, purpose: &str, id: &str) -> Stream {
        Stream::new(purpose, self.seed, id, u32::try_from(self.step).unwrap_or(u32::MAX))
    }
}

/// A loss, and the network whose variables it moves.
#[derive(Debug, Clone)]
pub struct Update {
    /// Number of the network among [`Task::networks`].
    pub network: usize,
    /// A scalar.
    pub loss: Tensor,
}

/// The losses of one batch.
#[derive(Debug, Clone)]
pub struct Losses {
    /// What moves which network. The gradients of all are taken before any network is moved.
    pub updates: Vec<Update>,
    /// A value for each of [`Task::parts`], scalars; for the log.
    pub parts: Vec<Tensor>,
}

/// A trainer.
pub trait Task {
    /// The networks; the first is the one whose weights are validated, averaged and saved.
    fn networks(&self) -> Vec<Network>;

    /// Names of the records, each once.
    fn ids(&self) -> &[String];

    /// What [`Losses::parts`] holds, the loss first: columns of the log.
    fn parts(&self) -> Vec<&'static str>;

    /// The losses of these records.
    ///
    /// # Errors
    /// Where a record cannot be read or the computation fails.
    fn losses(&self, records: &[usize], at: At) -> Result<Losses>;

    /// The records that train and that validate, where they are not drawn by the plan's share.
    fn split(&self) -> Option<Split> {
        None
    }

    /// How badly the first network does on all these records together, where that is more than the mean of their scores;
    /// lower is better.
    ///
    /// # Errors
    /// Where a record cannot be read or the computation fails.
    fn score_of_all(&self, _records: &[usize], _seed: u64) -> Result<Option<f64>> {
        Ok(None)
    }

    /// How badly the first network does on one record; lower is better. The same record and seed give the same noise.
    ///
    /// # Errors
    /// Where the record cannot be read or the computation fails.
    fn score(&self, record: usize, seed: u64) -> Result<f64>;
}
