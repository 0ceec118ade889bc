//! Queues whose items are acknowledged, and the plain ones that Python's users know. Steps Q6–Q10 of `README.md`.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::deadline::Deadline;
#[cfg(not(loom))]
use crate::limits::SIMPLE_QUEUE_CAPACITY;
use crate::party::Party;
#[cfg(not(loom))]
use crate::place::in_place_of_another;
#[cfg(not(loom))]
use crate::queue::QueuePlan;
use crate::queue::{Cell, InHand, Nothing, Queue, QueueError};

/// A [`Queue`] whose items stay in it until whoever got them says that they are done.
///
/// Who dies with an item in hand leaves it to another, and [`Self::join`] returns when every item that was put is
/// done, whatever died on the way: both are read off the cells, there is no count that a death could falsify. (Python's
/// `JoinableQueue` counts: an item whose worker dies is lost, and `join` waits for ever.)
///
/// An item in hand takes up a place; the queue has room for `capacity` items, waiting and in hand together. A place that
/// was given up out of turn may be there only when the items before it have been got; while nothing waits to be got,
/// all places but those in hand can be used.
#[repr(transparent)]
pub struct JoinableQueue<T: Pod, C: ?Sized = [Cell<T>]> {
    queue: Queue<T, C>,
}

impl<T: Pod> JoinableQueue<T> {
    /// A queue for so many items.
    ///
    /// # Panics
    /// With a capacity of 0, or over 2^31.
    #[cfg(not(loom))]
    pub fn with_capacity(capacity: usize) -> JoinableQueuePlan<T> {
        JoinableQueuePlan(Queue::with_capacity(capacity))
    }

    /// Its queue: how much is in it, and closing it. Items that are got here count as done at once.
    pub fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// Puts an item, however long there is no room.
    pub fn put(&self, party: &Party, item: T) -> Result<(), QueueError> {
        self.queue.put(party, item)
    }

    /// Puts an item if there is room.
    pub fn try_put(&self, party: &Party, item: T) -> Result<(), QueueError> {
        self.queue.try_put(party, item)
    }

    /// Puts an item, waiting for room at most for `timeout`.
    pub fn put_timeout(&self, party: &Party, item: T, timeout: Duration) -> Result<(), QueueError> {
        self.queue.put_timeout(party, item, timeout)
    }

    /// Puts an item, waiting for room at most until `deadline`.
    pub fn put_deadline(&self, party: &Party, item: T, deadline: Instant) -> Result<(), QueueError> {
        self.queue.put_deadline(party, item, deadline)
    }

    /// Gets an item, however long there is none.
    pub fn get(&self, party: &Party) -> Result<Delivery<'_, T>, QueueError> {
        self.get_until(party, Deadline::Never)
    }

    /// Gets an item if there is one.
    pub fn try_get(&self, party: &Party) -> Result<Delivery<'_, T>, QueueError> {
        self.get_until(party, Deadline::Now)
    }

    /// Gets an item, waiting at most for `timeout`.
    pub fn get_timeout(&self, party: &Party, timeout: Duration) -> Result<Delivery<'_, T>, QueueError> {
        self.get_until(party, Deadline::In(timeout))
    }

    /// Gets an item, waiting at most until `deadline`.
    pub fn get_deadline(&self, party: &Party, deadline: Instant) -> Result<Delivery<'_, T>, QueueError> {
        self.get_until(party, Deadline::At(deadline))
    }

    fn get_until(&self, party: &Party, deadline: Deadline) -> Result<Delivery<'_, T>, QueueError> {
        let hand = self.queue.take_until(party, deadline, &Nothing)?;
        Ok(Delivery { item: hand.value().load(), hand, _here: PhantomData })
    }

    /// Waits until all that has been put is done: at one moment during the call nothing waits and nothing is in hand.
    pub fn join(&self, party: &Party) {
        self.join_until(party, Deadline::Never);
    }

    /// Whether all is done at this moment.
    pub fn try_join(&self, party: &Party) -> bool {
        self.join_until(party, Deadline::Now)
    }

    /// As [`Self::join`], at most for `timeout`; says whether all is done.
    pub fn join_timeout(&self, party: &Party, timeout: Duration) -> bool {
        self.join_until(party, Deadline::In(timeout))
    }

    /// As [`Self::join`], at most until `deadline`; says whether all is done.
    pub fn join_deadline(&self, party: &Party, deadline: Instant) -> bool {
        self.join_until(party, Deadline::At(deadline))
    }

    fn join_until(&self, party: &Party, deadline: Deadline) -> bool {
        self.queue.wait_finished(party, deadline, &Nothing)
    }

    /// A queue of `N` cells for a model.
    #[cfg(loom)]
    pub fn for_model<const N: usize>() -> Box<Self> {
        // SAFETY: a transparent wrapper.
        unsafe { Box::from_raw(Box::into_raw(Queue::<T>::for_model::<N>()) as *mut Self) }
    }
}

impl<T: Pod> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinableQueue").field(&&self.queue).finish()
    }
}

/// An item in hand: a copy of it, and the duty to say that it is [`done`](Self::done). Dropped without that, the item
/// is there for another, as it is when its holder dies.
#[must_use = "dropping it puts the item back"]
pub struct Delivery<'q, T: Pod> {
    item: T,
    hand: InHand<'q, T>,
    /// The cell names this thread.
    _here: PhantomData<*const ()>,
}

impl<T: Pod> Delivery<'_, T> {
    /// The item is done: it leaves the queue.
    pub fn done(self) {
        self.hand.finish();
    }
}

impl<T: Pod> Deref for Delivery<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Delivery<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.item).finish()
    }
}

/// A [`Queue`] of which nobody wants to know the size: put, get, empty.
#[repr(transparent)]
pub struct SimpleQueue<T: Pod, C: ?Sized = [Cell<T>]> {
    queue: Queue<T, C>,
}

impl<T: Pod> SimpleQueue<T> {
    /// A queue with room for [`SIMPLE_QUEUE_CAPACITY`] items.
    #[cfg(not(loom))]
    #[allow(clippy::new_ret_no_self)] // an object in shared memory is made by its plan
    pub fn new() -> SimpleQueuePlan<T> {
        SimpleQueuePlan(Queue::with_capacity(SIMPLE_QUEUE_CAPACITY))
    }

    /// Puts an item, waiting while there is no room.
    pub fn put(&self, party: &Party, item: T) -> Result<(), QueueError> {
        self.queue.put(party, item)
    }

    /// Gets an item, waiting while there is none.
    pub fn get(&self, party: &Party) -> Result<T, QueueError> {
        self.queue.get(party)
    }

    /// Whether no item waits.
    pub fn empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The queue, with all that it can do.
    pub fn queue(&self) -> &Queue<T> {
        &self.queue
    }
}

impl<T: Pod> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimpleQueue").field(&&self.queue).finish()
    }
}

/// A joinable queue that has no place yet.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct JoinableQueuePlan<T>(QueuePlan<T>);

/// A simple queue that has no place yet.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct SimpleQueuePlan<T>(QueuePlan<T>);

#[cfg(not(loom))]
in_place_of_another!(impl [T: Pod] JoinableQueue<T>, by JoinableQueuePlan<T>, as Queue<T>, "joinable queue");
#[cfg(not(loom))]
in_place_of_another!(impl [T: Pod] SimpleQueue<T>, by SimpleQueuePlan<T>, as Queue<T>, "simple queue");
