//! The model of everything that is changed under a lock: a sum in the lock's value, and its parts, one for each seat, beside it.
//!
//! Whoever dies between the two leaves them different. A part has one writer, so it can be read without the lock when that
//! one is dead.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::chaos::act::Acknowledged;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

pub(super) struct Parts {
    parts: &'static [AtomicU64; SEATS],
    acknowledged: Acknowledged,
}

impl Parts {
    pub(super) fn new(arena: &Arena<'_>) -> Parts {
        Parts { parts: arena.words(), acknowledged: Acknowledged(arena.words()) }
    }

    /// What the sum has to be.
    pub(super) fn sum(&self) -> u64 {
        self.parts.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }

    /// The lock says that the value is whole: is it?
    pub(super) fn check(&self, sum: u64) -> Result<(), String> {
        let parts = self.sum();
        expect(sum == parts, || format!("taken as whole, but the sum is {sum} and the parts {parts}"))
    }

    /// Under the lock: one more, not in one atomic step, on purpose: the lock is what makes it one.
    pub(super) fn raise(&self, me: &Me) {
        let part = self.parts[me.seat].load(Ordering::Relaxed);
        me.may_crash();
        self.parts[me.seat].store(part + 1, Ordering::Relaxed);
        me.may_crash();
    }

    /// The lock was given back after [`Self::raise`].
    pub(super) fn acknowledge(&self, me: &Me) {
        self.acknowledged.add(me.seat);
    }

    /// The party in that seat is dead.
    pub(super) fn bury(&self, seat: usize) -> Result<(), String> {
        self.acknowledged.settle(seat, self.parts[seat].load(Ordering::SeqCst))
    }

    /// Everybody has left.
    pub(super) fn tally(&self) -> Result<(), String> {
        self.acknowledged.equal(self.parts.iter().map(|part| part.load(Ordering::SeqCst)))
    }
}
