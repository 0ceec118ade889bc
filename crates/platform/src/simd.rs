//! Sixty-four bytes at a time: which of them are quotes, delimiters, newlines.
//!
//! A text scanner that looks at one byte after the other spends most of its time on bytes that mean nothing to it.
//! Here one 64-byte block becomes three 64-bit masks, bit *i* speaking for byte *i*; the caller then jumps from set bit
//! to set bit. On x86-64 with AVX2 (asked at run time, once per call) a block costs a handful of instructions;
//! elsewhere eight bytes are compared at a time in ordinary integers. Both give the same masks.
//!
//! Callers pass many blocks per call: a function compiled for AVX2 is never inlined into code that is not, so that the
//! call is worth making only for a kilobyte or more.
//!
//! ```
//! use swath_platform::simd::{Block, Masks, structural_masks};
//!
//! let mut block: Block = [b' '; 64];
//! block[..8].copy_from_slice(b"a,\"b\",c\n");
//! let mut masks = [Masks::default()];
//! structural_masks(&[block], b',', &mut masks);
//! assert_eq!(masks[0].delim, 0b0010_0010);
//! assert_eq!(masks[0].quote, 0b0001_0100);
//! assert_eq!(masks[0].newline, 0b1000_0000);
//! ```

/// The unit that one set of masks describes.
pub type Block = [u8; 64];

/// What the bytes of one block are; bit *i* speaks for byte *i*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// The bytes that are `"`.
    pub quote: u64,
    /// The bytes that are the delimiter.
    pub delim: u64,
    /// The bytes that are `\n`.
    pub newline: u64,
}

/// Fills `masks` with the masks of `blocks`, one for one.
///
/// # Panics
///
/// If the two slices have different lengths.
pub fn structural_masks(blocks: &[Block], delimiter: u8, masks: &mut [Masks]) {
    assert_eq!(blocks.len(), masks.len(), "one set of masks per block");
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the only precondition is that the processor has AVX2, which was asked in the line above.
        unsafe { avx2::structural_masks(blocks, delimiter, masks) };
        return;
    }
    portable::structural_masks(blocks, delimiter, masks);
}

/// Calls `work` compiled for the processor at hand, as far as it is inlined.
///
/// Code that is built for every x86-64 does without the bit-field instructions that all processors of the last ten years
/// have. What is inlined into `work` is compiled twice, with and without them, and the right one is chosen here.
#[inline(always)]
pub fn compiled_for_this_cpu<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt")
    {
        // SAFETY: the only precondition is that the processor has these features, which was asked in the lines above.
        return unsafe { avx2::call(work) };
    }
    work()
}

/// Thirty-two bytes per comparison, on processors that have AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, Masks};
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8,
    };

    /// # Safety
    ///
    /// The processor has these features.
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    pub(super) fn call<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// # Safety
    ///
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) fn structural_masks(blocks: &[Block], delimiter: u8, masks: &mut [Masks]) {
        let quote = _mm256_set1_epi8(b'"' as i8);
        let delim = _mm256_set1_epi8(delimiter as i8);
        let newline = _mm256_set1_epi8(b'\n' as i8);
        for (block, masks) in blocks.iter().zip(masks) {
            let (low, high) = halves(block);
            masks.quote = equal(low, high, quote);
            masks.delim = equal(low, high, delim);
            masks.newline = equal(low, high, newline);
        }
    }

    #[target_feature(enable = "avx2")]
    fn halves(block: &Block) -> (__m256i, __m256i) {
        let half: *const __m256i = block.as_ptr().cast();
        // SAFETY: the block has 64 bytes, so both 32-byte halves lie inside it; the load needs no alignment.
        unsafe { (_mm256_loadu_si256(half), _mm256_loadu_si256(half.add(1))) }
    }

    #[target_feature(enable = "avx2")]
    fn equal(low: __m256i, high: __m256i, wanted: __m256i) -> u64 {
        let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(low, wanted)) as u32;
        let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(high, wanted)) as u32;
        u64::from(low) | u64::from(high) << 32
    }
}

/// Eight bytes per comparison, on every processor.
mod portable {
    use super::{Block, Masks};

    const LOW_SEVEN: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const EVERY_BYTE: u64 = 0x0101_0101_0101_0101;
    /// Multiplying by this gathers the lowest bit of each byte in the top byte, first byte lowest.
    const GATHER: u64 = 0x0102_0408_1020_4080;

    pub(super) fn structural_masks(blocks: &[Block], delimiter: u8, masks: &mut [Masks]) {
        for (block, masks) in blocks.iter().zip(masks) {
            masks.quote = equal(block, b'"');
            masks.delim = equal(block, delimiter);
            masks.newline = equal(block, b'\n');
        }
    }

    fn equal(block: &Block, wanted: u8) -> u64 {
        let (words, _) = block.as_chunks::<8>();
        words.iter().rev().fold(0, |mask, word| mask << 8 | eight(u64::from_le_bytes(*word), wanted))
    }

    /// A byte of `x` is zero where the text has `wanted`; adding 127 to the low seven bits sets the top bit of all others.
    fn eight(word: u64, wanted: u8) -> u64 {
        let x = word ^ (EVERY_BYTE * u64::from(wanted));
        let zero = !(((x & LOW_SEVEN) + LOW_SEVEN) | x | LOW_SEVEN);
        (zero >> 7).wrapping_mul(GATHER) >> 56
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(block: &Block, delimiter: u8) -> Masks {
        let mask = |wanted: u8| (0..64).filter(|&i| block[i] == wanted).fold(0, |m, i| m | 1 << i);
        Masks { quote: mask(b'"'), delim: mask(delimiter), newline: mask(b'\n') }
    }

    /// Blocks that hold every byte value at every position, from a fixed linear congruence.
    fn blocks() -> Vec<Block> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let byte = (state >> 56) as u8;
            if state >> 40 & 3 == 0 { byte } else { b",\"\n;a\xff"[usize::from(byte) % 6] }
        };
        (0..500).map(|_| std::array::from_fn(|_| next())).collect()
    }

    #[test]
    fn every_path_agrees_with_the_naive_one() {
        let blocks = blocks();
        for delimiter in [b',', b';', b'\t', 0xff] {
            let expected: Vec<Masks> = blocks.iter().map(|b| naive(b, delimiter)).collect();
            let mut masks = vec![Masks::default(); blocks.len()];
            structural_masks(&blocks, delimiter, &mut masks);
            assert_eq!(masks, expected);
            portable::structural_masks(&blocks, delimiter, &mut masks);
            assert_eq!(masks, expected);
        }
    }

    #[test]
    #[should_panic(expected = "one set of masks per block")]
    fn lengths_must_agree() {
        structural_masks(&[[0; 64]], b',', &mut []);
    }
}
