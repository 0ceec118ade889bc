//! Who holds a word: slot, generation and thread in 30 bits, never a process id.

use std::fmt;

use crate::slots::{GENERATION_BITS, SLOT_BITS, SlotId};

const GENERATION_SHIFT: u32 = SLOT_BITS;
const THREAD_SHIFT: u32 = SLOT_BITS + GENERATION_BITS;

/// One thread of one incarnation of one slot, as the low 30 bits of a lock word:
/// `thread:8 | generation:12 | slot:10`. Never 0, because a generation is never 0.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Owner(u32);

/// The bits of a lock word that name its owner.
pub(crate) const OWNER_MASK: u32 = (1 << 30) - 1;

impl Owner {
    pub(crate) fn new(id: SlotId, thread: u8) -> Self {
        Self(
            u32::from(id.index)
                | u32::from(id.generation) << GENERATION_SHIFT
                | u32::from(thread) << THREAD_SHIFT,
        )
    }

    /// The owner a word names, whatever its flags; `None` when it names nobody.
    #[inline]
    pub(crate) fn of_word(word: u32) -> Option<Self> {
        let bits = word & OWNER_MASK;
        (bits != 0).then_some(Self(bits))
    }

    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn slot(self) -> SlotId {
        SlotId {
            index: (self.0 & ((1 << SLOT_BITS) - 1)) as u16,
            generation: (self.0 >> GENERATION_SHIFT & ((1 << GENERATION_BITS) - 1)) as u16,
        }
    }

    pub(crate) fn thread(self) -> u8 {
        (self.0 >> THREAD_SHIFT) as u8
    }
}

/// A party as errors name it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Holder {
    /// Its slot and incarnation.
    pub slot: SlotId,
    /// Its thread's number within the slot (not the kernel's thread id).
    pub thread: u8,
    /// Its process, 0 if the slot has another tenant by now.
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} thread {}", self.slot.index, self.thread)?;
        match self.pid {
            0 => write!(f, " (generation {}, gone)", self.slot.generation),
            pid => write!(f, " (pid {pid})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_comes_back_and_the_word_is_as_documented() {
        let id = SlotId { index: 1023, generation: 4095 };
        let owner = Owner::new(id, 254);
        assert_eq!((owner.slot(), owner.thread()), (id, 254));
        assert_eq!(Owner::new(SlotId { index: 3, generation: 2 }, 1).bits(), 0x0040_0803);
        assert_eq!(Owner::of_word(owner.bits() | 3 << 30), Some(owner));
        assert_eq!(Owner::of_word(3 << 30), None);
    }
}
