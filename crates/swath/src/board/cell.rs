//! What one worker shows and is told.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use swath_platform::crash::CrashRecord;
use swath_segment::SegmentRef;

use crate::range::Range;

/// A worker's part of the board. Hot words of the owner and the word that thieves change lie in different lines.
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
    /// The generation that is to leave between two tasks, plus one.
    leaves: AtomicU64,
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

    /// Whether it leaves by itself, or has left.
    pub(crate) fn has_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst) != 0
    }

    /// Has the worker of that generation leave, soon.
    pub(crate) fn tell_to_leave(&self, generation: u16) {
        self.leaves.store(u64::from(generation) + 1, Ordering::Relaxed);
    }

    /// Whether the worker of that generation was told to leave.
    pub(crate) fn is_told_to_leave(&self, generation: u16) -> bool {
        self.leaves.load(Ordering::Relaxed) == u64::from(generation) + 1
    }

    /// The worker says whether it leaves by itself; see [`super::Board::retire`].
    pub(super) fn set_retired(&self, retired: bool) {
        self.retired.store(u32::from(retired), Ordering::SeqCst);
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
    }
}
