//! A quick 64-bit checksum of records that cross processes: it tells a half-written record from a whole one.
//!
//! Multiply and fold, eight bytes at a time, as in wyhash's inner step (public domain). Not a cryptographic hash: processes of
//! one user trust each other.

const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ MULTIPLIER) * u128::from(b ^ 0xe703_7ed1_a0b4_28db);
    product as u64 ^ (product >> 64) as u64
}

/// The checksum of `bytes`; their length counts too.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut state = mix(bytes.len() as u64, MULTIPLIER);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        state = mix(state, u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    let mut rest = [0u8; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(state, u64::from_le_bytes(rest))
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn every_byte_and_the_length_count() {
        let zeros = [0u8; 40];
        for len in 0..40 {
            assert_ne!(checksum(&zeros[..len]), checksum(&zeros[..len + 1]));
            let mut changed = zeros;
            changed[len] = 1;
            assert_ne!(checksum(&zeros), checksum(&changed));
        }
    }
}
