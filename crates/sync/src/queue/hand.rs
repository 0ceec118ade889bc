//! What a party has in hand of a queue: a cell that it writes, an item that it reads. Steps Q2, Q7–Q9 of `README.md`.

use std::mem;

use bytemuck::Pod;

use super::{Belongings, Queue, State, Turn, Word};
use crate::atomics::Ordering;
use crate::owner::Owner;
use crate::park;
use crate::pod::PodCell;

/// A cell to write: published, or a turn without an item when dropped.
pub(crate) struct Claim<'q, T: Pod, B: Belongings<T>> {
    pub(super) queue: &'q Queue<T>,
    pub(super) turn: Turn,
    pub(super) belongings: &'q B,
}

impl<'q, T: Pod, B: Belongings<T>> Claim<'q, T, B> {
    #[inline(always)]
    pub(crate) fn value(&self) -> &'q PodCell<T> {
        &self.queue.cells[self.turn.index].value
    }

    /// Q2: the item is there. Killed before: Q4 by whoever meets the cell.
    #[inline(always)]
    pub(crate) fn publish(self) {
        let Turn { index, word, .. } = self.turn;
        self.queue.cells[index].word.store(Word::full(word.lap()).0, Ordering::Release);
        park::take_mark(&self.queue.quiet.items, &self.queue.quiet.items);
        mem::forget(self);
    }
}

impl<T: Pod, B: Belongings<T>> Drop for Claim<'_, T, B> {
    fn drop(&mut self) {
        if is_copy() {
            return;
        }
        let (queue, Turn { index, word, .. }) = (self.queue, self.turn);
        if B::ANY {
            // Killed in it: we are a dead putter, and Q4 discards it again.
            self.belongings.discard(&self.value().load());
        }
        queue.give_back(index, word);
    }
}

/// An item in our hands, in its cell: finished, or put back when dropped.
pub(crate) struct InHand<'q, T: Pod> {
    pub(super) queue: &'q Queue<T>,
    pub(super) index: usize,
    pub(super) me: Owner,
}

impl<'q, T: Pod> InHand<'q, T> {
    #[inline]
    pub(crate) fn value(&self) -> &'q PodCell<T> {
        &self.queue.cells[self.index].value
    }

    /// Q7: the item is done. Killed before: it is delivered again.
    pub(crate) fn finish(self) {
        if self.queue.leave(self.index, State::Reading, self.me, |lap| Word::free(lap.wrapping_add(1))) {
            self.queue.freed();
            self.queue.finished_one();
        }
        mem::forget(self);
    }

    /// Q8: the item is done, and what belongs to it is given back. Killed before the first step: delivered again; after
    /// it: Q4 gives it back.
    pub(crate) fn finish_and_discard<B: Belongings<T>>(self, belongings: &B) {
        let me = self.me;
        if self.queue.leave(self.index, State::Reading, me, |lap| Word::owned(lap, State::Drained, me)) {
            self.queue.drain(self.index, me, belongings);
        }
        mem::forget(self);
    }
}

impl<T: Pod> Drop for InHand<'_, T> {
    fn drop(&mut self) {
        if !is_copy() && self.queue.leave(self.index, State::Reading, self.me, Word::returned) {
            self.queue.returned(); // Q9
        }
    }
}

/// Whether this process is a forked copy of the one that has things in hand: what it drops is not its own to give back.
fn is_copy() -> bool {
    #[cfg(not(loom))]
    return swath_platform::fork::is_copy();
    #[cfg(loom)]
    false
}
