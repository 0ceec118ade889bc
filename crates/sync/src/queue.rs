//! A bounded queue from many to many that loses nothing to a death. Steps Q1–Q9 of `README.md`.
//!
//! The idea of a lap in each cell is Dmitry Vyukov's bounded queue; that an item stays in its cell under its
//! reader's name until the reader is done, and that head and tail decide nothing, is what deaths ask for.

mod turns;
mod word;

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use bytemuck::Pod;

pub(crate) use self::turns::{Belongings, Nothing, Nought, Turn};
pub(crate) use self::word::{State, Word};
use crate::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::deadline::Deadline;
#[cfg(not(loom))]
use crate::limits::QUEUE_CAPACITY_MAX;
use crate::owner::{Holder, Owner};
use crate::park;
use crate::party::Party;
use crate::pod::PodCell;
use crate::waiting::Waiting;

/// A bounded first-in first-out queue, for any number of parties at both ends.
///
/// Killed at any instruction, a putter has put all of its item or nothing, and a getter that had not got its item yet
/// leaves it to exactly one other. All zero bytes are an empty queue. Items come out in the order in which their putters
/// took their turns, so those of one party in the order in which it put them; an item that comes back (its reader died,
/// or put it back) comes out as soon as it is seen. Whoever has a turn to put and stands still holds up those who
/// get, not those whose turn is before.
#[repr(C)]
pub struct Queue<T: Pod, C: ?Sized = [Cell<T>]> {
    quiet: Quiet,
    tail: Hint,
    head: Hint,
    _item: std::marker::PhantomData<T>,
    cells: C,
}

/// The line that changes only when somebody sleeps, dies, puts back or closes.
#[repr(C, align(128))]
struct Quiet {
    /// `taken:31 | asleep:1`, see `park`: who waits for an item.
    items: AtomicU32,
    /// Who waits for room.
    room: AtomicU32,
    /// Who waits until everything is done.
    finished: AtomicU32,
    closed: AtomicU32,
    /// `count:31 | returned:1`: an item may lie behind the head.
    returned: AtomicU32,
    /// The table's count of deaths when the cells were last swept.
    swept: AtomicU32,
    /// Whether a turn was ever given back without an item.
    gave_back: AtomicU32,
}

/// Where to begin to look: `lap:32 | index:32`. Decides nothing.
#[repr(C, align(128))]
struct Hint(AtomicU64);

/// One place for an item.
#[repr(C)]
pub struct Cell<T: Pod> {
    /// `lap:31 | state:3 | owner:30`.
    word: AtomicU64,
    value: PodCell<T>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Quiet, items) == 0 && offset_of!(Quiet, swept) == 20 && size_of::<Quiet>() == 128);
    assert!(offset_of!(Queue<u64, [Cell<u64>; 1]>, tail) == 128);
    assert!(offset_of!(Queue<u64, [Cell<u64>; 1]>, head) == 256);
    assert!(offset_of!(Queue<u64, [Cell<u64>; 1]>, cells) == CELLS_AT && size_of::<Cell<u64>>() == 16);
};

#[cfg(not(loom))]
const CELLS_AT: usize = 384;

/// Why nothing was put or got.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueueError {
    /// There was no room, until the deadline if there was one.
    #[error("the queue is full")]
    Full,
    /// There was no item, until the deadline if there was one.
    #[error("the queue is empty{}", .behind.map(|who| format!("; {who} has the next turn to put, and has not done it")).unwrap_or_default())]
    Empty {
        /// Who is in the middle of putting the item whose turn it is.
        behind: Option<Holder>,
    },
    /// Somebody called [`Queue::close`]: nothing is put any more, and all that was put has been got.
    #[error("the queue is closed")]
    Closed,
}

/// Whether this process is a forked copy of the one that has things in hand: what it drops is not its own to give back.
fn is_copy() -> bool {
    #[cfg(not(loom))]
    return swath_platform::fork::is_copy();
    #[cfg(loom)]
    false
}

/// Why an attempt did not succeed: for now, or for good.
pub(crate) enum Refusal {
    Later(Option<Owner>),
    Closed,
}

impl<T: Pod> Queue<T> {
    /// A queue for so many items.
    ///
    /// # Panics
    /// With a capacity of 0, or over 2^31.
    #[cfg(not(loom))]
    pub fn with_capacity(capacity: usize) -> QueuePlan<T> {
        assert!(
            (1..=QUEUE_CAPACITY_MAX).contains(&capacity),
            "a queue has room for 1 to {QUEUE_CAPACITY_MAX} items"
        );
        QueuePlan { capacity, _item: std::marker::PhantomData }
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// How many items wait to be got: exact when nobody is at it. Looks at every cell.
    pub fn len(&self) -> usize {
        self.count()
    }

    /// Whether no item waits to be got.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Puts an item, however long there is no room.
    #[inline]
    pub fn put(&self, party: &Party, item: T) -> Result<(), QueueError> {
        self.put_until(party, &item, Deadline::Never)
    }

    /// Puts an item if there is room.
    #[inline]
    pub fn try_put(&self, party: &Party, item: T) -> Result<(), QueueError> {
        self.put_until(party, &item, Deadline::Now)
    }

    /// Puts an item, waiting for room at most for `timeout`.
    #[inline]
    pub fn put_timeout(&self, party: &Party, item: T, timeout: Duration) -> Result<(), QueueError> {
        self.put_until(party, &item, Deadline::In(timeout))
    }

    /// Puts an item, waiting for room at most until `deadline`.
    #[inline]
    pub fn put_deadline(&self, party: &Party, item: T, deadline: Instant) -> Result<(), QueueError> {
        self.put_until(party, &item, Deadline::At(deadline))
    }

    /// Gets an item, however long there is none.
    #[inline]
    pub fn get(&self, party: &Party) -> Result<T, QueueError> {
        self.get_until(party, Deadline::Never)
    }

    /// Gets an item if there is one.
    #[inline]
    pub fn try_get(&self, party: &Party) -> Result<T, QueueError> {
        self.get_until(party, Deadline::Now)
    }

    /// Gets an item, waiting at most for `timeout`.
    #[inline]
    pub fn get_timeout(&self, party: &Party, timeout: Duration) -> Result<T, QueueError> {
        self.get_until(party, Deadline::In(timeout))
    }

    /// Gets an item, waiting at most until `deadline`.
    #[inline]
    pub fn get_deadline(&self, party: &Party, deadline: Instant) -> Result<T, QueueError> {
        self.get_until(party, Deadline::At(deadline))
    }

    /// Puts what `write` makes of the cell, in its place. It begins with whatever an earlier item left there. If `write`
    /// fails or panics, nothing is put and the room is free again.
    #[cfg(not(loom))]
    pub fn put_with<E>(
        &self,
        party: &Party,
        write: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<Result<(), E>, QueueError> {
        let claim = self.claim(party, Deadline::Never, &Nothing)?;
        // SAFETY: the cell's word says WRITING in our name: nobody else writes it, and who reads it beside us throws away
        // what it read.
        let written = write(unsafe { claim.value().as_mut() });
        if written.is_ok() {
            claim.publish();
        }
        Ok(written)
    }

    /// Gets an item where it lies. If `read` panics, or we are killed in it, the item is there for another.
    #[cfg(not(loom))]
    pub fn get_with<R>(&self, party: &Party, read: impl FnOnce(&T) -> R) -> Result<R, QueueError> {
        let taken = self.take_until(party, Deadline::Never, &Nothing)?;
        // SAFETY: the cell's word says READING in our name: nobody writes the value.
        let result = read(unsafe { taken.value().as_ref() });
        taken.finish();
        Ok(result)
    }

    /// Nothing is put any more; what has been put is got, then all who get are told [`QueueError::Closed`].
    pub fn close(&self) {
        self.quiet.closed.store(1, Ordering::SeqCst);
        park::take_mark(&self.quiet.items, &self.quiet.items);
        park::take_mark(&self.quiet.room, &self.quiet.room);
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.quiet.closed.load(Ordering::SeqCst) != 0
    }

    #[inline(always)]
    fn put_until(&self, party: &Party, item: &T, deadline: Deadline) -> Result<(), QueueError> {
        let claim = self.claim(party, deadline, &Nothing)?;
        claim.value().store(item);
        claim.publish();
        Ok(())
    }

    /// Q1: a cell to write, in the caller's name until it is published or dropped.
    #[inline(always)]
    pub(crate) fn claim<'q, B: Belongings<T>>(
        &'q self,
        party: &Party,
        deadline: Deadline,
        belongings: &'q B,
    ) -> Result<Claim<'q, T, B>, QueueError> {
        let attempt = || {
            if self.is_closed() {
                return Err(Refusal::Closed);
            }
            let turn = self.claim_turn(party, belongings).ok_or(Refusal::Later(None))?;
            let claim = Claim { queue: self, turn, belongings };
            crate::atomics::model_fence();
            // Q1: again, now that who finds the queue empty and closed sees our claim.
            if self.is_closed() { Err(Refusal::Closed) } else { Ok(claim) }
        };
        match attempt() {
            Ok(claim) => Ok(claim),
            Err(Refusal::Closed) => Err(QueueError::Closed),
            Err(Refusal::Later(_)) => self
                .wait_for(party, deadline, &self.quiet.room, belongings, attempt)
                .map_err(|refusal| match refusal {
                    Refusal::Closed => QueueError::Closed,
                    Refusal::Later(_) => QueueError::Full,
                }),
        }
    }

    /// Q6 for an item that is copied: read first, then taken in one step. Somebody faster makes the copy worthless.
    #[inline(always)]
    fn get_until(&self, party: &Party, deadline: Deadline) -> Result<T, QueueError> {
        let attempt = || {
            loop {
                let turn = self.find_or_closed()?;
                let item = self.cells[turn.index].value.load();
                if self.take(turn, Word::free(turn.word.lap().wrapping_add(1))) {
                    self.freed_and_fenced();
                    return Ok(item);
                }
            }
        };
        match attempt() {
            Ok(item) => Ok(item),
            Err(refusal) => self.await_item(party, deadline, &Nothing, refusal, attempt),
        }
    }

    /// Q6: an item that stays in its cell, in the caller's name until it is finished or dropped.
    pub(crate) fn take_until<'q, B: Belongings<T>>(
        &'q self,
        party: &Party,
        deadline: Deadline,
        belongings: &B,
    ) -> Result<InHand<'q, T>, QueueError> {
        let me = party.owner();
        let attempt = || {
            loop {
                let turn = self.find_or_closed()?;
                if self.take(turn, Word::owned(turn.word.lap(), State::Reading, me)) {
                    return Ok(InHand { queue: self, index: turn.index, me });
                }
            }
        };
        match attempt() {
            Ok(taken) => Ok(taken),
            Err(refusal) => self.await_item(party, deadline, belongings, refusal, attempt),
        }
    }

    #[inline(always)]
    fn find_or_closed(&self) -> Result<Turn, Refusal> {
        match self.find_turn() {
            Ok(turn) => Ok(turn),
            Err(nought) if self.is_closed() => self.find_in_closed(nought),
            Err(Nought { writer }) => Err(Refusal::Later(writer)),
        }
    }

    /// The queue is closed, so who claims a turn from now on gives it up: one more look decides.
    #[cold]
    fn find_in_closed(&self, _before: Nought) -> Result<Turn, Refusal> {
        crate::atomics::model_fence();
        match self.find_turn() {
            Ok(turn) => Ok(turn),
            Err(Nought { writer: Some(writer) }) => Err(Refusal::Later(Some(writer))),
            Err(Nought { writer: None }) => Err(Refusal::Closed),
        }
    }

    #[cold]
    fn await_item<R, B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        belongings: &B,
        refusal: Refusal,
        attempt: impl Fn() -> Result<R, Refusal>,
    ) -> Result<R, QueueError> {
        if let Refusal::Closed = refusal {
            return Err(QueueError::Closed);
        }
        self.wait_for(party, deadline, &self.quiet.items, belongings, attempt).map_err(
            |refusal| match refusal {
                Refusal::Closed => QueueError::Closed,
                Refusal::Later(writer) => {
                    QueueError::Empty { behind: writer.map(|writer| party.table().holder(writer)) }
                }
            },
        )
    }

    /// Tries again until it is there, looking after the dead in between.
    #[cold]
    fn wait_for<R, B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        parked: &AtomicU32,
        belongings: &B,
        attempt: impl Fn() -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let now = matches!(deadline, Deadline::Now);
        if !now && let Some(result) = spin_for(&attempt) {
            return result;
        }
        let mut waiting = Waiting::new(party, deadline);
        loop {
            waiting.look();
            if waiting.deaths_seen() != self.quiet.swept.load(Ordering::Relaxed) {
                self.sweep(party, belongings, false);
            }
            let refused = match attempt() {
                Err(Refusal::Later(writer)) => writer,
                other => return other,
            };
            if refused.is_some_and(|writer| party.table().is_dead(writer)) {
                self.sweep(party, belongings, false);
                if !waiting.is_over() {
                    continue;
                }
            }
            if waiting.is_over() {
                self.sweep(party, belongings, !now);
                return attempt();
            }
            let mark = park::announce(parked);
            match attempt() {
                Err(Refusal::Later(_)) => {}
                other => return other,
            }
            if waiting.sleep(parked, mark) {
                self.sweep(party, belongings, true);
            }
        }
    }

    /// Waits until nothing is in the queue or in anybody's hands; for `join`.
    pub(crate) fn wait_finished<B: Belongings<T>>(
        &self,
        party: &Party,
        deadline: Deadline,
        belongings: &B,
    ) -> bool {
        let attempt = || if self.is_finished() { Ok(()) } else { Err(Refusal::Later(None)) };
        attempt().is_ok() || self.wait_for(party, deadline, &self.quiet.finished, belongings, attempt).is_ok()
    }

    /// An item is done: tells who waits for all of them, if this was the last. Whoever comes last sees that it is.
    pub(crate) fn finished_one(&self) {
        crate::atomics::model_fence();
        if self.quiet.finished.load(Ordering::SeqCst) & park::ASLEEP != 0 && self.is_finished() {
            park::take_mark(&self.quiet.finished, &self.quiet.finished);
        }
    }

    /// Whether a getter would not wait, or would find something that a dead party left.
    pub(crate) fn has_item_or_is_closed(&self, party: &Party) -> bool {
        match self.find_or_closed() {
            Ok(_) | Err(Refusal::Closed) => true,
            Err(Refusal::Later(_)) => {
                let table = party.table();
                let news = table.deaths().load(Ordering::Acquire) != self.quiet.swept.load(Ordering::Relaxed);
                news && self.has_a_dead_owner(table)
            }
        }
    }

    /// The word to sleep on until there is an item, and the value to sleep while it has. Asks about all who have something
    /// in hand, once a slice: an item whose holder nobody watches comes back by that.
    pub(crate) fn announce_getter(&self, party: &Party) -> (&AtomicU32, u32) {
        self.ask_about_owners(party.table());
        (&self.quiet.items, park::announce(&self.quiet.items))
    }

    #[cfg(loom)]
    /// A queue of `N` cells for a model.
    pub fn for_model<const N: usize>() -> Box<Self> {
        Box::new(Queue::<T, [Cell<T>; N]>::of_model())
    }
}

#[cfg(loom)]
impl<T: Pod, const N: usize> Queue<T, [Cell<T>; N]> {
    pub(crate) fn of_model() -> Self {
        Queue {
            quiet: Quiet {
                items: AtomicU32::new(0),
                room: AtomicU32::new(0),
                finished: AtomicU32::new(0),
                closed: AtomicU32::new(0),
                returned: AtomicU32::new(0),
                swept: AtomicU32::new(0),
                gave_back: AtomicU32::new(0),
            },
            tail: Hint(AtomicU64::new(0)),
            head: Hint(AtomicU64::new(0)),
            _item: std::marker::PhantomData,
            cells: std::array::from_fn(|_| Cell { word: AtomicU64::new(0), value: PodCell::new() }),
        }
    }
}

/// Tries again and again for a moment, as a hand-over between running processes takes.
fn spin_for<R>(attempt: &impl Fn() -> Result<R, Refusal>) -> Option<Result<R, Refusal>> {
    let found = std::cell::Cell::new(None);
    let ready = || match attempt() {
        Err(Refusal::Later(_)) => false,
        other => {
            found.set(Some(other));
            true
        }
    };
    park::spin(ready);
    found.take()
}

/// A cell to write: published, or a turn without an item when dropped.
pub(crate) struct Claim<'q, T: Pod, B: Belongings<T>> {
    queue: &'q Queue<T>,
    turn: Turn,
    belongings: &'q B,
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
    queue: &'q Queue<T>,
    index: usize,
    me: Owner,
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

impl<T: Pod> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

// SAFETY: items are copied by atomic accesses, or lent while the cell's word names one owner.
unsafe impl<T: Pod + Send, C: ?Sized> Sync for Queue<T, C> {}

/// A queue that has no place yet.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct QueuePlan<T> {
    capacity: usize,
    _item: std::marker::PhantomData<T>,
}

#[cfg(not(loom))]
// SAFETY: 1: the head, then as many cells, padded to the alignment of the whole, as the fat reference has it. 2: atomics,
// and values of Pod. 3: indices are reduced to the number of cells, which is private.
unsafe impl<T: Pod> crate::place::InPlace for Queue<T> {
    const KIND: &'static str = "queue";
    const ELEMENT: (usize, usize) = (size_of::<T>(), align_of::<T>());

    fn layout(cells: usize) -> Option<Layout> {
        if !(1..=QUEUE_CAPACITY_MAX).contains(&cells) {
            return None;
        }
        let head = Layout::new::<Queue<T, [Cell<T>; 0]>>();
        let (whole, at) = head.extend(Layout::array::<Cell<T>>(cells).ok()?).ok()?;
        debug_assert_eq!(at, std::mem::offset_of!(Queue<T, [Cell<T>; 0]>, cells));
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        debug_assert!(memory.addr().is_multiple_of(align_of::<Queue<T, [Cell<T>; 0]>>()));
        // SAFETY: by the caller's 1 and 2; any bytes are a valid queue.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: zero is an empty queue.
unsafe impl<T: Pod> crate::place::Plan for QueuePlan<T> {
    type Object = Queue<T>;

    fn cells(&self) -> usize {
        self.capacity
    }

    unsafe fn place(self, _memory: *mut u8) {}
}
