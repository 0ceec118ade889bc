//! The units in which files are read: ranges of bytes that are fixed before anybody reads them.
//!
//! Where a chunk begins is a function of the lengths of the files and of nothing else, so that the same input is cut in
//! the same way whoever reads it. Version 1 of that function; to change it is to change what a report says, not the
//! answer.

use super::plan::Plan;

const MEBI: u64 = 1 << 20;
/// Chunks that a job is cut into if it is neither small nor huge.
const CHUNKS_WANTED: u64 = 2048;

/// The bytes `lo..hi` of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which of the plan's files.
    pub file: u32,
    /// The first byte.
    pub lo: u64,
    /// The byte behind the last one.
    pub hi: u64,
    /// Whether `lo` is inside a quoted field.
    pub inside: bool,
}

impl Chunk {
    /// The chunk as a row of a shared array.
    pub fn to_row(self) -> [u64; 4] {
        [self.file.into(), self.lo, self.hi, self.inside.into()]
    }

    /// The chunk that a row stands for.
    pub fn from_row(row: [u64; 4]) -> Chunk {
        let [file, lo, hi, inside] = row;
        Chunk { file: file as u32, lo, hi, inside: inside != 0 }
    }
}

/// Bytes of a chunk, for that many bytes in all: 1 to 4 MiB, a whole number of mebibytes.
pub(crate) fn size(total: u64) -> u64 {
    (total / CHUNKS_WANTED).div_ceil(MEBI).clamp(1, 4) * MEBI
}

/// All chunks of a plan, in the order of the input; in which state they begin is not known yet.
pub fn chunks(plan: &Plan) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (file, source) in plan.sources.iter().enumerate() {
        let mut lo = source.body;
        while lo < source.len {
            let hi = (lo + plan.chunk_bytes).min(source.len);
            chunks.push(Chunk { file: file as u32, lo, hi, inside: false });
            lo = hi;
        }
    }
    chunks
}

/// Says in which state every chunk begins, from the number of quotes in each.
pub fn settle(chunks: &mut [Chunk], quotes: &[u64]) {
    let (mut file, mut odd) = (None, false);
    for (chunk, quotes) in chunks.iter_mut().zip(quotes) {
        if file != Some(chunk.file) {
            (file, odd) = (Some(chunk.file), false);
        }
        chunk.inside = odd;
        odd ^= quotes & 1 == 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_frozen() {
        for (total, mebibytes) in [(0, 1), (497 << 20, 1), (3 << 30, 2), (1 << 40, 4)] {
            assert_eq!(size(total), mebibytes * MEBI, "{total}");
        }
    }

    #[test]
    fn states_begin_anew_in_every_file() {
        let chunk = |file, lo| Chunk { file, lo, hi: lo + 1, inside: false };
        let mut chunks = [chunk(0, 0), chunk(0, 1), chunk(0, 2), chunk(1, 0), chunk(1, 1)];
        settle(&mut chunks, &[3, 2, 0, 1, 0]);
        assert_eq!(chunks.map(|c| c.inside), [false, true, true, false, true]);
        assert_eq!(Chunk::from_row(chunks[4].to_row()), chunks[4]);
    }
}
