//! A queue of messages of any length. Steps X1–X5 of `README.md`, between those of the queue.

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::time::{Duration, Instant};

use crate::atomics::AtomicU64;
use crate::deadline::Deadline;
use crate::envelope::{Envelope, Extents, MessageFault, Room};
use crate::owner::Holder;
use crate::party::Party;
#[cfg(not(loom))]
use crate::place::{InPlace, Plan};
#[cfg(not(loom))]
use crate::queue::QueuePlan;
use crate::queue::{Cell, Queue, QueueError};

/// A [`Queue`] whose items are bytes, from none to gigabytes, for any number of parties at both ends.
///
/// Up to [`INLINE_BYTES_MAX`](crate::INLINE_BYTES_MAX) bytes lie in the queue itself, more in an extent of the caller's [`Extents`], which
/// must be the same room for all. A message is put whole or not at all and got by exactly one, and its extent is given back,
/// whoever dies on the way and wherever.
#[repr(C)]
pub struct MessageQueue<C: ?Sized = [Cell<Envelope>]> {
    next: Next,
    queue: Queue<Envelope, C>,
}

/// The first offset that no message has had, in a line of its own.
#[repr(C, align(128))]
pub(crate) struct Next(pub(crate) AtomicU64);

/// Why no message was put or got.
#[derive(Debug, thiserror::Error)]
pub enum MessageQueueError {
    /// There was no room for one more, until the deadline if there was one.
    #[error("the queue is full")]
    Full,
    /// There was no message, until the deadline if there was one.
    #[error("the queue is empty{}", .behind.map(|who| format!("; {who} has the next turn to put, and has not done it")).unwrap_or_default())]
    Empty {
        /// Who is in the middle of putting the message whose turn it is.
        behind: Option<Holder>,
    },
    /// Somebody closed it; all that was put has been got.
    #[error("the queue is closed")]
    Closed,
    /// The message could not be stored or fetched. Nothing was put; what was to be got is there for another try, unless it
    /// was garbage.
    #[error(transparent)]
    Message(#[from] MessageFault),
}

impl From<QueueError> for MessageQueueError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full => Self::Full,
            QueueError::Empty { behind } => Self::Empty { behind },
            QueueError::Closed => Self::Closed,
        }
    }
}

impl MessageQueue {
    #[cfg(loom)]
    /// A queue for `N` messages of a model.
    pub fn for_model<const N: usize>() -> Box<Self> {
        let next = Next(AtomicU64::new(0));
        Box::new(MessageQueue::<[Cell<Envelope>; N]> { next, queue: Queue::of_model() })
    }

    /// A queue for so many messages.
    ///
    /// # Panics
    /// With a capacity of 0, or over 2^31.
    #[cfg(not(loom))]
    pub fn with_capacity(capacity: usize) -> MessageQueuePlan {
        MessageQueuePlan(Queue::with_capacity(capacity))
    }

    /// How many messages it has room for.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// How many messages wait to be got: exact when nobody is at it.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no message waits to be got.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// As [`Queue::close`].
    pub fn close(&self) {
        self.queue.close();
    }

    pub(crate) fn queue(&self) -> &Queue<Envelope> {
        &self.queue
    }

    /// Puts a message, however long there is no room for one more.
    pub fn put(&self, party: &Party, extents: &dyn Extents, message: &[u8]) -> Result<(), MessageQueueError> {
        self.put_until(party, extents, message, Deadline::Never)
    }

    /// Puts a message if there is room.
    pub fn try_put(
        &self,
        party: &Party,
        extents: &dyn Extents,
        message: &[u8],
    ) -> Result<(), MessageQueueError> {
        self.put_until(party, extents, message, Deadline::Now)
    }

    /// Puts a message, waiting for room at most for `timeout`.
    pub fn put_timeout(
        &self,
        party: &Party,
        extents: &dyn Extents,
        message: &[u8],
        timeout: Duration,
    ) -> Result<(), MessageQueueError> {
        self.put_until(party, extents, message, Deadline::In(timeout))
    }

    /// Puts a message, waiting for room at most until `deadline`.
    pub fn put_deadline(
        &self,
        party: &Party,
        extents: &dyn Extents,
        message: &[u8],
        deadline: Instant,
    ) -> Result<(), MessageQueueError> {
        self.put_until(party, extents, message, Deadline::At(deadline))
    }

    /// Gets a message, however long there is none.
    pub fn get(&self, party: &Party, extents: &dyn Extents) -> Result<Vec<u8>, MessageQueueError> {
        self.get_until(party, extents, Deadline::Never)
    }

    /// Gets a message if there is one.
    pub fn try_get(&self, party: &Party, extents: &dyn Extents) -> Result<Vec<u8>, MessageQueueError> {
        self.get_until(party, extents, Deadline::Now)
    }

    /// Gets a message, waiting at most for `timeout`.
    pub fn get_timeout(
        &self,
        party: &Party,
        extents: &dyn Extents,
        timeout: Duration,
    ) -> Result<Vec<u8>, MessageQueueError> {
        self.get_until(party, extents, Deadline::In(timeout))
    }

    /// Gets a message, waiting at most until `deadline`.
    pub fn get_deadline(
        &self,
        party: &Party,
        extents: &dyn Extents,
        deadline: Instant,
    ) -> Result<Vec<u8>, MessageQueueError> {
        self.get_until(party, extents, Deadline::At(deadline))
    }

    fn put_until(
        &self,
        party: &Party,
        extents: &dyn Extents,
        message: &[u8],
        deadline: Deadline,
    ) -> Result<(), MessageQueueError> {
        let room = Room { extents, next: &self.next.0 };
        let claim = self.queue.claim(party, deadline, &room)?;
        room.store(claim.value(), message)?; // dropped: the turn is given up, and what is noted is given back
        claim.publish();
        Ok(())
    }

    fn get_until(
        &self,
        party: &Party,
        extents: &dyn Extents,
        deadline: Deadline,
    ) -> Result<Vec<u8>, MessageQueueError> {
        let room = Room { extents, next: &self.next.0 };
        let hand = self.queue.take_until(party, deadline, &room)?;
        let envelope = hand.value().load();
        match room.fetch(&envelope) {
            Ok(message) => {
                hand.finish_and_discard(&room); // X5
                Ok(message)
            }
            Err(MessageFault::Garbage) => {
                hand.finish();
                Err(MessageFault::Garbage.into())
            }
            Err(fault) => Err(fault.into()), // dropped: put back
        }
    }
}

impl fmt::Debug for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageQueue").field(&&self.queue).finish()
    }
}

#[cfg(not(loom))]
/// A queue of messages that has no place yet.
#[derive(Copy, Clone, Debug)]
pub struct MessageQueuePlan(QueuePlan<Envelope>);

#[cfg(not(loom))]
// SAFETY: 1: a line, then a queue, whose layout is its own. 2, 3: as the queue's; envelopes are checked copies.
unsafe impl InPlace for MessageQueue {
    const KIND: &'static str = "message queue";

    fn layout(cells: usize) -> Option<Layout> {
        let (whole, at) = Layout::new::<Next>().extend(<Queue<Envelope> as InPlace>::layout(cells)?).ok()?;
        debug_assert_eq!(at, std::mem::offset_of!(MessageQueue<[Cell<Envelope>; 0]>, queue));
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        // SAFETY: by the caller's 1 and 2; any bytes are a valid queue.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: zero is an empty queue.
unsafe impl Plan for MessageQueuePlan {
    type Object = MessageQueue;

    fn cells(&self) -> usize {
        self.0.cells()
    }

    unsafe fn place(self, _memory: *mut u8) {}
}
