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

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytemuck::Zeroable;
use swath_platform::crash::CrashRecord;
use swath_platform::exe::Identity;

use swath_segment::SegmentRef;
use swath_sync::{SLICE, spin_then_park, wake_one_parked, wake_parked};

use crate::descriptor::Descriptor;
use crate::range::Range;

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
    exe: [u64; 4],
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
    /// What every worker is told, set before the first one is started.
    contract: SegmentRef,
}
const _: () = assert!(size_of::<Head>() <= HEAD_BYTES);

/// What one worker shows and is told. Hot words of the owner and the word that thieves change lie in different lines.
#[repr(C, align(64))]
pub(crate) struct Cell {
    /// Chunks that this worker will take; others steal from it.
    pub(crate) range: Range,
    pad: [u64; 7],
    /// `{epoch: 32, chunks finished: 32}`, written by the worker only.
    done: AtomicU64,
    /// Chunk in hand plus one, and the epoch above it; 0 when idle.
    current: AtomicU64,
    /// Claims so far, of all phases: a progress word.
    pub(crate) claims: AtomicU64,
    /// The value of `claims` whose chunk should stop, as it is wanted no more.
    pub(crate) cancel: AtomicU64,
    /// Which accumulator is published; see [`Flush`].
    pub(crate) flush: AtomicU64,
    /// The last failure in the worker's arena.
    pub(crate) failures: AtomicU64,
    /// The chunk that has the locked operands, whose copy is whole; as `current`.
    locked: AtomicU64,
    pad2: u64,
    /// The worker's arena and undo slot, written by the coordinator while the worker cannot look.
    arena: UnsafeCell<SegmentRef>,
    undo: UnsafeCell<SegmentRef>,
    /// 1 when the worker's initializer has run.
    ready: AtomicU32,
    /// 1 when it leaves by itself: it has done its share, or nothing for long.
    retired: AtomicU32,
    /// The record in its arena of its last words: what the finalizer gave, or why the initializer failed.
    pub(crate) farewell: AtomicU64,
    /// The ring of its log, as the arena.
    log: UnsafeCell<SegmentRef>,
    /// Where the worker crashed, if it did.
    pub(crate) crash: CrashRecord,
    /// The worker's process id, as the kernel noted it when the template was copied; 0 before, and for one that was spawned.
    pub(crate) copied: AtomicU32,
}

/// A worker's published accumulator: the place of the record and whether its chunks are all DONE, in one word so that
/// one store commits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flush {
    /// The record's place, as [`crate::arena::At::word`].
    pub(crate) at: u64,
    /// The worker has set all chunks of it to DONE.
    pub(crate) swept: bool,
    /// Low bits of the epoch.
    epoch: u16,
}

impl Flush {
    pub(crate) fn new(at: u64, swept: bool, epoch: u32) -> Flush {
        Flush { at, swept, epoch: epoch as u16 & 0x3fff }
    }

    pub(crate) fn word(self) -> u64 {
        self.at << 16 | u64::from(self.swept) << 14 | u64::from(self.epoch)
    }

    /// The word, if it says anything about `epoch`.
    pub(crate) fn of_epoch(word: u64, epoch: u32) -> Option<Flush> {
        let flush = Flush { at: word >> 16, swept: word & 0x4000 != 0, epoch: word as u16 & 0x3fff };
        (flush.at != 0 && flush.epoch == epoch as u16 & 0x3fff).then_some(flush)
    }
}

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
            (*head).exe = words_of(exe);
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
        (head.magic == MAGIC && whole && head.exe == words_of(exe)).then_some(board)
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

    /// How many of the workers are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.head().wanted.0.load(Ordering::SeqCst) as usize
    }

    /// Changes that. Those that are not wanted any more are rung.
    pub(crate) fn want(&self, workers: usize) {
        self.head().wanted.0.store(workers.min(self.workers()) as u32, Ordering::SeqCst);
        self.ring_doorbell();
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

impl Cell {
    /// Chunks finished in `epoch`, as far as the worker has said.
    pub(crate) fn done(&self, epoch: u32) -> u32 {
        let word = self.done.load(Ordering::Acquire);
        if (word >> 32) as u32 == epoch { word as u32 } else { 0 }
    }

    /// The worker says how many chunks it has finished in `epoch`.
    #[inline]
    pub(crate) fn set_done(&self, epoch: u32, count: u32) {
        self.done.store(u64::from(epoch) << 32 | u64::from(count), Ordering::Release);
    }

    /// The chunk in hand in `epoch`.
    pub(crate) fn current(&self, epoch: u32) -> Option<usize> {
        let word = self.current.load(Ordering::Acquire);
        ((word >> 32) as u32 == epoch && word as u32 != 0).then(|| word as u32 as usize - 1)
    }

    /// The chunk in hand, whatever the epoch: for the worker itself, which knows.
    pub(crate) fn in_hand(&self) -> Option<usize> {
        (self.current.load(Ordering::Relaxed) as u32).checked_sub(1).map(|chunk| chunk as usize)
    }

    /// The worker says which chunk it has in hand. `None`: idle.
    #[inline]
    pub(crate) fn set_current(&self, epoch: u32, chunk: Option<usize>) {
        let low = chunk.map_or(0, |chunk| chunk as u32 + 1);
        self.current.store(u64::from(epoch) << 32 | u64::from(low), Ordering::Relaxed);
    }

    /// The chunk of `epoch` that has the locked operands, their copy being whole.
    pub(crate) fn locked(&self, epoch: u32) -> Option<usize> {
        let word = self.locked.load(Ordering::Acquire);
        ((word >> 32) as u32 == epoch && word as u32 != 0).then(|| word as u32 as usize - 1)
    }

    /// The worker says which chunk that is: after the copy, before the first change; and again when it is over.
    pub(crate) fn set_locked(&self, epoch: u32, chunk: Option<usize>) {
        let low = chunk.map_or(0, |chunk| chunk as u32 + 1);
        self.locked.store(u64::from(epoch) << 32 | u64::from(low), Ordering::SeqCst);
    }

    /// Whether the worker's initializer has run.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) != 0
    }

    /// The worker is ready for work.
    pub(crate) fn set_ready(&self) {
        self.ready.store(1, Ordering::Release);
    }

    /// Whether it has left by itself.
    pub(crate) fn has_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire) != 0
    }

    /// The worker leaves by itself.
    pub(crate) fn retire(&self) {
        self.retired.store(1, Ordering::Release);
    }

    /// The worker's arena.
    pub(crate) fn arena(&self) -> SegmentRef {
        // SAFETY: in bounds; written only before the worker of this generation is started.
        unsafe { self.arena.get().read_volatile() }
    }

    /// The worker's undo slot; read only with a claim in hand.
    pub(crate) fn undo(&self) -> SegmentRef {
        // SAFETY: in bounds; written only between phases, and a claim means that the phase is under way.
        unsafe { self.undo.get().read_volatile() }
    }

    /// The ring of the worker's log.
    pub(crate) fn log(&self) -> SegmentRef {
        // SAFETY: in bounds; written only before the worker of this generation is started.
        unsafe { self.log.get().read_volatile() }
    }

    /// Gives the cell to a new worker, which is not started yet.
    pub(crate) fn assign(&self, arena: SegmentRef, log: SegmentRef) {
        self.failures.store(0, Ordering::Relaxed);
        self.flush.store(0, Ordering::Relaxed);
        self.cancel.store(0, Ordering::Relaxed);
        self.current.store(0, Ordering::Relaxed);
        self.locked.store(0, Ordering::Relaxed);
        self.ready.store(0, Ordering::Relaxed);
        self.retired.store(0, Ordering::Relaxed);
        self.farewell.store(0, Ordering::Relaxed);
        self.crash.clear();
        self.copied.store(0, Ordering::Relaxed);
        // SAFETY: in bounds; no worker owns the cell now, so nobody reads it.
        unsafe { self.arena.get().write_volatile(arena) };
        // SAFETY: as above.
        unsafe { self.log.get().write_volatile(log) };
    }

    /// Names the undo slot, between phases.
    pub(crate) fn set_undo(&self, undo: SegmentRef) {
        // SAFETY: in bounds; between phases nobody holds a claim, so nobody reads it.
        unsafe { self.undo.get().write_volatile(undo) };
    }
}

/// A descriptor of zeros, to copy into.
pub(crate) fn blank() -> Box<Descriptor> {
    Box::new(Descriptor::zeroed())
}

fn block_bytes() -> usize {
    size_of::<Descriptor>().next_multiple_of(4096)
}

fn words_of(exe: Identity) -> [u64; 4] {
    [exe.dev, exe.ino, exe.size, exe.mtime_ns as u64]
}

/// Counts the word up and wakes whoever is parked on it.
fn ring(word: &AtomicU32, parked: &AtomicU32) {
    word.fetch_add(1, Ordering::SeqCst);
    wake_parked(word, parked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_one_word_and_of_one_epoch() {
        let word = Flush::new(1234, true, 0x1_0005).word();
        assert_eq!(Flush::of_epoch(word, 0x1_0005), Some(Flush::new(1234, true, 5)));
        assert_eq!(Flush::of_epoch(word, 6), None);
        assert_eq!(Flush::of_epoch(0, 0), None, "none published");
    }

    #[test]
    fn hot_words_lie_apart() {
        assert_eq!(std::mem::offset_of!(Cell, done), 64);
        assert_eq!(std::mem::offset_of!(Cell, arena), 128);
        assert_eq!(size_of::<Cell>() % 64, 0);
        assert_eq!(size_of::<Descriptor>() % 8, 0);
    }
}
