//! One wait for peers: looks and slices by turns, until what is waited for is there, a peer is dead, or the time is up.
//!
//! A primitive's loop is
//!
//! ```text
//! let mut waiting = Waiting::new(party, deadline);
//! loop {
//!     waiting.look();                         // first: a death after this ends the sleep at once
//!     … try; find the dead among those it waits for and repair …
//!     if waiting.is_over() { ask about each peer once (`learns_of_death`); Err(TimedOut) }
//!     … mark the word, so that a waker knows of us …
//!     if waiting.sleep(&word, marked) { … a whole slice: `learns_of_death` of each peer … }
//! }
//! ```

use crate::atomics::{AtomicU32, Ordering, Wait, wait_any_until};
use crate::deadline::{Deadline, is_over};
use crate::park;
use crate::party::Party;
use crate::slots::SlotTable;

/// See the module.
pub(crate) struct Waiting<'t> {
    table: &'t SlotTable,
    deadline_ns: u64,
    deaths: u32,
}

impl Waiting<'static> {
    pub(crate) fn new(party: &Party, deadline: Deadline) -> Self {
        Self { table: party.table(), deadline_ns: deadline.on_the_clock(), deaths: 0 }
    }
}

impl Waiting<'_> {
    /// Before each look at the peers.
    #[inline]
    pub(crate) fn look(&mut self) {
        self.deaths = self.table.deaths().load(Ordering::Acquire);
    }

    /// The count of deaths at the last look.
    pub(crate) fn deaths_seen(&self) -> u32 {
        self.deaths
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_over(&self) -> bool {
        is_over(self.deadline_ns)
    }

    /// Sleeps while `word` holds `value` and nobody dies, for at most a slice. True after a whole slice: then it is time
    /// to ask the kernel about the peers, and to think of deadlock.
    pub(crate) fn sleep(&self, word: &AtomicU32, value: u32) -> bool {
        let words = [(word, value), (self.table.deaths(), self.deaths)];
        wait_any_until(&words, park::slice_end(self.deadline_ns)) == Wait::TimedOut
    }
}
