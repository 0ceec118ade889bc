//! A lane: the cells that wait to be run, in the order in which they came. One writer, many takers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::{Cell, State, Word};
use crate::ledger::Owner;

/// Head and tail, in cache lines of their own.
#[repr(C, align(64))]
pub(crate) struct Ends {
    /// Entries that have been taken, or passed over.
    head: AtomicU64,
    pad: [u64; 7],
    /// Entries that have been put in.
    tail: AtomicU64,
    pad2: [u64; 7],
}

/// A lane in the table.
///
/// Another attempt always finds room: new tasks leave some free. Every attempt that ends has taken an entry before, so of new tasks and
/// attempts together there are never more than new tasks may be, and one for each worker, and one that was taken by a worker
/// that died before it moved the head.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'t> {
    ends: &'t Ends,
    entries: &'t [AtomicU64],
    /// Room for new tasks.
    room: usize,
}

/// A task that this worker has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Index of its cell.
    pub(crate) cell: usize,
    /// The cell's word while it is ours.
    pub(crate) word: Word,
}

impl<'t> Lane<'t> {
    pub(crate) fn new(ends: &'t Ends, entries: &'t [AtomicU64], room: usize) -> Lane<'t> {
        Lane { ends, entries, room }
    }

    /// Step 1: puts a cell at the end; false when there is no room. The one writer.
    pub(crate) fn put(&self, serial: u32, cell: usize) -> bool {
        self.put_within(self.room, serial, cell)
    }

    /// As [`Lane::put`], for another attempt (steps 5 and 6).
    pub(crate) fn put_again(&self, serial: u32, cell: usize) -> bool {
        self.put_within(self.entries.len(), serial, cell)
    }

    fn put_within(&self, room: usize, serial: u32, cell: usize) -> bool {
        let (head, tail) = (self.ends.head.load(Ordering::SeqCst), self.ends.tail.load(Ordering::Relaxed));
        if tail.wrapping_sub(head) >= room as u64 {
            return false;
        }
        self.entry(tail).store(u64::from(serial) << 32 | cell as u64, Ordering::Relaxed);
        self.ends.tail.store(tail + 1, Ordering::SeqCst);
        true
    }

    /// Whether nothing is in it, as far as one look can say.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.head.load(Ordering::SeqCst) == self.ends.tail.load(Ordering::SeqCst)
    }

    /// Step 2: the first task that is still queued, for `owner`.
    pub(crate) fn take(&self, cells: &[Cell], owner: Owner) -> Option<Taken> {
        loop {
            let head = self.ends.head.load(Ordering::SeqCst);
            if head == self.ends.tail.load(Ordering::SeqCst) {
                return None;
            }
            let entry = self.entry(head).load(Ordering::Relaxed);
            let (serial, index) = ((entry >> 32) as u32, entry as u32 as usize);
            let running = Word::new(serial, State::Running, Some(owner));
            let cell = cells.get(index);
            let ours = cell.is_some_and(|cell| cell.step(Word::new(serial, State::Queued, None), running));
            // Ours, somebody else's, or cancelled: the entry has had its use. If another one has moved the head, it is past.
            let _ = self.ends.head.compare_exchange(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
            if ours {
                return Some(Taken { cell: index, word: running });
            }
        }
    }

    fn entry(&self, at: u64) -> &'t AtomicU64 {
        &self.entries[(at % self.entries.len() as u64) as usize]
    }
}
