//! What every training program does around its trainer: opens the weights, says where it started, writes the result.

use std::path::Path;

use candle_core::Device;
use serde_json::Value;

use super::train::{TrainArgs, Trained};
use crate::checkpoint::{Configs, Kind, Models, Weights};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::output::Output;
use crate::io::scratch::ScratchFile;
use crate::train::start::{start, variables};
use crate::train::state::Settings;
use crate::train::variables::Tensors;
use crate::train::Variables;

/// One run of a training program.
pub struct Session {
    /// Where the network runs.
    pub device: Device,
    /// The weights whose other models go into the output.
    pub weights: Option<Weights>,
    /// The model that is trained, as it starts.
    pub start: Models,
    /// What the result depends on, for the state.
    pub settings: Settings,
    /// How the output is made.
    pub provenance: Provenance,
    /// Tensors of the model that are not trained but saved with it.
    pub fixed: Tensors,
    kind: Kind,
}

impl Session {
    /// Sizes the thread pool and opens what the options name; `configs` holds the configuration of a fresh model.
    ///
    /// # Errors
    /// Where something cannot be opened or does not fit.
    pub fn begin(
        tool: &str,
        kind: Kind,
        configs: &Configs,
        weights: Option<&Path>,
        args: &TrainArgs,
    ) -> Result<Session> {
        leave_elementwise_work_to_one_thread();
        super::use_threads(args.threads.threads)?;
        let device = args.device.open()?;
        if args.tf32 {
            args.device.allow_tf32()?;
        }
        let weights = weights.map(Weights::open).transpose()?;
        let init = args.init.as_deref().map(Weights::open).transpose()?;
        let start = start(kind, configs, init.as_ref(), args.seed)?;
        let mut provenance = super::provenance(tool);
        provenance.seed = Some(args.seed);
        provenance.model = weights.as_ref().or(init.as_ref()).map(Weights::id);
        let mut settings = Settings::new();
        settings.insert("config".into(), value(&start.configs)?);
        settings.insert("tf32".into(), args.tf32.into());
        settings.insert("init".into(), init.as_ref().map(Weights::id).into());
        Ok(Session { device, weights, start, settings, provenance, fixed: Tensors::new(), kind })
    }

    /// Adds something that the result depends on.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub fn depends_on(&mut self, name: &str, what: impl serde::Serialize) -> Result<()> {
        self.settings.insert(name.to_owned(), value(&what)?);
        Ok(())
    }

    /// The variables of the network.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn variables(&self) -> Result<Variables> {
        variables(&self.start, self.kind, &self.device)
    }

    /// The other models of the weights, and the trained one.
    ///
    /// # Errors
    /// Where a model of the weights cannot be read.
    pub fn models(&self, trained: Tensors, origin: String) -> Result<Models> {
        let mut models = Models::default();
        if let Some(weights) = &self.weights {
            let others = weights.configs().kinds().into_iter().filter(|kind| *kind != self.kind);
            others.into_iter().try_for_each(|kind| models.take(kind, weights))?;
        }
        models.configs.copy(self.kind, &self.start.configs);
        models.insert(self.kind, trained.into_iter().chain(self.fixed.clone()), origin);
        Ok(models)
    }

    /// The weights as they are in the middle of a training, as if they had been saved and opened.
    ///
    /// # Errors
    /// Where they cannot be written to a temporary file.
    pub fn preview(&self, trained: Tensors) -> Result<Weights> {
        let refused = Error::io("making a temporary file in", std::env::temp_dir());
        let file = ScratchFile::new().map_err(refused)?;
        self.models(trained, "under way".to_owned())?.save(file.path(), &self.provenance)?;
        Weights::open(file.path())
    }

    /// Writes OUTPUT; `on` says what the model was trained on.
    ///
    /// # Errors
    /// Where the models do not fit each other, or the file cannot be written.
    pub fn finish(self, trained: Trained, on: &str, path: &Path) -> Result<()> {
        let models = self.models(trained.weights, format!("trained on {on}, {}", trained.note))?;
        let output = Output::begin(path, true)?;
        models.save(output.path(), &self.provenance)?;
        output.finish()
    }
}

/// candle hands every small operation to threads of its own and spins until they are done: a training, made of many, takes
/// ten times longer where another program uses the processor. Products and our kernels keep their threads. No thread of ours
/// runs yet that reads it.
fn leave_elementwise_work_to_one_thread() {
    const POOL: &str = "CANDLE_NUM_THREADS";
    std::env::set_var(POOL, "1");
}

fn value(what: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(what).map_err(Error::compute("writing JSON"))
}
