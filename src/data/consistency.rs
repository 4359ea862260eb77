//! What predicted phenotypes must fulfil among themselves (SPEC section 8), and how far they are from it.
//!
//! ```text
//! SV = EDV - ESV        EF = 100 SV / EDV        CO = SV heart rate / 1000
//! ```
//!
//! For the atria maximum and minimum volume stand in place of EDV and ESV.

use super::phenotype::of_field;

/// One identity: a phenotype and what it should be.
struct Identity {
    field: u32,
    law: &'static str,
    parts: &'static [u32],
    of: fn(&[f64], f64) -> f64,
}

fn difference(x: &[f64], _: f64) -> f64 {
    x[0] - x[1]
}

fn fraction(x: &[f64], _: f64) -> f64 {
    100.0 * x[0] / x[1]
}

fn output(x: &[f64], heart_rate: f64) -> f64 {
    x[0] * heart_rate / 1000.0
}

#[rustfmt::skip] // one identity a line
const IDENTITIES: [Identity; 9] = [
    Identity { field: 24102, law: "EDV - ESV", parts: &[24100, 24101], of: difference },
    Identity { field: 24103, law: "100 SV / EDV", parts: &[24102, 24100], of: fraction },
    Identity { field: 24104, law: "SV x heart rate", parts: &[24102], of: output },
    Identity { field: 24108, law: "EDV - ESV", parts: &[24106, 24107], of: difference },
    Identity { field: 24109, law: "100 SV / EDV", parts: &[24108, 24106], of: fraction },
    Identity { field: 24112, law: "maximum - minimum", parts: &[24110, 24111], of: difference },
    Identity { field: 24113, law: "100 SV / maximum", parts: &[24112, 24110], of: fraction },
    Identity { field: 24116, law: "maximum - minimum", parts: &[24114, 24115], of: difference },
    Identity { field: 24117, law: "100 SV / maximum", parts: &[24116, 24114], of: fraction },
];

/// How far the rows of a table are from the identities.
#[derive(Debug, Default)]
pub struct Consistency {
    gaps: Vec<Vec<f64>>,
}

impl Consistency {
    /// Takes in one record: its values, of these fields, and its heart rate, NaN where unknown.
    pub fn add(&mut self, fields: &[u32], values: &[f64], heart_rate: f64) {
        self.gaps.resize(IDENTITIES.len(), Vec::new());
        let value = |field: &u32| fields.iter().position(|f| f == field).and_then(|i| values.get(i)).copied();
        for (identity, gaps) in IDENTITIES.iter().zip(&mut self.gaps) {
            let parts: Option<Vec<f64>> = identity.parts.iter().map(value).collect();
            if let (Some(found), Some(parts)) = (value(&identity.field), parts) {
                let gap = found - (identity.of)(&parts, heart_rate);
                gaps.extend(Some(gap.abs()).filter(|gap| gap.is_finite()));
            }
        }
    }

    /// A line for each identity that could be looked at: `lv_sv_ml and EDV - ESV differ by 1.2 mL (median of 40 records)`.
    pub fn lines(&self) -> Vec<String> {
        let line = |(identity, gaps): (&Identity, &Vec<f64>)| {
            let phenotype = of_field(identity.field)?;
            let mut sorted = gaps.clone();
            sorted.sort_by(f64::total_cmp);
            let middle = (sorted.get(sorted.len() / 2)? + sorted.get((sorted.len() - 1) / 2)?) / 2.0;
            let (name, law, unit) = (phenotype.name, identity.law, phenotype.unit);
            let records =
                if sorted.len() == 1 { "1 record".to_owned() } else { format!("median of {} records", sorted.len()) };
            Some(format!("{name} and {law} differ by {middle:.2} {unit} ({records})"))
        };
        IDENTITIES.iter().zip(&self.gaps).filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_those_of_the_identities_that_can_be_looked_at() {
        let mut consistency = Consistency::default();
        consistency.add(&[24100, 24101, 24102, 24104], &[150.0, 60.0, 88.0, 6.0], 70.0);
        consistency.add(&[24100, 24101, 24102, 24104], &[150.0, 60.0, 94.0, 6.0], f64::NAN);
        let lines = consistency.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "lv_sv_ml and EDV - ESV differ by 3.00 mL (median of 2 records)");
        assert_eq!(lines[1], "lv_co_l_min and SV x heart rate differ by 0.16 L/min (1 record)");
        assert!(Consistency::default().lines().is_empty());
    }
}
