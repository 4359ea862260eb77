//! From a header and its signal files to voltages.

use std::path::Path;

use ndarray::Array2;

use super::group::{group, Group, Rows};
use super::header::{Header, Signal};
use super::sample::Format;
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Fault, Result};
use crate::io::Unit;

const DOING: &str = "reading WFDB record";
/// Most samples that the compressed files of a record may unfold to: a still signal takes next to nothing.
const UNFOLDED: u64 = 1 << 26;
/// So many samples are believed of compressed files.
const BELIEVED: u64 = 1 << 22;

/// What a header makes of its record.
#[derive(Debug, PartialEq)]
pub(super) struct Plan<'a> {
    pub(super) header: &'a Header,
    /// The signals that are kept, by their places in the header.
    kept: Vec<usize>,
    /// Samples a frame that they have, or are averaged to.
    pub(super) per_frame: u64,
    /// Whether leads of several rates are averaged to one sample a frame.
    averaged: bool,
}

/// Decodes every signal file of the record and keeps the voltages.
pub(super) fn assemble(header: &Header, folder: &Path) -> Result<Recording> {
    let plan = Plan::of(header)?;
    let files = Files::of(header, folder, header.frames)?; // before anything is allocated
    let leads = plan.leads();
    let length = files.frames.saturating_mul(plan.per_frame) as usize; // compared with the files
    let mut samples_mv = Array2::zeros((leads.len(), length));
    plan.decode(&files, samples_mv.rows_mut().into_iter().map(|row| row.into_slice()))?;
    let recording = Recording::new(&header.name, leads, plan.rate_hz(), samples_mv)?;
    Ok(plan.note().into_iter().fold(recording, Recording::note))
}

/// The signal files of a record, each large enough for its frames.
pub(super) struct Files<'a> {
    groups: Vec<Group<'a>>,
    frames: u64,
}

impl<'a> Files<'a> {
    /// Those that a header names in a folder, which must hold so many frames.
    pub(super) fn of(header: &'a Header, folder: &Path, frames: Option<u64>) -> Result<Files<'a>> {
        let groups = group(header, folder)?;
        let frames = count(frames, &groups)?;
        groups.iter().try_for_each(|group| group.check(frames))?;
        check_compressed(&groups, frames)?;
        Ok(Files { groups, frames })
    }
}

/// Frames of the record: what is said, else what the shortest file holds.
fn count(said: Option<u64>, groups: &[Group]) -> Result<u64> {
    let frames = match said {
        Some(frames) => frames,
        None => {
            let held = groups.iter().map(Group::frames).collect::<Result<Vec<_>>>()?;
            held.into_iter().flatten().min().unwrap_or(0)
        }
    };
    match frames {
        0 => Err(Fault::new(DOING, "the record has no samples").into()),
        frames => Ok(frames),
    }
}

/// Of compressed files, whose size sets no limit, the record may claim so many samples. Of more than are believed it is looked
/// whether they are there.
fn check_compressed(groups: &[Group], frames: u64) -> Result<()> {
    let compressed = || groups.iter().filter(|group| group.is_compressed());
    let each = |group: &Group| frames.saturating_mul(group.width).saturating_add(group.offset);
    let samples = compressed().map(each).fold(0, u64::saturating_add);
    if samples > UNFOLDED {
        let fault = Fault::new(DOING, "compressed signal files unfold to too many samples");
        let fault = fault.expected(format!("at most {UNFOLDED} samples"), samples);
        return Err(fault.hint("cut the record into pieces first, for example with `xform` of the WFDB tools").into());
    }
    compressed().filter(|_| samples > BELIEVED).try_for_each(|group| group.look_through(frames))
}

impl Plan<'_> {
    /// The signals to keep: voltages of one rate. Where standard ECG leads are among them, their rate decides and
    /// voltages of another rate are left out. Where the deciding signals have several rates, each frame is averaged, as the
    /// reference reader does (which rounds the mean down to a whole step; here it is not rounded).
    pub(super) fn of(header: &Header) -> Result<Plan<'_>> {
        let signals = &header.signals;
        let voltage = |s: &Signal| s.format != Format::Null && Unit::parse(&s.unit).is_some();
        if !signals.iter().any(voltage) {
            let units: Vec<&str> = signals.iter().take(12).map(|s| s.unit.as_str()).collect(); // to show some
            let fault = Fault::new(DOING, "no signal is a voltage");
            return Err(fault.expected("a unit of uV, mV or V", units.join(", ")).into());
        }
        let is_lead = |s: &&Signal| voltage(s) && Lead::parse(&s.name).is_some();
        let deciding: Vec<&Signal> = match signals.iter().any(|s| is_lead(&s)) {
            true => signals.iter().filter(is_lead).collect(),
            false => signals.iter().filter(|s| voltage(s)).collect(),
        };
        let per_frame = deciding.first().map_or(1, |s| s.per_frame);
        let averaged = deciding.iter().any(|s| s.per_frame != per_frame);
        let keep = |s: &Signal| voltage(s) && (averaged || s.per_frame == per_frame);
        let kept = (0..signals.len()).filter(|&k| signals.get(k).is_some_and(keep)).collect();
        Ok(Plan { header, kept, per_frame: if averaged { 1 } else { per_frame }, averaged })
    }

    /// Names of the kept signals.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().filter_map(|&k| Some(self.header.signals.get(k)?.name.as_str()))
    }

    /// The same as those of a recording.
    pub(super) fn leads(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    /// Their samples a second.
    pub(super) fn rate_hz(&self) -> f64 {
        self.header.rate_hz * self.per_frame as f64
    }

    /// What was done to them.
    pub(super) fn note(&self) -> Option<String> {
        self.averaged.then(|| format!("leads of several rates were averaged to {} Hz", self.rate_hz()))
    }

    /// Decodes every signal file; `rows` takes the kept signals in turn, none where one is not wanted.
    pub(super) fn decode<'r>(&self, files: &Files, rows: impl Iterator<Item = Option<&'r mut [f64]>>) -> Result<()> {
        let wanted = self.kept.iter().zip(rows).filter_map(|(k, row)| Some((*k, row?)));
        let mut rows: Rows = wanted.collect();
        files.groups.iter().try_for_each(|group| group.decode(files.frames, &mut rows, self.averaged))
    }
}
