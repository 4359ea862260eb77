//! Seeded streams of random numbers: the same numbers on every machine, whatever the device or the number of threads.

use sha2::{Digest, Sha256};

/// The numbers of one purpose.
///
/// A stream depends on its key alone. The state is SHA-256 of the key; the generator is xoshiro256++ (Blackman and Vigna,
/// 2019) in f64; normal values come in pairs by the Box-Muller transform.
#[derive(Debug, Clone)]
pub struct Stream {
    state: [u64; 4],
    spare: Option<f64>,
}

impl Stream {
    /// The stream of draw `draw` of record `id` for the purpose `purpose`.
    pub fn new(purpose: &str, seed: u64, id: &str, draw: u32) -> Stream {
        let mut hash = Sha256::new();
        hash.update(purpose.as_bytes());
        hash.update([0]);
        hash.update(seed.to_le_bytes());
        hash.update(draw.to_le_bytes());
        hash.update(id.as_bytes());
        let key = hash.finalize();
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(key.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
        }
        Stream { state, spare: None }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// Uniform in (0, 1].
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A whole number from 0 to `n` - 1; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (((1.0 - self.uniform()) * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// The numbers 0 to `n` - 1 in random order (Fisher and Yates).
    pub fn shuffle(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_depends_on_purpose_seed_id_and_draw() {
        let first = |purpose, seed, id, draw| Stream::new(purpose, seed, id, draw).normal();
        let one = first("p", 1, "a", 0);
        assert_eq!(one, first("p", 1, "a", 0));
        for other in [first("q", 1, "a", 0), first("p", 2, "a", 0), first("p", 1, "b", 0), first("p", 1, "a", 1)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_shuffle_holds_every_number_once() {
        let mut order = Stream::new("shuffle", 0, "", 0).shuffle(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
