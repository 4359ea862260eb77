//! What a network is to learn: numbers or labels of participants, out of a table.
//!
//! | table | columns |
//! |---|---|
//! | phenotypes, wide | `id`, then one a phenotype: `lv_edv_ml`, `24100`, `24100-2.0`, `f.24100.2.0` or `p24100_i2` |
//! | phenotypes, long | `id`, `field` or `name`, `value` |
//! | diagnoses | `id`, then one a diagnosis with 0 and 1, or one with the names of classes |
//!
//! Empty cells, `NA` and `NaN` are missing values.

use std::collections::{BTreeSet, HashMap};

use super::phenotype::{of_column, of_field};
use super::table::{is_missing, Line, Table};
use crate::error::{Fault, Result};

const DOING: &str = "reading a table";
/// Most classes of one column; more is a column of something else.
const CLASSES: usize = 1000;

/// What the numbers of a table mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Phenotypes with these UK Biobank fields.
    Phenotypes(Vec<u32>),
    /// One question for each column: 0 or 1.
    Questions,
    /// One column, whose number is the place of the class among the labels.
    Classes,
}

/// Numbers of participants; NaN where missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// What they are.
    pub meaning: Meaning,
    /// Names of the outputs: phenotypes, questions, or classes.
    pub labels: Vec<String>,
    /// Participants, in the order of the table.
    pub ids: Vec<String>,
    /// Their numbers: one for each phenotype or question; for classes one in all.
    pub values: Vec<Vec<f64>>,
    /// Columns of the table that were not used.
    pub unused: Vec<String>,
}

fn at(line: &Line) -> Fault {
    Fault::new(DOING, "").record(format!("{} (line {})", line.id, line.number))
}

fn number(line: &Line, cell: &str, column: &str) -> Result<f64> {
    if is_missing(cell) {
        return Ok(f64::NAN);
    }
    let found = cell.trim().parse().ok().filter(|value: &f64| value.is_finite());
    Ok(found.ok_or_else(|| at(line).field(column).expected("a number or an empty cell", format!("{cell:?}")))?)
}

/// Fails where an id stands twice.
fn unique(table: &Table) -> Result<()> {
    let mut seen = HashMap::new();
    for line in &table.rows {
        if let Some(before) = seen.insert(&line.id, line.number) {
            return Err(at(line).field("id").expected("different ids", format!("the same in line {before}")).into());
        }
    }
    Ok(())
}

impl Targets {
    /// The phenotypes of a table, wide or long: those of `wanted`, in its order, or all that the table holds.
    ///
    /// # Errors
    /// Where ids stand twice, a field is unknown or missing, or a cell is no number.
    pub fn phenotypes(table: &Table, wanted: Option<&[u32]>) -> Result<Targets> {
        let by = table.column("field").or_else(|| table.column("name"));
        match by.zip(table.column("value")) {
            Some((by, value)) => Targets::long(table, by, value, wanted),
            None => Targets::wide(table, wanted),
        }
    }

    fn wide(table: &Table, wanted: Option<&[u32]>) -> Result<Targets> {
        unique(table)?;
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut unused = Vec::new();
        for (place, name) in table.columns.iter().enumerate() {
            match of_column(name) {
                Some(known) => {
                    if let Some(before) = places.insert(known.field, place) {
                        let other = table.columns.get(before).map_or("", String::as_str);
                        let fault = Fault::new(DOING, "").field(name);
                        return Err(fault.expected("each phenotype once", format!("{other} too")).into());
                    }
                }
                None => unused.push(name.clone()),
            }
        }
        let fields = chosen(places.keys().copied().collect(), wanted)?;
        let row = |line: &Line| {
            let of = |field: &u32| {
                let place = places.get(field).copied().unwrap_or(usize::MAX);
                let name = table.columns.get(place).map_or("", String::as_str);
                number(line, line.cells.get(place).map_or("", String::as_str), name)
            };
            fields.iter().map(of).collect::<Result<Vec<f64>>>()
        };
        let values = table.rows.iter().map(row).collect::<Result<_>>()?;
        let ids = table.rows.iter().map(|line| line.id.clone()).collect();
        Ok(Targets { labels: names(&fields), meaning: Meaning::Phenotypes(fields), ids, values, unused })
    }

    fn long(table: &Table, by: usize, value: usize, wanted: Option<&[u32]>) -> Result<Targets> {
        let cell = |line: &Line, place: usize| line.cells.get(place).cloned().unwrap_or_default();
        let mut found: HashMap<(String, u32), (f64, u64)> = HashMap::new();
        let (mut ids, mut seen, mut fields) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for line in &table.rows {
            let name = cell(line, by);
            let Some(known) = of_column(&name) else {
                let column = table.columns.get(by).map_or("", String::as_str);
                let expected = "one of the 82 fields, by number or name";
                return Err(at(line).field(column).expected(expected, format!("{name:?}")).into());
            };
            let value = number(line, &cell(line, value), known.name)?;
            if let Some((_, before)) = found.insert((line.id.clone(), known.field), (value, line.number)) {
                let fault = at(line).field(known.name);
                return Err(fault.expected("one value", format!("another in line {before}")).into());
            }
            fields.insert(known.field);
            if seen.insert(line.id.clone()) {
                ids.push(line.id.clone());
            }
        }
        let fields = chosen(fields.into_iter().collect(), wanted)?;
        let value = |id: &String, field: &u32| found.get(&(id.clone(), *field)).map_or(f64::NAN, |(value, _)| *value);
        let values = ids.iter().map(|id| fields.iter().map(|field| value(id, field)).collect()).collect();
        let meaning = Meaning::Phenotypes(fields.clone());
        Ok(Targets { labels: names(&fields), meaning, ids, values, unused: Vec::new() })
    }

    /// The diagnoses of a table: the columns of `wanted`, or all. Several columns are independent questions; one column
    /// is a question where it holds 0 and 1, else the name of a class.
    ///
    /// # Errors
    /// Where ids stand twice, a column is missing, or a cell is neither 0 nor 1.
    pub fn diagnoses(table: &Table, wanted: &[String]) -> Result<Targets> {
        unique(table)?;
        let wanted = if wanted.is_empty() { table.columns.clone() } else { wanted.to_vec() };
        let place = |name: &String| {
            let held = table.columns.join(", ");
            let fault = || Fault::new(DOING, "").field(name).expected(format!("one of {held}"), name);
            Ok(table.column(name).ok_or_else(fault)?)
        };
        let places = wanted.iter().map(place).collect::<Result<Vec<usize>>>()?;
        let unused = table.columns.iter().filter(|name| !wanted.contains(name)).cloned().collect();
        let ids = table.rows.iter().map(|line| line.id.clone()).collect();
        let cell = |line: &Line, place: &usize| line.cells.get(*place).cloned().unwrap_or_default();
        if let [place] = places.as_slice() {
            let held = table.rows.iter().map(|line| cell(line, place)).filter(|cell| !is_missing(cell));
            let classes: BTreeSet<String> = held.collect();
            if !classes.iter().all(|class| answer(class).is_some()) {
                if classes.len() > CLASSES {
                    let expected = format!("0 and 1, or at most {CLASSES} classes");
                    let found = format!("{} different words", classes.len());
                    return Err(Fault::new(DOING, "").field(wanted.join("")).expected(expected, found).into());
                }
                let labels: Vec<String> = classes.into_iter().collect();
                let class = |line: &Line| {
                    let found = labels.iter().position(|label| *label == cell(line, place));
                    vec![found.map_or(f64::NAN, |class| class as f64)]
                };
                let values = table.rows.iter().map(class).collect();
                return Ok(Targets { meaning: Meaning::Classes, labels, ids, values, unused });
            }
        }
        let row = |line: &Line| {
            let of = |(place, name): (&usize, &String)| match cell(line, place) {
                cell if is_missing(&cell) => Ok(f64::NAN),
                cell => Ok(answer(&cell)
                    .ok_or_else(|| at(line).field(name).expected("0, 1 or an empty cell", format!("{cell:?}")))?),
            };
            places.iter().zip(&wanted).map(of).collect::<Result<Vec<f64>>>()
        };
        let values = table.rows.iter().map(row).collect::<Result<_>>()?;
        Ok(Targets { meaning: Meaning::Questions, labels: wanted, ids, values, unused })
    }
}

/// 0 or 1 of a cell.
fn answer(cell: &str) -> Option<f64> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "0" | "0.0" | "no" | "false" => Some(0.0),
        "1" | "1.0" | "yes" | "true" => Some(1.0),
        _ => None,
    }
}

fn names(fields: &[u32]) -> Vec<String> {
    fields.iter().filter_map(|field| of_field(*field)).map(|phenotype| phenotype.name.to_owned()).collect()
}

/// The wanted fields, all of which must be held; else those that are, in field order.
fn chosen(held: BTreeSet<u32>, wanted: Option<&[u32]>) -> Result<Vec<u32>> {
    let Some(wanted) = wanted else {
        if held.is_empty() {
            let fault = Fault::new(DOING, "").expected("columns of phenotypes such as lv_edv_ml or 24100-2.0", "none");
            return Err(fault.hint("the 82 names stand in docs/models.md").into());
        }
        return Ok(held.into_iter().collect());
    };
    match wanted.iter().find(|field| !held.contains(field)) {
        None => Ok(wanted.to_vec()),
        Some(missing) => {
            let name = of_field(*missing).map_or_else(|| missing.to_string(), |phenotype| phenotype.name.to_owned());
            Err(Fault::new(DOING, "").field(&name).expected(format!("a column for {name}"), "none").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[&str], rows: &[(&str, &[&str])]) -> Table {
        let line = |(i, (id, cells)): (usize, &(&str, &[&str]))| Line {
            number: i as u64 + 2,
            id: (*id).to_owned(),
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
        };
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        Table { columns, rows: rows.iter().enumerate().map(line).collect() }
    }

    #[test]
    fn wide_and_long_tables_give_the_same_numbers() {
        let wide =
            table(&["24103-2.0", "31-0.0", "lv_edv_ml"], &[("a", &["61.5", "1", "140"]), ("b", &["NA", "0", "90"])]);
        let wide = Targets::phenotypes(&wide, None).unwrap();
        assert_eq!(wide.meaning, Meaning::Phenotypes(vec![24100, 24103]));
        assert_eq!(
            (wide.values[0].as_slice(), wide.unused.as_slice()),
            ([140.0, 61.5].as_slice(), ["31-0.0".to_owned()].as_slice())
        );
        assert!(wide.values[1][0] == 90.0 && wide.values[1][1].is_nan());
        let long =
            table(&["field", "value"], &[("a", &["24103", "61.5"]), ("b", &["24100", "90"]), ("a", &["24100", "140"])]);
        let long = Targets::phenotypes(&long, None).unwrap();
        assert_eq!((&long.ids, &long.labels), (&wide.ids, &wide.labels));
        assert_eq!(long.values[0], wide.values[0]);
        assert!(long.values[1][1].is_nan());
    }

    #[test]
    fn bad_phenotypes_are_named() {
        let message = |t: Table, wanted: Option<&[u32]>| Targets::phenotypes(&t, wanted).unwrap_err().to_string();
        let twice = table(&["24100"], &[("a", &["1"]), ("a", &["2"])]);
        assert!(message(twice, None)
            .contains("record a (line 3), field id: expected different ids, found the same in line 2"));
        let text = table(&["24100"], &[("a", &["high"])]);
        assert!(message(text, None).contains("field 24100: expected a number or an empty cell, found \"high\""));
        assert!(
            message(table(&["24100"], &[("a", &["1"])]), Some(&[24101])).contains("expected a column for lv_esv_ml")
        );
        assert!(message(table(&["x"], &[("a", &["1"])]), None).contains("expected columns of phenotypes"));
        let both = table(&["24100", "lv_edv_ml"], &[("a", &["1", "1"])]);
        assert!(message(both, None).contains("expected each phenotype once, found 24100 too"));
        let long = table(&["name", "value"], &[("a", &["spleen_ml", "1"])]);
        assert!(message(long, None).contains("field name: expected one of the 82 fields"));
    }

    #[test]
    fn a_column_of_zeros_and_ones_is_a_question_and_one_of_words_is_classes() {
        let t = table(&["hcm", "group"], &[("a", &["1", "hcm"]), ("b", &["no", "dcm"]), ("c", &["", "hcm"])]);
        let one = Targets::diagnoses(&t, &["hcm".to_owned()]).unwrap();
        assert_eq!((one.meaning, one.values[1][0]), (Meaning::Questions, 0.0));
        assert!(one.values[2][0].is_nan());
        let classes = Targets::diagnoses(&t, &["group".to_owned()]).unwrap();
        assert_eq!((classes.meaning, classes.labels), (Meaning::Classes, vec!["dcm".to_owned(), "hcm".to_owned()]));
        assert_eq!(classes.values, [[1.0], [0.0], [1.0]]);
        let error = Targets::diagnoses(&t, &[]).unwrap_err().to_string();
        assert!(
            error.contains("record a (line 2), field group: expected 0, 1 or an empty cell, found \"hcm\""),
            "{error}"
        );
        assert!(Targets::diagnoses(&t, &["x".to_owned()])
            .unwrap_err()
            .to_string()
            .contains("expected one of hcm, group"));
    }
}
