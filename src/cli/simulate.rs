//! `ecgflow simulate`: a cohort of digital hearts, drawn on all threads and written in the order of their index.
//!
//! | | files | `--hdf5` |
//! |---|---|---|
//! | ECG | `ecg/ID.hea`, `.dat`; true R peaks in `.qrs` | `ecg.h5`, prepared as `ecg-prep` does by default |
//! | cine | `cine/ID/IM0001.dcm` onwards, the acquired matrix | `cine.h5`, the clips that the models see |
//! | truth | `phenotypes.csv`, `diagnoses.csv`, `truth.csv` | the same |

use std::path::PathBuf;

use clap::Args;

use super::args::{count, ThreadArgs};
use super::ecg::about;
use super::log::Log;
use crate::data::cine::Cine;
use crate::data::ecg::Ecg;
use crate::data::phenotype::PHENOTYPES;
use crate::data::series::{CineSeries, Plane, Scanner};
use crate::data::table::{Row, Value};
use crate::data::Provenance;
use crate::error::{Error, Result};
use crate::io::dicom::cine::{encode, Encoded, SeriesFolders};
use crate::io::hdf5::CineWriter;
use crate::io::ordered::Ordered;
use crate::io::output::Folder;
use crate::io::sink::{About, EcgSink, Format};
use crate::io::table::TableWriter;
use crate::io::Sink;
use crate::signal::prepare::{prepare, PrepareOptions};
use crate::signal::preset::Preset;
use crate::simulate::{participant, Group, Participant};

/// Bytes that one participant takes while under way, about.
const PARTICIPANT_BYTES: usize = 5 << 20;
/// Thickness of a long-axis slice, mm (UK Biobank; Petersen et al., J Cardiovasc Magn Reson 2016;18:8).
const SLICE_MM: f64 = 6.0;
/// The tables, and what stands in them.
const TABLES: [&str; 3] = ["phenotypes.csv", "diagnoses.csv", "truth.csv"];

/// Draw a cohort of digital hearts: 12-lead ECG, cine series, phenotypes, diagnoses and the truth behind them.
///
/// Every participant depends on the seed and their index alone, so a cohort can be drawn in parts and by any number of
/// threads. Example: ecgflow simulate -n 500 --seed 3 -o hearts
#[derive(Args, Debug, Clone)]
pub struct SimulateArgs {
    /// Number of participants.
    #[arg(short = 'n', long, value_name = "N", value_parser = count)]
    participants: usize,
    /// Folder to write; it must be new or empty.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Seed of the cohort.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Index of the first participant.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    start: u64,
    /// Only one group: healthy, hcm, dcm, rcm, ischaemic or heart-failure [default: all, as they fall].
    #[arg(long, value_name = "GROUP", value_parser = group)]
    group: Option<Group>,
    /// Write ecg.h5 and cine.h5, ready for the other programs, in place of WFDB and DICOM.
    #[arg(long)]
    hdf5: bool,
    #[command(flatten)]
    threads: ThreadArgs,
}

fn group(text: &str) -> std::result::Result<Group, String> {
    let known = || Group::ALL.map(|(group, _)| group.name()).join(", ");
    Group::parse(text).ok_or_else(|| format!("expected one of {}", known()))
}

/// Draws the cohort and writes it.
///
/// # Errors
/// Where the folder holds something already, or cannot be written.
pub fn simulate(args: &SimulateArgs, log: &Log) -> Result<()> {
    let end = args.start.checked_add(args.participants as u64);
    let end = end.ok_or_else(|| Error::usage(format!("--start {}: the last index is too large", args.start)))?;
    super::use_threads(args.threads.threads)?;
    let mut provenance = super::provenance("ecgflow");
    (provenance.seed, provenance.synthetic) = (Some(args.seed), true);
    let mut cohort = Cohort::begin(args, &provenance)?;
    let bar = log.progress(args.participants);
    let (args, of) = (args.clone(), provenance);
    let draw = move |index| Drawn::new(&participant(args.seed, index, args.group), args.hdf5, &of);
    for drawn in Ordered::new(args.start..end, |_| PARTICIPANT_BYTES, draw) {
        cohort.put(&drawn??)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    cohort.finish()
}

/// One participant, ready to be written.
struct Drawn {
    ecg: Ecg,
    pictures: Pictures,
    rows: [Row; 3],
}

enum Pictures {
    Series(Encoded),
    Clip(Cine),
}

impl Drawn {
    fn new(participant: &Participant, hdf5: bool, provenance: &Provenance) -> Result<Drawn> {
        let tracing = participant.ecg();
        let rows = rows(participant, &tracing.r_peak);
        if hdf5 {
            let ecg = prepare(tracing.recording, &PrepareOptions::default())?;
            return Ok(Drawn { ecg, pictures: Pictures::Clip(participant.cine()), rows });
        }
        let raw = PrepareOptions { preset: Preset::Raw, ..PrepareOptions::default() };
        let ecg = Ecg { r_peak: tracing.r_peak, ..prepare(tracing.recording, &raw)? };
        let series = encode(&series(participant), provenance)?;
        Ok(Drawn { ecg, pictures: Pictures::Series(series), rows })
    }
}

/// What the scanner stored, with the place it was taken in.
fn series(participant: &Participant) -> CineSeries {
    let stored = participant.series();
    CineSeries {
        id: participant.id.clone(),
        frames: stored.frames,
        pixel_spacing_mm: [stored.pixel_spacing_mm; 2],
        slice_thickness_mm: SLICE_MM,
        plane: Plane::four_chamber(),
        trigger_ms: stored.trigger_ms,
        rr_ms: 1000.0 * participant.body.beat.rr_s,
        scanner: Scanner::biobank(),
    }
}

/// Columns of the tables after `id`.
fn columns(participant: &Participant) -> [Vec<String>; 3] {
    let diagnoses = participant.diagnoses().iter().map(|(name, _)| (*name).to_owned()).collect();
    let truth = participant.truth();
    let truth = truth.iter().map(|(name, _)| *name);
    let truth = std::iter::once("group").chain(truth).chain(["r_peak_samples"]).map(str::to_owned).collect();
    [PHENOTYPES.iter().map(|phenotype| phenotype.name.to_owned()).collect(), diagnoses, truth]
}

fn rows(participant: &Participant, r_peak: &[i32]) -> [Row; 3] {
    let peaks: Vec<String> = r_peak.iter().map(i32::to_string).collect();
    let mut truth = vec![Value::Text(participant.group.name().to_owned())];
    truth.extend(participant.truth().into_iter().map(|(_, value)| Value::Number(value)));
    truth.push(Value::Text(peaks.join(" ")));
    let diagnoses = participant.diagnoses().iter().map(|(_, is)| Value::Number(f64::from(u8::from(*is)))).collect();
    let phenotypes = participant.phenotypes().map(Value::Number).to_vec();
    [phenotypes, diagnoses, truth].map(|cells| Row { id: participant.id.clone(), cells })
}

/// The folder under way. Everything in it appears together.
struct Cohort {
    folder: Folder,
    ecg: EcgSink,
    pictures: PictureSink,
    tables: Vec<TableWriter>,
}

enum PictureSink {
    Series(Box<SeriesFolders>),
    Clips(Box<CineWriter>),
}

impl Cohort {
    fn begin(args: &SimulateArgs, provenance: &Provenance) -> Result<Cohort> {
        let folder = Folder::begin_new(&args.output)?;
        let at = |name: &str| folder.path().join(name);
        let (ecg, pictures) = match args.hdf5 {
            true => (
                EcgSink::begin(&at("ecg.h5"), Format::Hdf5, &about(&PrepareOptions::default())?, provenance)?,
                PictureSink::Clips(Box::new(CineWriter::begin(&at("cine.h5"), provenance)?)),
            ),
            false => (
                EcgSink::begin(&at("ecg"), Format::Wfdb, &as_drawn(), provenance)?,
                PictureSink::Series(Box::new(SeriesFolders::begin(&at("cine"), provenance)?)),
            ),
        };
        let first = participant(args.seed, args.start, args.group);
        let table = |(name, columns): (&&str, Vec<String>)| TableWriter::begin(&at(name), &columns, provenance, true);
        let tables = TABLES.iter().zip(columns(&first)).map(table).collect::<Result<_>>()?;
        Ok(Cohort { folder, ecg, pictures, tables })
    }

    fn put(&mut self, drawn: &Drawn) -> Result<()> {
        self.ecg.put(&drawn.ecg)?;
        match (&mut self.pictures, &drawn.pictures) {
            (PictureSink::Series(folders), Pictures::Series(series)) => folders.put_encoded(series)?,
            (PictureSink::Clips(writer), Pictures::Clip(clip)) => writer.put(clip)?,
            _ => {}
        }
        self.tables.iter_mut().zip(&drawn.rows).try_for_each(|(table, row)| table.put(row))
    }

    fn finish(self) -> Result<()> {
        self.ecg.finish()?;
        match self.pictures {
            PictureSink::Series(folders) => folders.finish()?,
            PictureSink::Clips(writer) => writer.finish()?,
        }
        self.tables.into_iter().try_for_each(TableWriter::finish)?;
        self.folder.finish()
    }
}

/// What the WFDB records have in common.
fn as_drawn() -> About {
    let steps = vec!["as drawn, noise included; R peaks in .qrs are the true ones".to_owned()];
    About { rate_hz: crate::signal::prepare::RATE_HZ, preset: "none".to_owned(), steps, unit: "mV" }
}
