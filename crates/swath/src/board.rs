//! A pool's board: the segment through which coordinator and workers talk while they work.
//!
//! ```text
//! head (one page) | two phase blocks | one cell per worker
//! ```
//!
//! Dispatch, in numbered steps that the code cites:
//!
//! 1. The coordinator fills the block that the current phase does *not* use, sets every cell's range, then stores the new
//!    sequence number (Release) and rings the doorbell.
//! 2. A worker that sees a new sequence copies the block word by word and looks at the sequence again. Unchanged: the copy is
//!    whole, because that block is not written again before the sequence has moved on. Changed: it starts over.
//! 3. The copy entitles to nothing. Only a claim in the ledger, which carries the epoch, lets a worker touch arguments,
//!    arrays or partials. A worker may sleep here through any number of phases.
//! 4. Out of work, a worker rings the bell and waits for the doorbell. The coordinator adds up what the cells say is done: a
//!    hint; one scan of the ledger decides.
//! 5. Chunks that nobody's range covers (given back after a death, lost by a stopped thief) are announced by `sweep`: it
//!    goes up, the doorbell rings, and whoever is idle scans the ledger for FREE entries.
//!
//! Doorbell and bell are futex words with a parked flag each: the ringer makes a system call only if somebody sleeps.

mod cell;

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::Zeroable;
use swath_platform::exe::Identity;

use swath_segment::SegmentRef;
use swath_sync::{SLICE, spin_then_park, wake_one_parked, wake_parked};

use crate::descriptor::Descriptor;

pub(crate) use cell::{Cell, Flush};

/// Tells a board from other segments; the last byte is the layout's version.
const MAGIC: u64 = u64::from_be_bytes(*b"swboard\x01");
const HEAD_BYTES: usize = 4096;

/// A word in a cache line of its own.
#[repr(C, align(64))]
struct Padded<T>(T);

#[repr(C)]
struct Head {
    magic: u64,
    workers: u64,
    exe: [u64; 2],
    doorbell: Padded<AtomicU32>,
    doorbell_parked: Padded<AtomicU32>,
    bell: Padded<AtomicU32>,
    bell_parked: Padded<AtomicU32>,
    phase: Padded<AtomicU32>,
    stop: Padded<AtomicU32>,
    sweep: Padded<AtomicU32>,
    shutdown: Padded<AtomicU32>,
    /// Who has the locked operands: index of a cell plus one, or 0.
    lock: Padded<AtomicU32>,
    lock_parked: Padded<AtomicU32>,
    /// 1 when `tasks` names the table of tasks.
    has_tasks: Padded<AtomicU32>,
    tasks: UnsafeCell<SegmentRef>,
    /// How many of the workers are wanted: those of higher index leave, and are given nothing.
    wanted: Padded<AtomicU32>,
    /// 1 when workers may run what is the user's.
    opened: Padded<AtomicU32>,
    /// A team counts on the workers below this index: they do not leave by themselves.
    kept: Padded<AtomicU32>,
    /// What every worker is told, set before the first one is started.
    contract: SegmentRef,
}
const _: () = assert!(size_of::<Head>() <= HEAD_BYTES);
const _: () = assert!(size_of::<Descriptor>().is_multiple_of(8));

/// A mapped board. Copyable: the mapping lives as long as the pool, or the worker.
#[derive(Clone, Copy)]
pub(crate) struct Board {
    base: *mut u8,
}

// SAFETY: everything behind `base` is atomic, or written by one side while the other cannot look (see the module's steps).
unsafe impl Send for Board {}
// SAFETY: as above.
unsafe impl Sync for Board {}

impl Board {
    /// Bytes of a board for `workers` workers.
    pub(crate) fn bytes(workers: usize) -> usize {
        HEAD_BYTES + 2 * block_bytes() + workers * size_of::<Cell>()
    }

    /// Sets up a board in zeroed memory.
    ///
    /// # Safety
    /// 1. `base` points at [`Board::bytes`]`(workers)` zeroed bytes, writable, page-aligned, mapped for longer than any copy of
    ///    the result is used.
    pub(crate) unsafe fn create(base: *mut u8, workers: usize, exe: Identity, contract: SegmentRef) -> Board {
        let head = base.cast::<Head>();
        // SAFETY: by 1 the head lies in writable memory, and nobody else knows it yet.
        unsafe {
            (*head).workers = workers as u64;
            (*head).exe = [exe.dev, exe.ino];
            (*head).contract = contract;
            (*head).wanted.0 = AtomicU32::new(workers as u32);
            (*head).magic = MAGIC;
        }
        Board { base }
    }

    /// Checks a board that was attached; `None` when it is not one for this executable.
    ///
    /// # Safety
    /// 1. `base` points at `len` bytes, writable, page-aligned, mapped for longer than any copy of the result is used.
    pub(crate) unsafe fn attach(base: *mut u8, len: usize, exe: Identity) -> Option<Board> {
        if len < HEAD_BYTES {
            return None;
        }
        let board = Board { base };
        let head = board.head();
        let whole = Board::bytes(usize::try_from(head.workers).ok()?) <= len;
        (head.magic == MAGIC && whole && head.exe == [exe.dev, exe.ino]).then_some(board)
    }

    /// The file of what every worker is told.
    pub(crate) fn contract(&self) -> SegmentRef {
        self.head().contract
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: `create` and `attach` demand a mapped head; its plain fields do not change after `create`.
        unsafe { &*self.base.cast::<Head>() }
    }

    /// Workers may run what is the user's, from now on.
    pub(crate) fn open(&self) {
        self.head().opened.0.store(1, Ordering::SeqCst);
        self.ring_doorbell();
    }

    /// Whether they may.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.head().opened.0.load(Ordering::Acquire) != 0
    }

    /// Waits until they may; false when they never will.
    pub(crate) fn await_opening(&self) -> bool {
        loop {
            let heard = self.doorbell();
            if self.is_open() || self.is_shut_down() {
                return self.is_open();
            }
            self.wait_doorbell(heard, None);
        }
    }

    /// How many of the workers are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.head().wanted.0.load(Ordering::SeqCst) as usize
    }

    /// Changes that. Those that are not wanted any more are rung.
    pub(crate) fn want(&self, workers: usize) {
        self.head().wanted.0.store(workers.min(self.workers()) as u32, Ordering::SeqCst);
        self.ring_doorbell();
    }

    /// Keeps the first `workers` workers: of those none leaves by itself any more that has not [said so](Cell::has_retired). With 0,
    /// they may again.
    pub(crate) fn keep(&self, workers: usize) {
        self.head().kept.0.store(workers as u32, Ordering::SeqCst);
        if workers == 0 {
            self.ring_doorbell();
        }
    }

    /// Worker `index` says that it leaves by itself. Refused if it is to be kept: either it sees that, or who keeps it sees what it says.
    pub(crate) fn retire(&self, index: usize) -> bool {
        let cell = self.cell(index);
        cell.set_retired(true);
        let may = index >= self.head().kept.0.load(Ordering::SeqCst) as usize;
        if !may {
            cell.set_retired(false);
            self.ring_bell();
        }
        may
    }

    /// The most workers that there can be, which is the number of cells.
    #[inline]
    pub(crate) fn workers(&self) -> usize {
        self.head().workers as usize
    }

    /// The cell of worker `index`.
    ///
    /// # Panics
    /// When there is no such worker.
    #[inline]
    pub(crate) fn cell(&self, index: usize) -> &Cell {
        assert!(index < self.workers(), "worker {index} of {}", self.workers());
        let at = HEAD_BYTES + 2 * block_bytes() + index * size_of::<Cell>();
        // SAFETY: inside the mapping by the assertion and `Board::bytes`; the fields are atomics, or follow the rule of `Cell`.
        unsafe { &*self.base.add(at).cast::<Cell>() }
    }

    /// The cell of worker `index`, for as long as the process lives.
    ///
    /// # Safety
    /// 1. The board's mapping is never undone in this process.
    pub(crate) unsafe fn cell_for_ever(&self, index: usize) -> &'static Cell {
        // SAFETY: by 1.
        unsafe { &*std::ptr::from_ref(self.cell(index)) }
    }

    /// All cells.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        (0..self.workers()).map(|index| self.cell(index))
    }

    // ---- step 1, 2: phases -------------------------------------------------------------------------------------------

    /// Step 1: publishes a phase. Only the coordinator, one phase at a time.
    pub(crate) fn publish(&self, descriptor: &Descriptor) {
        let block = self.block(descriptor.sequence);
        let words = bytemuck::bytes_of(descriptor).chunks_exact(8);
        for (word, value) in block.iter().zip(words) {
            word.store(u64::from_ne_bytes(value.try_into().expect("eight bytes")), Ordering::Relaxed);
        }
        self.head().phase.0.store(descriptor.sequence, Ordering::Release);
        self.ring_doorbell();
    }

    /// Sequence number of the newest phase; 0 before the first.
    pub(crate) fn sequence(&self) -> u32 {
        self.head().phase.0.load(Ordering::Acquire)
    }

    /// Step 2: a whole copy of the newest phase's descriptor.
    pub(crate) fn copy_phase(&self, into: &mut Descriptor) {
        loop {
            let sequence = self.sequence();
            let block = self.block(sequence);
            for (word, bytes) in block.iter().zip(bytemuck::bytes_of_mut(into).chunks_exact_mut(8)) {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            // Orders the loads above before the second look (a seqlock's reader; Boehm, MSPC 2012).
            std::sync::atomic::fence(Ordering::Acquire);
            if self.head().phase.0.load(Ordering::Relaxed) == sequence && into.sequence == sequence {
                return;
            }
        }
    }

    fn block(&self, sequence: u32) -> &[AtomicU64] {
        let at = HEAD_BYTES + (sequence as usize & 1) * block_bytes();
        // SAFETY: both blocks lie inside the mapping, 8-aligned, and are only ever accessed as atomics.
        unsafe {
            std::slice::from_raw_parts(self.base.add(at).cast::<AtomicU64>(), size_of::<Descriptor>() / 8)
        }
    }

    // ---- bells -------------------------------------------------------------------------------------------------------

    /// The doorbell's state, to be passed to [`Board::wait_doorbell`] later.
    pub(crate) fn doorbell(&self) -> u32 {
        self.head().doorbell.0.load(Ordering::SeqCst)
    }

    /// Tells all workers that there is news.
    pub(crate) fn ring_doorbell(&self) {
        ring(&self.head().doorbell.0, &self.head().doorbell_parked.0);
    }

    /// Tells one worker, of those that sleep, that there is news that one can deal with.
    pub(crate) fn ring_one(&self) {
        let head = self.head();
        head.doorbell.0.fetch_add(1, Ordering::SeqCst);
        wake_one_parked(&head.doorbell_parked.0);
    }

    /// Waits until the doorbell has rung since it was `seen`. Idle: no slices, no CPU.
    /// With `patience`, at most about that long; whether it has rung.
    pub(crate) fn wait_doorbell(&self, seen: u32, patience: Option<Duration>) -> bool {
        let head = self.head();
        spin_then_park(&head.doorbell.0, &head.doorbell_parked.0, || self.doorbell() != seen, patience)
    }

    /// The bell's state.
    pub(crate) fn bell(&self) -> u32 {
        self.head().bell.0.load(Ordering::SeqCst)
    }

    /// Tells the coordinator that there is news.
    pub(crate) fn ring_bell(&self) {
        ring(&self.head().bell.0, &self.head().bell_parked.0);
    }

    /// Waits until the bell has rung since it was `seen`, at most about `slice`.
    pub(crate) fn wait_bell(&self, seen: u32, slice: Duration) {
        let head = self.head();
        spin_then_park(&head.bell.0, &head.bell_parked.0, || self.bell() != seen, Some(slice));
    }

    // ---- flags -------------------------------------------------------------------------------------------------------

    /// No more claims in this epoch.
    pub(crate) fn stop(&self, epoch: u32) {
        self.head().stop.0.store(epoch, Ordering::SeqCst);
    }

    /// True when [`Board::stop`] was called for `epoch`.
    #[inline]
    pub(crate) fn stopped(&self, epoch: u32) -> bool {
        self.head().stop.0.load(Ordering::Relaxed) == epoch
    }

    /// Step 5: there are FREE chunks that no range covers.
    pub(crate) fn announce_sweep(&self) {
        self.head().sweep.0.fetch_add(1, Ordering::SeqCst);
        self.ring_doorbell();
    }

    // ---- tasks -------------------------------------------------------------------------------------------------------

    /// Names the table of tasks, once in the board's life.
    pub(crate) fn announce_tasks(&self, table: SegmentRef) {
        let head = self.head();
        // SAFETY: in bounds; nobody reads it before the flag says so, and it is written once.
        unsafe { head.tasks.get().write_volatile(table) };
        head.has_tasks.0.store(1, Ordering::Release);
        self.ring_doorbell();
    }

    /// The table of tasks, if there is one.
    pub(crate) fn tasks(&self) -> Option<SegmentRef> {
        let head = self.head();
        // SAFETY: in bounds; written before the flag was set, and never again.
        (head.has_tasks.0.load(Ordering::Acquire) != 0).then(|| unsafe { head.tasks.get().read_volatile() })
    }

    // ---- the lock of locked operands ---------------------------------------------------------------------------------

    /// Takes the lock for worker `index`; false when `epoch` is being ended. Of a dead worker's lock, the coordinator says
    /// when it is free: not before the array has been put back.
    pub(crate) fn lock(&self, index: usize, epoch: u32) -> bool {
        let (word, parked) = (&self.head().lock.0, &self.head().lock_parked.0);
        let own = index as u32 + 1;
        loop {
            if word.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return true;
            }
            if self.stopped(epoch) {
                return false;
            }
            let ready = || word.load(Ordering::Relaxed) == 0 || self.stopped(epoch);
            spin_then_park(word, parked, ready, Some(SLICE));
        }
    }

    /// Gives up the lock of worker `index`, if it has it.
    pub(crate) fn unlock(&self, index: usize) {
        let (word, parked) = (&self.head().lock.0, &self.head().lock_parked.0);
        let own = index as u32 + 1;
        if word.compare_exchange(own, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
            wake_parked(word, parked);
        }
    }

    /// How many sweeps were announced.
    pub(crate) fn sweeps(&self) -> u32 {
        self.head().sweep.0.load(Ordering::SeqCst)
    }

    /// Workers leave when they are idle.
    pub(crate) fn shut_down(&self) {
        self.head().shutdown.0.store(1, Ordering::SeqCst);
        self.ring_doorbell();
    }

    /// True after [`Board::shut_down`].
    pub(crate) fn is_shut_down(&self) -> bool {
        self.head().shutdown.0.load(Ordering::SeqCst) != 0
    }
}

/// A descriptor of zeros, to copy into.
pub(crate) fn blank() -> Box<Descriptor> {
    Box::new(Descriptor::zeroed())
}

fn block_bytes() -> usize {
    size_of::<Descriptor>().next_multiple_of(4096)
}

/// Counts the word up and wakes whoever is parked on it.
fn ring(word: &AtomicU32, parked: &AtomicU32) {
    word.fetch_add(1, Ordering::SeqCst);
    wake_parked(word, parked);
}
