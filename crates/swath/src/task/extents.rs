//! Extents of a file in memory, given out by its one writer and read by others at an offset.
//!
//! The account of what is free lies with the writer, in its own memory: it dies with it, and so does the file. Written and
//! read by `pwrite` and `pread`, so nobody maps anything and nobody can meet SIGBUS. Large extents give their memory back when they
//! are freed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use swath_platform::file;

use crate::limits::EXTENT_KEEP_BYTES;

/// Extents begin at multiples of this.
const GRAIN: u64 = 64;

/// A part of the file that is in use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    offset: u64,
    len: u64,
}

impl Extent {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

/// The writer's account.
pub(crate) struct Extents {
    file: Arc<File>,
    /// Offset and length of what is free below `end`; no two of them touch.
    free: BTreeMap<u64, u64>,
    end: u64,
}

impl Extents {
    /// All of an empty file.
    pub(crate) fn new(file: Arc<File>) -> Extents {
        Extents { file, free: BTreeMap::new(), end: 0 }
    }

    /// Writes `bytes` somewhere.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<Extent> {
        let extent = self.reserve(bytes.len() as u64);
        match self.file.write_all_at(bytes, extent.offset) {
            Ok(()) => Ok(extent),
            Err(error) => {
                self.free(extent);
                Err(error)
            }
        }
    }

    fn reserve(&mut self, len: u64) -> Extent {
        let len = len.next_multiple_of(GRAIN).max(GRAIN);
        let found = self.free.iter().find(|(_, room)| **room >= len).map(|(offset, room)| (*offset, *room));
        let offset = match found {
            Some((offset, room)) => {
                self.free.remove(&offset);
                if room > len {
                    self.free.insert(offset + len, room - len);
                }
                offset
            }
            None => {
                let offset = self.end;
                self.end += len;
                offset
            }
        };
        Extent { offset, len }
    }

    /// Nobody reads it any more.
    pub(crate) fn free(&mut self, extent: Extent) {
        let Extent { mut offset, mut len } = extent;
        if len >= EXTENT_KEEP_BYTES {
            // Whether the kernel can take it back or not: the room is free.
            let _ = file::punch_hole(&*self.file, offset, len);
        }
        if let Some((&before, &room)) = self.free.range(..offset).next_back()
            && before + room == offset
        {
            self.free.remove(&before);
            (offset, len) = (before, room + len);
        }
        if let Some(room) = self.free.remove(&(offset + len)) {
            len += room;
        }
        match offset + len == self.end {
            true => self.end = offset,
            false => drop(self.free.insert(offset, len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents() -> Extents {
        Extents::new(Arc::new(tempfile::tempfile().expect("a file")))
    }

    #[test]
    fn room_is_used_again_and_nothing_is_left_in_the_end() {
        let mut extents = extents();
        let mut live: Vec<(Extent, Vec<u8>)> = Vec::new();
        let mut seed = 1u64;
        for round in 0..2000u64 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if live.len() > 20 || seed >> 63 == 1 && !live.is_empty() {
                let (extent, bytes) = live.swap_remove((seed >> 33) as usize % live.len());
                let mut back = vec![0; bytes.len()];
                extents.file.read_exact_at(&mut back, extent.offset).expect("there");
                assert_eq!(back, bytes, "nobody wrote over it");
                extents.free(extent);
            } else {
                let bytes = vec![round as u8; (seed >> 40) as usize % 5000 + 1];
                live.push((extents.put(&bytes).expect("room"), bytes));
            }
        }
        assert!(extents.end < 200 << 10, "{} bytes for twenty of five thousand", extents.end);
        live.into_iter().for_each(|(extent, _)| extents.free(extent));
        assert_eq!((extents.end, extents.free.len()), (0, 0));
    }
}
