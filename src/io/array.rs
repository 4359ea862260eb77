//! Arrays of samples without names (NPY, NPZ, HDF5 of other people): which axis is which.
//!
//! One record is two-dimensional, several are three-dimensional with the record axis first. The lead axis is the one as
//! long as the list of leads (twelve unless `--leads` says otherwise); where both could be, leads come first. `--layout`
//! settles it: `nlt` is record, lead, time and `ntl` is record, time, lead, with or without the record axis.

use crate::error::{Fault, Result};

/// Order of the axes, for arrays that could be read either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisOrder {
    /// Record, lead, time.
    LeadsFirst,
    /// Record, time, lead.
    TimeFirst,
}

impl AxisOrder {
    /// `nlt` or `ntl`.
    pub fn parse(name: &str) -> Option<AxisOrder> {
        match name {
            "nlt" => Some(AxisOrder::LeadsFirst),
            "ntl" => Some(AxisOrder::TimeFirst),
            _ => None,
        }
    }
}

/// How the records lie in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of records.
    pub records: usize,
    /// Leads of each.
    pub leads: usize,
    /// Samples of each lead.
    pub samples: usize,
    /// True where each row is one instant rather than one lead.
    pub by_sample: bool,
    /// Whether there is an axis of records.
    pub stacked: bool,
}

/// Tells the axes of an array of this shape apart.
///
/// ```
/// use ecgflow::io::array::layout;
/// let found = layout("reading", &[4, 4096, 12], 12, None).unwrap();
/// assert_eq!((found.records, found.samples, found.by_sample), (4, 4096, true));
/// assert!(layout("reading", &[4, 4096], 12, None).is_err());
/// ```
///
/// # Errors
/// Where no axis fits the number of leads, or the array is empty; the caller adds the file.
pub fn layout(doing: &str, shape: &[usize], leads: usize, order: Option<AxisOrder>) -> Result<Layout> {
    let wrong = |cause: &str| {
        let expected = match order {
            None => format!("({leads}, N), (N, {leads}), (R, {leads}, N) or (R, N, {leads})"),
            Some(AxisOrder::LeadsFirst) => format!("({leads}, N) or (R, {leads}, N)"),
            Some(AxisOrder::TimeFirst) => format!("(N, {leads}) or (R, N, {leads})"),
        };
        Fault::new(doing, cause).field("shape").expected(expected, format!("{shape:?}"))
    };
    let (records, rows, columns, stacked) = match *shape {
        [rows, columns] => (1, rows, columns, false),
        [records, rows, columns] => (records, rows, columns, true),
        _ => return Err(wrong("").into()),
    };
    let by_sample = match order {
        Some(order) => order == AxisOrder::TimeFirst,
        None => rows != leads,
    };
    let (found, samples) = if by_sample { (columns, rows) } else { (rows, columns) };
    if found != leads {
        return Err(wrong("").hint("name the leads with --leads if they are not the standard twelve").into());
    }
    if records == 0 || samples == 0 || leads == 0 {
        return Err(wrong("the array is empty").into());
    }
    Ok(Layout { records, leads, samples, by_sample, stacked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_option_settles_what_the_shape_leaves_open() {
        let by_sample = |shape: &[usize], order| layout("", shape, 12, order).map(|l| l.by_sample).ok();
        assert_eq!(by_sample(&[12, 12], None), Some(false));
        assert_eq!(by_sample(&[12, 12], AxisOrder::parse("ntl")), Some(true));
        assert_eq!(by_sample(&[7, 5000, 12], AxisOrder::parse("ntl")), Some(true));
        assert_eq!(by_sample(&[7, 5000, 12], AxisOrder::parse("nlt")), None);
        assert_eq!(by_sample(&[0, 12, 5], None), None);
        let error = layout("reading", &[5000, 12], 12, AxisOrder::parse("nlt")).unwrap_err().to_string();
        assert!(error.contains("expected (12, N) or (R, 12, N), found [5000, 12]"), "{error}");
    }
}
