//! The ledger: one word per chunk that says who has it, which attempt this is, and whether it is done.
//!
//! ```text
//!  63            32 31   29 28     24 23      14 13          0
//! [     epoch      | state | attempt |   slot   | generation  ]
//! ```
//!
//! The protocol, with the place where each death is repaired:
//!
//! 1. The coordinator writes FREE of a new epoch into the entries of a phase ([`Ledger::open`]) before it publishes it.
//! 2. A worker claims a chunk by one compare-and-swap FREE → CLAIMED ([`Ledger::claim`]). The entry it expects carries the
//!    epoch, so a worker that slept through its phase fails here and may not touch any array.
//!    *Killed before*: the entry is FREE, somebody sweeps it up. *Killed after*: step 6.
//! 3. With undo: the worker copies the chunk's rows to its undo slot, then CLAIMED → ARMED ([`Ledger::arm`]).
//!    *Killed before*: the array is untouched, the copy is worthless. *Killed after*: step 6 restores the copy.
//! 4. The kernel runs. Partials and outputs are written.
//! 5. → DONE ([`Ledger::commit`]): the one instruction at which the chunk takes effect. An accumulating worker goes to
//!    FOLDED instead ([`Ledger::fold`]), and to DONE once its accumulator is published ([`Ledger::commit_folded`]).
//! 6. A dead worker's entries are taken back by the coordinator's service thread, and by nobody else, after the fence (exit
//!    confirmed): ARMED is restored from the undo slot first, then everything goes to FREE with the next attempt, or to
//!    FAILED ([`Ledger::owned_by`], [`Ledger::take_back`]). *Killed here*: the coordinator is dead and the job with it.
//!
//! Every transition is a compare-and-swap from the exact word that its author last knew, as a second line behind the fence.

use std::sync::atomic::{AtomicU64, Ordering};

const GENERATION_BITS: u32 = 14;
const SLOT_BITS: u32 = 10;
const ATTEMPT_BITS: u32 = 5;
const STATE_BITS: u32 = 3;
const SLOT_AT: u32 = GENERATION_BITS;
const ATTEMPT_AT: u32 = SLOT_AT + SLOT_BITS;
const STATE_AT: u32 = ATTEMPT_AT + ATTEMPT_BITS;
const EPOCH_AT: u32 = STATE_AT + STATE_BITS;
const _: () = assert!(EPOCH_AT == 32);

/// The largest attempt an entry can show; later ones show as this.
pub const ATTEMPT_MAX: u32 = (1 << ATTEMPT_BITS) - 1;

const fn field(word: u64, at: u32, bits: u32) -> u64 {
    (word >> at) & ((1 << bits) - 1)
}

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody has it.
    Free = 0,
    /// A worker has it and has not changed an array that needs undo.
    Claimed = 1,
    /// A worker has it, its undo copy is complete, and the rows may be half changed.
    Armed = 2,
    /// Its value is in a worker's accumulator, which is not published yet.
    Folded = 3,
    /// It has taken effect.
    Done = 4,
    /// It is given up: its rows are as they were, if an operand with undo, else unknown.
    Failed = 5,
}

/// The worker that owns an entry: slot and generation in the slot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Index of the slot.
    pub slot: u16,
    /// Incarnation of the slot.
    pub generation: u16,
}

/// One entry, read at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    #[inline]
    fn new(epoch: u32, state: State, attempt: u32, owner: Option<Owner>) -> Entry {
        let owner = owner.unwrap_or(Owner { slot: 0, generation: 0 });
        Entry(
            u64::from(epoch) << EPOCH_AT
                | (state as u64) << STATE_AT
                | u64::from(attempt.min(ATTEMPT_MAX)) << ATTEMPT_AT
                | field(u64::from(owner.slot), 0, SLOT_BITS) << SLOT_AT
                | field(u64::from(owner.generation), 0, GENERATION_BITS),
        )
    }

    /// The phase that wrote the entry.
    #[inline]
    pub fn epoch(self) -> u32 {
        (self.0 >> EPOCH_AT) as u32
    }

    /// `None` for a word that no version of this code writes.
    #[inline]
    pub fn state(self) -> Option<State> {
        Some(match field(self.0, STATE_AT, STATE_BITS) {
            0 => State::Free,
            1 => State::Claimed,
            2 => State::Armed,
            3 => State::Folded,
            4 => State::Done,
            5 => State::Failed,
            _ => return None,
        })
    }

    /// Earlier attempts at the chunk, up to [`ATTEMPT_MAX`].
    #[inline]
    pub fn attempt(self) -> u32 {
        field(self.0, ATTEMPT_AT, ATTEMPT_BITS) as u32
    }

    /// Who has it, or had it last; meaningless while FREE.
    #[inline]
    pub fn owner(self) -> Owner {
        Owner {
            slot: field(self.0, SLOT_AT, SLOT_BITS) as u16,
            generation: field(self.0, 0, GENERATION_BITS) as u16,
        }
    }

    #[inline]
    fn to(self, state: State) -> Entry {
        Entry(self.0 & !(((1 << STATE_BITS) - 1) << STATE_AT) | (state as u64) << STATE_AT)
    }
}

/// Proof that this process owns a chunk: only [`Ledger::claim`] makes one, and the transitions out of it consume it.
#[derive(Debug)]
pub struct Claim {
    chunk: usize,
    entry: Entry,
}

impl Claim {
    /// Index of the chunk.
    #[inline]
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Earlier attempts at it.
    #[inline]
    pub fn attempt(&self) -> u32 {
        self.entry.attempt()
    }
}

/// How many entries of an epoch are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// FREE.
    pub free: usize,
    /// CLAIMED or ARMED.
    pub claimed: usize,
    /// FOLDED.
    pub folded: usize,
    /// DONE.
    pub done: usize,
    /// FAILED.
    pub failed: usize,
}

/// The entries of one phase.
#[derive(Clone, Copy)]
pub struct Ledger<'a> {
    entries: &'a [AtomicU64],
    epoch: u32,
}

impl<'a> Ledger<'a> {
    /// The ledger of `epoch` over `entries`.
    pub fn new(entries: &'a [AtomicU64], epoch: u32) -> Self {
        Ledger { entries, epoch }
    }

    /// Number of chunks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when the phase has no chunks.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Step 1: every entry FREE of this epoch, attempt 0. Before the phase is published, by the coordinator.
    pub fn open(&self) {
        let free = Entry::new(self.epoch, State::Free, 0, None).0;
        for entry in self.entries {
            entry.store(free, Ordering::Relaxed);
        }
    }

    /// The entry of `chunk`.
    pub fn entry(&self, chunk: usize) -> Entry {
        Entry(self.entries[chunk].load(Ordering::Acquire))
    }

    /// Step 2. `None` when somebody else has it, when it is of another epoch, or when there is no such chunk.
    #[inline]
    pub fn claim(&self, chunk: usize, owner: Owner) -> Option<Claim> {
        let word = self.entries.get(chunk)?;
        let seen = Entry(word.load(Ordering::Relaxed));
        if seen.epoch() != self.epoch || seen.state() != Some(State::Free) {
            return None;
        }
        let mine = Entry::new(self.epoch, State::Claimed, seen.attempt(), Some(owner));
        // Acquire: what an earlier attempt's repair wrote is visible before the kernel reads it.
        word.compare_exchange(seen.0, mine.0, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Claim { chunk, entry: mine })
    }

    /// Step 3: the undo copy is complete. False when the claim was lost, which only a fenced worker could see.
    #[inline]
    pub fn arm(&self, claim: &mut Claim) -> bool {
        let armed = claim.entry.to(State::Armed);
        let won = self.swap(claim.chunk, claim.entry, armed);
        claim.entry = armed;
        won
    }

    /// Step 5: the chunk takes effect. Release: whoever sees DONE sees all that the kernel wrote.
    #[inline]
    pub fn commit(&self, claim: Claim) -> bool {
        self.swap(claim.chunk, claim.entry, claim.entry.to(State::Done))
    }

    /// Step 5 of an accumulating worker: the value is in its accumulator.
    #[inline]
    pub fn fold(&self, claim: Claim) -> bool {
        self.swap(claim.chunk, claim.entry, claim.entry.to(State::Folded))
    }

    /// Step 5, second half: the accumulator that holds `chunk` is published.
    pub fn commit_folded(&self, chunk: usize, owner: Owner) -> bool {
        let seen = self.entry(chunk);
        let ours = seen.epoch() == self.epoch && seen.owner() == owner && seen.state() == Some(State::Folded);
        ours && self.swap(chunk, seen, seen.to(State::Done))
    }

    /// The accumulator that holds `chunk` is thrown away by its living owner: somebody runs it again.
    pub fn unfold(&self, chunk: usize, owner: Owner) -> bool {
        let seen = self.entry(chunk);
        seen.state() == Some(State::Folded) && self.take_back(chunk, owner, State::Free)
    }

    /// The worker gives the chunk up; the caller has restored the rows of an armed claim.
    pub fn fail(&self, claim: Claim) -> bool {
        self.swap(claim.chunk, claim.entry, claim.entry.to(State::Failed))
    }

    /// A chunk that a living worker gave up is tried again. Coordinator only.
    pub fn retry(&self, chunk: usize) -> bool {
        let seen = self.entry(chunk);
        let failed = seen.epoch() == self.epoch && seen.state() == Some(State::Failed);
        failed && self.swap(chunk, seen, Entry::new(self.epoch, State::Free, seen.attempt() + 1, None))
    }

    /// Step 6: what `owner` holds. Only meaningful after the fence.
    pub fn owned_by(&self, owner: Owner) -> impl Iterator<Item = (usize, State)> + 'a {
        let (entries, epoch) = (self.entries, self.epoch);
        entries.iter().enumerate().filter_map(move |(chunk, word)| {
            let entry = Entry(word.load(Ordering::Acquire));
            let state = entry.state()?;
            let held = matches!(state, State::Claimed | State::Armed | State::Folded);
            (entry.epoch() == epoch && entry.owner() == owner && held).then_some((chunk, state))
        })
    }

    /// Step 6: a dead owner's chunk goes to `state` (FREE with the next attempt, FAILED, or DONE for what was folded into a
    /// published accumulator). The caller has restored an armed one. Only after the fence, only by the coordinator.
    pub fn take_back(&self, chunk: usize, owner: Owner, state: State) -> bool {
        let seen = self.entry(chunk);
        if seen.epoch() != self.epoch || seen.owner() != owner {
            return false;
        }
        let next = match state {
            State::Free => Entry::new(self.epoch, State::Free, seen.attempt() + 1, None),
            other => seen.to(other),
        };
        self.swap(chunk, seen, next)
    }

    /// The first FREE chunk at or after `from`.
    pub fn next_free(&self, from: usize) -> Option<usize> {
        let free = |word: &AtomicU64| {
            let entry = Entry(word.load(Ordering::Relaxed));
            entry.epoch() == self.epoch && entry.state() == Some(State::Free)
        };
        self.entries.get(from..)?.iter().position(free).map(|at| from + at)
    }

    /// Counts the states, with Acquire, so that whoever finds all chunks done sees all their effects. An entry of another
    /// epoch counts as claimed: nobody may believe that it is finished.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for word in self.entries {
            let entry = Entry(word.load(Ordering::Acquire));
            let count = match entry.state().filter(|_| entry.epoch() == self.epoch) {
                Some(State::Free) => &mut tally.free,
                Some(State::Folded) => &mut tally.folded,
                Some(State::Done) => &mut tally.done,
                Some(State::Failed) => &mut tally.failed,
                Some(State::Claimed | State::Armed) | None => &mut tally.claimed,
            };
            *count += 1;
        }
        tally
    }

    #[inline]
    fn swap(&self, chunk: usize, from: Entry, to: Entry) -> bool {
        self.entries[chunk].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner { slot: 1, generation: 7 };
    const B: Owner = Owner { slot: 1, generation: 8 };

    fn words(n: usize) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn golden_word() {
        let entry = Entry::new(0x0102_0304, State::Armed, 3, Some(Owner { slot: 1023, generation: 0x2aaa }));
        assert_eq!(entry.0, 0x0102_0304_43ff_eaaa);
        assert_eq!((entry.epoch(), entry.state(), entry.attempt()), (0x0102_0304, Some(State::Armed), 3));
        assert_eq!(entry.owner(), Owner { slot: 1023, generation: 0x2aaa });
    }

    #[test]
    fn a_chunk_is_claimed_once_and_committed_once() {
        let words = words(2);
        let ledger = Ledger::new(&words, 5);
        ledger.open();
        let claim = ledger.claim(0, A).expect("free");
        assert!(ledger.claim(0, B).is_none());
        assert!(ledger.commit(claim));
        assert!(ledger.claim(0, B).is_none());
        assert_eq!(ledger.tally(), Tally { free: 1, done: 1, ..Tally::default() });
        assert!(ledger.claim(2, A).is_none(), "no such chunk");
    }

    #[test]
    fn a_worker_that_slept_through_its_phase_claims_nothing() {
        let words = words(1);
        let old = Ledger::new(&words, 5);
        old.open();
        Ledger::new(&words, 6).open();
        assert!(old.claim(0, A).is_none());
    }

    #[test]
    fn what_a_dead_worker_held_goes_back_with_the_next_attempt() {
        let words = words(3);
        let ledger = Ledger::new(&words, 1);
        ledger.open();
        let mut armed = ledger.claim(0, A).expect("free");
        assert!(ledger.arm(&mut armed));
        let folded = ledger.claim(1, A).expect("free");
        assert!(ledger.fold(folded));
        let held: Vec<_> = ledger.owned_by(A).collect();
        assert_eq!(held, [(0, State::Armed), (1, State::Folded)]);
        assert_eq!(ledger.owned_by(B).count(), 0);
        assert!(ledger.take_back(0, A, State::Free));
        assert!(ledger.take_back(1, A, State::Done));
        assert!(!ledger.commit(armed), "the late commit of a fenced worker is refused");
        assert_eq!(ledger.claim(0, B).expect("free again").attempt(), 1);
        assert_eq!(ledger.next_free(0), Some(2));
    }
}
