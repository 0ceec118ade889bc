//! Waiting: a short spin that yields, then sleep; for a peer in slices, idle without.

use std::time::Duration;

use crate::atomics::{AtomicU32, Ordering, Wait, fence, now_ns, spin_loop, wait_until, wake_all, yield_now};

/// The longest sleep of anyone who waits for a peer before looking whether that peer still lives.
pub const SLICE: Duration = Duration::from_millis(50);

/// How long to spin before sleeping. Longer than a hand-over between running processes, shorter than a wake-up.
const SPIN_NS: u64 = 20_000;
const PAUSES_PER_YIELD: u32 = 32;

/// Waits until `ready()`: spins for 20 µs, giving the processor away every 32 pauses, then sleeps on `word`.
///
/// Whoever makes `ready()` true must change `word` afterwards and then call [`wake_parked`] with the same two words.
/// With `slice` it returns `false` after at most that long asleep, so that the caller can look at its
/// peer; with `None` it returns only when ready, which is for waits that a death of the waker ends anyway.
pub fn spin_then_park(
    word: &AtomicU32,
    parked: &AtomicU32,
    ready: impl Fn() -> bool,
    slice: Option<Duration>,
) -> bool {
    if spin(&ready) {
        return true; // P1
    }
    let deadline = slice.map_or(u64::MAX, after);
    loop {
        let seen = word.load(Ordering::Acquire); // P2: before the look, so that a change after it ends P4 at once
        if ready() {
            return true;
        }
        announce(parked); // P3
        let ended = wait_until(word, seen, deadline); // P4
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
/// A waker killed between taking the flag and the wake leaves sleepers without a flag: those with a slice look by
/// themselves, those without are ended by whatever ends with the waker.
#[inline]
pub fn wake_parked(word: &AtomicU32, parked: &AtomicU32) {
    fence(Ordering::SeqCst); // W2: the new value of `word` is visible before the flag is read
    if parked.load(Ordering::Relaxed) != 0 {
        wake_slow(word, parked);
    }
}

#[cold]
fn wake_slow(word: &AtomicU32, parked: &AtomicU32) {
    // W3 before W4: a sleeper who announces itself after the swap has seen the changed word.
    if parked.swap(0, Ordering::SeqCst) != 0 {
        wake_all(word); // W4
    }
}

/// P3: says that somebody is about to sleep, before the kernel compares the word.
#[inline]
pub(crate) fn announce(parked: &AtomicU32) {
    parked.store(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// Spins for [`SPIN_NS`] and says whether `ready()` became true.
#[inline]
pub(crate) fn spin(ready: impl Fn() -> bool) -> bool {
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
    after(SLICE).min(deadline_ns)
}

/// The moment `duration` from now, `u64::MAX` (never) past the end of the clock.
#[inline]
pub(crate) fn after(duration: Duration) -> u64 {
    now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}
