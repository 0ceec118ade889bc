//! Waiting: a short spin that yields, then sleep; for a peer in slices, idle without.

use std::time::Duration;

use crate::atomics::{
    AtomicU32, Ordering, Wait, fence, now_ns, slices, spin_loop, wait_until, wake, wake_all, yield_now,
};
use crate::limits::SLICE;

/// How long to spin before sleeping. Longer than a hand-over between running processes, shorter than a wake-up.
const SPIN_NS: u64 = 20_000;
const PAUSES_PER_YIELD: u32 = 32;

/// In a parked word: somebody sleeps, or is about to. The other bits count how often that was taken back by a wake.
pub(crate) const ASLEEP: u32 = 1;

/// Waits until `ready()`: spins for 20 µs, giving the processor away every 32 pauses, then sleeps.
///
/// Whoever makes `ready()` true, by changing `word`, calls [`wake_parked`] with the same two words afterwards.
/// With `slice` it returns `false` after at most about that long asleep, so that the caller can look at its
/// peer; with `None` it returns only when ready, which is for waits that a death of the waker ends anyway.
///
/// The sleep is on `parked` (`taken:31 | asleep:1`), not on `word`: a sleeper whose mark was taken by a wake for an
/// earlier change, and that comes to sleep after that wake, must not sleep unmarked; and a sibling's new mark must
/// not look like its own. (P1–P4; models found both.)
pub fn spin_then_park(
    word: &AtomicU32,
    parked: &AtomicU32,
    ready: impl Fn() -> bool,
    slice: Option<Duration>,
) -> bool {
    let _ = word;
    if spin(&ready) {
        return true; // P1
    }
    let deadline = slice.map_or(u64::MAX, after);
    loop {
        let mark = announce(parked); // P2
        if ready() {
            return true; // P3: the mark stays, and costs the next waker a call
        }
        let ended = wait_until(parked, mark, deadline); // P4
        if ready() {
            return true;
        }
        if slice.is_some() && ended != Wait::Changed {
            return false;
        }
    }
}

/// Wakes who sleeps in [`spin_then_park`] on these two words; without a sleeper it makes no system call.
///
/// A waker killed between taking the mark and the wake leaves sleepers behind: those with a slice look by
/// themselves, those without are ended by whatever ends with the waker, or woken by [`wake_left_behind`].
#[inline]
pub fn wake_parked(word: &AtomicU32, parked: &AtomicU32) {
    let _ = word;
    take_mark(parked, parked); // W1 was the change of `word`
}

/// Wakes who sleeps there, marked or not: for a waker that has died, perhaps with the mark in its hand. Always a system call.
pub fn wake_left_behind(parked: &AtomicU32) {
    fence(Ordering::SeqCst);
    wake_all(parked);
}

/// W2–W4: if somebody is marked as asleep, takes the mark and wakes all who sleep on `futex`.
#[inline]
pub(crate) fn take_mark(parked: &AtomicU32, futex: &AtomicU32) {
    fence(Ordering::SeqCst); // W2: the change is visible before the mark is read
    let seen = parked.load(Ordering::Relaxed);
    if seen & ASLEEP != 0 {
        wake_marked(parked, seen, futex);
    }
}

#[cold]
fn wake_marked(parked: &AtomicU32, seen: u32, futex: &AtomicU32) {
    // W3: the carry clears the mark and counts it as taken, so that who is not asleep yet does not fall asleep. If
    // another waker was faster, it wakes; and who marked itself after that has seen our change.
    let taken = seen.wrapping_add(1);
    if parked.compare_exchange(seen, taken, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
        wake_all(futex); // W4
    }
}

/// As [`wake_parked`], but wakes one sleeper: for news that one of them can deal with. The others sleep on although their
/// `ready()` is true, until somebody has news for them.
///
/// The mark stays for those who sleep on, and `parked` moves, so that who is not asleep yet does not fall asleep. (O1–O3)
#[inline]
pub fn wake_one_parked(parked: &AtomicU32) {
    fence(Ordering::SeqCst); // W2
    let seen = parked.load(Ordering::Relaxed);
    if seen & ASLEEP != 0 {
        wake_one_marked(parked, seen);
    }
}

#[cold]
fn wake_one_marked(parked: &AtomicU32, mut seen: u32) {
    // O1: another waker may have moved it, for news of its own: ours is for another sleeper.
    let moved = loop {
        let moved = seen.wrapping_add(2);
        match parked.compare_exchange(seen, moved, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => break moved,
            Err(now) if now & ASLEEP == 0 => return, // all were woken, after our change
            Err(now) => seen = now,
        }
    };
    // O2; O3: nobody slept, so the mark goes: it would cost every later waker a call.
    if wake(parked, 1) == 0 {
        wake_marked(parked, moved, parked);
    }
}

/// P2: marks that somebody is about to sleep, before the last look. The sleep must include that `parked` keeps the
/// value returned here.
#[inline]
pub(crate) fn announce(parked: &AtomicU32) -> u32 {
    let mark = parked.fetch_or(ASLEEP, Ordering::SeqCst) | ASLEEP;
    fence(Ordering::SeqCst);
    mark
}

/// Spins for 20 µs, giving the processor away every 32 pauses, and says whether `ready()` became true: what comes before a sleep that
/// somebody else wakes from.
#[inline]
pub fn spin(ready: impl Fn() -> bool) -> bool {
    if ready() {
        return true;
    }
    if cfg!(loom) {
        return false;
    }
    let end = now_ns() + SPIN_NS;
    loop {
        for _ in 0..PAUSES_PER_YIELD {
            spin_loop();
        }
        if ready() {
            return true;
        }
        yield_now();
        if ready() {
            return true;
        }
        if now_ns() >= end {
            return false;
        }
    }
}

/// The end of a slice that begins now, or `deadline` if that is earlier.
#[inline]
pub(crate) fn slice_end(deadline_ns: u64) -> u64 {
    if slices() { after(SLICE).min(deadline_ns) } else { deadline_ns }
}

/// The moment `duration` from now, `u64::MAX` (never) past the end of the clock.
#[inline]
pub(crate) fn after(duration: Duration) -> u64 {
    now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
