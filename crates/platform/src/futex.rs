//! Sleeping on a word of shared memory, and waking who sleeps there.
//!
//! All words are taken to be process-shared: `FUTEX_PRIVATE` is never set, because a private wake would not reach
//! a sleeper in another process. Deadlines are absolute `CLOCK_MONOTONIC` nanoseconds (`FUTEX_WAIT_BITSET`), so a
//! wait that is interrupted and begun again does not grow. A moment past the clock's range means "never".
//!
//! A return value says why the sleep ended, never what the word holds now: every caller looks again.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex as raw;
use rustix::time::{ClockId, Timespec};

use crate::clock;

/// Why a wait ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Somebody woke the word (or the kernel did without a reason, which it may).
    Woken,
    /// A word did not hold the expected value any more: there was no sleep.
    Changed,
    /// The deadline has passed.
    TimedOut,
    /// A signal handler ran. Its flag may be what the caller waits for, so the caller gets to look.
    Interrupted,
}

/// How many words [`wait_any_until`] watches at most: as many as the kernel does.
pub const WORDS_MAX: usize = 128;
/// Up to so many, the list for the kernel is a small one.
const FEW: usize = 4;

/// Sleeps while `word` holds `expected`, at most for `timeout`; `None` is for ever.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    wait_until(word, expected, timeout.map_or(u64::MAX, clock::after))
}

/// Sleeps while `word` holds `expected`, until `deadline_ns` on the clock of [`clock::now_ns`]; `u64::MAX` is for ever.
pub fn wait_until(word: &AtomicU32, expected: u32, deadline_ns: u64) -> Wait {
    let deadline = timespec(deadline_ns);
    ended(raw::wait_bitset(word, raw::Flags::empty(), expected, deadline.as_ref(), NonZeroU32::MAX))
}

/// Sleeps while every word holds its expected value, until `deadline_ns`; a wake on any of them ends the sleep.
///
/// Where the kernel has no `futex_waitv` (before 5.16, or a container's filter) only the first word is slept on:
/// callers keep their slices short for that reason among others.
///
/// # Panics
/// With no word, or more than [`WORDS_MAX`].
pub fn wait_any_until(words: &[(&AtomicU32, u32)], deadline_ns: u64) -> Wait {
    static MISSING: AtomicBool = AtomicBool::new(false);
    assert!((1..=WORDS_MAX).contains(&words.len()), "1 to {WORDS_MAX} words, not {}", words.len());
    if words.len() == 1 || MISSING.load(Ordering::Relaxed) {
        return wait_until(words[0].0, words[0].1, deadline_ns);
    }
    if words.len() <= FEW {
        wait_listed(&mut [raw::Wait::new(); FEW], words, deadline_ns, &MISSING)
    } else {
        wait_listed(&mut [raw::Wait::new(); WORDS_MAX], words, deadline_ns, &MISSING)
    }
}

fn wait_listed(
    waits: &mut [raw::Wait],
    words: &[(&AtomicU32, u32)],
    deadline_ns: u64,
    missing: &AtomicBool,
) -> Wait {
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = u64::from(*expected);
        wait.uaddr = raw::WaitPtr::new(word.as_ptr().cast());
        wait.flags = raw::WaitFlags::SIZE_U32;
    }
    let deadline = timespec(deadline_ns);
    let flags = raw::WaitvFlags::empty();
    match raw::waitv(&waits[..words.len()], flags, deadline.as_ref(), ClockId::Monotonic) {
        Err(Errno::NOSYS | Errno::PERM) => {
            missing.store(true, Ordering::Relaxed);
            wait_until(words[0].0, words[0].1, deadline_ns)
        }
        other => ended(other.map(|_| ())),
    }
}

/// Wakes at most `n` of those who sleep on `word` and says how many there were. `u32::MAX` wakes all.
#[inline]
pub fn wake(word: &AtomicU32, n: u32) -> u32 {
    let n = n.min(i32::MAX as u32);
    raw::wake(word, raw::Flags::empty(), n).map_or(0, |woken| woken as u32)
}

/// Wakes everyone who sleeps on `word` and says how many there were.
#[inline]
pub fn wake_all(word: &AtomicU32) -> u32 {
    wake(word, u32::MAX)
}

fn timespec(deadline_ns: u64) -> Option<Timespec> {
    (deadline_ns != u64::MAX).then_some(Timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as i64,
        tv_nsec: (deadline_ns % 1_000_000_000) as _,
    })
}

fn ended(result: Result<(), Errno>) -> Wait {
    match result {
        Ok(()) => Wait::Woken,
        Err(Errno::AGAIN) => Wait::Changed,
        Err(Errno::TIMEDOUT) => Wait::TimedOut,
        Err(Errno::INTR) => Wait::Interrupted,
        // EFAULT, EINVAL and ENOMEM are left: the first two cannot come from a reference and a valid time, and
        // after the third the caller looks at its word and comes again.
        Err(_) => Wait::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_changed_word_does_not_sleep() {
        let word = AtomicU32::new(7);
        assert_eq!(wait(&word, 6, None), Wait::Changed);
        let other = AtomicU32::new(1);
        assert_eq!(wait_any_until(&[(&word, 7), (&other, 0)], u64::MAX), Wait::Changed);
    }

    #[test]
    fn a_deadline_that_has_passed_returns() {
        let word = AtomicU32::new(7);
        assert_eq!(wait_until(&word, 7, 1), Wait::TimedOut);
        assert_eq!(wait(&word, 7, Some(Duration::from_millis(1))), Wait::TimedOut);
        let other = AtomicU32::new(1);
        assert_eq!(wait_any_until(&[(&word, 7), (&other, 1)], 1), Wait::TimedOut);
    }

    #[test]
    fn a_wake_ends_a_sleep_with_a_timeout_beyond_the_clock() {
        for words in 1..=2 {
            let pair = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
            let sleeper = thread::spawn({
                let pair = Arc::clone(&pair);
                move || match words {
                    1 => wait(&pair.0, 0, Some(Duration::MAX)),
                    _ => wait_any_until(&[(&pair.1, 0), (&pair.0, 0)], u64::MAX),
                }
            });
            // The word keeps its value, so only a wake that finds the sleeper can end this.
            while wake(&pair.0, 1) == 0 {
                thread::yield_now();
            }
            assert_eq!(sleeper.join().unwrap(), Wait::Woken);
        }
    }

    #[test]
    fn nobody_sleeps_nobody_wakes() {
        assert_eq!(wake_all(&AtomicU32::new(0)), 0);
    }
}
