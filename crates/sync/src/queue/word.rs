//! What a cell's word says, and where in the endless row of turns a cell stands.

use crate::owner::{OWNER_MASK, Owner};

/// Bits of a lap. It may wrap: laps are compared by their distance.
const LAP_BITS: u32 = 31;
const LAP_MASK: u32 = (1 << LAP_BITS) - 1;
const STATE_SHIFT: u32 = 30;
const STATE_MASK: u64 = 7;
const LAP_SHIFT: u32 = 33;

/// In the place of the owner of a full cell, which has none: the item was in somebody's hand.
const CAME_BACK: u64 = 1;

/// What a cell is doing in its lap.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Nobody has it in this lap yet.
    Free,
    /// Its owner is writing the item.
    Writing,
    /// It holds an item.
    Full,
    /// Its owner is looking at the item.
    Reading,
    /// Its owner has taken the item, or throws it away, and gives back what belongs to it.
    Drained,
}

/// `lap:31 | state:3 | owner:30`; all zero is free in lap 0.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn free(lap: u32) -> Self {
        Self(u64::from(lap & LAP_MASK) << LAP_SHIFT)
    }

    pub(crate) fn full(lap: u32) -> Self {
        Self(Self::free(lap).0 | (State::Full as u64) << STATE_SHIFT)
    }

    /// Full of an item that somebody has had in hand.
    pub(crate) fn returned(lap: u32) -> Self {
        Self(Self::full(lap).0 | CAME_BACK)
    }

    pub(crate) fn owned(lap: u32, state: State, owner: Owner) -> Self {
        Self(Self::free(lap).0 | (state as u64) << STATE_SHIFT | u64::from(owner.bits()))
    }

    #[inline(always)]
    pub(crate) fn lap(self) -> u32 {
        (self.0 >> LAP_SHIFT) as u32
    }

    /// Numbers that nobody writes are taken for full: such a cell is passed on with whatever lies in it.
    #[inline(always)]
    pub(crate) fn state(self) -> State {
        match self.0 >> STATE_SHIFT & STATE_MASK {
            0 => State::Free,
            1 => State::Writing,
            3 => State::Reading,
            4 => State::Drained,
            _ => State::Full,
        }
    }

    #[inline(always)]
    pub(crate) fn is_full(self) -> bool {
        self.state() == State::Full
    }

    /// Whether it holds an item that came back, whose place in the order is gone.
    pub(crate) fn came_back(self) -> bool {
        self.is_full() && self.0 & CAME_BACK != 0
    }

    /// Whose it is while it is written, read or drained.
    pub(crate) fn owner(self) -> Option<Owner> {
        match self.state() {
            State::Free | State::Full => None,
            State::Writing | State::Reading | State::Drained => {
                Owner::of_word((self.0 & u64::from(OWNER_MASK)) as u32)
            }
        }
    }

    /// The same word a lap later.
    pub(crate) fn carried(self) -> Self {
        let rest = self.0 & ((1 << LAP_SHIFT) - 1);
        Self(Self::free(self.lap().wrapping_add(1)).0 | rest)
    }
}

/// One turn of one cell: `lap:32 | index:32` as a word, and the order in which items go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) lap: u32,
    pub(crate) index: usize,
}

impl Position {
    /// From a hint in shared memory, which may be anything.
    #[inline(always)]
    pub(crate) fn of_hint(hint: u64, cells: usize) -> Self {
        let index = (hint & u64::from(u32::MAX)) as usize;
        Self { lap: (hint >> 32) as u32 & LAP_MASK, index: if index < cells { index } else { 0 } }
    }

    #[inline(always)]
    pub(crate) fn hint(self) -> u64 {
        u64::from(self.lap) << 32 | self.index as u64
    }

    #[inline(always)]
    pub(crate) fn next(self, cells: usize) -> Self {
        if self.index + 1 < cells {
            Self { index: self.index + 1, ..self }
        } else {
            Self { lap: self.lap.wrapping_add(1) & LAP_MASK, index: 0 }
        }
    }

    pub(crate) fn previous(self, cells: usize) -> Self {
        if self.index > 0 {
            Self { index: self.index - 1, ..self }
        } else {
            Self { lap: self.lap.wrapping_sub(1) & LAP_MASK, index: cells - 1 }
        }
    }

    pub(crate) fn is_before(self, other: Self) -> bool {
        match laps_from(self.lap, other.lap) {
            0 => self.index < other.index,
            ahead => ahead > 0,
        }
    }
}

/// How many laps `lap` lies ahead of `from`; negative when it lies behind.
#[inline(always)]
pub(crate) fn laps_from(from: u32, lap: u32) -> i32 {
    (lap.wrapping_sub(from) << 1) as i32 >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::SlotId;

    #[test]
    fn every_part_comes_back() {
        let owner = Owner::new(SlotId { index: 1023, generation: 4095 }, 254);
        for state in [State::Writing, State::Reading, State::Drained] {
            let word = Word::owned(LAP_MASK, state, owner);
            assert_eq!((word.lap(), word.state(), word.owner()), (LAP_MASK, state, Some(owner)));
            let carried = word.carried();
            assert_eq!((carried.lap(), carried.state(), carried.owner()), (0, state, Some(owner)));
        }
        assert_eq!(Word(0), Word::free(0));
        assert_eq!(
            (Word::full(3).lap(), Word::full(3).state(), Word::full(3).owner()),
            (3, State::Full, None)
        );
    }

    #[test]
    fn order_holds_across_the_wrap() {
        let last = Position { lap: LAP_MASK, index: 1 };
        let next = last.next(2);
        assert_eq!(next, Position { lap: 0, index: 0 });
        assert_eq!((next.previous(2), last.previous(2).next(2)), (last, last));
        assert!(last.is_before(next) && !next.is_before(last) && !last.is_before(last));
        assert_eq!((laps_from(LAP_MASK, 0), laps_from(0, LAP_MASK)), (1, -1));
        assert_eq!(Position::of_hint(last.hint(), 2), last);
        assert_eq!(Position::of_hint(u64::MAX, 2).index, 0);
    }
}
