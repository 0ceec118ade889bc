//! A letter: bytes that travel in a cell, or in an extent of their writer's file if they are many.
//!
//! Its words are atomics, because a worker that is being killed for a time-out may still be writing while others look at the
//! cell: what they then read fails the checksum or is not looked at, since the cell's state does not say DONE.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::extents::{Extent, Extents};
use crate::checksum::checksum;
use crate::limits::TASK_INLINE_BYTES;

const WORDS: usize = TASK_INLINE_BYTES / 8;

/// Bytes in a cell, or a reference to them.
#[repr(C, align(64))]
pub(crate) struct Letter {
    len: AtomicU64,
    /// Offset in the writer's file; meaningless for short ones.
    at: AtomicU64,
    checksum: AtomicU64,
    inline: [AtomicU64; WORDS],
    /// Of a response: how many of its last bytes are the list of its arrays.
    pub(crate) list: AtomicU64,
}

const _: () = assert!(size_of::<Letter>() == 128);

/// A letter that was read.
pub(crate) enum Bytes {
    /// A short one.
    Inline([u8; TASK_INLINE_BYTES], usize),
    /// A long one.
    Heap(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Inline(bytes, len) => &bytes[..*len],
            Bytes::Heap(bytes) => bytes,
        }
    }
}

impl Bytes {
    /// Takes the last `count` bytes off; `None` if there are not so many.
    pub(crate) fn split_off(&mut self, count: usize) -> Option<Vec<u8>> {
        let rest = self.len().checked_sub(count)?;
        let tail = self[rest..].to_vec();
        match self {
            Bytes::Inline(_, len) => *len = rest,
            Bytes::Heap(bytes) => bytes.truncate(rest),
        }
        Some(tail)
    }
}

impl Letter {
    /// Writes `bytes`; where they lie in `file`, if they do not fit here.
    ///
    /// # Errors
    /// No memory for the extent.
    pub(crate) fn write(&self, bytes: &[u8], file: &mut Extents) -> io::Result<Option<Extent>> {
        let extent = match bytes.len() <= TASK_INLINE_BYTES {
            true => None,
            false => Some(file.put(bytes)?),
        };
        for (word, piece) in self.inline.iter().zip(bytes.chunks(8).filter(|_| extent.is_none())) {
            let mut whole = [0; 8];
            whole[..piece.len()].copy_from_slice(piece);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        self.len.store(bytes.len() as u64, Ordering::Relaxed);
        self.at.store(extent.as_ref().map_or(0, Extent::offset), Ordering::Relaxed);
        // In the cell's own lines no other process writes; a file is memory that a killed writer left as it was.
        self.checksum.store(extent.as_ref().map_or(0, |_| checksum(bytes)), Ordering::Relaxed);
        Ok(extent)
    }

    /// Reads it; `file` is the writer's.
    ///
    /// # Errors
    /// The extent is not what was written.
    pub(crate) fn read(&self, file: impl FnOnce() -> io::Result<std::sync::Arc<File>>) -> io::Result<Bytes> {
        let len = usize::try_from(self.len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if len <= TASK_INLINE_BYTES {
            let mut bytes = [0; TASK_INLINE_BYTES];
            for (word, piece) in self.inline.iter().zip(bytes[..len].chunks_mut(8)) {
                let whole = word.load(Ordering::Relaxed).to_le_bytes();
                piece.copy_from_slice(&whole[..piece.len()]);
            }
            return Ok(Bytes::Inline(bytes, len));
        }
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let (file, at) = (file()?, self.at.load(Ordering::Relaxed));
        if at.checked_add(len as u64).is_none_or(|end| file.metadata().is_ok_and(|m| m.len() < end)) {
            return Err(invalid("longer than its file"));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, at)?;
        if checksum(&bytes) != self.checksum.load(Ordering::Relaxed) {
            return Err(invalid("its checksum differs"));
        }
        Ok(Bytes::Heap(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn letter() -> Letter {
        Letter {
            len: AtomicU64::new(0),
            at: AtomicU64::new(0),
            checksum: AtomicU64::new(0),
            inline: Default::default(),
            list: AtomicU64::new(0),
        }
    }

    #[test]
    fn letters_of_every_length_come_back() {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let mut extents = Extents::new(file.clone());
        let letter = letter();
        for len in (0..=TASK_INLINE_BYTES + 9).chain([4096, 1 << 20]) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let extent = letter.write(&bytes, &mut extents).expect("room");
            assert_eq!(extent.is_some(), len > TASK_INLINE_BYTES);
            assert_eq!(&*letter.read(|| Ok(file.clone())).expect("whole"), bytes.as_slice());
            extent.into_iter().for_each(|extent| extents.free(extent));
        }
    }

    #[test]
    fn a_changed_letter_is_refused() {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let mut extents = Extents::new(file.clone());
        let letter = letter();
        letter.write(&[1; 500], &mut extents).expect("room");
        file.write_all_at(&[2], 100).expect("writable");
        assert!(letter.read(|| Ok(file.clone())).is_err());
        letter.len.store(u64::MAX, Ordering::Relaxed);
        assert!(letter.read(|| Ok(file.clone())).is_err());
    }
}
