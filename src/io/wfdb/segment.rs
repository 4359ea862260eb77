//! Records of several segments: the parts of one recording, each a record of its own, joined in time.
//!
//! ```text
//! fixed layout                       variable layout
//! r/2 12 500 5000                    r/4 12 500 9000
//! r_1 2500                           r_layout 0        signals of the whole record; no samples
//! r_2 2500                           r_1 2500          any of these signals, in any order
//!                                    ~ 4000            a gap
//!                                    r_2 2500
//! ```
//!
//! A signal that a segment lacks, and every signal in a gap, is NaN there.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::header::{Header, Segment};
use super::record::{Files, Plan};
use super::{group, read_header};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

const DOING: &str = "reading WFDB segments";
/// Values a record may always have; beyond, four for each byte of its signal files.
const VALUES: u64 = 3 << 20;
const VALUES_A_BYTE: u64 = 4;
/// Most signals of all headers of segments together.
const SIGNALS: usize = 1 << 16;

/// Reads the segments beside the header and joins them.
pub(super) fn join(header: &Header, folder: &Path) -> Result<Recording> {
    let headers = read_parts(header, folder)?;
    let mut budget = Budget::default();
    let layout = layout(&header.segments, &headers);
    let total = header.segments.iter().try_fold(0u64, |n, s| n.checked_add(s.frames)).unwrap_or(u64::MAX);
    check_length(header, total)?;
    for head in headers.values().filter(|h| layout.is_none_or(|l| l.name != h.name)) {
        budget.count(head, folder)?;
    }
    let widest = headers.values().map(|h| h.signals.iter().map(|s| s.per_frame).fold(0, u64::saturating_add)).max();
    budget.check(total.saturating_mul(widest.unwrap_or(1)))?;
    let mut plans: HashMap<&str, Plan> = HashMap::new();
    let sounding = || header.segments.iter().filter(|s| s.frames > 0);
    for segment in sounding() {
        let Some((name, part)) = segment.name.as_deref().and_then(|name| headers.get_key_value(name)) else { continue };
        check_part(segment, part, header)?;
        if !plans.contains_key(name) {
            plans.insert(name, Plan::of(part).map_err(|e| e.in_record(&part.name))?);
        }
    }
    let plan_of = |segment: &Segment| plans.get(segment.name.as_deref()?);
    let parts: Vec<Part> = sounding().map(|segment| Part { segment, plan: plan_of(segment) }).collect();
    let leads = leads(layout, &parts, &plans)?;
    let per_frame = parts.iter().find_map(|part| part.plan).map_or(1, |plan| plan.per_frame);
    budget.check(total.saturating_mul(per_frame).saturating_mul(leads.len() as u64))?;
    stack(header, leads, per_frame, &parts, folder)
}

/// The headers of the segments, each once.
fn read_parts<'h>(header: &'h Header, folder: &Path) -> Result<HashMap<&'h str, Header>> {
    let mut headers: HashMap<&str, Header> = HashMap::new();
    let mut signals = 0;
    for name in header.segments.iter().filter_map(|segment| segment.name.as_deref()) {
        if headers.contains_key(name) {
            continue;
        }
        let part = read_header(&folder.join(format!("{name}.hea")))?;
        signals += part.signals.len();
        if signals > SIGNALS {
            let fault = Fault::new(DOING, "the segments have too many signals").record(&part.name);
            return Err(fault.expected(format!("at most {SIGNALS}"), "more").into());
        }
        headers.insert(name, part);
    }
    Ok(headers)
}

/// The header that lists the signals of a record of variable layout: a first segment without samples.
fn layout<'h>(segments: &[Segment], headers: &'h HashMap<&str, Header>) -> Option<&'h Header> {
    let first = segments.first().filter(|s| s.frames == 0)?;
    headers.get(first.name.as_deref()?)
}

fn check_length(header: &Header, total: u64) -> Result<()> {
    match header.frames {
        Some(frames) if frames != total => {
            let fault = Fault::new(DOING, "the segments do not add up to the record");
            Err(fault.expected(format!("{frames} samples"), total).into())
        }
        _ if total == 0 => Err(Fault::new(DOING, "the record has no samples").into()),
        _ => Ok(()),
    }
}

/// Holds the size of the joined record against that of its signal files: gaps and repeated segments cost no bytes.
#[derive(Default)]
struct Budget {
    seen: HashSet<PathBuf>,
    bytes: u64,
}

impl Budget {
    fn count(&mut self, header: &Header, folder: &Path) -> Result<()> {
        for group in group::group(header, folder)? {
            if self.seen.insert(group.path.clone()) {
                self.bytes = self.bytes.saturating_add(group.size);
            }
        }
        Ok(())
    }

    fn check(&self, values: u64) -> Result<()> {
        let most = self.bytes.saturating_mul(VALUES_A_BYTE).saturating_add(VALUES);
        if values <= most {
            return Ok(());
        }
        let fault = Fault::new(DOING, "the record is far longer than its signal files");
        let fault = fault.expected(format!("at most {most} values for {} bytes", self.bytes), values);
        Err(fault.hint("name the header of one segment instead").into())
    }
}

/// A segment, and what its header makes of it: nothing of a gap.
struct Part<'a> {
    segment: &'a Segment,
    plan: Option<&'a Plan<'a>>,
}

/// Refuses a segment that does not fit the record.
fn check_part(segment: &Segment, header: &Header, whole: &Header) -> Result<()> {
    let fault = || Fault::new(DOING, "").record(&header.name);
    if !header.segments.is_empty() {
        return Err(fault().expected("a segment with signals", "segments within a segment").into());
    }
    if header.rate_hz != whole.rate_hz {
        return Err(fault().field("rate").expected(format!("{} Hz", whole.rate_hz), header.rate_hz).into());
    }
    if header.frames.is_some_and(|frames| frames != segment.frames) {
        let found = header.frames.unwrap_or(0);
        return Err(fault().field("samples").expected(format!("{} samples", segment.frames), found).into());
    }
    Ok(())
}

/// Names of the joined leads: those of the layout that any segment holds, else those of the segments, which must agree.
fn leads(layout: Option<&Header>, parts: &[Part], plans: &HashMap<&str, Plan>) -> Result<Vec<String>> {
    let mut in_order = parts.iter().filter_map(|part| part.plan);
    let Some(first) = in_order.next() else {
        return Err(Fault::new(DOING, "every segment is a gap").expected("a segment with samples", "none").into());
    };
    for other in in_order {
        if other.per_frame != first.per_frame {
            let fault = Fault::new(DOING, "the segments have different sampling rates").record(&other.header.name);
            return Err(fault.expected(format!("{} Hz", first.rate_hz()), other.rate_hz()).into());
        }
        if layout.is_none() && !other.names().eq(first.names()) {
            let fault = Fault::new(DOING, "the segments have different signals").record(&other.header.name);
            return Err(fault.expected(first.leads().join(", "), other.leads().join(", ")).into());
        }
    }
    let Some(layout) = layout else { return Ok(first.leads()) };
    let held: HashSet<&str> = plans.values().flat_map(Plan::names).collect();
    let names = layout.signals.iter().map(|s| &s.name);
    Ok(names.filter(|name| held.contains(name.as_str())).cloned().collect())
}

/// Decodes each segment into its place. Of several leads of one name, the first takes the first signal of that name, and so on.
fn stack(header: &Header, leads: Vec<String>, per_frame: u64, parts: &[Part], folder: &Path) -> Result<Recording> {
    let length = |s: &Segment| usize::try_from(s.frames.saturating_mul(per_frame)).unwrap_or(usize::MAX);
    let total = parts.iter().map(|part| length(part.segment)).fold(0, usize::saturating_add); // `Budget` has bounded it
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    leads.iter().enumerate().for_each(|(place, name)| places.entry(name).or_default().push(place));
    let mut samples_mv = Array2::from_elem((leads.len(), total), f64::NAN);
    let mut at = 0;
    let mut notes: Vec<String> = Vec::new();
    for Part { segment, plan } in parts {
        let end = at + length(segment);
        if let Some(plan) = plan {
            let rows = samples_mv.rows_mut().into_iter().map(|row| row.into_slice()?.get_mut(at..end));
            let mut rows: Vec<Option<&mut [f64]>> = rows.collect();
            let mut taken: HashMap<&str, usize> = HashMap::new();
            let row_of = |name| {
                let count = taken.entry(name).or_default();
                *count += 1;
                rows.get_mut(*places.get(name)?.get(*count - 1)?)?.take()
            };
            let rows: Vec<Option<&mut [f64]>> = plan.names().map(row_of).collect();
            let files = Files::of(plan.header, folder, Some(segment.frames));
            let decoded = files.and_then(|files| plan.decode(&files, rows.into_iter()));
            decoded.map_err(|e| e.in_record(&plan.header.name))?;
            notes.extend(plan.note().filter(|note| !notes.contains(note)));
        }
        at = end;
    }
    let recording = Recording::new(&header.name, leads, header.rate_hz * per_frame as f64, samples_mv)?;
    Ok(notes.into_iter().fold(recording, Recording::note))
}
