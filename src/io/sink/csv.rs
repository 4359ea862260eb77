//! Prepared ECGs as CSV: `#` lines with the origin, a header row, times in seconds and a column a lead, which `ecg-prep`
//! reads again.

use std::fmt::Write;

use super::{About, Target};
use crate::data::ecg::{Ecg, Lead};
use crate::data::Provenance;
use crate::error::Result;
use crate::io::table::comment_lines;

/// Writes one record.
pub(super) fn put(target: &mut Target, ecg: &Ecg, about: &About, provenance: &Provenance) -> Result<()> {
    let name = target.name(&ecg.id)?;
    let mut text = comment_lines(provenance);
    let _ = writeln!(text, "# record: {}", ecg.id.replace(['\n', '\r'], " "));
    let _ = writeln!(text, "# unit: {}; rate: {} Hz; preset: {}", about.unit, ecg.rate_hz, about.preset);
    about.steps.iter().for_each(|step| text.push_str(&format!("# step: {step}\n")));
    let peaks: Vec<String> = ecg.r_peak.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "# R peaks (row, from 0): {}", peaks.join(" "));
    let names: Vec<&str> = Lead::ALL.iter().map(|lead| lead.name()).collect();
    let _ = writeln!(text, "time,{}", names.join(","));
    for (n, frame) in ecg.samples_mv.columns().into_iter().enumerate() {
        let _ = write!(text, "{}", n as f64 / ecg.rate_hz);
        frame.iter().for_each(|v| {
            let _ = write!(text, ",{v}");
        });
        text.push('\n');
    }
    target.write(&name, "csv", text.as_bytes())
}
