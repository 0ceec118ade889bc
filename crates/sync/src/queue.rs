//! A bounded queue from many to many that loses nothing to a death. Steps Q1–Q9 of `README.md`.
//!
//! The idea of a lap in each cell is Dmitry Vyukov's bounded queue; that an item stays in its cell under its
//! reader's name until the reader is done, and that head and tail decide nothing, is what deaths ask for.

mod hand;
#[cfg(not(loom))]
mod plan;
mod turns;
mod wait;
mod word;

use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

pub(crate) use self::hand::{Claim, InHand};
#[cfg(not(loom))]
pub use self::plan::QueuePlan;
pub(crate) use self::turns::{Belongings, Nothing, Nought, Turn};
use self::wait::Refusal;
pub(crate) use self::word::{State, Word};
use crate::atomics::{AtomicU32, AtomicU64, Ordering};
use crate::deadline::Deadline;
#[cfg(not(loom))]
use crate::limits::QUEUE_CAPACITY_MAX;
use crate::owner::Holder;
use crate::park;
use crate::party::Party;
use crate::pod::PodCell;

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
