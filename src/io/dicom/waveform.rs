//! ECG waveforms of a DICOM object: 12-Lead, General, General 32-bit and Ambulatory ECG Waveform Storage (PS3.3, C.10.9).
//!
//! ```text
//! Waveform Sequence
//!   item = multiplex group: channels, samples, sampling frequency, label, ORIGINAL or DERIVED
//!     Channel Definition Sequence: source code, sensitivity, its unit, correction factor, baseline
//!     Waveform Data: sample 0 of every channel, sample 1 of every channel, ...
//! ```
//!
//! Value = integer * sensitivity * correction factor + baseline, in the unit of the sensitivity. Channels in other units
//! than volts are left out. A channel's lead is that of its source code (SCPECG `5.6.3-9-N`, MDC `2:N` or
//! `MDC_ECG_LEAD_...`), else the meaning of the code, else its label. Samples equal to the padding value are NaN.
//!
//! Of several groups, the recorded one (rhythm) wins over derived ones (median beats), then the one with more standard
//! leads, then the longer one; groups that begin with it (or last as long, ten seconds or more)
//! and hold further leads are joined to it. A note says so. Channel
//! skews (parts of a sample between multiplexed channels) are not corrected; pydicom does not either.

use ndarray::Array2;

use super::dataset::{self as tag, Dataset, DOING};
use crate::data::ecg::Lead;
use crate::data::recording::Recording;
use crate::error::{Error, Fault, Result};
use crate::io::lead_code::scp_name;
use crate::io::{ReadOptions, Unit};

/// Words in the label of a group that is no recording but a mean.
const MEAN_LABELS: [&str; 4] = ["MEDIAN", "AVERAGE", "MEAN", "REPRESENTATIVE"];

/// Groups of this many seconds that do not say when they began are the whole recording, side by side; shorter ones may
/// be the columns of a printed page, recorded one after another.
const WHOLE_S: f64 = 10.0;

/// A multiplex group, checked.
struct Group<'a> {
    /// Its number in the file, from 1.
    number: usize,
    label: String,
    derived: bool,
    rate_hz: f64,
    samples: usize,
    /// When it began, ms after the acquisition; none where the object does not say.
    offset: Option<f64>,
    channels: Vec<Channel>,
    number_type: Number,
    padding: Option<&'a [u8]>,
    data: &'a [u8],
}

struct Channel {
    name: String,
    /// mV per step and mV of the integer 0; none where the channel is no voltage.
    scale: Option<(f64, f64)>,
}

/// How a sample is written.
#[derive(Debug, Clone, Copy)]
struct Number {
    bytes: usize,
    signed: bool,
    big_endian: bool,
    /// 8-bit samples in 16-bit words of the other byte order.
    swapped: bool,
}

/// The recording in a data set.
pub(super) fn recording(dataset: &Dataset, id: &str, options: &ReadOptions) -> Result<Recording> {
    let items = dataset.items(tag::WAVEFORM_SEQUENCE);
    if items.is_empty() {
        let fault = Fault::new(DOING, "").field("Waveform Sequence (5400,0100)");
        return Err(fault.expected("at least one multiplex group", "none").into());
    }
    let mut groups = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let group = Group::read(i + 1, item, options);
        groups.push(group.map_err(|e| in_group(e, i + 1))?);
    }
    let Some(best) = choose(&groups) else {
        return Err(Fault::new(DOING, "no channel is a voltage").expected("channels in uV, mV or V", "none").into());
    };
    let joined = beside(&groups, best);
    let samples = best.samples;
    let voltages = joined.iter().flat_map(|g| &g.channels).filter(|c| c.scale.is_some()).count();
    let (mut leads, mut values) = (Vec::new(), Vec::with_capacity(voltages.saturating_mul(samples)));
    for group in &joined {
        for (c, channel) in group.channels.iter().enumerate() {
            if let Some(scale) = channel.scale {
                leads.push(channel.name.clone());
                values.extend(group.row(c, scale));
            }
        }
    }
    let samples_mv = Array2::from_shape_vec((leads.len(), samples), values).map_err(Error::compute("shaping DICOM"))?;
    let recording = Recording::new(id, leads, best.rate_hz, samples_mv)?;
    Ok(match said(&groups, &joined) {
        Some(note) => recording.note(note),
        None => recording,
    })
}

/// Names the group in an error that names a field only.
fn in_group(mut error: Error, number: usize) -> Error {
    if let Error::Input(fault) = &mut error {
        let field = fault.field.take().unwrap_or_default();
        fault.field = Some(format!("multiplex group {number}, {field}"));
    }
    error
}

impl<'a> Group<'a> {
    fn read(number: usize, item: &Dataset<'a>, options: &ReadOptions) -> Result<Group<'a>> {
        let count = |tag, name: &str| -> Result<usize> {
            let fault = || Fault::new(DOING, "").field(name).expected("a number above 0", "none");
            Ok(item.unsigned(tag).filter(|n| *n > 0).map(|n| n as usize).ok_or_else(fault)?)
        };
        let channels = count(tag::CHANNELS, "Number of Waveform Channels (003A,0005)")?;
        let samples = count(tag::SAMPLES, "Number of Waveform Samples (003A,0010)")?;
        let definitions = item.items(tag::CHANNEL_DEFINITIONS);
        if definitions.len() != channels {
            let fault = Fault::new(DOING, "").field("Channel Definition Sequence (003A,0200)");
            return Err(fault.expected(format!("{channels} channels"), definitions.len()).into());
        }
        let rate_hz = item.decimal(tag::FREQUENCY, "Sampling Frequency (003A,001A)")?.or(options.rate_hz);
        let rate_hz = rate_hz.ok_or_else(|| {
            let fault = Fault::new(DOING, "").field("Sampling Frequency (003A,001A)").expected("a rate in Hz", "none");
            fault.hint("give --rate")
        })?;
        let number_type = Number::read(item)?;
        let data = item.bytes(tag::DATA).unwrap_or(&[]);
        let needed = channels.checked_mul(samples).and_then(|n| n.checked_mul(number_type.bytes));
        if needed.is_none_or(|needed| needed > data.len()) {
            let fault = Fault::new(DOING, "").field("Waveform Data (5400,1010)");
            let shape = format!("{channels} channels x {samples} samples x {} bytes", number_type.bytes);
            return Err(fault.expected(shape, format!("{} bytes", data.len())).into());
        }
        let label = item.text(tag::GROUP_LABEL).unwrap_or_default();
        let upper = label.to_uppercase();
        let derived = item.text(tag::ORIGINALITY).is_some_and(|o| o.eq_ignore_ascii_case("DERIVED"))
            || MEAN_LABELS.iter().any(|word| upper.contains(word));
        let each = definitions.iter().enumerate();
        let channels = each.map(|(c, d)| Channel::read(c, d, options)).collect::<Result<Vec<_>>>()?;
        let padding = item.bytes(tag::PADDING);
        let offset = item.text(tag::TIME_OFFSET).and_then(|o| o.trim().parse().ok());
        Ok(Group { number, label, derived, rate_hz, samples, offset, channels, number_type, padding, data })
    }

    /// Channel `c` in mV.
    fn row(&self, c: usize, (step, zero): (f64, f64)) -> impl Iterator<Item = f64> + '_ {
        let padding = self.padding.and_then(|bytes| self.number_type.at(bytes, 0));
        (0..self.samples).map(move |s| match self.number_type.at(self.data, s * self.channels.len() + c) {
            Some(value) if Some(value) != padding => value * step + zero,
            _ => f64::NAN,
        })
    }

    /// Standard leads among its voltages.
    fn standard(&self) -> Vec<Lead> {
        let voltages = self.channels.iter().filter(|c| c.scale.is_some());
        voltages.filter_map(|c| Lead::parse(&c.name)).collect()
    }

    fn seconds(&self) -> f64 {
        self.samples as f64 / self.rate_hz
    }

    fn describe(&self) -> String {
        let label = if self.label.is_empty() { String::new() } else { format!("{}, ", self.label) };
        let kind = if self.derived { "derived" } else { "recorded" };
        let leads = self.channels.len();
        format!("multiplex group {} ({label}{kind}, {leads} channels, {:.1} s)", self.number, self.seconds())
    }
}

fn choose<'g, 'a>(groups: &'g [Group<'a>]) -> Option<&'g Group<'a>> {
    let voltages = groups.iter().filter(|g| g.channels.iter().any(|c| c.scale.is_some()));
    let worth = |g: &Group| (!g.derived, g.standard().len(), g.seconds());
    // `reduce` keeps the first of equals.
    voltages.reduce(|best, g| if worth(g).partial_cmp(&worth(best)).is_some_and(|o| o.is_gt()) { g } else { best })
}

/// The group and those recorded beside it that hold leads it lacks.
fn beside<'g, 'a>(groups: &'g [Group<'a>], best: &'g Group<'a>) -> Vec<&'g Group<'a>> {
    let mut held = best.standard();
    let mut joined = vec![best];
    for group in groups.iter().filter(|g| g.number != best.number) {
        let same = (group.rate_hz, group.samples, &group.offset, group.derived)
            == (best.rate_hz, best.samples, &best.offset, best.derived);
        let same = same && (best.offset.is_some() || best.seconds() >= WHOLE_S);
        let leads = group.standard();
        if same && !leads.is_empty() && leads.iter().all(|lead| !held.contains(lead)) {
            held.extend(leads);
            joined.push(group);
        }
    }
    joined
}

/// Which groups were read and which were left out, where there was a choice.
fn said(groups: &[Group], joined: &[&Group]) -> Option<String> {
    let read = |g: &&Group| joined.iter().any(|j| j.number == g.number);
    let list =
        |wanted: bool| -> Vec<String> { groups.iter().filter(|g| read(g) == wanted).map(Group::describe).collect() };
    let left = list(false);
    let only_derived = joined.iter().all(|g| g.derived);
    (groups.len() > 1 || only_derived).then(|| match left.is_empty() {
        true => format!("read {}", list(true).join(" and ")),
        false => format!("read {}; left out {}", list(true).join(" and "), left.join(" and ")),
    })
}

impl Channel {
    fn read(place: usize, definition: &Dataset, options: &ReadOptions) -> Result<Channel> {
        let named = |name: &str| format!("channel {}, {name}", place + 1);
        let name = lead_name(definition).unwrap_or_else(|| format!("channel {}", place + 1));
        let sensitivity = definition.decimal(tag::SENSITIVITY, &named("Channel Sensitivity (003A,0210)"))?;
        let correction = definition.decimal(tag::CORRECTION, &named("Channel Sensitivity Correction Factor"))?;
        let baseline = definition.decimal(tag::BASELINE, &named("Channel Baseline (003A,0213)"))?;
        let coded = definition.items(tag::SENSITIVITY_UNITS).first().and_then(|u| u.text(tag::CODE_VALUE));
        let unit = match (&coded, sensitivity.is_some()) {
            (Some(code), true) => Unit::parse(code),
            _ => Some(options.unit.ok_or_else(|| {
                let fault = Fault::new(DOING, "the file does not state the unit of its samples");
                let fault =
                    fault.field(named("Channel Sensitivity (003A,0210)")).expected("a sensitivity in uV or mV", "none");
                fault.hint("if a step is one microvolt, give --units uV")
            })?),
        };
        let step = sensitivity.unwrap_or(1.0) * correction.unwrap_or(1.0);
        Ok(Channel { name, scale: unit.map(|u| (step * u.to_mv(), baseline.unwrap_or(0.0) * u.to_mv())) })
    }
}

/// The lead by its source code, else by the meaning of the code, else by the channel's label.
fn lead_name(definition: &Dataset) -> Option<String> {
    let source = definition.items(tag::CHANNEL_SOURCE).first();
    let text = |tag| source.and_then(|s| s.text(tag));
    let code = text(tag::CODE_VALUE).unwrap_or_default();
    let number = match text(tag::CODING_SCHEME).as_deref() {
        Some("SCPECG") => code.strip_prefix("5.6.3-9-"),
        Some("MDC") => code.strip_prefix("2:"),
        _ => None,
    };
    if let Some(name) = number.and_then(|n| n.parse().ok()).and_then(scp_name) {
        return Some(name.to_owned());
    }
    let meaning = text(tag::CODE_MEANING);
    let label = definition.text(tag::CHANNEL_LABEL);
    let words = [Some(code), meaning.clone(), label.clone()];
    let lead = words.iter().flatten().find_map(|words| {
        let plain = words.split(['(', ',']).next().unwrap_or("");
        Lead::parse(plain).map(|lead| lead.name().to_owned())
    });
    lead.or(meaning).or(label)
}

impl Number {
    fn read(item: &Dataset) -> Result<Number> {
        let kind = item.text(tag::INTERPRETATION).unwrap_or_default();
        let (bytes, signed) = match kind.as_str() {
            "SB" => (1, true),
            "UB" => (1, false),
            "SS" => (2, true),
            "US" => (2, false),
            "SL" => (4, true),
            "UL" => (4, false),
            _ => {
                let fault = Fault::new(DOING, "").field("Waveform Sample Interpretation (5400,1006)");
                return Err(fault.expected("SB, UB, SS, US, SL or UL", format!("{kind:?}")).into());
            }
        };
        let bits = item.unsigned(tag::BITS_ALLOCATED);
        if bits != Some(8 * bytes as u32) {
            let fault = Fault::new(DOING, "").field("Waveform Bits Allocated (5400,1004)");
            let found = bits.map_or("none".to_owned(), |b| b.to_string());
            return Err(fault.expected(format!("{} for samples of type {kind}", 8 * bytes), found).into());
        }
        let big_endian = item.syntax.big_endian;
        Ok(Number { bytes, signed, big_endian, swapped: bytes == 1 && big_endian && item.is_words(tag::DATA) })
    }

    /// Number `i`; none past the end.
    fn at(self, data: &[u8], i: usize) -> Option<f64> {
        let i = if self.swapped { i ^ 1 } else { i };
        let start = i.checked_mul(self.bytes)?;
        let bytes = data.get(start..start.checked_add(self.bytes)?)?;
        let mut value = bytes.iter().enumerate().fold(0i64, |value, (k, byte)| {
            let place = if self.big_endian { self.bytes - 1 - k } else { k };
            value | i64::from(*byte) << (8 * place)
        });
        if self.signed && value >> (8 * self.bytes - 1) & 1 == 1 {
            value -= 1 << (8 * self.bytes);
        }
        Some(value as f64)
    }
}
