//! How a message of any length travels in cells of one size: a short one inside, a long one beside, in an extent.

use std::io;

use bytemuck::{Pod, Zeroable};

use crate::atomics::{AtomicU64, Ordering};
use crate::limits::{INLINE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::pod::PodCell;
use crate::queue::Belongings;

/// Extents begin at multiples of this, so that giving one back frees whole pages, of whatever size.
const EXTENT_ALIGN: u64 = 1 << 16;
/// Where extents may lie at most: below what a file's offsets can say.
const EXTENTS_END: u64 = 1 << 62;
/// How much of a long message is asked for at a time, so that a wrong length costs no more than what is there.
const PIECE: usize = 64 << 20;

/// What lies in the cell; in models less, as each word is a step.
pub(crate) const INLINE: usize = if cfg!(loom) { 8 } else { INLINE_BYTES_MAX };
const WORDS: usize = INLINE / 8;

/// Room for long messages, given by the layer above: say, the part of a segment's file beyond what is mapped, with
/// `pwrite`, `pread`, and holes punched. All parties of one object have the same room.
///
/// An offset is used once: [`Self::free`] of a part that was given back before does nothing.
pub trait Extents {
    /// Writes all of `bytes` from `at` on. No room is an error, and then nothing needs to be there.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes` from `at` on; less than that is an error.
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Gives back what `len` bytes from `at` on take up.
    fn free(&self, at: u64, len: u64) -> io::Result<()>;
}

/// Why a message could not be stored, or fetched.
#[derive(Debug, thiserror::Error)]
pub enum MessageFault {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {len} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// How long.
        len: u64,
    },
    /// There is no room for it, or what was asked of the extents failed otherwise.
    #[error("a message of {len} bytes: {source}")]
    Extent {
        /// How long the message is.
        len: u64,
        /// What the extents said.
        source: io::Error,
    },
    /// What lies in the cell was not written by this code. The cell is free again.
    #[error("a cell holds no message but garbage")]
    Garbage,
    /// There is not so much memory.
    #[error("no memory for a message of {len} bytes")]
    NoMemory {
        /// How long.
        len: u64,
    },
}

/// A message in its cell.
#[derive(Copy, Clone, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Envelope {
    len: u64,
    /// Where a long one lies.
    at: u64,
    /// Of all that is used of the envelope; never 0 in a written one.
    check: u64,
    words: [u64; WORDS],
}

const _: () = assert!(size_of::<Envelope>() == 24 + INLINE);

/// What an envelope was found to hold.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Inline { len: usize },
    Extent { at: u64, len: u64 },
}

impl Envelope {
    fn inline(bytes: &[u8]) -> Self {
        let mut words = [0; WORDS];
        bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self { len: bytes.len() as u64, at: 0, check: 0, words }.checked()
    }

    fn extent(at: u64, len: u64) -> Self {
        Self { len, at, check: 0, words: [0; WORDS] }.checked()
    }

    fn checked(mut self) -> Self {
        self.check = self.sum();
        self
    }

    /// Against garbage and torn copies, not against malice.
    fn sum(&self) -> u64 {
        let used = if self.len <= INLINE as u64 { (self.len as usize).div_ceil(8) } else { 0 };
        let mut sum = 0x9E37_79B9_7F4A_7C15_u64;
        for word in [self.len, self.at].iter().chain(&self.words[..used]) {
            sum = (sum ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            sum ^= sum >> 32;
        }
        sum | 1
    }

    /// What it holds; `None` if that is garbage.
    pub(crate) fn content(&self) -> Option<Content> {
        if self.check != self.sum() {
            return None;
        }
        if self.len <= INLINE as u64 {
            return Some(Content::Inline { len: self.len as usize });
        }
        let end = self.at.checked_add(self.len)?;
        (self.len <= MESSAGE_BYTES_MAX && end <= EXTENTS_END)
            .then_some(Content::Extent { at: self.at, len: self.len })
    }

    fn inline_bytes(&self, len: usize) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..len]
    }
}

/// The extents of one object: the room, and the word from which offsets are taken.
pub(crate) struct Room<'e> {
    pub(crate) extents: &'e dyn Extents,
    /// The first offset that nobody has had.
    pub(crate) next: &'e AtomicU64,
}

impl Room<'_> {
    /// X1–X3: puts a message into a cell that is ours to write. After an error what it had taken up is still noted there,
    /// for [`Belongings::discard`].
    #[inline]
    pub(crate) fn store(&self, cell: &PodCell<Envelope>, bytes: &[u8]) -> Result<(), MessageFault> {
        if bytes.len() <= INLINE {
            cell.store(&Envelope::inline(bytes));
            return Ok(());
        }
        let len = bytes.len() as u64;
        let at = self.reserve(len)?; // X1
        cell.store(&Envelope::extent(at, len)); // X2
        self.extents.write(at, bytes).map_err(|source| MessageFault::Extent { len, source }) // X3
    }

    fn reserve(&self, len: u64) -> Result<u64, MessageFault> {
        if len > MESSAGE_BYTES_MAX {
            return Err(MessageFault::TooLong { len });
        }
        let size = len.next_multiple_of(EXTENT_ALIGN);
        let at = self.next.fetch_add(size, Ordering::Relaxed);
        // At a gigabyte per second offsets last for a century; garbage gets there sooner.
        let fits =
            at.is_multiple_of(EXTENT_ALIGN) && at.checked_add(size).is_some_and(|end| end <= EXTENTS_END);
        if fits { Ok(at) } else { Err(MessageFault::Garbage) }
    }

    /// X4: the message of an envelope.
    #[inline]
    pub(crate) fn fetch(&self, envelope: &Envelope) -> Result<Vec<u8>, MessageFault> {
        match envelope.content().ok_or(MessageFault::Garbage)? {
            Content::Inline { len } => Ok(envelope.inline_bytes(len).to_vec()),
            Content::Extent { at, len } => self.fetch_long(at, len),
        }
    }

    #[cold]
    fn fetch_long(&self, at: u64, len: u64) -> Result<Vec<u8>, MessageFault> {
        let mut message = Vec::new();
        let whole = usize::try_from(len).map_err(|_| MessageFault::NoMemory { len })?;
        while message.len() < whole {
            let (had, piece) = (message.len(), (whole - message.len()).min(PIECE));
            message.try_reserve(piece).map_err(|_| MessageFault::NoMemory { len })?;
            message.resize(had + piece, 0);
            let read = self.extents.read(at + had as u64, &mut message[had..]);
            read.map_err(|source| MessageFault::Extent { len, source })?;
        }
        Ok(message)
    }
}

impl Belongings<Envelope> for Room<'_> {
    const ANY: bool = true;

    /// Stale envelopes name what was given back before; torn ones name nothing, and were torn before anything was written.
    fn discard(&self, envelope: &Envelope) {
        if let Some(Content::Extent { at, len }) = envelope.content() {
            // If this fails, the room is lost until the object is. There is nobody to tell.
            let _ = self.extents.free(at, len.next_multiple_of(EXTENT_ALIGN));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_that_fits_comes_back_and_every_flipped_bit_shows() {
        for len in [0, 1, 7, 8, 9, 95, 96] {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let envelope = Envelope::inline(&bytes);
            assert_eq!(envelope.content(), Some(Content::Inline { len }));
            assert_eq!(envelope.inline_bytes(len), bytes);
            for bit in 0..8 * (24 + len) {
                let mut flipped = envelope;
                bytemuck::bytes_of_mut(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(flipped.content(), None, "bit {bit} of {len} bytes");
            }
        }
        assert_eq!(Envelope::zeroed().content(), None);
        assert_eq!(Envelope::extent(EXTENTS_END, 200).content(), None);
        assert_eq!(Envelope::extent(0, MESSAGE_BYTES_MAX + 1).content(), None);
        assert_eq!(Envelope::extent(65536, 97).content(), Some(Content::Extent { at: 65536, len: 97 }));
    }
}
