//! XLI, the compression of Philips carts: second differences, bytes apart, LZW.
//!
//! ```text
//! chunk   size u32, kind i16, start i16, then size bytes of LZW codes (10 bits each, most significant bit first)
//! codes   0..255 the byte itself, 256..1022 learned, 1023 the end; nothing is learned once the table is full
//! bytes   the high bytes of all numbers, then the low bytes
//! number  0 and 1 are samples; from 2 on, number n is 64 + what the prediction of sample n + 1 misses
//! sample  n = 2 * sample(n-1) - sample(n-2) - miss(n-1), where miss(1) = start and miss(n) = number(n) - 64
//! ```

/// Bits of a code.
const BITS: u32 = 10;
/// The code that ends a chunk.
const END: usize = (1 << BITS) - 1;
/// Bytes of a chunk's header.
const HEADER: usize = 8;
/// Keeps most numbers positive, so that their high bytes are zero.
const BIAS: i16 = 64;

/// What is wrong: what was expected, and what was found.
type Wrong = (String, String);

/// The samples of the first chunk, and the bytes after it.
pub fn unpack(bytes: &[u8], samples: usize) -> Result<(Vec<i16>, &[u8]), Wrong> {
    let short = || ("a chunk header of 8 bytes".to_owned(), format!("{} bytes", bytes.len()));
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or_else(short)?;
    let &[a, b, c, d, _, _, low, high] = header else { return Err(short()) };
    let size = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let claim = || (format!("a chunk of {size} bytes"), format!("{} bytes", rest.len()));
    let (codes, after) = rest.split_at_checked(size).ok_or_else(claim)?;
    let bytes = lzw(codes, samples.saturating_mul(2))?;
    Ok((undo_differences(&bytes, i16::from_le_bytes([low, high])), after))
}

/// What LZW codes stand for; exactly `length` bytes.
fn lzw(codes: &[u8], length: usize) -> Result<Vec<u8>, Wrong> {
    let mut table = Table::default();
    let mut out = Vec::new();
    let mut before: Option<usize> = None;
    for code in codes_of(codes) {
        if code == END {
            break;
        }
        let start = out.len();
        match before {
            Some(before) if code == table.len() => {
                table.write(before, &mut out); // a string that begins with itself
                out.extend(out.get(start).copied());
            }
            _ if code < table.len() => table.write(code, &mut out),
            _ => return Err((format!("a code below {}", table.len()), code.to_string())),
        }
        if out.len() > length {
            break; // no file makes us write more than it says
        }
        if let (Some(before), Some(&first)) = (before, out.get(start)) {
            table.learn(before, first);
        }
        before = Some(code);
    }
    if out.len() != length {
        let more = if out.len() > length { " or more" } else { "" };
        return Err((format!("{length} bytes once unpacked"), format!("{}{more}", out.len())));
    }
    Ok(out)
}

/// The codes packed in bytes, the most significant bit first.
fn codes_of(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let (mut held, mut bits) = (0u32, 0);
    let mut bytes = bytes.iter();
    std::iter::from_fn(move || {
        while bits < BITS {
            held = held << 8 | u32::from(*bytes.next()?);
            bits += 8;
        }
        bits -= BITS;
        let code = held >> bits;
        held &= (1 << bits) - 1;
        Some(code as usize)
    })
}

/// The strings learned: each is an earlier one and a byte more.
#[derive(Default)]
struct Table {
    learned: Vec<(usize, u8)>,
}

impl Table {
    fn len(&self) -> usize {
        256 + self.learned.len()
    }

    fn learn(&mut self, before: usize, byte: u8) {
        if self.len() < END {
            self.learned.push((before, byte));
        }
    }

    /// Appends the string of a code.
    fn write(&self, code: usize, into: &mut Vec<u8>) {
        let start = into.len();
        let mut code = code;
        while let Some(&(before, byte)) = code.checked_sub(256).and_then(|place| self.learned.get(place)) {
            into.push(byte);
            code = before; // always an earlier string
        }
        into.push(code as u8); // below 256
        if let Some(string) = into.get_mut(start..) {
            string.reverse();
        }
    }
}

/// Samples of numbers whose high bytes stand before their low bytes.
fn undo_differences(bytes: &[u8], start: i16) -> Vec<i16> {
    let (high, low) = bytes.split_at(bytes.len() / 2);
    let numbers = high.iter().zip(low).map(|(&high, &low)| i16::from_be_bytes([high, low]));
    let mut samples: Vec<i16> = Vec::with_capacity(high.len());
    let mut miss = start;
    for number in numbers {
        let sample = match samples.as_slice() {
            [.., before, last] => {
                let sample = last.wrapping_mul(2).wrapping_sub(*before).wrapping_sub(miss);
                miss = number.wrapping_sub(BIAS);
                sample
            }
            _ => number,
        };
        samples.push(sample);
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of 10 bits, packed.
    fn pack(codes: &[u16]) -> Vec<u8> {
        let bits: Vec<bool> =
            codes.iter().flat_map(|code| (0..10).rev().map(move |bit| code >> bit & 1 == 1)).collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().map(|(k, &bit)| u8::from(bit) << (7 - k)).sum()).collect()
    }

    #[test]
    fn codes_learn_strings_even_of_themselves() {
        // 65; 256 = "AA" before it is known; 66; 257 = "AAB"
        assert_eq!(lzw(&pack(&[65, 256, 66, 257, 1023]), 7).unwrap(), b"AAABAAB");
        assert_eq!(lzw(&pack(&[65, 65]), 2).unwrap(), b"AA");
    }

    #[test]
    fn damaged_codes_are_refused() {
        assert_eq!(lzw(&pack(&[65, 300]), 9).unwrap_err(), ("a code below 256".into(), "300".into()));
        assert_eq!(lzw(&pack(&[65, 1023]), 2).unwrap_err(), ("2 bytes once unpacked".into(), "1".into()));
        let bomb: Vec<u16> = (0..).map(|k| if k == 0 { 0 } else { 255 + k }).take(700).collect();
        assert_eq!(lzw(&pack(&bomb), 100).unwrap_err().1, "105 or more");
    }

    #[test]
    fn second_differences_are_undone() {
        // samples 5, 7; then 2*7 - 5 - 1 = 8, miss 64 + 3 -> 2*8 - 7 - 3 = 6, miss -2 -> 2*6 - 8 + 2 = 6
        let bytes = [0, 0, 0, 0, 0, 5, 7, 67, 62, 64];
        assert_eq!(undo_differences(&bytes, 1), [5, 7, 8, 6, 6]);
        assert_eq!(undo_differences(&[0, 0xff, 3, 0xfe], 9), [3, -2]);
    }

    #[test]
    fn a_chunk_larger_than_the_file_is_refused() {
        let mut bytes = vec![0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0];
        assert_eq!(unpack(&bytes, 4).unwrap_err(), ("a chunk of 2147483647 bytes".into(), "0 bytes".into()));
        bytes.truncate(3);
        assert!(unpack(&bytes, 4).is_err());
    }
}
