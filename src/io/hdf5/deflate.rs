//! Deflate (RFC 1951) for the byte planes of numbers: codes of each byte's own length (Huffman) and repeats of the last byte.
//!
//! A general deflate looks for earlier strings. In planes of signals it finds few but runs of one byte, and takes most of the
//! time looking. Codes for literals and runs alone leave about as many bytes, at several times the speed.

/// Literals, the end of a block, lengths of repeats.
const SYMBOLS: usize = 286;
/// The symbol that ends a block.
const END: usize = 256;
/// Longest code of a symbol, and of a code's length, bits.
const LONGEST: [u8; 2] = [15, 7];
/// Shortest and longest repeat.
const REPEAT: [usize; 2] = [3, 258];
/// Most bytes of a block that holds them as they are.
const STORED: usize = 65_535;
/// Most bytes that share their codes.
const BLOCK: usize = 1 << 18;
/// The order in which the lengths of the codes of lengths are written (3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A stream of blocks under way.
pub(super) struct Deflate {
    out: Vec<u8>,
    /// Bits that do not fill a byte yet, the first lowest, and how many.
    bits: u64,
    held: u32,
}

impl Deflate {
    /// Begins after the bytes that stand in `out`.
    pub(super) fn after(out: Vec<u8>) -> Deflate {
        Deflate { out, bits: 0, held: 0 }
    }

    /// Adds bytes as they are (3.2.4).
    pub(super) fn store(&mut self, bytes: &[u8]) {
        bytes.chunks(STORED).for_each(|block| self.stored(block, false));
    }

    /// Adds bytes, shortened.
    pub(super) fn shorten(&mut self, bytes: &[u8]) {
        bytes.chunks(BLOCK).for_each(|block| self.coded(block));
    }

    /// Ends the stream at a whole byte, with an empty last block.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.stored(&[], true);
        self.out
    }

    fn stored(&mut self, block: &[u8], is_last: bool) {
        self.put(u32::from(is_last), 3);
        self.put(0, (8 - self.held % 8) % 8);
        let length = block.len() as u32; // `STORED` at most
        self.put(length | (!length & 0xffff) << 16, 32);
        self.flush();
        self.out.extend(block);
    }

    /// A block with codes of its own (3.2.7).
    fn coded(&mut self, block: &[u8]) {
        let (symbols, counts) = parse(block);
        let mut lengths = lengths(&counts, LONGEST[0]);
        let codes = codes(&lengths);
        let last = lengths.iter().rposition(|l| *l > 0).unwrap_or(END).max(END);
        lengths.truncate(last + 1);
        lengths.extend([1, 1]); // two distances, the first of which is 1
        let mut counts = [0u32; 19];
        lengths.iter().for_each(|l| counts[usize::from(*l)] += 1);
        let of_lengths = self::lengths(&counts, LONGEST[1]);
        let codes_of_lengths = self::codes(&of_lengths);

        self.put(0b100, 3);
        self.put(last as u32 - 256, 5);
        self.put(1, 5);
        self.put(ORDER.len() as u32 - 4, 4);
        ORDER.iter().for_each(|place| self.put(u32::from(of_lengths[*place]), 3));
        for length in &lengths {
            let (code, bits) = codes_of_lengths[usize::from(*length)];
            self.put(code, bits);
        }
        let mut repeats = [(0, 0); 259];
        for (length, place) in repeats.iter_mut().enumerate().skip(REPEAT[0]) {
            let (symbol, extra, extra_bits) = repeat(length);
            let (code, bits) = codes[symbol];
            *place = (code | extra << bits, bits + extra_bits + 1); // and a bit for the distance
        }
        self.out.reserve(block.len() + 8);
        for symbol in symbols {
            let symbol = usize::from(symbol);
            let (code, bits) = if symbol < END { codes[symbol] } else { repeats[symbol - END] };
            self.put(code, bits);
        }
        let (code, bits) = codes[END];
        self.put(code, bits);
    }

    /// Adds the lowest `count` bits, at most 32.
    #[inline]
    fn put(&mut self, bits: u32, count: u32) {
        self.bits |= u64::from(bits) << self.held;
        self.held += count;
        if self.held >= 32 {
            self.out.extend((self.bits as u32).to_le_bytes());
            self.bits >>= 32;
            self.held -= 32;
        }
    }

    /// Writes the whole bytes that are held.
    fn flush(&mut self) {
        while self.held >= 8 {
            self.out.push(self.bits as u8);
            self.bits >>= 8;
            self.held -= 8;
        }
    }
}

/// Literals, and repeats of the last byte as 256 + length; how often each symbol is needed.
fn parse(block: &[u8]) -> (Vec<u16>, [u32; SYMBOLS]) {
    let (mut symbols, mut counts) = (Vec::with_capacity(block.len()), [0u32; SYMBOLS]);
    let mut rest = block;
    while let Some((&byte, after)) = rest.split_first() {
        symbols.push(u16::from(byte));
        counts[usize::from(byte)] += 1;
        rest = after;
        if after.first() != Some(&byte) {
            continue;
        }
        let same = count_same(after, byte);
        let repeated = if same < REPEAT[0] { 0 } else { same };
        let mut left = repeated;
        while left >= REPEAT[0] {
            let length = left.min(REPEAT[1]);
            symbols.push((END + length) as u16);
            counts[repeat(length).0] += 1;
            left -= length;
        }
        rest = after.get(repeated - left..).unwrap_or_default();
    }
    counts[END] = 1;
    (symbols, counts)
}

/// How many bytes at the beginning are this one; eight are compared at a time.
fn count_same(bytes: &[u8], byte: u8) -> usize {
    let eight = u64::from_le_bytes([byte; 8]);
    let (pieces, rest) = bytes.as_chunks();
    for (n, piece) in pieces.iter().enumerate() {
        let differ = u64::from_le_bytes(*piece) ^ eight;
        if differ != 0 {
            return 8 * n + differ.trailing_zeros() as usize / 8;
        }
    }
    8 * pieces.len() + rest.iter().take_while(|next| **next == byte).count()
}

/// Symbol, extra bits and their number for a repeat of this length (3.2.5).
fn repeat(length: usize) -> (usize, u32, u32) {
    let over = length - REPEAT[0];
    if length == REPEAT[1] {
        return (285, 0, 0);
    }
    if over < 8 {
        return (257 + over, 0, 0);
    }
    let extra = over.ilog2() - 2;
    (257 + 4 * (extra as usize) + (over >> extra), (over & ((1 << extra) - 1)) as u32, extra)
}

/// Lengths of the codes that make symbols used so often shortest, none longer than `most` bits; 0 for those not used.
fn lengths(counts: &[u32], most: u8) -> Vec<u8> {
    let mut counts = counts.to_vec();
    loop {
        let depths = depths(&counts);
        if depths.iter().all(|depth| *depth <= most) {
            return depths;
        }
        counts.iter_mut().filter(|n| **n > 0).for_each(|n| *n = *n / 2 + 1); // more alike, so less deep
    }
}

/// Depth of every symbol in the tree of Huffman: the two rarest are joined, again and again.
fn depths(counts: &[u32]) -> Vec<u8> {
    let mut leaves: Vec<(u32, usize)> = counts.iter().copied().zip(0..).filter(|(n, _)| *n > 0).collect();
    leaves.sort_unstable();
    let used = leaves.len();
    // Nodes: the leaves, then the joints, both rising. Those joined have a parent.
    let mut weights: Vec<u32> = leaves.iter().map(|(n, _)| *n).collect();
    let mut parents = vec![0; 2 * used];
    let (mut leaf, mut joint) = (0, used);
    for node in used..(2 * used).saturating_sub(1) {
        let mut weight = 0;
        for _ in 0..2 {
            let is_leaf = leaf < used && (joint >= node || weights[leaf] <= weights[joint]);
            let child = if is_leaf { &mut leaf } else { &mut joint };
            weight += weights[*child];
            parents[*child] = node;
            *child += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0u8; 2 * used];
    for node in (0..(2 * used).saturating_sub(2)).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
    }
    let mut found = vec![0; counts.len()];
    for ((_, symbol), depth) in leaves.into_iter().zip(depths) {
        found[symbol] = depth.max(1); // one symbol alone has a code too
    }
    found
}

/// The codes that follow from their lengths (3.2.2), the first bit lowest, each with its length.
fn codes(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut next = 0u32;
    let mut codes = vec![(0, 0); lengths.len()];
    for bits in 1..=LONGEST[0] {
        for (place, _) in codes.iter_mut().zip(lengths).filter(|(_, length)| **length == bits) {
            *place = (next.reverse_bits() >> (32 - u32::from(bits)), u32::from(bits));
            next += 1;
        }
        next <<= 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn inflated(packed: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        flate2::read::DeflateDecoder::new(packed).read_to_end(&mut found).unwrap();
        found
    }

    fn mix(n: u32) -> u32 {
        let n = (n ^ (n >> 16)).wrapping_mul(0x85eb_ca6b);
        (n ^ (n >> 13)).wrapping_mul(0xc2b2_ae35)
    }

    #[test]
    fn every_inflate_finds_what_was_shortened() {
        let noise: Vec<u8> = (0..300_000u32).map(|n| (mix(n) >> 24) as u8).collect();
        let few: Vec<u8> = noise.iter().map(|b| b.leading_zeros() as u8).collect();
        let runs: Vec<u8> = (0..4000u32).flat_map(|n| vec![n as u8; (mix(n) >> 22) as usize % 700]).collect();
        let all: Vec<u8> = (0..=255).collect();
        let cases =
            [&[][..], &[7], &[7, 7], &[7; 4], &[7; 5], &[0; 259], &[0; 260], &[0; 600], &noise, &few, &runs, &all];
        for bytes in cases {
            let mut deflate = Deflate::after(Vec::new());
            deflate.shorten(bytes);
            deflate.store(bytes);
            deflate.shorten(bytes);
            let packed = deflate.finish();
            assert_eq!(inflated(&packed), [bytes; 3].concat());
            let zlib = [&[0x78, 0x01], packed.as_slice(), &adler(&[bytes; 3].concat())].concat();
            assert_eq!(fdeflate::decompress_to_vec(&zlib).unwrap(), [bytes; 3].concat());
        }
    }

    fn adler(bytes: &[u8]) -> [u8; 4] {
        let mut sum = simd_adler32::Adler32::new();
        sum.write(bytes);
        sum.finish().to_be_bytes()
    }

    #[test]
    fn repeats_have_the_symbols_of_the_standard() {
        let found = [3, 10, 11, 12, 18, 19, 130, 131, 257, 258].map(repeat);
        let expected = [
            (257, 0, 0),
            (264, 0, 0),
            (265, 0, 1),
            (265, 1, 1),
            (268, 1, 1),
            (269, 0, 2),
            (280, 15, 4),
            (281, 0, 5),
            (284, 30, 5),
            (285, 0, 0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn codes_are_as_short_as_can_be_and_never_too_long() {
        assert_eq!(lengths(&[8, 4, 2, 1, 1, 0], 15), [1, 2, 3, 4, 4, 0]);
        assert_eq!((lengths(&[0, 5], 15), lengths(&[0, 0], 15)), (vec![0, 1], vec![0, 0]));
        let mut fibonacci = vec![1u32, 1];
        while fibonacci.len() < 30 {
            fibonacci.push(fibonacci.iter().rev().take(2).sum());
        }
        for most in LONGEST {
            let found = lengths(&fibonacci, most);
            let room: f64 = found.iter().map(|l| 0.5f64.powi(i32::from(*l))).sum();
            assert!(found.iter().all(|l| *l <= most) && room == 1.0, "{found:?}");
        }
        // The example of RFC 1951, 3.2.2: lengths 3, 3, 3, 3, 3, 2, 4, 4.
        let codes: Vec<u32> =
            codes(&[3, 3, 3, 3, 3, 2, 4, 4]).iter().map(|c| c.0.reverse_bits() >> (32 - c.1)).collect();
        assert_eq!(codes, [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]);
    }

    #[test]
    fn what_is_rare_or_repeated_gets_short() {
        let size = |bytes: &[u8]| {
            let mut deflate = Deflate::after(Vec::new());
            deflate.shorten(bytes);
            deflate.finish().len()
        };
        assert!(size(&[0; 60_000]) < 200, "{}", size(&[0; 60_000]));
        let halves: Vec<u8> = (0..60_000u32).map(|n| (mix(n) >> 28) as u8).collect(); // 4 bits a byte
        assert!((30_000..30_600).contains(&size(&halves)), "{}", size(&halves));
    }
}
