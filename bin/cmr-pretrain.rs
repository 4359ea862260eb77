//! Cine -> weights: masked autoencoding of real and generated clips.

use std::process::ExitCode;

use clap::Parser;
use ecgflow::cli::args::LogArgs;
use ecgflow::cli::pretrain::PretrainArgs;
use ecgflow::cli::{log::Log, Program};
use ecgflow::Result;

/// Pretrain the network behind phenotypes and diagnoses without labels, on real and generated clips.
///
/// A masked autoencoder: three quarters of a clip's patches are hidden and restored from the others. The weights are what
/// `cmr-phenotype train --init` and `cmr-classify train --init` start from. With --state, a training that was stopped goes
/// on where it was and ends with the same weights.
#[derive(Parser)]
#[command(version, name = "cmr-pretrain", after_help = EXAMPLES)]
struct CmrPretrain {
    #[command(flatten)]
    pretrain: PretrainArgs,
    #[command(flatten)]
    log: LogArgs,
}

const EXAMPLES: &str = "Examples:
  cmr-pretrain --real cine.h5 --synthetic generated.h5 --mix 3 -o mae.safetensors --state mae.state
  cmr-pretrain --real cine.h5 --protocol cv/protocol.json --fold 1 -o mae1.safetensors --pictures seen";

impl Program for CmrPretrain {
    const NAME: &'static str = "cmr-pretrain";

    fn log(&self) -> &LogArgs {
        &self.log
    }

    fn run(self, log: &Log) -> Result<()> {
        self.pretrain.run(Self::NAME, log)
    }
}

fn main() -> ExitCode {
    ecgflow::cli::main_with::<CmrPretrain>()
}
