//! Two ends that send each other messages. Steps R1–R7 and X1–X6 of `README.md`.

#[cfg(not(loom))]
use std::alloc::Layout;
use std::fmt;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU32, AtomicU64};
use crate::deadline::Deadline;
use crate::envelope::{Envelope, Extents, INLINE, MessageFault, Room};
use crate::lane::{Lane, Reader, Side, Stuck, Writer};
use crate::messages::Next;
use crate::owner::Holder;
use crate::party::Party;
#[cfg(not(loom))]
use crate::place::{InPlace, Plan};
use crate::pod::PodCell;
use crate::queue::Belongings;

/// A duplex connection: what is sent at one end is received at the other, whole, in order, from 0 bytes to gigabytes.
///
/// Each end is held by name; when its holder dies, what it sent whole is received, a message that it was sending is not,
/// then the other end is told who died. Another party may take the dead one's end and go on.
#[repr(C)]
pub struct Pipe<C: ?Sized = [PipeCell]> {
    /// From A to B, and back.
    lanes: [Lane; 2],
    next: Next,
    /// The first half for the first lane.
    cells: C,
}

/// One place for a message.
#[repr(transparent)]
pub struct PipeCell(PodCell<Envelope>);

/// Which end of a pipe.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum PipeSide {
    /// The one.
    A,
    /// The other.
    B,
}

/// Why an end could not be had, or no message went through it.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// A living party holds this end.
    #[error("this end is held by {holder}")]
    Held {
        /// Who.
        holder: Holder,
    },
    /// The other end did not make room, or send, until the deadline.
    #[error("the other end of the pipe did nothing in time")]
    TimedOut,
    /// Somebody closed it; what was sent before has been received.
    #[error("the pipe is closed")]
    Closed,
    /// Who held the other end is dead, and nobody has taken it over; what it had sent has been received.
    #[error("{who} held the other end and died")]
    PeerDied {
        /// Who.
        who: Holder,
    },
    /// The message could not be stored or fetched. Nothing was sent; what was to be received is there for another try,
    /// unless it was garbage.
    #[error(transparent)]
    Message(#[from] MessageFault),
}

impl From<Stuck> for PipeError {
    fn from(stuck: Stuck) -> Self {
        match stuck {
            Stuck::Late => Self::TimedOut,
            Stuck::Closed => Self::Closed,
            Stuck::PeerDied(who) => Self::PeerDied { who },
        }
    }
}

impl Pipe {
    #[cfg(loom)]
    /// A pipe for a model, with room for `N / 2` messages in each direction.
    pub fn for_model<const N: usize>() -> Box<Self> {
        let cells = std::array::from_fn(|_| PipeCell(PodCell::new()));
        let lanes = [Lane::new(), Lane::new()];
        Box::new(Pipe::<[PipeCell; N]> { lanes, next: Next(AtomicU64::new(0)), cells })
    }

    /// A pipe with room for at least so many messages on the way in each direction: the next power of two.
    ///
    /// # Panics
    /// With a capacity of 0, or over 2^24.
    #[cfg(not(loom))]
    pub fn with_capacity(capacity: usize) -> PipePlan {
        assert!((1..=CELLS_MAX / 2).contains(&capacity), "a pipe has room for 1 to 2^24 messages");
        PipePlan { cells: 2 * capacity.next_power_of_two() }
    }

    /// How many messages can be on the way in each direction.
    pub fn capacity(&self) -> usize {
        self.cells.len() / 2
    }

    /// Takes an end: one that nobody holds, or a dead one's. [`PipeError::Held`] names a living holder. The extents are the
    /// same room at both ends.
    pub fn end<'p>(
        &'p self,
        party: &Party,
        extents: &'p dyn Extents,
        side: PipeSide,
    ) -> Result<PipeEnd<'p>, PipeError> {
        let (out, back) = match side {
            PipeSide::A => (0, 1),
            PipeSide::B => (1, 0),
        };
        let held = |holder| PipeError::Held { holder };
        self.lanes[out].hold(Side::Writer, party).map_err(held)?;
        if let Err(holder) = self.lanes[back].hold(Side::Reader, party) {
            self.lanes[out].let_go(Side::Writer, party);
            return Err(held(holder));
        }
        let mut end = PipeEnd {
            party: *party,
            room: Room { extents, next: &self.next.0 },
            writer: Writer::new(&self.lanes[out], self.half(out)),
            reader: Reader::new(&self.lanes[back], self.half(back)),
        };
        end.clear_up();
        Ok(end)
    }

    /// Nothing is sent any more, either way; what has been sent is received, then both ends are told.
    pub fn close(&self) {
        self.lanes.iter().for_each(Lane::close);
    }

    fn half(&self, which: usize) -> &[PodCell<Envelope>] {
        let half = self.cells.len() / 2;
        let cells = &self.cells[which * half..][..half];
        // SAFETY: a transparent wrapper.
        unsafe { &*(std::ptr::from_ref(cells) as *const [PodCell<Envelope>]) }
    }
}

/// One end of a pipe, given back when dropped.
pub struct PipeEnd<'p> {
    party: Party,
    room: Room<'p>,
    writer: Writer<'p, Envelope>,
    reader: Reader<'p, Envelope>,
}

impl PipeEnd<'_> {
    /// Sends a message, however long there is no room.
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), PipeError> {
        self.send_until(message, Deadline::Never)
    }

    /// Sends a message if there is room.
    pub fn try_send_bytes(&mut self, message: &[u8]) -> Result<(), PipeError> {
        self.send_until(message, Deadline::Now)
    }

    /// Sends a message, waiting for room at most for `timeout`.
    pub fn send_bytes_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), PipeError> {
        self.send_until(message, Deadline::In(timeout))
    }

    /// Sends a message, waiting for room at most until `deadline`.
    pub fn send_bytes_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), PipeError> {
        self.send_until(message, Deadline::At(deadline))
    }

    /// Receives a message, however long there is none.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_until(Deadline::Never)
    }

    /// Receives a message if there is one.
    pub fn try_recv_bytes(&mut self) -> Result<Vec<u8>, PipeError> {
        self.recv_until(Deadline::Now)
    }

    /// Receives a message, waiting at most for `timeout`.
    pub fn recv_bytes_timeout(&mut self, timeout: Duration) -> Result<Vec<u8>, PipeError> {
        self.recv_until(Deadline::In(timeout))
    }

    /// Receives a message, waiting at most until `deadline`.
    pub fn recv_bytes_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, PipeError> {
        self.recv_until(Deadline::At(deadline))
    }

    /// Waits at most for `timeout` until receiving would not wait: a message is there, or the end of them.
    pub fn poll(&mut self, timeout: Duration) -> bool {
        self.reader.await_item(&self.party, Deadline::In(timeout)) != Err(Stuck::Late)
    }

    #[inline]
    fn send_until(&mut self, message: &[u8], deadline: Deadline) -> Result<(), PipeError> {
        self.writer.await_room(&self.party, deadline)?;
        let cell = self.writer.cell();
        if let Err(fault) = self.room.store(cell, message) {
            self.room.discard(&cell.load());
            return Err(fault.into());
        }
        self.writer.publish();
        Ok(())
    }

    #[inline]
    fn recv_until(&mut self, deadline: Deadline) -> Result<Vec<u8>, PipeError> {
        if let Err(stuck) = self.reader.await_item(&self.party, deadline) {
            if let Stuck::PeerDied(_) = stuck {
                self.clear_up_after_the_peer();
            }
            return Err(stuck.into());
        }
        let envelope = self.reader.cell().load();
        let fetched = self.room.fetch(&envelope);
        if let Ok(_) | Err(MessageFault::Garbage) = &fetched {
            if matches!(&fetched, Ok(message) if message.len() > INLINE) {
                // X5: what the next holder finds marked has been received.
                self.reader.lane.set_drained(self.reader.head().wrapping_add(1));
                self.room.discard(&envelope);
            }
            self.reader.advance();
        }
        Ok(fetched?)
    }

    /// X6: what the dead holder before us left: a message received and not given back, a message not sent whole.
    fn clear_up(&mut self) {
        if self.reader.is_ready() && self.reader.lane.drained() == self.reader.head().wrapping_add(1) {
            self.room.discard(&self.reader.cell().load());
            self.reader.advance();
        }
        // Our cell to write, unless the lane is full: then it is the oldest message.
        if self.writer.lane.len(self.writer.cells_len()).is_some_and(|len| len < self.writer.cells_len()) {
            self.room.discard(&self.writer.cell().load());
        }
    }

    /// X6 for a dead peer that has no heir: a message that it had not sent whole. What we looked at is its, not an heir's,
    /// if it still holds the end after we looked.
    #[cold]
    fn clear_up_after_the_peer(&self) {
        let lane = self.reader.lane;
        if let Some((word, _)) = lane.dead_at(Side::Writer, self.party.table()) {
            let torn = self.reader.cell().load(); // there is no item, so this is the cell that it was to write
            if lane.is_held_as(Side::Writer, word) && !self.reader.is_ready() {
                self.room.discard(&torn);
            }
        }
    }

    pub(crate) fn reader_is_ready(&self) -> bool {
        let lane = self.reader.lane;
        let dead = lane.dead_at(Side::Writer, self.party.table()).is_some();
        self.reader.is_ready() || lane.is_closed() || dead
    }

    pub(crate) fn announce_reader(&self) -> (&AtomicU32, u32) {
        self.reader.lane.announce_reader(&self.party)
    }
}

impl Drop for PipeEnd<'_> {
    fn drop(&mut self) {
        if self.party.is_here() {
            self.reader.lane.let_go(Side::Reader, &self.party);
            self.writer.lane.let_go(Side::Writer, &self.party);
        }
    }
}

impl fmt::Debug for PipeEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeEnd").field("party", &self.party).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
/// Both halves together.
const CELLS_MAX: usize = 2 * crate::limits::PIPE_CAPACITY_MAX;

#[cfg(not(loom))]
/// A pipe that has no place yet.
#[derive(Copy, Clone, Debug)]
pub struct PipePlan {
    cells: usize,
}

#[cfg(not(loom))]
const _: () = assert!(std::mem::offset_of!(Pipe<[PipeCell; 2]>, next) == 768);

// The offsets come from one bump of this word, so it must be an atomic of 8 bytes wherever it lies.
#[cfg(not(loom))]
const _: () = assert!(size_of::<AtomicU64>() == 8);

#[cfg(not(loom))]
// SAFETY: 1: the lanes, the line, then as many cells. 2: atomics, and envelopes, which are Pod. 3: positions are masked by
// half the number of cells, which is private and a power of two; envelopes are checked copies.
unsafe impl InPlace for Pipe {
    const KIND: &'static str = "pipe";

    fn layout(cells: usize) -> Option<Layout> {
        if cells < 2 || !cells.is_power_of_two() || cells > CELLS_MAX {
            return None;
        }
        let head = Layout::new::<Pipe<[PipeCell; 0]>>();
        let (whole, at) = head.extend(Layout::array::<PipeCell>(cells).ok()?).ok()?;
        debug_assert_eq!(at, std::mem::offset_of!(Pipe<[PipeCell; 0]>, cells));
        Some(whole.pad_to_align())
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        // SAFETY: by the caller's 1 and 2; any bytes are a valid pipe.
        unsafe { &*(std::ptr::slice_from_raw_parts(memory, cells) as *const Self) }
    }
}

#[cfg(not(loom))]
// SAFETY: zero is an empty pipe with free ends.
unsafe impl Plan for PipePlan {
    type Object = Pipe;

    fn cells(&self) -> usize {
        self.cells
    }

    unsafe fn place(self, _memory: *mut u8) {}
}
