//! How WFDB signal files store integers (`signal(5)`).
//!
//! | format | one sample | invalid |
//! |---|---|---|
//! | 0 | nothing: the signal only has a name | |
//! | 8 | 1 byte, difference to the sample before; the header says where to begin | none |
//! | 16, 61, 160 | 2 bytes: little-endian, big-endian, little-endian offset binary (value + 32768) | -32768 |
//! | 24 | 3 bytes, little-endian two's complement | -8388608 |
//! | 32 | 4 bytes, little-endian two's complement | -2147483648 |
//! | 80 | 1 byte, offset binary (value + 128) | -128 |
//! | 212 | 12 bits; two samples in 3 bytes: low byte of a, high nibbles b:a, low byte of b | -2048 |
//! | 310 | 10 bits; three in two 16-bit words: a and b in bits 1 to 10 of each, c in bits 11 to 15 of both, low part first | -512 |
//! | 311 | 10 bits; three in one 32-bit word: bits 0 to 9, 10 to 19, 20 to 29 | -512 |
//! | 508, 516, 524 | FLAC stream of at most 8, 16, 24 bits, one channel a signal | as 80, 16, 24 |

/// A storage format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Null,
    F8,
    F16,
    F24,
    F32,
    F61,
    F80,
    F160,
    F212,
    F310,
    F311,
    /// FLAC of at most so many bits.
    Flac(u8),
}

impl Format {
    /// Those that can be read.
    pub(super) const ALL: [Format; 14] = [
        Format::Null,
        Format::F8,
        Format::F16,
        Format::F24,
        Format::F32,
        Format::F61,
        Format::F80,
        Format::F160,
        Format::F212,
        Format::F310,
        Format::F311,
        Format::Flac(8),
        Format::Flac(16),
        Format::Flac(24),
    ];

    /// Its number in headers.
    pub(super) fn code(self) -> u32 {
        match self {
            Format::Null => 0,
            Format::F8 => 8,
            Format::F16 => 16,
            Format::F24 => 24,
            Format::F32 => 32,
            Format::F61 => 61,
            Format::F80 => 80,
            Format::F160 => 160,
            Format::F212 => 212,
            Format::F310 => 310,
            Format::F311 => 311,
            Format::Flac(bits) => 500 + u32::from(bits),
        }
    }

    /// The value that marks a sample as missing.
    pub(super) fn invalid(self) -> Option<i32> {
        Some(match self {
            Format::Null | Format::F8 => return None,
            Format::F16 | Format::F61 | Format::F160 | Format::Flac(16) => -32_768,
            Format::F24 | Format::Flac(24) => -8_388_608,
            Format::F32 => i32::MIN,
            Format::F80 | Format::Flac(_) => -128,
            Format::F212 => -2_048,
            Format::F310 | Format::F311 => -512,
        })
    }

    /// Whether the samples are compressed, so that the size of the file says nothing of their number.
    pub(super) fn is_compressed(self) -> bool {
        matches!(self, Format::Flac(_))
    }

    /// Bytes that hold `samples` samples; none where that overflows, 0 for compressed formats.
    pub(super) fn bytes_for(self, samples: u64) -> Option<u64> {
        let rest = samples % 3;
        match self {
            Format::F8 | Format::F80 => Some(samples),
            Format::F16 | Format::F61 | Format::F160 => samples.checked_mul(2),
            Format::F24 => samples.checked_mul(3),
            Format::F32 => samples.checked_mul(4),
            Format::F212 => samples.checked_mul(3).map(|n| n.div_ceil(2)),
            Format::F310 => (samples / 3).checked_mul(4)?.checked_add(2 * rest),
            Format::F311 => (samples / 3).checked_mul(4)?.checked_add(if rest > 0 { rest + 1 } else { 0 }),
            Format::Null | Format::Flac(_) => Some(0),
        }
    }

    /// Complete samples in `bytes` bytes; 0 for compressed formats.
    pub(super) fn samples_in(self, bytes: u64) -> u64 {
        match self {
            Format::F8 | Format::F80 => bytes,
            Format::F16 | Format::F61 | Format::F160 => bytes / 2,
            Format::F24 => bytes / 3,
            Format::F32 => bytes / 4,
            Format::F212 => bytes / 3 * 2 + u64::from(bytes % 3 == 2),
            Format::F310 => bytes / 4 * 3 + u64::from(bytes % 4 >= 2),
            Format::F311 => bytes / 4 * 3 + (bytes % 4).saturating_sub(1),
            Format::Null | Format::Flac(_) => 0,
        }
    }

    /// Sample number `i` (of format 8 the difference); none past the end and for compressed formats.
    pub(super) fn at(self, bytes: &[u8], i: usize) -> Option<i32> {
        match self {
            Format::F8 => bytes.get(i).map(|&b| i32::from(b as i8)),
            Format::F80 => bytes.get(i).map(|&b| i32::from(b) - 128),
            Format::F16 => word(bytes, 2 * i).map(|b| i32::from(i16::from_le_bytes(b))),
            Format::F61 => word(bytes, 2 * i).map(|b| i32::from(i16::from_be_bytes(b))),
            Format::F160 => word(bytes, 2 * i).map(|b| i32::from(u16::from_le_bytes(b)) - 32_768),
            Format::F24 => word(bytes, 3 * i).map(|[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            Format::F32 => word(bytes, 4 * i).map(i32::from_le_bytes),
            Format::F212 => {
                let [a, b] = word(bytes, i / 2 * 3 + i % 2)?;
                let (low, high) = if i.is_multiple_of(2) { (a, b & 0x0f) } else { (b, a >> 4) };
                Some((i32::from(u16::from_le_bytes([low, high])) << 20) >> 20)
            }
            Format::F310 => {
                let half = |k: usize| word(bytes, i / 3 * 4 + 2 * k).map(u16::from_le_bytes);
                Some(ten_bits(match i % 3 {
                    2 => half(0)? >> 11 | half(1)? >> 11 << 5,
                    k => half(k)? >> 1,
                }))
            }
            Format::F311 => {
                // 10 bits from bit 10 * (i % 3) on lie within these two bytes.
                let (byte, shift) = ((i % 3) * 10 / 8, (i % 3) * 10 % 8);
                word(bytes, i / 3 * 4 + byte).map(|b| ten_bits(u16::from_le_bytes(b) >> shift))
            }
            Format::Null | Format::Flac(_) => None,
        }
    }
}

/// The low ten bits as a two's complement.
fn ten_bits(value: u16) -> i32 {
    (i32::from(value) << 22) >> 22
}

fn word<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_each_format_from_literal_bytes() {
        assert_eq!(Format::F8.at(&[0xff], 0), Some(-1));
        assert_eq!(Format::F16.at(&[0, 0, 0xfe, 0xff], 1), Some(-2));
        assert_eq!(Format::F61.at(&[0xff, 0xfe], 0), Some(-2));
        assert_eq!(Format::F160.at(&[0xfe, 0x7f], 0), Some(-2));
        assert_eq!(Format::F24.at(&[0x01, 0x00, 0x80], 0), Some(-8_388_607));
        assert_eq!(Format::F32.at(&[0, 0, 0, 0x80], 0), Some(i32::MIN));
        assert_eq!(Format::F80.at(&[0x80, 0x00], 1), Some(-128));
        let pair = [0x34, 0xa2, 0x56]; // a = 0x234, b = 0xa56 = 2646 - 4096
        assert_eq!((Format::F212.at(&pair, 0), Format::F212.at(&pair, 1)), (Some(0x234), Some(-1450)));
        assert_eq!(Format::F212.at(&pair, 2), None);
    }

    #[test]
    fn ten_bit_formats_come_in_threes() {
        // 310: words 0x1807 and 0xf002: a = 3, b = 1, c = 0b11110_00011 = 963 - 1024.
        let three = [0x07, 0x18, 0x02, 0xf0];
        assert_eq!([0, 1, 2, 3].map(|i| Format::F310.at(&three, i)), [Some(3), Some(1), Some(-61), None]);
        // 311: 3 | 1 << 10 | 963 << 20 = 0x3c300403.
        let three = [0x03, 0x04, 0x30, 0x3c];
        assert_eq!([0, 1, 2, 3].map(|i| Format::F311.at(&three, i)), [Some(3), Some(1), Some(-61), None]);
        assert_eq!([1, 2, 3].map(|n| Format::F310.bytes_for(n)), [Some(2), Some(4), Some(4)]);
        assert_eq!([1, 2, 3].map(|n| Format::F311.bytes_for(n)), [Some(2), Some(3), Some(4)]);
        assert_eq!([1, 2, 3, 4].map(|n| Format::F310.samples_in(n)), [0, 1, 1, 3]);
        assert_eq!([1, 2, 3, 4].map(|n| Format::F311.samples_in(n)), [0, 1, 2, 3]);
    }

    #[test]
    fn an_odd_sample_of_format_212_takes_two_bytes() {
        assert_eq!(Format::F212.bytes_for(499), Some(749));
        assert_eq!(Format::F212.samples_in(749), 499);
        assert_eq!(Format::F212.at(&[0x01, 0xf0], 0), Some(1));
        assert_eq!(Format::F32.bytes_for(u64::MAX / 2), None);
    }
}
