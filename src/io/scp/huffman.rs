//! The Huffman code of SCP-ECG (EN 1064, section 2 of the file and annex C).
//!
//! ```text
//! default table: 0 -> 0      1 -> 100    -1 -> 101    2 -> 1100   -2 -> 1101 ... 8 -> 1111111100   -8 -> 1111111101
//!                1111111110 then 8 bits, 1111111111 then 16 bits: the value itself
//! section 2:     tables u16 (19999: the default one); each: codes u16; each code 9 bytes:
//!                bits of the prefix u8 | bits in all u8 | 1, or 0 to switch to the table of the value u8
//!                | value i16 | prefix u32, its first bit lowest
//! ```

use std::collections::HashMap;

use crate::error::{Fault, Result};

use super::{Bytes, DOING};

/// What section 2 says where it means the default table.
const DEFAULT: u16 = 19_999;
/// Longest prefix.
const LONGEST: u32 = 32;

/// Codes by length and bits.
type Table = HashMap<(u32, u32), Code>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Code {
    /// Stands for this value.
    Value(i32),
    /// So many more bits are the value.
    Bits(u32),
    /// The codes that follow are of this table.
    Table(usize),
}

/// The tables of a file.
pub(super) struct Huffman {
    tables: Vec<Table>,
}

impl Huffman {
    /// The tables of section 2.
    pub(super) fn parse(section: &[u8]) -> Result<Huffman> {
        let mut bytes = Bytes { bytes: section, at: 0, name: "section 2" };
        let count = bytes.u16()?;
        if count == DEFAULT {
            return Ok(Huffman { tables: vec![default_table()] });
        }
        let mut tables = Vec::new();
        for _ in 0..count {
            let codes = bytes.u16()?;
            tables.push((0..codes).map(|_| code(&mut bytes)).collect::<Result<Table>>()?);
        }
        if tables.is_empty() {
            return Err(Fault::new(DOING, "").field("section 2").expected("a Huffman table", "none").into());
        }
        Ok(Huffman { tables })
    }

    /// The first `count` values that `data` holds.
    pub(super) fn decode(&self, data: &[u8], count: usize, lead: &str) -> Result<Vec<i32>> {
        let mut bits = Bits { data, at: 0 };
        let mut table = self.tables.first();
        let mut values = Vec::new();
        while values.len() < count {
            let code = table.and_then(|table| bits.code(table));
            let value = match code {
                Some(Code::Value(value)) => Some(value),
                Some(Code::Bits(length)) => bits.signed(length),
                Some(Code::Table(next)) => {
                    table = self.tables.get(next);
                    continue;
                }
                None => None,
            };
            let Some(value) = value else {
                let fault = Fault::new(DOING, "the Huffman code breaks off").field(format!("lead {lead}"));
                return Err(fault.expected(format!("{count} samples"), values.len()).into());
            };
            values.push(value);
        }
        Ok(values)
    }
}

fn code(bytes: &mut Bytes) -> Result<((u32, u32), Code)> {
    let (prefix, whole, mode) = (u32::from(bytes.u8()?), u32::from(bytes.u8()?), bytes.u8()?);
    let (value, base) = (bytes.u16()? as i16, bytes.u32()?);
    if !(1..=LONGEST).contains(&prefix) || !(prefix..=prefix + LONGEST).contains(&whole) {
        let fault = Fault::new(DOING, "malformed Huffman table").field("section 2");
        return Err(fault.expected("a prefix of 1 to 32 bits", format!("{prefix} of {whole} bits")).into());
    }
    let code = match (mode, whole - prefix) {
        (0, _) => Code::Table(usize::from((value as u16).wrapping_sub(1))),
        (_, 0) => Code::Value(i32::from(value)),
        (_, more) => Code::Bits(more),
    };
    Ok(((prefix, base), code))
}

fn default_table() -> Table {
    let ones = |n: u32| (1u32 << n) - 1;
    let mut table = Table::from([((1, 0), Code::Value(0))]);
    for value in 1..=8 {
        let length = value as u32 + 2;
        // Ones, then 00 for the positive and 01 for the negative value; the first bit is the lowest.
        table.insert((length, ones(length - 2)), Code::Value(value));
        table.insert((length, ones(length - 2) | 1 << (length - 1)), Code::Value(-value));
    }
    table.insert((10, ones(9)), Code::Bits(8));
    table.insert((10, ones(10)), Code::Bits(16));
    table
}

/// Bits, the highest of each byte first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = *self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn code(&mut self, table: &Table) -> Option<Code> {
        let mut bits = 0;
        for length in 1..=LONGEST {
            bits |= self.bit()? << (length - 1);
            if let Some(code) = table.get(&(length, bits)) {
                return Some(*code);
            }
        }
        None
    }

    /// A two's complement of so many bits, the highest first.
    fn signed(&mut self, length: u32) -> Option<i32> {
        let mut value = 0i64;
        for _ in 0..length {
            value = value << 1 | i64::from(self.bit()?);
        }
        let sign = 1i64 << (length.max(1) - 1);
        Some(if value & sign != 0 { (value - 2 * sign) as i32 } else { value as i32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_default_table_from_literal_bits() {
        let huffman = Huffman::parse(&19_999u16.to_le_bytes()).unwrap();
        // 0 | 100 | 101 | 1100 | 1101 | 11100 | 1111111100 | 1111111101
        let bits = [0b0100_1011, 0b1001_1011, 0b1100_1111, 0b1111_0011, 0b1111_1101];
        assert_eq!(huffman.decode(&bits, 8, "I").unwrap(), [0, 1, -1, 2, -2, 3, 8, -8]);
        // 1111111110 then -100 in 8 bits, 1111111111 then 1000 in 16 bits
        let bits = [0b1111_1111, 0b1010_0111, 0b0011_1111, 0b1111_0000, 0b0011_1110, 0b1000_0000];
        assert_eq!(huffman.decode(&bits, 2, "I").unwrap(), [-100, 1000]);
        let error = huffman.decode(&[0b0100_1111], 9, "V1").unwrap_err().to_string();
        assert!(error.contains("field lead V1: the Huffman code breaks off (expected 9 samples, found 2)"), "{error}");
    }

    #[test]
    fn tables_of_the_file_can_switch() {
        // Two tables: 0 -> 5, 1 -> the second table; there 0 -> -7, 1 -> the first table.
        let code = |mode: u8, value: i16, base: u32| {
            [vec![1, 1, mode], value.to_le_bytes().to_vec(), base.to_le_bytes().to_vec()].concat()
        };
        let section =
            [vec![2, 0, 2, 0], code(1, 5, 0), code(0, 2, 1), vec![2, 0], code(1, -7, 0), code(0, 1, 1)].concat();
        let huffman = Huffman::parse(&section).unwrap();
        assert_eq!(huffman.decode(&[0b0100_1000], 4, "I").unwrap(), [5, -7, -7, 5]);
        assert!(Huffman::parse(&section[..20]).is_err());
        assert!(Huffman::parse(&[1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(Huffman::parse(&[0, 0]).is_err());
    }
}
