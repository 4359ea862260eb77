//! The twelve standard leads, whatever order and names a recording has.
//!
//! Einthoven: III = II - I. Goldberger: aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2. Limb leads that are not
//! recorded follow from I and II; chest leads cannot be derived and must be there.

use ndarray::{Array2, ArrayView2, CowArray, Ix2};

use crate::data::ecg::{Lead, LEADS};
use crate::data::recording::Recording;
use crate::error::{Fault, Result};

/// Where each standard lead comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Row of the recording per standard lead; none where the lead is derived from I and II.
    row: [Option<usize>; LEADS],
    first: usize,
    second: usize,
}

/// Finds the standard leads among the recording's names. Unknown names are ignored.
///
/// # Errors
/// Where a name stands twice, or I, II or a chest lead is missing; the unknown names are listed then.
pub fn find(recording: &Recording) -> Result<Sources> {
    let fault = |cause: &str| Fault::new("ordering leads", cause).record(&recording.id);
    let mut row = [None; LEADS];
    for (place, name) in recording.leads.iter().enumerate() {
        let Some(lead) = Lead::parse(name) else { continue };
        if let Some(slot) = row.get_mut(lead as usize) {
            if slot.replace(place).is_some() {
                let found = recording.leads.join(", ");
                return Err(fault("a lead is there twice").field(lead).expected("each lead once", found).into());
            }
        }
    }
    let derivable = [Lead::III, Lead::AVR, Lead::AVL, Lead::AVF];
    let missing = Lead::ALL.iter().zip(row).filter(|(lead, row)| row.is_none() && !derivable.contains(lead));
    let missing: Vec<&str> = missing.map(|(lead, _)| lead.name()).collect();
    let [Some(first), Some(second), ..] = row else { return Err(lacking(recording, &missing).into()) };
    match missing.is_empty() {
        true => Ok(Sources { row, first, second }),
        false => Err(lacking(recording, &missing).into()),
    }
}

fn lacking(recording: &Recording, missing: &[&str]) -> Fault {
    let unknown = recording.leads.iter().filter(|name| Lead::parse(name).is_none());
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    let fault = Fault::new("ordering leads", format!("missing {}", missing.join(", "))).record(&recording.id);
    let fault = fault.expected("I, II and V1 to V6 (other limb leads can be derived)", recording.leads.join(", "));
    match unknown.is_empty() {
        true => fault,
        false => fault.hint(format!("these names are no standard leads: {}", unknown.join(", "))),
    }
}

impl Sources {
    /// Rows of the recording that are needed, with the lead each one is.
    pub fn needed(&self) -> impl Iterator<Item = (Lead, usize)> + '_ {
        Lead::ALL.into_iter().zip(self.row).filter_map(|(lead, row)| row.map(|row| (lead, row)))
    }

    /// Per standard lead, whether it is derived from I and II.
    pub fn derived(&self) -> [bool; LEADS] {
        self.row.map(|row| row.is_none())
    }

    /// Twelve leads x N in standard order from the rows of a recording, x N; missing limb leads are derived.
    pub fn order<'a>(&self, samples: ArrayView2<'a, f64>) -> CowArray<'a, f64, Ix2> {
        if samples.nrows() == LEADS && self.row.iter().enumerate().all(|(lead, row)| *row == Some(lead)) {
            return samples.into(); // they are in order
        }
        let (one, two) = (samples.row(self.first), samples.row(self.second));
        let mut ordered = Array2::zeros((LEADS, samples.ncols()));
        for ((lead, row), mut out) in Lead::ALL.into_iter().zip(self.row).zip(ordered.rows_mut()) {
            match (row, lead) {
                (Some(row), _) => out.assign(&samples.row(row)),
                (None, Lead::III) => out.assign(&(&two - &one)),
                (None, Lead::AVR) => out.assign(&((&one + &two) * -0.5)),
                (None, Lead::AVL) => out.assign(&(&one - &(&two * 0.5))),
                (None, Lead::AVF) => out.assign(&(&two - &(&one * 0.5))),
                (None, _) => {} // refused in `find`
            }
        }
        ordered.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn recording(names: &[&str]) -> Recording {
        let rows = names.len();
        let samples = Array2::from_shape_fn((rows, 2), |(lead, n)| (lead + 1) as f64 * if n == 0 { 1.0 } else { -2.0 });
        Recording::new("p1", names.iter().map(|n| n.to_string()).collect(), 500.0, samples).unwrap()
    }

    #[test]
    fn derives_the_limb_leads_of_eight() {
        let recording = recording(&["V6", "V5", "V4", "V3", "V2", "V1", "vx", "ii", "Lead I"]);
        let sources = find(&recording).unwrap();
        let ordered = sources.order(recording.samples_mv.view());
        let column = ordered.column(0).to_vec(); // I = 9, II = 8
        assert_eq!(column, [9.0, 8.0, -1.0, -8.5, 5.0, 3.5, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(sources.needed().count(), 8);
        assert_eq!(sources.derived().iter().filter(|d| **d).count(), 4);
    }

    #[test]
    fn keeps_recorded_limb_leads() {
        let recording = recording(&["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]);
        let sources = find(&recording).unwrap();
        assert_eq!(sources.order(recording.samples_mv.view()), CowArray::from(&recording.samples_mv));
    }

    #[test]
    fn refuses_missing_and_double_leads() {
        let error = find(&recording(&["I", "II", "V1", "V2", "V3", "V4", "V5", "MLII"])).unwrap_err();
        assert!(error.to_string().contains("record p1: missing V6 (expected I, II and V1"), "{error}");
        assert_eq!(error.hint(), Some("these names are no standard leads: MLII"));
        let error = find(&recording(&["II", "III", "V1", "V2", "V3", "V4", "V5", "V6"])).unwrap_err();
        assert!(error.to_string().contains("missing I "), "{error}");
        let error = find(&recording(&["I", "II", "lead i"])).unwrap_err();
        assert!(error.to_string().contains("field I: a lead is there twice"), "{error}");
    }
}
