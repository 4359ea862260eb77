//! From a header and its signal files to voltages.

use std::path::Path;

use ndarray::Array2;

use super::group::{group, Group};
use super::header::{Header, Signal};
use super::sample::Format;
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};
use crate::io::Unit;

const DOING: &str = "reading WFDB record";

/// Which signals are kept, and at how many samples a frame.
#[derive(Debug, PartialEq)]
struct Choice {
    kept: Vec<usize>,
    per_frame: u64,
    /// Whether leads of several rates are averaged to one sample a frame.
    averaged: bool,
}

/// Decodes every signal file of the record and keeps the voltages.
pub(super) fn assemble(header: &Header, folder: &Path) -> Result<Recording> {
    let choice = choose(&header.signals)?;
    let groups = group(header, folder)?;
    let frames = frames(header, &groups)?;
    for group in &groups {
        group.check(frames)?; // before anything is allocated
    }
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); header.signals.len()];
    for group in &groups {
        group.decode(frames, &mut rows)?;
    }
    let held = choice.kept.iter().filter_map(|&k| Some(rows.get(k)?.len())).sum();
    let (mut leads, mut values) = (Vec::new(), Vec::with_capacity(if choice.averaged { 0 } else { held }));
    for &k in &choice.kept {
        if let (Some(signal), Some(row)) = (header.signals.get(k), rows.get_mut(k)) {
            leads.push(signal.name.clone());
            let row = std::mem::take(row); // frees each row as it goes
            match choice.averaged {
                true => values.extend(average(&row, signal.per_frame)),
                false => values.extend(row),
            }
        }
    }
    let shape = (leads.len(), values.len() / leads.len().max(1));
    let samples_mv = Array2::from_shape_vec(shape, values).map_err(Error::compute("stacking WFDB signals"))?;
    let rate_hz = header.rate_hz * choice.per_frame as f64;
    let recording = Recording::new(&header.name, leads, rate_hz, samples_mv)?;
    Ok(match choice.averaged {
        true => recording.note(format!("leads of several rates were averaged to {rate_hz} Hz")),
        false => recording,
    })
}

/// Frames of the record: what the header says, else what the shortest file holds.
fn frames(header: &Header, groups: &[Group]) -> Result<u64> {
    let frames = match header.frames {
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

/// The signals to keep: voltages of one rate. Where standard ECG leads are among them, their rate decides and
/// voltages of another rate are left out. Where the deciding signals have several rates, each frame is averaged, as the
/// reference reader does.
fn choose(signals: &[Signal]) -> Result<Choice> {
    let voltage = |s: &Signal| s.format != Format::Null && Unit::parse(&s.unit).is_some();
    if !signals.iter().any(voltage) {
        let units: Vec<&str> = signals.iter().map(|s| s.unit.as_str()).collect();
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
    Ok(Choice { kept, per_frame: if averaged { 1 } else { per_frame }, averaged })
}

/// The mean of each frame; NaN where one of its samples is.
fn average(row: &[f64], per_frame: u64) -> impl Iterator<Item = f64> + '_ {
    let size = usize::try_from(per_frame).unwrap_or(usize::MAX).max(1);
    row.chunks(size).map(|frame| frame.iter().sum::<f64>() / frame.len() as f64)
}
