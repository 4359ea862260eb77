//! Training: what every trainer shares, and a trainer per model.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | the loop: batch, loss, backward, clip, step, schedule, average, validation, checkpoint |
//! | `task` | what a trainer brings: its networks, its losses, its score |
//! | `variables` | the tensors of a network while they are trained, and their gradients |
//! | `adamw`, `schedule`, `ema` | the optimiser, the learning rate, the running average of the weights |
//! | `split` | which records validate, and in which order the others train |
//! | `clip`, `latent` | clips and their latents as the trainers want them; the anatomy template |
//! | `start` | the model that a training starts from |
//! | `input`, `truth`, `protocol` | what the networks behind phenotypes and diagnoses see and are to say; who trains, validates and is tested |
//! | `learn`, `calibrate` | their trainer; probabilities that mean what they say |
//! | `baseline` | what they are compared with |
//! | `mae` | the trainer that prepares them without labels |
//! | `state`, `snapshot` | everything that is needed to go on, in one file |
//! | `pamae`, `vae`, `flow` | the trainers |
//!
//! Random numbers come from [`random::Stream`](crate::random::Stream), keyed by purpose, seed, record and step, so there is
//! no generator to save: a run that was interrupted and resumed gives the same bytes as one that was not (on the processor,
//! with the same number of threads).

pub mod adamw;
pub mod baseline;
pub mod calibrate;
pub mod clip;
pub mod condition;
pub mod ema;
pub mod flow;
pub mod input;
pub mod latent;
pub mod learn;
pub mod mae;
pub mod pamae;
pub mod protocol;
pub mod run;
pub mod schedule;
pub mod snapshot;
pub mod split;
pub mod start;
pub mod state;
pub mod task;
pub mod terms;
pub mod truth;
pub mod vae;
pub mod variables;

pub use run::{End, Plan, Row, Training, Watch};
pub use split::Split;
pub use task::{At, Defaults, Losses, Network, Recipe, Records, Task, Update};
pub use variables::Variables;
