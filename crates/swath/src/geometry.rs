//! Chunk borders: a frozen function of shape, element size, operand kinds and the option, never of time or workers.
//!
//! Results of reductions depend on where chunks begin and end. Changing anything in `Auto` changes users' bits, so the
//! formula has a version, which reports carry.

use std::ops::Range;

use crate::limits::{AUTO_BYTES, AUTO_CHUNKS_MAX, AUTO_CHUNKS_MIN, AUTO_UNDO_BYTES, CHUNKS_MAX};

/// The version of the formula behind [`Chunk::Auto`].
pub const AUTO_VERSION: u32 = 1;

/// How the rows of a phase are cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunk {
    /// Chunks of about 1 MiB over all operands that are cut, or 128 KiB where rows are updated in place and must be copied
    /// first; at least 64 chunks (if there are as many rows) and at most 65,536.
    #[default]
    Auto,
    /// This many rows each; the last one has the rest.
    Rows(usize),
    /// About this many bytes each, over all operands that are cut; at least one row.
    Bytes(usize),
    /// This many chunks, as even as rows allow; fewer when there are fewer rows.
    Count(usize),
}

/// The borders of one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    rows: usize,
    rows_per_chunk: usize,
}

/// Why borders cannot be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GeometryError {
    /// The option was 0.
    #[error("chunks of zero {0}: give at least 1")]
    Zero(&'static str),
    /// More chunks than an entry's index can count.
    #[error("{chunks} chunks need {bytes} bytes of ledger; at most {CHUNKS_MAX} chunks: give a larger chunk")]
    TooMany {
        /// Chunks asked for.
        chunks: usize,
        /// Bytes of ledger they would need.
        bytes: usize,
    },
}

impl Geometry {
    /// Cuts `rows` rows of `row_bytes` bytes each (summed over the operands that are cut); `undo` tells whether some of
    /// them are updated in place.
    pub(crate) fn new(
        rows: usize,
        row_bytes: usize,
        undo: bool,
        chunk: Chunk,
    ) -> Result<Geometry, GeometryError> {
        let per_chunk = match chunk {
            Chunk::Auto => auto(rows, row_bytes, undo),
            Chunk::Rows(0) => return Err(GeometryError::Zero("rows")),
            Chunk::Bytes(0) => return Err(GeometryError::Zero("bytes")),
            Chunk::Count(0) => return Err(GeometryError::Zero("count")),
            Chunk::Rows(n) => n,
            Chunk::Bytes(n) => (n / row_bytes.max(1)).max(1),
            Chunk::Count(n) => rows.div_ceil(n).max(1),
        };
        let geometry = Geometry { rows, rows_per_chunk: per_chunk.min(rows.max(1)) };
        let chunks = geometry.chunks();
        if chunks > CHUNKS_MAX {
            return Err(GeometryError::TooMany { chunks, bytes: chunks.saturating_mul(8) });
        }
        Ok(geometry)
    }

    /// Exactly one row per chunk: what a team uses for its ranks.
    pub(crate) fn ranks(n: usize) -> Geometry {
        Geometry { rows: n, rows_per_chunk: 1 }
    }

    /// Rebuilds borders that travelled in a descriptor.
    pub(crate) fn from_parts(rows: usize, rows_per_chunk: usize) -> Geometry {
        Geometry { rows, rows_per_chunk: rows_per_chunk.max(1) }
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.rows.div_ceil(self.rows_per_chunk)
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows of every chunk but perhaps the last.
    pub(crate) fn rows_per_chunk(&self) -> usize {
        self.rows_per_chunk
    }

    /// The rows of `chunk`.
    #[inline]
    pub(crate) fn rows_of(&self, chunk: usize) -> Range<usize> {
        let lo = (chunk * self.rows_per_chunk).min(self.rows);
        lo..(lo + self.rows_per_chunk).min(self.rows)
    }
}

/// Version 1 of the formula.
fn auto(rows: usize, row_bytes: usize, undo: bool) -> usize {
    let target = if undo { AUTO_UNDO_BYTES } else { AUTO_BYTES };
    let by_bytes = (target / row_bytes.max(1)).max(1);
    let for_all_workers = rows.div_ceil(AUTO_CHUNKS_MIN);
    let for_the_ledger = rows.div_ceil(AUTO_CHUNKS_MAX);
    by_bytes.min(for_all_workers).max(for_the_ledger).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto_of(rows: usize, row_bytes: usize, undo: bool) -> (usize, usize) {
        let g = Geometry::new(rows, row_bytes, undo, Chunk::Auto).expect("auto always works");
        (g.chunks(), g.rows_per_chunk())
    }

    /// These figures are a promise: another result here changes users' bits.
    #[test]
    fn auto_version_1_is_frozen() {
        assert_eq!(AUTO_VERSION, 1);
        assert_eq!(auto_of(0, 8, false), (0, 1));
        assert_eq!(auto_of(1, 8, false), (1, 1));
        assert_eq!(auto_of(1_000_000, 16, false), (64, 15_625));
        assert_eq!(auto_of(1 << 26, 24, false), (1537, 43_690));
        assert_eq!(auto_of(1 << 26, 16, true), (8192, 8192));
        assert_eq!(auto_of(1 << 40, 8, true), (65_536, 1 << 24));
        assert_eq!(auto_of(100, 1 << 30, false), (100, 1));
    }

    #[test]
    fn chunks_tile_the_rows() {
        for chunk in [Chunk::Auto, Chunk::Rows(7), Chunk::Bytes(100), Chunk::Count(9), Chunk::Rows(1000)] {
            for rows in [0, 1, 6, 7, 8, 99, 100] {
                let g = Geometry::new(rows, 8, false, chunk).expect("valid");
                let mut next = 0;
                for chunk in 0..g.chunks() {
                    let r = g.rows_of(chunk);
                    assert_eq!(r.start, next);
                    assert!(!r.is_empty());
                    next = r.end;
                }
                assert_eq!(next, rows);
            }
        }
    }

    #[test]
    fn zero_and_too_many_are_errors() {
        assert!(Geometry::new(10, 8, false, Chunk::Rows(0)).is_err());
        assert!(Geometry::new(10, 8, false, Chunk::Count(0)).is_err());
        let err = Geometry::new(1 << 40, 8, false, Chunk::Rows(1)).expect_err("too many");
        assert!(err.to_string().contains("bytes of ledger"), "{err}");
    }
}
