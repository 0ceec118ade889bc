//! The table of tasks, as it lies in its segment.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use swath_segment::SegmentRef;
use swath_sync::{spin_then_park, wake_left_behind, wake_parked};

use super::cell::Cell;
use super::lane::{Ends, Lane};
use crate::limits::{POST_LANE, TASKS_IN_TABLE, WORKERS_MAX};

/// Tells a table from other segments; the last byte is the layout's version.
const MAGIC: u64 = u64::from_be_bytes(*b"swtasks\x02");

/// Which tasks are taken first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others.
    High,
    /// In the order in which they came.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

/// Lanes of all workers: one per priority.
pub(crate) const LANES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// Entries of a lane for all workers: tasks, and an attempt for each worker (see [`Lane`]).
const LANE_ENTRIES: usize = TASKS_IN_TABLE + (WORKERS_MAX + 1).next_multiple_of(8);
/// Entries of one worker's lane, with room for its attempts.
const POST_ENTRIES: usize = POST_LANE + 8;

#[repr(C, align(64))]
struct Head {
    magic: u64,
    workers: u64,
    /// The coordinator's file of long arguments.
    requests: SegmentRef,
    /// Tasks that have been finished: rung after each.
    completions: AtomicU32,
    parked: AtomicU32,
    pad: [u64; 7],
}

/// What one worker is told.
#[repr(C, align(64))]
pub(crate) struct Post {
    /// The number of the claim after which it takes nothing more (step 7); 0: none.
    pub(crate) halt: AtomicU64,
    /// The cell of the task in hand plus one, above its serial; 0 when idle.
    current: AtomicU64,
    /// Tasks that it has finished.
    pub(crate) finished: AtomicU64,
    /// The number of the claim whose task has asked whether it is cancelled.
    pub(crate) listens: AtomicU64,
    pad: [u64; 4],
    /// Its file of long results, written by the coordinator before the worker is started or told of the table.
    file: UnsafeCell<SegmentRef>,
    lane: Ends,
    entries: [AtomicU64; POST_ENTRIES],
}

impl Post {
    /// The task in hand: cell and serial.
    pub(crate) fn current(&self) -> Option<(usize, u32)> {
        let word = self.current.load(Ordering::SeqCst);
        (word != 0).then(|| ((word as u32 - 1) as usize, (word >> 32) as u32))
    }

    /// The worker says what it has in hand. A hint for time-outs: the cell's state decides.
    pub(crate) fn set_current(&self, task: Option<(usize, u32)>) {
        let word = task.map_or(0, |(cell, serial)| u64::from(serial) << 32 | (cell as u64 + 1));
        self.current.store(word, Ordering::SeqCst);
    }

    /// Tasks for this worker alone.
    pub(crate) fn lane(&self) -> Lane<'_> {
        Lane::new(&self.lane, &self.entries, POST_LANE)
    }

    /// The file of long results.
    pub(crate) fn file(&self) -> SegmentRef {
        // SAFETY: in bounds; written only before the worker of this generation looks.
        unsafe { self.file.get().read_volatile() }
    }

    /// Gives the post to a new worker, which is not started yet or does not know the table.
    pub(crate) fn assign(&self, file: SegmentRef) {
        self.halt.store(0, Ordering::Relaxed);
        self.current.store(0, Ordering::Relaxed);
        // SAFETY: in bounds; nobody reads it now.
        unsafe { self.file.get().write_volatile(file) };
    }
}

/// A mapped table. Copyable: the mapping lives as long as the pool, or the worker.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    base: *mut u8,
}

// SAFETY: everything behind `base` is atomic, or follows the rule of `Post::file`.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

const LANE_BYTES: usize = size_of::<Ends>() + LANE_ENTRIES * size_of::<AtomicU64>();

impl Table {
    /// Bytes of a table for `workers` workers.
    pub(crate) fn bytes(workers: usize) -> usize {
        size_of::<Head>()
            + LANES.len() * LANE_BYTES
            + workers * size_of::<Post>()
            + TASKS_IN_TABLE * size_of::<Cell>()
    }

    /// Sets up a table in zeroed memory.
    ///
    /// # Safety
    /// 1. `base` points at [`Table::bytes`]`(workers)` zeroed bytes, writable, page-aligned, mapped for longer than any copy of
    ///    the result is used.
    pub(crate) unsafe fn create(base: *mut u8, workers: usize, requests: SegmentRef) -> Table {
        let head = base.cast::<Head>();
        // SAFETY: by 1 the head lies in writable memory, and nobody else knows it yet.
        unsafe {
            (*head).workers = workers as u64;
            (*head).requests = requests;
            (*head).magic = MAGIC;
        }
        Table { base }
    }

    /// Checks a table that was attached; `None` when it is not one.
    ///
    /// # Safety
    /// 1. `base` points at `len` bytes, writable, page-aligned, mapped for longer than any copy of the result is used.
    pub(crate) unsafe fn attach(base: *mut u8, len: usize) -> Option<Table> {
        let table = Table { base };
        let head = (len >= size_of::<Head>()).then(|| table.head())?;
        let whole = Table::bytes(usize::try_from(head.workers).ok()?) <= len;
        (head.magic == MAGIC && whole).then_some(table)
    }

    fn head(&self) -> &Head {
        // SAFETY: `create` and `attach` demand a mapped head; its plain fields do not change after `create`.
        unsafe { &*self.base.cast::<Head>() }
    }

    /// The coordinator's file of long arguments.
    pub(crate) fn requests(&self) -> SegmentRef {
        self.head().requests
    }

    fn workers(&self) -> usize {
        self.head().workers as usize
    }

    /// The lane of `priority`.
    pub(crate) fn lane(&self, priority: Priority) -> Lane<'_> {
        let at = size_of::<Head>() + priority as usize * LANE_BYTES;
        // SAFETY: inside the mapping by `Table::bytes`, 64-aligned, and only ever accessed as atomics.
        let (ends, entries) = unsafe {
            let ends = &*self.base.add(at).cast::<Ends>();
            let first = self.base.add(at + size_of::<Ends>()).cast::<AtomicU64>();
            (ends, std::slice::from_raw_parts(first, LANE_ENTRIES))
        };
        Lane::new(ends, entries, TASKS_IN_TABLE)
    }

    /// The post of worker `index`.
    ///
    /// # Panics
    /// When there is no such worker.
    pub(crate) fn post(&self, index: usize) -> &Post {
        assert!(index < self.workers(), "worker {index} of {}", self.workers());
        let at = size_of::<Head>() + LANES.len() * LANE_BYTES + index * size_of::<Post>();
        // SAFETY: inside the mapping by the assertion and `Table::bytes`; the fields are atomics, or follow the rule of `file`.
        unsafe { &*self.base.add(at).cast::<Post>() }
    }

    /// All cells.
    pub(crate) fn cells(&self) -> &[Cell] {
        let at = size_of::<Head>() + LANES.len() * LANE_BYTES + self.workers() * size_of::<Post>();
        // SAFETY: inside the mapping by `Table::bytes`, 64-aligned, all fields atomic.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast::<Cell>(), TASKS_IN_TABLE) }
    }

    /// How many tasks have been finished, to be passed to [`Table::wait_completion`] later.
    pub(crate) fn completions(&self) -> u32 {
        self.head().completions.load(Ordering::SeqCst)
    }

    /// One more is finished.
    pub(crate) fn ring_completion(&self) {
        let head = self.head();
        head.completions.fetch_add(1, Ordering::SeqCst);
        wake_parked(&head.completions, &head.parked);
    }

    /// As [`Table::ring_completion`], for a worker that died in it.
    pub(crate) fn ring_left_behind(&self) {
        let head = self.head();
        head.completions.fetch_add(1, Ordering::SeqCst);
        wake_left_behind(&head.parked);
    }

    /// Waits until a task has been finished since `seen`; false when `slice` has passed first.
    pub(crate) fn wait_completion(&self, seen: u32, slice: Option<Duration>) -> bool {
        let head = self.head();
        spin_then_park(&head.completions, &head.parked, || self.completions() != seen, slice)
    }
}

const _: () = assert!(
    size_of::<Head>().is_multiple_of(64)
        && size_of::<Post>().is_multiple_of(64)
        && LANE_BYTES.is_multiple_of(64)
);
