//! A chunk's value on its way to the coordinator: up to 48 encoded bytes in the table of partials, longer ones in the
//! worker's arena with a reference in the table.
//!
//! The worker writes its entry between claim and commit; the ledger's DONE publishes it. Only the chunk's owner writes.

use bytemuck::{Pod, Zeroable};

use crate::arena::At;
use crate::limits::PARTIAL_INLINE_BYTES;

/// One entry of the table of partials: a cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Partial {
    /// Length of the encoded value; [`IN_ARENA`] is set when `bytes` holds a reference.
    len: u64,
    /// Index of the worker that wrote it: whose arena.
    cell: u32,
    /// Generation of that worker.
    generation: u32,
    bytes: [u8; PARTIAL_INLINE_BYTES],
}

const IN_ARENA: u64 = 1 << 63;
const _: () = assert!(size_of::<Partial>() == 64);

/// Where a value is.
pub(crate) enum Place<'a> {
    /// In the entry.
    Inline(&'a [u8]),
    /// In the arena of this worker and generation.
    Arena {
        /// Index of the worker.
        cell: usize,
        /// Its generation.
        generation: u16,
        /// Which record.
        at: At,
    },
}

impl Partial {
    /// An entry that holds `encoded`, or `None` when that is too long.
    pub(crate) fn inline(encoded: &[u8]) -> Option<Partial> {
        let mut entry = Partial::zeroed();
        entry.bytes.get_mut(..encoded.len())?.copy_from_slice(encoded);
        entry.len = encoded.len() as u64;
        Some(entry)
    }

    /// An entry that refers to record `at` of an arena.
    pub(crate) fn in_arena(cell: usize, generation: u16, at: At) -> Partial {
        let mut entry =
            Partial { len: IN_ARENA, cell: cell as u32, generation: generation.into(), ..Zeroable::zeroed() };
        entry.bytes[..8].copy_from_slice(&at.word().to_ne_bytes());
        entry
    }

    /// Where the value is; `None` for an entry that nobody can have written.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        if self.len == IN_ARENA {
            let word = u64::from_ne_bytes(self.bytes[..8].try_into().expect("eight bytes"));
            let generation = u16::try_from(self.generation).ok()?;
            return Some(Place::Arena { cell: self.cell as usize, generation, at: At::from_word(word) });
        }
        Some(Place::Inline(self.bytes.get(..usize::try_from(self.len).ok()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_are_inline_and_long_ones_are_not() {
        let entry = Partial::inline(&[7; PARTIAL_INLINE_BYTES]).expect("fits");
        assert!(matches!(entry.place(), Some(Place::Inline(b)) if b == [7; PARTIAL_INLINE_BYTES]));
        assert!(Partial::inline(&[7; PARTIAL_INLINE_BYTES + 1]).is_none());
        let entry = Partial::in_arena(3, 4, At::from_word(99));
        let Some(Place::Arena { cell, generation, at }) = entry.place() else { panic!("a reference") };
        assert_eq!((cell, generation, at.word()), (3, 4, 99));
        let garbage = Partial { len: 1000, ..Zeroable::zeroed() };
        assert!(garbage.place().is_none());
    }
}
