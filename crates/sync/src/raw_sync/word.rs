//! A word that one thread holds, and what follows it in memory. Steps A1–A4.

use std::ffi::c_void;

use super::Result;
use super::holder::{Holder, WAITERS};
use crate::atomics::{
    AtomicU32, AtomicU64, Ordering, Wait, now_ns, spin_loop, wait_lower_half_until, wake_lower_half,
};
use crate::deadline::Deadline;
use crate::park;

const FREE: u64 = 0;
/// Sleepers to wake where the next holder does not know of the others: a reader takes no word over from the writer.
pub(super) const ALL: u32 = u32::MAX;
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

/// The first bytes of every lock of this module; all zero is free.
#[repr(C)]
pub(super) struct Words {
    /// `start ticks | WAITERS:1 | thread id`, 0 when free.
    pub(super) word: AtomicU64,
    /// How often a dead holder's lock was taken over.
    recoveries: AtomicU32,
    /// The last of them.
    dead: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Words>() == 16);

/// How often a lock of this module was taken over from a dead holder: what it guards may have been half changed then.
///
/// # Safety
/// `lock` is what `as_raw` of a lock of this module returned, and its memory is still mapped.
pub unsafe fn recoveries(lock: *const c_void) -> u32 {
    // SAFETY: every lock of this module begins with `Words`, which is atomics.
    unsafe { &*lock.cast::<Words>() }.recoveries()
}

impl Words {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(FREE), recoveries: AtomicU32::new(0), dead: AtomicU32::new(0) }
    }

    pub(super) fn recoveries(&self) -> u32 {
        self.recoveries.load(Ordering::Acquire)
    }

    /// A1–A3: until `word` names the caller.
    pub(super) fn acquire(&self, deadline: Deadline) -> Result<()> {
        let me = Holder::current()?;
        if self.word.compare_exchange(FREE, me.bits(), Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Ok(()); // A1
        }
        self.acquire_slow(me, deadline.on_the_clock())
    }

    #[cold]
    fn acquire_slow(&self, me: Holder, deadline_ns: u64) -> Result<()> {
        let (mut slept, mut left) = (0, SPINS);
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let Some(holder) = Holder::of_word(word) else {
                // WAITERS is kept once we have slept: others may, and only we know.
                if self.swap(word, me.bits() | slept) {
                    return Ok(());
                }
                continue;
            };
            if holder == me {
                return Err("the calling thread holds the lock already".into());
            }
            if left > 0 && word & WAITERS == 0 {
                left -= 1;
                spin_loop();
                continue;
            }
            match wait_for(&self.word, word, deadline_ns) {
                Waited::Look => slept = WAITERS,
                // A3: from the dead one's word to ours in one step; exactly one of several wins.
                Waited::Dead(seen) if self.swap(seen, me.bits() | WAITERS) => {
                    self.count(holder);
                    return Ok(());
                }
                Waited::Dead(_) => {}
                Waited::TimedOut => {
                    let tid = holder.tid();
                    return Err(format!("the lock was not to be had in time: thread {tid} holds it").into());
                }
            }
        }
    }

    /// A4, waking so many. False: it was not the caller's.
    pub(super) fn release(&self, sleepers: u32) -> bool {
        let Ok(me) = Holder::current() else { return false };
        if Holder::of_word(self.word.load(Ordering::Relaxed)) != Some(me) {
            return false;
        }
        give_up(&self.word, sleepers);
        true
    }

    /// Frees the lock of its dead holder, for a reader. In the reader's name until the death is counted: killed in between,
    /// it is itself a dead holder, and the next one counts.
    pub(super) fn free_dead(&self, me: Holder, seen: u64) {
        if self.swap(seen, me.bits() | WAITERS) {
            if let Some(holder) = Holder::of_word(seen) {
                self.count(holder);
            }
            self.word.store(FREE, Ordering::Release);
            wake_lower_half(&self.word, ALL);
        }
    }

    fn swap(&self, old: u64, new: u64) -> bool {
        self.word.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn count(&self, dead: Holder) {
        self.dead.store(dead.tid(), Ordering::Relaxed);
        self.recoveries.fetch_add(1, Ordering::Release);
    }
}

/// Why a wait for a holder ended.
pub(super) enum Waited {
    /// Something may have changed.
    Look,
    /// The holder is dead; the word was as given.
    Dead(u64),
    TimedOut,
}

/// A2: waits a slice for the holder that `word` names, with the mark set. Before giving up, and after a whole slice, it asks
/// whether the holder lives.
pub(super) fn wait_for(cell: &AtomicU64, word: u64, deadline_ns: u64) -> Waited {
    let Some(holder) = Holder::of_word(word) else { return Waited::Look };
    let late = now_ns() >= deadline_ns;
    if late && !holder.is_dead() {
        return Waited::TimedOut;
    }
    let marked = word | WAITERS;
    if word != marked && cell.compare_exchange(word, marked, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return Waited::Look;
    }
    if late {
        return Waited::Dead(marked);
    }
    let ended = wait_lower_half_until(cell, marked, park::slice_end(deadline_ns));
    let same = cell.load(Ordering::Relaxed) == marked;
    if ended == Wait::TimedOut && same && holder.is_dead() { Waited::Dead(marked) } else { Waited::Look }
}

/// Frees a word and wakes so many of those who wait for it. Killed between the two: a sleeper's slice ends.
pub(super) fn give_up(cell: &AtomicU64, sleepers: u32) {
    if cell.swap(FREE, Ordering::Release) & WAITERS != 0 {
        wake_lower_half(cell, sleepers);
    }
}
