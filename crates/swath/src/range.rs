//! A worker's own range of chunks, in one word: the owner takes from the front, thieves take half from the back.
//!
//! The range is a *hint*. It keeps workers apart so that nobody shares a cache line per chunk; the ledger alone decides who
//! has a chunk. A range may therefore be lost (a thief killed between its two steps) or stale (a worker that slept through
//! its phase): the chunks are still FREE in the ledger, and a sweep finds them.

use std::sync::atomic::{AtomicU64, Ordering};

/// `{lo: 32, hi: 32}`: chunks `lo..hi` are not taken yet.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(crate) struct Range(AtomicU64);

fn pack(lo: u32, hi: u32) -> u64 {
    u64::from(lo) << 32 | u64::from(hi)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

impl Range {
    /// Replaces the range.
    pub(crate) fn set(&self, lo: u32, hi: u32) {
        self.0.store(pack(lo, hi), Ordering::Release);
    }

    /// Chunks left.
    pub(crate) fn remaining(&self) -> u32 {
        let (lo, hi) = unpack(self.0.load(Ordering::Relaxed));
        hi.saturating_sub(lo)
    }

    /// Takes the first chunk.
    #[inline]
    pub(crate) fn take(&self) -> Option<u32> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (lo, hi) = unpack(seen);
            if lo >= hi {
                return None;
            }
            match self.0.compare_exchange_weak(seen, pack(lo + 1, hi), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(lo),
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the back half, at least one chunk.
    pub(crate) fn steal(&self) -> Option<(u32, u32)> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (lo, hi) = unpack(seen);
            if lo >= hi {
                return None;
            }
            let middle = lo + (hi - lo) / 2;
            match self.0.compare_exchange_weak(seen, pack(lo, middle), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((middle, hi)),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_thief_share_a_range_without_overlap() {
        let range = Range::default();
        range.set(0, 5);
        assert_eq!(range.take(), Some(0));
        assert_eq!(range.steal(), Some((3, 5)));
        assert_eq!((range.take(), range.take()), (Some(1), Some(2)));
        assert_eq!((range.take(), range.steal()), (None, None));
        range.set(7, 8);
        assert_eq!(range.steal(), Some((7, 8)), "a single chunk can be stolen");
        assert_eq!(range.remaining(), 0);
    }
}
