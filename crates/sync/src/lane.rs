//! One direction of traffic: cells in a ring, written at one end, read at the other. Steps R1–R7 of `README.md`.
//!
//! The two positions and the copies of the opposite one are those of every single-producer ring (Lamport's, with the
//! cached indices of Lee and others' `MCRingBuffer`). What deaths add: each end is held by name.

use bytemuck::Pod;

use crate::atomics::{AtomicU32, AtomicU64, Ordering, fence};
use crate::deadline::Deadline;
use crate::owner::{Holder, Owner};
use crate::park;
use crate::party::Party;
use crate::pod::PodCell;
use crate::slots::SlotTable;
use crate::waiting::Waiting;

/// The words of a lane: a quiet line, then a line per end.
#[repr(C)]
pub(crate) struct Lane {
    quiet: Quiet,
    writer: End,
    reader: End,
}

/// Changes only when somebody sleeps or closes.
#[repr(C, align(128))]
struct Quiet {
    /// `taken:31 | asleep:1`, see `park`: the reader waits for an item.
    items: AtomicU32,
    /// The writer waits for room.
    room: AtomicU32,
    closed: AtomicU32,
}

/// One end: how many items have passed it, and who holds it.
#[repr(C, align(128))]
struct End {
    position: AtomicU64,
    /// The reader's only: the position after an item that is read, while what belongs to it is given back.
    drained: AtomicU64,
    owner: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Lane>() == 384 && offset_of!(Lane, writer) == 128 && offset_of!(Lane, reader) == 256);
    assert!(offset_of!(End, position) == 0 && offset_of!(End, drained) == 8 && offset_of!(End, owner) == 16);
};

/// Which end of a lane.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Writer,
    Reader,
}

/// Why an end cannot go on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stuck {
    Late,
    Closed,
    PeerDied(Holder),
}

impl Lane {
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        let end =
            || End { position: AtomicU64::new(0), drained: AtomicU64::new(0), owner: AtomicU32::new(0) };
        let quiet = Quiet { items: AtomicU32::new(0), room: AtomicU32::new(0), closed: AtomicU32::new(0) };
        Self { quiet, writer: end(), reader: end() }
    }

    fn end(&self, side: Side) -> &End {
        match side {
            Side::Writer => &self.writer,
            Side::Reader => &self.reader,
        }
    }

    /// R1: takes an end that nobody holds, or a dead one's; `Err` names the living one who holds it.
    pub(crate) fn hold(&self, side: Side, party: &Party) -> Result<(), Holder> {
        let (word, table) = (&self.end(side).owner, party.table());
        let mut seen = word.load(Ordering::Acquire);
        loop {
            if let Some(owner) = Owner::of_word(seen)
                && (owner == party.owner() || !table.learns_of_death(owner))
            {
                return Err(table.holder(owner));
            }
            match word.compare_exchange(seen, party.owner().bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // X6: a peer that sees what we write from here on sees that the end is ours (`is_held_as`).
                    fence(Ordering::Release);
                    return Ok(());
                }
                Err(changed) => seen = changed,
            }
        }
    }

    /// R7: gives the end back; whoever waits at the other one goes on waiting for the next holder.
    pub(crate) fn let_go(&self, side: Side, party: &Party) {
        let (word, me) = (&self.end(side).owner, party.owner().bits());
        let _ = word.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    pub(crate) fn position(&self, side: Side) -> u64 {
        self.end(side).position.load(Ordering::Acquire)
    }

    pub(crate) fn drained(&self) -> u64 {
        self.reader.drained.load(Ordering::Acquire)
    }

    pub(crate) fn set_drained(&self, position: u64) {
        self.reader.drained.store(position, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.quiet.closed.load(Ordering::Acquire) != 0
    }

    pub(crate) fn close(&self) {
        self.quiet.closed.store(1, Ordering::SeqCst);
        park::take_mark(&self.quiet.items, &self.quiet.items);
        park::take_mark(&self.quiet.room, &self.quiet.room);
    }

    /// How many items lie in it, if the positions make sense.
    pub(crate) fn len(&self, cells: usize) -> Option<usize> {
        let reader = self.position(Side::Reader);
        let len = self.position(Side::Writer).wrapping_sub(reader);
        (len <= cells as u64).then_some(len as usize)
    }

    /// Who holds an end, if it is dead; without asking the kernel.
    pub(crate) fn dead_at(&self, side: Side, table: &SlotTable) -> Option<(u32, Owner)> {
        let word = self.end(side).owner.load(Ordering::Acquire);
        Owner::of_word(word).filter(|owner| table.is_dead(*owner)).map(|owner| (word, owner))
    }

    pub(crate) fn is_held_as(&self, side: Side, word: u32) -> bool {
        fence(Ordering::Acquire);
        self.end(side).owner.load(Ordering::Acquire) == word
    }

    /// For who waits at several things: looks after the writer, marks, and says on what to sleep.
    pub(crate) fn announce_reader(&self, party: &Party) -> (&AtomicU32, u32) {
        self.ask_about(Side::Writer, party.table());
        (&self.quiet.items, park::announce(&self.quiet.items))
    }

    /// Waits at one end until `ready`, the lane is closed, or the other end's holder is dead and `ready` is still false.
    #[cold]
    fn wait(
        &self,
        side: Side,
        party: &Party,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Result<(), Stuck> {
        let (parked, other) = match side {
            Side::Writer => (&self.quiet.room, Side::Reader),
            Side::Reader => (&self.quiet.items, Side::Writer),
        };
        let closed = || self.is_closed();
        let now = matches!(deadline, Deadline::Now);
        if !now && park::spin(|| ready() || closed()) && ready() {
            return Ok(());
        }
        let mut waiting = Waiting::new(party, deadline);
        let table = party.table();
        loop {
            waiting.look();
            // What ends the wait is looked at before the last look at what is waited for.
            let (dead, closed_now) = (self.dead_at(other, table), closed());
            if ready() {
                return Ok(());
            }
            if closed_now {
                return Err(Stuck::Closed);
            }
            if let Some((_, dead)) = dead {
                return Err(Stuck::PeerDied(table.holder(dead)));
            }
            if waiting.is_over() {
                if !now && self.ask_about(other, table) {
                    continue;
                }
                return Err(Stuck::Late);
            }
            let mark = park::announce(parked);
            if ready() || closed() {
                continue;
            }
            if waiting.sleep(parked, mark) {
                self.ask_about(other, table);
            }
        }
    }

    fn ask_about(&self, side: Side, table: &SlotTable) -> bool {
        let word = self.end(side).owner.load(Ordering::Acquire);
        Owner::of_word(word).is_some_and(|owner| table.learns_of_death(owner))
    }
}

/// The writing end, in its holder's hands.
pub(crate) struct Writer<'a, T> {
    pub(crate) lane: &'a Lane,
    cells: &'a [PodCell<T>],
    tail: u64,
    /// The reader's position when it was last looked at.
    head: u64,
}

/// The reading end, in its holder's hands.
pub(crate) struct Reader<'a, T> {
    pub(crate) lane: &'a Lane,
    cells: &'a [PodCell<T>],
    head: u64,
    /// The writer's position when it was last looked at.
    tail: u64,
}

impl<'a, T: Pod> Writer<'a, T> {
    /// For who holds the end. `cells` is a power of two.
    pub(crate) fn new(lane: &'a Lane, cells: &'a [PodCell<T>]) -> Self {
        let (tail, head) = (lane.position(Side::Writer), lane.position(Side::Reader));
        Self { lane, cells, tail, head }
    }

    pub(crate) fn cells_len(&self) -> usize {
        self.cells.len()
    }

    fn has_room(&self, head: u64) -> bool {
        self.tail.wrapping_sub(head) < self.cells.len() as u64
    }

    /// R2: waits for room.
    #[inline(always)]
    pub(crate) fn await_room(&mut self, party: &Party, deadline: Deadline) -> Result<(), Stuck> {
        if self.lane.is_closed() {
            return Err(Stuck::Closed);
        }
        if !self.has_room(self.head) {
            self.head = self.lane.position(Side::Reader);
            if !self.has_room(self.head) {
                let ready = || self.has_room(self.lane.position(Side::Reader));
                self.lane.wait(Side::Writer, party, deadline, ready)?;
                self.head = self.lane.position(Side::Reader);
            }
        }
        Ok(())
    }

    /// The cell of the next item.
    #[inline(always)]
    pub(crate) fn cell(&self) -> &'a PodCell<T> {
        &self.cells[self.tail as usize & (self.cells.len() - 1)]
    }

    /// R4: the item is there; wakes the reader. Killed before: it is not there.
    #[inline(always)]
    pub(crate) fn publish(&mut self) {
        self.tail = self.tail.wrapping_add(1);
        self.lane.writer.position.swap(self.tail, Ordering::SeqCst);
        crate::atomics::model_fence();
        if self.lane.quiet.items.load(Ordering::SeqCst) & park::ASLEEP != 0 {
            park::take_mark(&self.lane.quiet.items, &self.lane.quiet.items);
        }
    }
}

impl<'a, T: Pod> Reader<'a, T> {
    /// For who holds the end. `cells` is a power of two.
    pub(crate) fn new(lane: &'a Lane, cells: &'a [PodCell<T>]) -> Self {
        let (tail, head) = (lane.position(Side::Writer), lane.position(Side::Reader));
        Self { lane, cells, tail, head }
    }

    /// More items than cells are garbage, and taken for none.
    fn has_item(&self, tail: u64) -> bool {
        (1..=self.cells.len() as u64).contains(&tail.wrapping_sub(self.head))
    }

    /// R5: waits for an item.
    #[inline(always)]
    pub(crate) fn await_item(&mut self, party: &Party, deadline: Deadline) -> Result<(), Stuck> {
        if !self.has_item(self.tail) {
            self.tail = self.lane.position(Side::Writer);
            if !self.has_item(self.tail) {
                let ready = || self.has_item(self.lane.position(Side::Writer));
                self.lane.wait(Side::Reader, party, deadline, ready)?;
                self.tail = self.lane.position(Side::Writer);
            }
        }
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.has_item(self.lane.position(Side::Writer))
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The cell of the next item.
    #[inline(always)]
    pub(crate) fn cell(&self) -> &'a PodCell<T> {
        &self.cells[self.head as usize & (self.cells.len() - 1)]
    }

    /// R6: the item is taken; wakes the writer. Killed before: it is there for the next holder.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.head = self.head.wrapping_add(1);
        self.lane.reader.position.swap(self.head, Ordering::SeqCst);
        crate::atomics::model_fence();
        if self.lane.quiet.room.load(Ordering::SeqCst) & park::ASLEEP != 0 {
            park::take_mark(&self.lane.quiet.room, &self.lane.quiet.room);
        }
    }
}
