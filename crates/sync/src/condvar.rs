//! Waiting under a mutex until somebody says that something has changed. Steps C1–C6 of `README.md`.

use std::fmt;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU32, Ordering, wait_until, wake, wake_all};
use crate::deadline::{Deadline, is_over};
use crate::lock_error::LockError;
use crate::mutex::{Locked, MutexGuard};
use crate::park;

/// Somebody may wait.
const WAITERS: u32 = 1;
/// One notification; the sequence wraps, being compared for equality only.
const STEP: u32 = 2;

/// A condition: those who wait give their mutex back, sleep until a notification, and take it again.
///
/// All zero is a condition that nobody waits for. It has no owner and nothing to repair: a waiter that dies leaves a mark,
/// a notifier that dies half-way delays its waiters by a slice. So that a waiter which is woken and then dies does not
/// take the notification with it, the others look again after a slice at most.
///
/// **A return proves nothing**: a wait may end without a notification, and a notification of one may end several waits.
/// Look at the value, or use [`Self::wait_while`], which does. What the condition is about must be changed under the
/// mutex; the notification may come after it was given back. As the mutex is taken again, any wait may return
/// [`Taken::Recovered`](crate::Taken) or poison.
#[repr(C)]
pub struct Condvar {
    /// `sequence:31 | waiters:1`.
    word: AtomicU32,
    _reserved: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Condvar>() == 8 && std::mem::offset_of!(Condvar, word) == 0);

#[cfg(not(loom))]
crate::place::in_place!(impl [] Condvar, "condvar", (0, 1));

/// How a wait with a deadline ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Waited {
    /// By a notification, or without a reason.
    Notified,
    /// The deadline passed.
    TimedOut,
}

impl Condvar {
    /// A condition that nobody waits for.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(0), _reserved: AtomicU32::new(0) }
    }

    /// Gives the mutex back, waits for a notification, takes the mutex again.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> Result<Locked<'a, T>, LockError> {
        Ok(self.wait_until(guard, Deadline::Never)?.0)
    }

    /// [`Self::wait`], at most for `timeout`. To take the mutex again lasts as long as it lasts.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        self.wait_until(guard, Deadline::In(timeout))
    }

    /// [`Self::wait`], at most until `deadline`. To take the mutex again lasts as long as it lasts.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        self.wait_until(guard, Deadline::At(deadline))
    }

    /// Waits while `condition(value)`. A mutex that was taken from a dead holder is returned at once: the value may be half
    /// changed, so it is not for `condition` to look at.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<Locked<'a, T>, LockError> {
        Ok(self.wait_while_until(guard, condition, Deadline::Never)?.0)
    }

    /// [`Self::wait_while`], at most for `timeout`: [`Waited::TimedOut`] if the condition still holds then.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        self.wait_while_until(guard, condition, Deadline::In(timeout))
    }

    /// [`Self::wait_while`], at most until `deadline`: [`Waited::TimedOut`] if the condition still holds then.
    ///
    /// # Errors
    /// Those of the mutex, which is not held then.
    pub fn wait_deadline_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        self.wait_while_until(guard, condition, Deadline::At(deadline))
    }

    /// Wakes one of those who wait, if somebody does. Never waits.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes so many of those who wait, or all if there are fewer. Never waits.
    pub fn notify_n(&self, n: u32) {
        self.notify(n);
    }

    /// Wakes all who wait. Never waits.
    pub fn notify_all(&self) {
        self.notify(u32::MAX);
    }

    fn wait_while_until<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
        deadline: Deadline,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        let deadline_ns = deadline.on_the_clock();
        loop {
            if !condition(&mut guard) {
                return Ok((Locked::Acquired(guard), Waited::Notified));
            }
            if is_over(deadline_ns) {
                return Ok((Locked::Acquired(guard), Waited::TimedOut));
            }
            match self.wait_once(guard, deadline_ns)? {
                (Locked::Acquired(again), _) => guard = again,
                recovered => return Ok(recovered),
            }
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Deadline,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        self.wait_once(guard, deadline.on_the_clock())
    }

    fn wait_once<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline_ns: u64,
    ) -> Result<(Locked<'a, T>, Waited), LockError> {
        let (mutex, party) = guard.of();
        // C1, under the mutex: who changes the value after this sees the mark.
        let marked = self.word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
        drop(guard); // C2
        let waited = self.sleep(marked, deadline_ns);
        Ok((mutex.lock(&party)?, waited)) // C4
    }

    /// C3: until the sequence is another one. Nobody's death ends it, so no peer is looked at; the slices are for the
    /// notification that went to somebody who died of it, or whose notifier did.
    fn sleep(&self, marked: u32, deadline_ns: u64) -> Waited {
        loop {
            if self.word.load(Ordering::Acquire) & !WAITERS != marked & !WAITERS {
                return Waited::Notified;
            }
            if is_over(deadline_ns) {
                return Waited::TimedOut;
            }
            wait_until(&self.word, marked, park::slice_end(deadline_ns));
        }
    }

    fn notify(&self, n: u32) {
        let kept = if n == u32::MAX { 0 } else { WAITERS }; // of all nobody is left to be marked
        let mut word = self.word.load(Ordering::SeqCst);
        while word & WAITERS != 0 && n > 0 {
            let next = word.wrapping_add(STEP) & !WAITERS | kept;
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Err(changed) => word = changed,
                Ok(_) => {
                    // C5. Killed before: not notified. Killed after, before the wake: a slice.
                    let woken = wake(&self.word, n);
                    if kept != 0 && woken < n {
                        self.take_mark(next);
                    }
                    return;
                }
            }
        }
    }

    /// C6: nobody sleeps any more, so the next notification needs no system call. Who marked the word in between did
    /// not change it, so one notification more takes the mark away from under it.
    #[cold]
    fn take_mark(&self, word: u32) {
        let next = word.wrapping_add(STEP) & !WAITERS;
        if self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            wake_all(&self.word);
        }
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        f.debug_struct("Condvar")
            .field("sequence", &(word / STEP))
            .field("waiters", &(word & WAITERS != 0))
            .finish_non_exhaustive()
    }
}
