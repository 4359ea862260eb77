//! How WFDB signal files store integers (`signal(5)`), for the formats that ECG archives use.
//!
//! | format | one sample | invalid |
//! |---|---|---|
//! | 16 | 2 bytes, little-endian two's complement | -32768 |
//! | 24 | 3 bytes, little-endian two's complement | -8388608 |
//! | 32 | 4 bytes, little-endian two's complement | -2147483648 |
//! | 80 | 1 byte, offset binary (value + 128) | -128 |
//! | 212 | 12 bits; two samples in 3 bytes: low byte of a, high nibbles b:a, low byte of b | -2048 |

/// A storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F16,
    F24,
    F32,
    F80,
    F212,
}

impl Format {
    /// Those that can be read.
    pub(super) const ALL: [Format; 5] = [Format::F16, Format::F24, Format::F32, Format::F80, Format::F212];

    /// Its number in headers.
    pub(super) fn code(self) -> u32 {
        match self {
            Format::F16 => 16,
            Format::F24 => 24,
            Format::F32 => 32,
            Format::F80 => 80,
            Format::F212 => 212,
        }
    }

    /// The value that marks a sample as missing.
    pub(super) fn invalid(self) -> i32 {
        match self {
            Format::F16 => -32_768,
            Format::F24 => -8_388_608,
            Format::F32 => i32::MIN,
            Format::F80 => -128,
            Format::F212 => -2_048,
        }
    }

    /// Bytes that hold `samples` samples; none where that overflows.
    pub(super) fn bytes_for(self, samples: u64) -> Option<u64> {
        match self {
            Format::F80 => Some(samples),
            Format::F16 => samples.checked_mul(2),
            Format::F24 => samples.checked_mul(3),
            Format::F32 => samples.checked_mul(4),
            Format::F212 => samples.checked_mul(3).map(|n| n.div_ceil(2)),
        }
    }

    /// Complete samples in `bytes` bytes.
    pub(super) fn samples_in(self, bytes: u64) -> u64 {
        match self {
            Format::F80 => bytes,
            Format::F16 => bytes / 2,
            Format::F24 => bytes / 3,
            Format::F32 => bytes / 4,
            Format::F212 => bytes / 3 * 2 + u64::from(bytes % 3 == 2),
        }
    }

    /// Sample number `i`; none past the end.
    pub(super) fn at(self, bytes: &[u8], i: usize) -> Option<i32> {
        match self {
            Format::F80 => bytes.get(i).map(|&b| i32::from(b) - 128),
            Format::F16 => word(bytes, 2 * i).map(|b| i32::from(i16::from_le_bytes(b))),
            Format::F24 => word(bytes, 3 * i).map(|[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            Format::F32 => word(bytes, 4 * i).map(i32::from_le_bytes),
            Format::F212 => {
                let [a, b] = word(bytes, i / 2 * 3 + i % 2)?;
                let (low, high) = if i.is_multiple_of(2) { (a, b & 0x0f) } else { (b, a >> 4) };
                Some((i32::from(u16::from_le_bytes([low, high])) << 20) >> 20)
            }
        }
    }
}

fn word<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_each_format_from_literal_bytes() {
        assert_eq!(Format::F16.at(&[0, 0, 0xfe, 0xff], 1), Some(-2));
        assert_eq!(Format::F24.at(&[0x01, 0x00, 0x80], 0), Some(-8_388_607));
        assert_eq!(Format::F32.at(&[0, 0, 0, 0x80], 0), Some(i32::MIN));
        assert_eq!(Format::F80.at(&[0x80, 0x00], 1), Some(-128));
        let pair = [0x34, 0xa2, 0x56]; // a = 0x234, b = 0xa56 = 2646 - 4096
        assert_eq!((Format::F212.at(&pair, 0), Format::F212.at(&pair, 1)), (Some(0x234), Some(-1450)));
        assert_eq!(Format::F212.at(&pair, 2), None);
    }

    #[test]
    fn an_odd_sample_of_format_212_takes_two_bytes() {
        assert_eq!(Format::F212.bytes_for(499), Some(749));
        assert_eq!(Format::F212.samples_in(749), 499);
        assert_eq!(Format::F212.at(&[0x01, 0xf0], 0), Some(1));
        assert_eq!(Format::F32.bytes_for(u64::MAX / 2), None);
    }
}
