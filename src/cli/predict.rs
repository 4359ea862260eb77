//! What `cmr-phenotype` and `cmr-classify` share: clips in, a table out.

use super::args::{ComputeArgs, RejectArgs, StreamArgs, TableArgs};
use super::log::Log;
use super::reject::Rejects;
use crate::checkpoint::Kind;
use crate::error::{Fault, Result};
use crate::infer::predict::Predict;
use crate::io::hdf5::CineReader;
use crate::io::table::TableWriter;
use crate::io::Sink;

/// Runs the network of `kind` over every clip of the input.
///
/// # Errors
/// Whatever stops the work.
pub fn predict(
    name: &'static str,
    kind: Kind,
    stream: &StreamArgs,
    table: &TableArgs,
    compute: &ComputeArgs,
    rejects: &RejectArgs,
    log: &Log,
) -> Result<()> {
    super::use_threads(compute.threads.threads)?;
    let device = compute.device.open()?;
    let weights = compute.open_weights(kind, log)?;
    let network = Predict::open(&weights, kind, &device)?;
    log.weights(&weights, kind);
    let source = stream.open()?;
    let shown = source.shown().to_owned();
    let reader = CineReader::open(source)?;
    network.check(reader.size()).map_err(|e| e.in_file(&shown))?;
    let provenance = super::provenance_after(name, &reader.provenance(), &weights);
    let mut writer = TableWriter::begin(&stream.output, &network.columns(), &provenance, !table.no_comments)?;
    let rejects = Rejects::begin(rejects, log, &provenance)?;
    let bar = log.progress(reader.records());
    let mut rows = 0;
    for batch in super::batches(reader, compute.batch, &rejects) {
        let batch = batch?;
        for row in network.run(&batch)? {
            writer.put(&row)?;
            rows += 1;
        }
        bar.inc(batch.len() as u64);
    }
    rejects.finish()?;
    if rows == 0 {
        return Err(Fault::new("predicting", "no record could be used").file(shown).into());
    }
    writer.finish()
}
