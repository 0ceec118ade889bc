//! A mutex that knows when its holder dies. Steps M1–M8 of `README.md`.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use crate::atomics::UnsafeCell;
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::lock_word::RawLock;
use crate::owner::Holder;
use crate::party::Party;
use crate::poison::PoisonedBy;
use crate::taken::{Guarded, Recovered, Taken, sealed::Sealed};

/// A value that one thread of one process at a time may touch.
///
/// All zero bytes are an unlocked, whole mutex around a zero value. The uncontended way in is one compare-and-swap, the
/// way out one swap. If the holder dies, the next one gets [`Locked::Recovered`] and must say that it made the value
/// whole; if it does not, or if a holder panics, the mutex is poisoned by name until [`Self::clear`].
///
/// A guard that is leaked holds the lock until its process ends.
#[repr(C)]
pub struct Mutex<T: ?Sized> {
    lock: RawLock,
    value: UnsafeCell<T>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Mutex<u64>>() == 24 && align_of::<Mutex<u64>>() == 8);
    assert!(offset_of!(Mutex<u64>, lock) == 0 && offset_of!(Mutex<u64>, value) == 16);
};

#[cfg(not(loom))]
crate::place::in_place!(impl [T: bytemuck::Pod] Mutex<T>, "mutex", (size_of::<T>(), align_of::<T>()));

// SAFETY: a mutex hands its value to one thread at a time, so sharing it sends the value.
unsafe impl<T: Send + ?Sized> Sync for Mutex<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send + ?Sized> Send for Mutex<T> {}

/// A mutex that was taken.
pub type Locked<'a, T> = Taken<MutexGuard<'a, T>>;

/// Access to a value whose last holder died holding the mutex.
pub type RecoveredGuard<'a, T> = Recovered<MutexGuard<'a, T>>;

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    pub fn new(value: T) -> Self {
        Self { lock: RawLock::new(), value: UnsafeCell::new(value) }
    }

    /// The value, by whoever is the only one left to see it, whatever state it is in.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The mutex at `pointer`, in memory that several processes map.
    ///
    /// # Safety
    /// 1. `pointer` is aligned for `Mutex<T>` and valid for reads and writes of its size during `'a`;
    /// 2. the bytes were zero, or a `Mutex<T>`, before anyone used them as one, and nothing else writes them;
    /// 3. all who use it are parties of one slot table.
    #[cfg(not(loom))]
    pub unsafe fn at<'a>(pointer: *const u8) -> &'a Self
    where
        T: bytemuck::Pod,
    {
        debug_assert!(pointer.cast::<Self>().is_aligned());
        // SAFETY: by 1 and 2. The words are atomics, the value is in a cell, and any bytes are a valid `T`: Pod.
        unsafe { &*pointer.cast::<Self>() }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, however long that lasts.
    #[inline]
    pub fn lock(&self, party: &Party) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::Never)
    }

    /// Takes the lock if it is free or its holder is dead, without waiting; otherwise [`LockError::TimedOut`].
    #[inline]
    pub fn try_lock(&self, party: &Party) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::Now)
    }

    /// Takes the lock, waiting at most for `timeout`.
    #[inline]
    pub fn lock_timeout(&self, party: &Party, timeout: Duration) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::In(timeout))
    }

    /// Takes the lock, waiting at most until `deadline`.
    #[inline]
    pub fn lock_deadline(&self, party: &Party, deadline: Instant) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::At(deadline))
    }

    /// Takes the lock; if its holder died, `repair` makes the value whole first. A panic in `repair` poisons.
    pub fn lock_or_repair(
        &self,
        party: &Party,
        repair: impl FnOnce(&mut T),
    ) -> Result<MutexGuard<'_, T>, LockError> {
        Ok(self.lock(party)?.or_repair(|guard| repair(guard)))
    }

    /// Declares the value whole again. Who calls it knows why; who waits for the lock does not notice.
    pub fn clear(&self) {
        self.lock.clear();
    }

    /// Who left the value in doubt, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        self.lock.poisoned()
    }

    #[inline(always)]
    fn acquire(&self, party: &Party, deadline: Deadline) -> Result<Locked<'_, T>, LockError> {
        match self.lock.lock(party, deadline) {
            Ok(None) => Ok(Taken::Acquired(self.guard(party))),
            Ok(Some(dead)) => {
                let dead = party.table().holder(dead);
                Ok(Taken::new(self.guard(party), Some(dead)))
            }
            Err(error) => Err(*error),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline(always)]
    fn guard(&self, party: &Party) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, party: *party, panicking: thread::panicking() }
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.lock.owner().map(|owner| (owner.slot(), owner.thread()));
        f.debug_struct("Mutex")
            .field("holder", &holder)
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}

/// Access to the value, and the lock, until dropped. A panic while it is held poisons the mutex.
#[must_use = "dropping it gives the lock back at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Makes the guard `!Send` too: the lock word names this thread.
    party: Party,
    /// Whether the thread was panicking already when it took the lock: then it is not this lock's fault.
    panicking: bool,
}

// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: Sync + ?Sized> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// What it guards, and for whom; for a condition, which gives the lock back and takes it again.
    pub(crate) fn of(&self) -> (&'a Mutex<T>, Party) {
        (self.mutex, self.party)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so nobody else has a reference that writes; ours borrow the guard.
        self.mutex.value.with(|value| unsafe { &*value })
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        self.mutex.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.party.is_here() {
            return;
        }
        if thread::panicking() && !self.panicking {
            self.mutex.lock.poison(PoisonedBy::Panic(self.party.table().holder(self.party.owner())));
        }
        self.mutex.lock.unlock();
    }
}

impl<T: ?Sized> Sealed for MutexGuard<'_, T> {}

impl<T: ?Sized> Guarded for MutexGuard<'_, T> {
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

impl<T: fmt::Debug + ?Sized> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&&**self).finish()
    }
}
