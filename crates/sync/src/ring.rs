//! A ring from one producer to one consumer, each of which can be replaced when it dies. Steps R1–R7 of `README.md`.

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::deadline::Deadline;
use crate::lane::{Lane, Reader, Side, Stuck, Writer};
#[cfg(not(loom))]
use crate::limits::QUEUE_CAPACITY_MAX;
use crate::owner::Holder;
use crate::party::Party;
use crate::pod::PodCell;

/// The fastest way from one party to one other: a push and a pop are a copy and a step each.
///
/// Each end is held by name; a dead holder's end can be taken over, a living one's cannot. Killed at any instruction,
/// a producer has pushed its item or not, and a consumer has popped its item or the next consumer does. All zero bytes are
/// an empty ring with free ends.
#[repr(C)]
pub struct SpscRing<T: Pod, C: ?Sized = [RingCell<T>]> {
    lane: Lane,
    _item: std::marker::PhantomData<T>,
    cells: C,
}

/// One place for an item.
#[repr(transparent)]
pub struct RingCell<T: Pod>(PodCell<T>);

/// Why an end could not be had, or did not go on.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RingError {
    /// A living party holds this end.
    #[error("this end is held by {holder}")]
    Held {
        /// Who.
        holder: Holder,
    },
    /// There was no room, until the deadline if there was one.
    #[error("the ring is full")]
    Full,
    /// There was no item, until the deadline if there was one.
    #[error("the ring is empty")]
    Empty,
    /// Somebody closed it; what was pushed before has been popped.
    #[error("the ring is closed")]
    Closed,
    /// Who held the other end is dead, and nobody has taken it over; what it had pushed has been popped.
    #[error("{who} held the other end and died")]
    PeerDied {
        /// Who.
        who: Holder,
    },
}

impl RingError {
    fn of(stuck: Stuck, late: Self) -> Self {
        match stuck {
            Stuck::Late => late,
            Stuck::Closed => Self::Closed,
            Stuck::PeerDied(who) => Self::PeerDied { who },
        }
    }
}

impl<T: Pod> SpscRing<T> {
    /// A ring for at least so many items: the next power of two.
    ///
    /// # Panics
    /// With a capacity of 0, or over 2^31.
    #[cfg(not(loom))]
    pub fn with_capacity(capacity: usize) -> SpscRingPlan<T> {
        assert!(
            (1..=QUEUE_CAPACITY_MAX).contains(&capacity),
            "a ring has room for 1 to {QUEUE_CAPACITY_MAX} items"
        );
        SpscRingPlan { cells: capacity.next_power_of_two(), _item: std::marker::PhantomData }
    }

    /// How many items it has room for.
    pub fn capacity(&self) -> usize {
        self.cells.len()
    }

    /// How many items lie in it: exact when nobody is at it.
    pub fn len(&self) -> usize {
        self.lane.len(self.cells.len()).unwrap_or(0)
    }

    /// Whether no item lies in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nothing is pushed any more; what has been pushed is popped, then the consumer is told.
    pub fn close(&self) {
        self.lane.close();
    }

    /// Takes the producer's end: one that nobody holds, or a dead one's. [`RingError::Held`] names a living holder.
    pub fn producer(&self, party: &Party) -> Result<Producer<'_, T>, RingError> {
        self.lane.hold(Side::Writer, party).map_err(|holder| RingError::Held { holder })?;
        Ok(Producer { party: *party, end: Writer::new(&self.lane, self.cells()) })
    }

    /// Takes the consumer's end, as [`Self::producer`] the other.
    pub fn consumer(&self, party: &Party) -> Result<Consumer<'_, T>, RingError> {
        self.lane.hold(Side::Reader, party).map_err(|holder| RingError::Held { holder })?;
        Ok(Consumer { party: *party, end: Reader::new(&self.lane, self.cells()) })
    }

    fn cells(&self) -> &[PodCell<T>] {
        // SAFETY: a transparent wrapper.
        unsafe { &*(std::ptr::from_ref(&self.cells) as *const [PodCell<T>]) }
    }

    /// A ring of `N` cells for a model.
    #[cfg(loom)]
    pub fn for_model<const N: usize>() -> Box<Self> {
        Box::new(SpscRing::<T, [RingCell<T>; N]> {
            lane: Lane::new(),
            _item: std::marker::PhantomData,
            cells: std::array::from_fn(|_| RingCell(PodCell::new())),
        })
    }
}

/// The producer's end of a ring, given back when dropped.
pub struct Producer<'r, T: Pod> {
    party: Party,
    end: Writer<'r, T>,
}

impl<T: Pod> Producer<'_, T> {
    /// Pushes an item, however long there is no room.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), RingError> {
        self.push_until(&item, Deadline::Never)
    }

    /// Pushes an item if there is room.
    #[inline]
    pub fn try_push(&mut self, item: T) -> Result<(), RingError> {
        self.push_until(&item, Deadline::Now)
    }

    /// Pushes an item, waiting for room at most for `timeout`.
    #[inline]
    pub fn push_timeout(&mut self, item: T, timeout: Duration) -> Result<(), RingError> {
        self.push_until(&item, Deadline::In(timeout))
    }

    /// Pushes an item, waiting for room at most until `deadline`.
    #[inline]
    pub fn push_deadline(&mut self, item: T, deadline: Instant) -> Result<(), RingError> {
        self.push_until(&item, Deadline::At(deadline))
    }

    #[inline(always)]
    fn push_until(&mut self, item: &T, deadline: Deadline) -> Result<(), RingError> {
        self.end.await_room(&self.party, deadline).map_err(|stuck| RingError::of(stuck, RingError::Full))?;
        self.end.cell().store(item); // R3
        self.end.publish();
        Ok(())
    }
}

impl<T: Pod> Drop for Producer<'_, T> {
    fn drop(&mut self) {
        if self.party.is_here() {
            self.end.lane.let_go(Side::Writer, &self.party);
        }
    }
}

/// The consumer's end of a ring, given back when dropped.
pub struct Consumer<'r, T: Pod> {
    party: Party,
    end: Reader<'r, T>,
}

impl<T: Pod> Consumer<'_, T> {
    /// Pops an item, however long there is none.
    #[inline]
    pub fn pop(&mut self) -> Result<T, RingError> {
        self.pop_until(Deadline::Never)
    }

    /// Pops an item if there is one.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, RingError> {
        self.pop_until(Deadline::Now)
    }

    /// Pops an item, waiting at most for `timeout`.
    #[inline]
    pub fn pop_timeout(&mut self, timeout: Duration) -> Result<T, RingError> {
        self.pop_until(Deadline::In(timeout))
    }

    /// Pops an item, waiting at most until `deadline`.
    #[inline]
    pub fn pop_deadline(&mut self, deadline: Instant) -> Result<T, RingError> {
        self.pop_until(Deadline::At(deadline))
    }

    pub(crate) fn pop_would_not_wait(&self) -> bool {
        let dead = self.end.lane.dead_at(Side::Writer, self.party.table()).is_some();
        self.end.is_ready() || self.end.lane.is_closed() || dead
    }

    pub(crate) fn announce_reader(&self) -> (&crate::atomics::AtomicU32, u32) {
        self.end.lane.announce_reader(&self.party)
    }

    #[inline(always)]
    fn pop_until(&mut self, deadline: Deadline) -> Result<T, RingError> {
        self.end.await_item(&self.party, deadline).map_err(|stuck| RingError::of(stuck, RingError::Empty))?;
        let item = self.end.cell().load();
        self.end.advance();
        Ok(item)
    }
}

impl<T: Pod> Drop for Consumer<'_, T> {
    fn drop(&mut self) {
        if self.party.is_here() {
            self.end.lane.let_go(Side::Reader, &self.party);
        }
    }
}

impl<T: Pod> fmt::Debug for Producer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("party", &self.party).finish_non_exhaustive()
    }
}

impl<T: Pod> fmt::Debug for Consumer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("party", &self.party).finish_non_exhaustive()
    }
}

impl<T: Pod> fmt::Debug for SpscRing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpscRing")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("closed", &self.lane.is_closed())
            .finish_non_exhaustive()
    }
}

/// A ring that has no place yet.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct SpscRingPlan<T> {
    cells: usize,
    _item: std::marker::PhantomData<T>,
}

#[cfg(not(loom))]
// SAFETY: 1: the lane, then as many cells, padded as the fat reference has it. 2: atomics, and values of Pod. 3: positions
// are masked by the number of cells, which is private and a power of two.
unsafe impl<T: Pod> crate::place::InPlace for SpscRing<T> {
    const KIND: &'static str = "ring";
    const ELEMENT: (usize, usize) = (size_of::<T>(), align_of::<T>());

    fn layout(cells: usize) -> Option<Layout> {
        if !cells.is_power_of_two() || cells > QUEUE_CAPACITY_MAX {
            return None;
        }
        let head = Layout::new::<SpscRing<T, [RingCell<T>; 0]>>();
        let (whole, at) = head.extend(Layout::array::<RingCell<T>>(cells).ok()?).ok()?;
        debug_assert_eq!(at, std::mem::offset_of!(SpscRing<T, [RingCell<T>; 0]>, cells));
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        // SAFETY: by the caller's 1 and 2; any bytes are a valid ring.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: zero is an empty ring.
unsafe impl<T: Pod> crate::place::Plan for SpscRingPlan<T> {
    type Object = SpscRing<T>;

    fn cells(&self) -> usize {
        self.cells
    }

    unsafe fn place(self, _memory: *mut u8) {}
}
