//! Prepared ECGs as WFDB: a header, a signal file, and the R peaks as an annotation file (`.qrs`).
//!
//! Format 16 in steps of 1 uV, or format 24 where a lead lies beyond 32 mV; standardised leads have 1000 steps to a standard
//! deviation. Annotations are 16-bit words, the type (1, a beat) in the upper 6 bits and the distance in the lower 10; a
//! longer distance stands in a skip (type 59) of two more words, the upper half first. Specification: `header(5)`,
//! `signal(5)`, `annot(5)` of the WFDB applications guide.

use std::fmt::Write;

use super::{About, Target};
use crate::data::ecg::{Ecg, Lead};
use crate::data::Provenance;
use crate::error::Result;
use crate::io::table::comment_lines;

/// Steps to a mV.
const GAIN: f64 = 1000.0;
/// The type of a normal beat, and of a long distance.
const BEAT: u16 = 1;
const SKIP: u16 = 59;

/// Writes one record.
pub(super) fn put(target: &mut Target, ecg: &Ecg, about: &About, provenance: &Provenance) -> Result<()> {
    let name = target.name(&ecg.id)?;
    let steps = ecg.samples_mv.mapv(|v| (f64::from(v) * GAIN).round() as i32);
    let is_short = steps.iter().all(|v| (-32_767..=32_767).contains(v));
    let (code, bytes) = if is_short { (16, 2) } else { (24, 3) };
    let limit = if is_short { 32_767 } else { 8_388_607 };
    let mut signals = Vec::with_capacity(steps.len() * bytes);
    for frame in steps.columns() {
        for value in frame {
            signals.extend(value.clamp(&-limit, &limit).to_le_bytes().iter().take(bytes));
        }
    }
    let mut header = format!("{name} {} {} {}\n", steps.nrows(), ecg.rate_hz, steps.ncols());
    for (lead, row) in Lead::ALL.iter().zip(steps.rows()) {
        let first = row.first().copied().unwrap_or(0);
        let sum = row.iter().fold(0i16, |sum, v| sum.wrapping_add(*v.clamp(&-limit, &limit) as i16));
        let unit = about.unit;
        let _ = writeln!(header, "{name}.dat {code} {GAIN}(0)/{unit} {code} 0 {first} {sum} 0 {lead}");
    }
    header.push_str(&comment_lines(provenance));
    let _ = writeln!(header, "# preset: {}", about.preset);
    about.steps.iter().for_each(|step| header.push_str(&format!("# step: {step}\n")));
    target.write(&name, "dat", &signals)?;
    target.write(&name, "qrs", &annotation(&ecg.r_peak))?;
    target.write(&name, "hea", header.as_bytes())
}

/// R peaks in MIT format.
fn annotation(r_peak: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut word = |value: u16| bytes.extend(value.to_le_bytes());
    let mut last = 0;
    for &r in r_peak {
        let distance = (r - last).max(0) as u32;
        if distance < 1024 {
            word(BEAT << 10 | distance as u16);
        } else {
            word(SKIP << 10);
            word((distance >> 16) as u16);
            word((distance & 0xffff) as u16);
            word(BEAT << 10);
        }
        last = r;
    }
    word(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_distances_with_skips() {
        // 100: 0x0400 | 100; 1500 later: skip 0, 1500, beat at distance 0; end.
        let expected = [0x64, 0x04, 0x00, 0xec, 0x00, 0x00, 0xdc, 0x05, 0x00, 0x04, 0x00, 0x00];
        assert_eq!(annotation(&[100, 1600]), expected);
    }
}
