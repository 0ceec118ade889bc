//! Random numbers that depend on the phase's seed and the chunk, never on the worker or on the attempt.
//!
//! xoshiro256++ 1.0 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 2021), its state filled by
//! splitmix64 from a mix of seed and chunk, as its authors advise. Not for cryptography.

/// A generator for one chunk.
#[derive(Clone, Debug)]
pub struct ChunkRng {
    state: [u64; 4],
}

/// One step of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl ChunkRng {
    /// The generator of `chunk` under `seed`.
    pub fn new(seed: u64, chunk: u64) -> ChunkRng {
        // Two rounds, so that neighbouring seeds and chunks do not meet.
        let mut key = seed;
        let mut state = splitmix64(&mut key) ^ chunk.wrapping_mul(0xd134_2543_de82_ef95);
        ChunkRng { state: std::array::from_fn(|_| splitmix64(&mut state)) }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below 0");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's first outputs from the state {1, 2, 3, 4}.
    #[test]
    fn matches_the_reference() {
        let mut rng = ChunkRng { state: [1, 2, 3, 4] };
        let expected = [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn chunks_and_seeds_differ_and_ranges_hold() {
        let first = |seed, chunk| ChunkRng::new(seed, chunk).next_u64();
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 1), first(2, 1));
        assert_eq!(first(3, 9), first(3, 9));
        let mut rng = ChunkRng::new(0, 0);
        assert!((0..1000).all(|_| rng.below(7) < 7 && (0.0..1.0).contains(&rng.next_f64())));
    }
}
