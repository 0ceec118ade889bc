//! One place of the table: whose it is, in which incarnation, and its words.

#[cfg(not(loom))]
use std::mem::offset_of;

use super::GENERATION_BITS;
use crate::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::death::DeathCause;
use crate::limits::WAITS_PER_SLOT_MAX;

const GENERATION_MASK: u16 = (1 << GENERATION_BITS) - 1;
/// Set in the state word of a dead party while its slot is cleaned, so that one cleans it.
pub(super) const CLEANING: u32 = 1 << 31;

/// A party's name: which slot, and which incarnation of it.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct SlotId {
    /// Position in the table, below [`SLOTS_MAX`](super::SLOTS_MAX).
    pub index: u16,
    /// Incarnation, 1 to 4095.
    pub generation: u16,
}

/// What a slot's state word says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// Nobody's.
    Free,
    /// Reserved; its process is being started and has not entered.
    Starting,
    /// Entered. Whether it still lives is for [`SlotTable::liveness`](super::SlotTable::liveness) to say.
    Live,
    /// Its exit is confirmed; what it held can be taken.
    Dead,
}

/// Of the cause word, `generation:12 | cause:20`.
const CAUSE_BITS: u32 = 20;
const CAUSE_MASK: u32 = (1 << CAUSE_BITS) - 1;

/// What ended this generation, as the cause word says it.
pub(super) fn cause_word(generation: u16, cause: DeathCause) -> u32 {
    u32::from(generation) << CAUSE_BITS | cause.0 & CAUSE_MASK
}

/// What ended this generation, if the cause word speaks of it.
pub(super) fn cause_of(word: u32, generation: u16) -> DeathCause {
    let known = word >> CAUSE_BITS == u32::from(generation) && word & CAUSE_MASK != CAUSE_MASK;
    if known { DeathCause(word & CAUSE_MASK) } else { DeathCause::UNKNOWN }
}

impl SlotState {
    pub(super) fn of_word(word: u32) -> (Self, u16) {
        let state = match word & 3 {
            0 => Self::Free,
            1 => Self::Starting,
            2 => Self::Live,
            _ => Self::Dead,
        };
        (state, (word >> 2) as u16 & GENERATION_MASK)
    }

    pub(super) fn word(self, generation: u16) -> u32 {
        self as u32 | u32::from(generation) << 2
    }
}

/// What is known about a party.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// Its slot is reserved and it has not entered.
    Starting,
    /// Nothing says that it is dead.
    Alive,
    /// The kernel says that its armed thread is dead. Other threads of the process may still be ending.
    ThreadDead,
    /// Its exit is confirmed: no thread of it runs any more.
    Dead(DeathCause),
    /// Its slot is free or has another tenant, which happens only after a confirmed exit.
    Gone,
}

/// Who finds out that a party is dead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Witness {
    /// The service thread of the coordinator that started it.
    Service,
    /// Whoever waits for it asks the kernel, by pidfd, else by the lock that it holds.
    Pidfd,
    /// As [`Self::Pidfd`] by the lock alone: its pid means nothing here.
    Lock,
}

impl Witness {
    pub(super) fn of_word(word: u32) -> Self {
        match word {
            1 => Self::Pidfd,
            2 => Self::Lock,
            _ => Self::Service,
        }
    }
}

/// One party. Line by line: what peers read, what the party itself counts, its threads, its waits.
#[repr(C, align(256))]
pub struct Slot {
    pub(super) state: AtomicU32,
    pub(super) life: AtomicU32,
    /// Number of the thread that armed the life word, plus one; 0 when unarmed.
    pub(super) life_thread: AtomicU32,
    pub(super) cause: AtomicU32,
    pub(super) pid: AtomicU32,
    /// In slot 0 only: counts the deaths of the whole table, for everyone who waits for some peer.
    pub(super) deaths: AtomicU32,
    pub(super) start_ticks: AtomicU64,
    _line0: [AtomicU64; 4],
    /// Who tells of its death: see [`Witness`].
    pub(super) witness: AtomicU32,
    _word1: AtomicU32,
    _line1: [AtomicU64; 7],
    /// One bit per thread number in use.
    pub(super) threads: [AtomicU32; 8],
    _line2: [AtomicU64; 4],
    pub(super) waits: [AtomicU64; WAITS_PER_SLOT_MAX],
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Slot>() == 256);
    assert!(
        offset_of!(Slot, state) == 0 && offset_of!(Slot, life) == 4 && offset_of!(Slot, life_thread) == 8
    );
    assert!(offset_of!(Slot, cause) == 12 && offset_of!(Slot, pid) == 16 && offset_of!(Slot, deaths) == 20);
    assert!(offset_of!(Slot, start_ticks) == 24 && offset_of!(Slot, witness) == 64);
    assert!(offset_of!(Slot, threads) == 128 && offset_of!(Slot, waits) == 192);
};

impl Slot {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        let (word, long) = (|_| AtomicU32::new(0), |_| AtomicU64::new(0));
        Self {
            state: word(0),
            life: word(0),
            life_thread: word(0),
            cause: word(0),
            pid: word(0),
            deaths: word(0),
            start_ticks: long(0),
            _line0: std::array::from_fn(long),
            witness: word(0),
            _word1: word(0),
            _line1: std::array::from_fn(long),
            threads: std::array::from_fn(word),
            _line2: std::array::from_fn(long),
            waits: std::array::from_fn(long),
        }
    }

    /// Clears what the tenant leaves.
    pub(super) fn clean(&self) {
        let words = [&self.life, &self.life_thread, &self.witness];
        words.into_iter().chain(&self.threads).for_each(|word| word.store(0, Ordering::Relaxed));
        [&self.start_ticks].into_iter().chain(&self.waits).for_each(|long| long.store(0, Ordering::Relaxed));
    }
}

pub(super) fn next_generation(generation: u16) -> u16 {
    match (generation + 1) & GENERATION_MASK {
        0 => 1,
        next => next,
    }
}
