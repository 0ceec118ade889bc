//! A mutex that its holder may take again. The steps are the mutex's, M1–M8 of `README.md`.

use std::fmt;
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU32, Ordering, UnsafeCell};
use crate::deadline::Deadline;
use crate::limits::DEPTH_MAX;
use crate::lock_error::LockError;
use crate::lock_word::RawLock;
use crate::owner::Holder;
use crate::party::Party;
use crate::poison::PoisonedBy;
use crate::taken::{Guarded, Taken, sealed::Sealed};

/// A mutex that the thread which holds it may take again (Python's `RLock`).
///
/// As several guards of one thread may be there at the same time, none of them gives out a reference:
/// [`RecursiveGuard::with`] lends the value for the time of a call, to one caller at a time. The guard can also be
/// [kept](RecursiveGuard::keep), and the lock given back by [`Self::release`].
///
/// All zero bytes are a free, whole mutex around a zero value. Whoever takes it from a dead holder has it once, however
/// often that one had it. A thread that ends without giving it back leaves it to the next thread of its number.
#[repr(C)]
pub struct RecursiveMutex<T> {
    lock: RawLock,
    /// How often the holder has it; written by the holder alone.
    depth: AtomicU32,
    /// 1 while the holder's `with` lends the value.
    lent: AtomicU32,
    value: UnsafeCell<T>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<RecursiveMutex<u64>>() == 32 && offset_of!(RecursiveMutex<u64>, value) == 24);
    assert!(offset_of!(RecursiveMutex<u64>, depth) == 16 && offset_of!(RecursiveMutex<u64>, lent) == 20);
};

#[cfg(not(loom))]
crate::place::in_place!(
    impl [T: bytemuck::Pod] RecursiveMutex<T>, "recursive mutex", (size_of::<T>(), align_of::<T>())
);

// SAFETY: it lends its value to one thread at a time, so sharing it sends the value.
unsafe impl<T: Send> Sync for RecursiveMutex<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for RecursiveMutex<T> {}

/// A recursive mutex that was taken.
pub type RecursivelyLocked<'a, T> = Taken<RecursiveGuard<'a, T>>;

/// Why a recursive mutex was not given back, or its value not lent.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Nobody has it.
    #[error("nobody holds the lock")]
    NotLocked,
    /// Somebody else has it.
    #[error("the lock is held by {holder}, not by the calling thread")]
    NotOwner {
        /// Who has it.
        holder: Holder,
    },
    /// The calling thread is inside of [`RecursiveGuard::with`].
    #[error("the value is lent to a caller further out")]
    Lent,
}

impl<T> RecursiveMutex<T> {
    /// A free mutex around `value`.
    pub fn new(value: T) -> Self {
        let word = || AtomicU32::new(0);
        Self { lock: RawLock::new(), depth: word(), lent: word(), value: UnsafeCell::new(value) }
    }

    /// The value, by whoever is the only one left to see it, whatever state it is in.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Takes the lock, however long that lasts.
    #[inline]
    pub fn lock(&self, party: &Party) -> Result<RecursivelyLocked<'_, T>, LockError> {
        self.acquire(party, Deadline::Never)
    }

    /// Takes the lock if it is free, the caller's or a dead one's, without waiting; otherwise [`LockError::TimedOut`].
    #[inline]
    pub fn try_lock(&self, party: &Party) -> Result<RecursivelyLocked<'_, T>, LockError> {
        self.acquire(party, Deadline::Now)
    }

    /// Takes the lock, waiting at most for `timeout`.
    pub fn lock_timeout(
        &self,
        party: &Party,
        timeout: Duration,
    ) -> Result<RecursivelyLocked<'_, T>, LockError> {
        self.acquire(party, Deadline::In(timeout))
    }

    /// Takes the lock, waiting at most until `deadline`.
    pub fn lock_deadline(
        &self,
        party: &Party,
        deadline: Instant,
    ) -> Result<RecursivelyLocked<'_, T>, LockError> {
        self.acquire(party, Deadline::At(deadline))
    }

    /// Takes the lock; if its holder died, `repair` makes the value whole first. A panic in `repair` poisons.
    pub fn lock_or_repair(
        &self,
        party: &Party,
        repair: impl FnOnce(&mut T),
    ) -> Result<RecursiveGuard<'_, T>, LockError> {
        Ok(self.lock(party)?.or_repair(|guard| {
            // Taken just now, so it is ours and lent to nobody.
            let _ = guard.with(repair);
        }))
    }

    /// Gives the lock back once, for a guard that was kept.
    ///
    /// # Errors
    /// Unless the calling thread has it, and not inside of `with` for the last time.
    pub fn release(&self, party: &Party) -> Result<(), ReleaseError> {
        self.check_owner(party)?;
        let depth = self.depth.load(Ordering::Relaxed);
        if depth > 1 {
            self.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
        if self.lent.load(Ordering::Relaxed) != 0 {
            return Err(ReleaseError::Lent);
        }
        self.depth.store(0, Ordering::Relaxed);
        self.lock.unlock();
        Ok(())
    }

    /// Declares the value whole again. Who calls it knows why; who waits for the lock does not notice.
    pub fn clear(&self) {
        self.lock.clear();
    }

    /// Who left the value in doubt, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        self.lock.poisoned()
    }

    fn acquire(&self, party: &Party, deadline: Deadline) -> Result<RecursivelyLocked<'_, T>, LockError> {
        let guard = RecursiveGuard { mutex: self, party: *party, panicking: thread::panicking() };
        let guard = mem::ManuallyDrop::new(guard); // whose drop is a release
        if self.lock.owner() == Some(party.owner()) {
            // Nobody but we write our name, and nobody but its holder the depth.
            let depth = self.depth.load(Ordering::Relaxed);
            if depth >= DEPTH_MAX {
                return Err(LockError::TooDeep { limit: DEPTH_MAX });
            }
            self.depth.store(depth + 1, Ordering::Relaxed);
            return Ok(Taken::Acquired(mem::ManuallyDrop::into_inner(guard)));
        }
        let from = self.lock.lock(party, deadline).map_err(|error| *error)?;
        self.lent.store(0, Ordering::Relaxed); // a dead holder's
        self.depth.store(1, Ordering::Relaxed);
        let dead = from.map(|dead| party.table().holder(dead));
        Ok(Taken::new(mem::ManuallyDrop::into_inner(guard), dead))
    }

    fn check_owner(&self, party: &Party) -> Result<(), ReleaseError> {
        match self.lock.owner() {
            Some(owner) if owner == party.owner() => Ok(()),
            Some(owner) => Err(ReleaseError::NotOwner { holder: party.table().holder(owner) }),
            None => Err(ReleaseError::NotLocked),
        }
    }
}

impl<T> fmt::Debug for RecursiveMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.lock.owner().map(|owner| (owner.slot(), owner.thread()));
        f.debug_struct("RecursiveMutex")
            .field("holder", &holder)
            .field("depth", &self.depth.load(Ordering::Relaxed))
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}

/// The lock, once, until dropped. A panic while it is held poisons the mutex.
#[must_use = "dropping it gives the lock back at once"]
pub struct RecursiveGuard<'a, T> {
    mutex: &'a RecursiveMutex<T>,
    /// Makes the guard `!Send` too: the lock word names this thread.
    party: Party,
    /// Whether the thread was panicking already when it took the lock: then it is not this lock's fault.
    panicking: bool,
}

impl<T> RecursiveGuard<'_, T> {
    /// Lends the value to `body`.
    ///
    /// # Errors
    /// [`ReleaseError::Lent`] inside of another `with`, by whichever guard; the others when the lock was given back under
    /// the guard, by [`RecursiveMutex::release`].
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Result<R, ReleaseError> {
        self.mutex.check_owner(&self.party)?;
        if self.mutex.lent.load(Ordering::Relaxed) != 0 {
            return Err(ReleaseError::Lent);
        }
        self.mutex.lent.store(1, Ordering::Relaxed);
        let _returned = Lent(&self.mutex.lent);
        // SAFETY: the lock is this thread's, and stays so while `lent` is set: `release` refuses. Of this thread's
        // guards only the one that has set `lent` gives out a reference, this one, for the time of the call.
        Ok(self.mutex.value.with_mut(|value| body(unsafe { &mut *value })))
    }

    /// Keeps the lock without the guard, until [`RecursiveMutex::release`] or the end of the process.
    pub fn keep(self) {
        mem::forget(self);
    }
}

/// Takes the value back, also after a panic.
struct Lent<'a>(&'a AtomicU32);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl<T> Drop for RecursiveGuard<'_, T> {
    fn drop(&mut self) {
        if !self.party.is_here() {
            return;
        }
        if thread::panicking() && !self.panicking {
            self.mutex.lock.poison(PoisonedBy::Panic(self.party.table().holder(self.party.owner())));
        }
        // An error says that it was given back by `release` before its time, or is lent to somebody further out, who
        // has a guard of its own: then that one's drop gives it back.
        let _ = self.mutex.release(&self.party);
    }
}

impl<T> Sealed for RecursiveGuard<'_, T> {}

impl<T> Guarded for RecursiveGuard<'_, T> {
    fn set_repaired(&self) {
        self.mutex.lock.repaired();
    }

    fn set_doubtful(&mut self, dead: Holder) {
        self.panicking = true; // the dead one's name goes in, not ours
        if self.party.is_here() {
            self.mutex.lock.poison(PoisonedBy::Death(dead));
        }
    }
}

impl<T> fmt::Debug for RecursiveGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecursiveGuard").field(self.mutex).finish()
    }
}
