//! A flag that processes wait for. Steps E1–E4 of `README.md`.

use std::fmt;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU32, Ordering, wait_until, wake_all};
use crate::deadline::is_over;
use crate::park;

/// The event is set.
const SET: u32 = 1 << 30;
/// Somebody sleeps on the word.
const WAITERS: u32 = 1 << 31;
/// Counts how often the event was set: who slept through a set and a clear returns all the same.
const TURN_MASK: u32 = SET - 1;

/// Set, cleared, waited for, by any process that can see it; all zero is a clear event.
///
/// An event has no owner, so no death can be blamed: a wait for one that nobody sets any more lasts for ever. Use
/// [`Self::wait_timeout`] where that matters. A setter killed half-way delays its sleepers by one slice.
#[repr(C)]
pub struct Event {
    /// `WAITERS:1 | SET:1 | turn:30`.
    word: AtomicU32,
    _reserved: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Event>() == 8 && align_of::<Event>() == 4);

#[cfg(not(loom))]
crate::place::in_place!(impl [] Event, "event", (0, 1));

impl Event {
    /// A clear event.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), _reserved: AtomicU32::new(0) }
    }

    /// The event at `pointer`, in memory that several processes map.
    ///
    /// # Safety
    /// 1. `pointer` is aligned to 4 and valid for reads and writes of 8 bytes during `'a`;
    /// 2. the bytes were zero, or an event, before anyone used them as one, and nothing else writes them.
    #[cfg(not(loom))]
    pub unsafe fn at<'a>(pointer: *const u8) -> &'a Self {
        debug_assert!(pointer.cast::<Self>().is_aligned());
        // SAFETY: by 1 and 2; the fields are atomics.
        unsafe { &*pointer.cast::<Self>() }
    }

    /// Whether the event is set. If so, all that its setter did before is visible here.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Sets the event and wakes all who wait. Setting a set event does nothing.
    pub fn set(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & SET != 0 {
                // Also makes what this caller did visible to who looks later.
                match self.word.compare_exchange(word, word, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(changed) => word = changed,
                }
                continue;
            }
            let set = (word + 1) & TURN_MASK | SET;
            match self.word.compare_exchange(word, set, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break, // E1
                Err(changed) => word = changed,
            }
        }
        if word & WAITERS != 0 {
            wake_all(&self.word); // E2
        }
    }

    /// E3 for who waits for several things: the marked word, and the value to sleep while it has.
    pub(crate) fn announce_waiter(&self) -> (&AtomicU32, u32) {
        (&self.word, self.word.fetch_or(WAITERS, Ordering::AcqRel) | WAITERS)
    }

    /// Clears the event. Who was waiting when it was set returns all the same.
    pub fn clear(&self) {
        self.word.fetch_and(!SET, Ordering::AcqRel);
    }

    /// Waits until the event is set, or has been set since the call.
    pub fn wait(&self) {
        self.wait_until(u64::MAX);
    }

    /// Waits like [`Self::wait`], at most for `timeout`; says whether the event was set.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.is_set() || self.wait_until(park::after(timeout))
    }

    /// Waits like [`Self::wait`], at most until `deadline`; says whether the event was set.
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn wait_until(&self, deadline_ns: u64) -> bool {
        let turn = self.word.load(Ordering::Acquire) & TURN_MASK;
        let happened = |word: u32| word & SET != 0 || word & TURN_MASK != turn;
        if park::spin(|| happened(self.word.load(Ordering::Acquire))) {
            return true;
        }
        loop {
            let word = self.word.load(Ordering::Acquire);
            if happened(word) {
                return true;
            }
            // E3: the mark first, then the sleep on the marked word.
            let marked = word | WAITERS;
            if word != marked
                && self.word.compare_exchange(word, marked, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                continue;
            }
            let slice = park::slice_end(deadline_ns);
            wait_until(&self.word, marked, slice); // E4
            if is_over(deadline_ns) {
                return happened(self.word.load(Ordering::Acquire));
            }
        }
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}
