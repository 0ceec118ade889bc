//! Many readers or one writer, each of whom may die. Steps R1–R5, X1–X5 of `README.md`.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use crate::atomics::UnsafeCell;
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::owner::Holder;
use crate::party::Party;
use crate::poison::PoisonedBy;
use crate::rw_raw::RawRwLock;
use crate::taken::{Guarded, Taken, sealed::Sealed};

/// A value that one thread of one process at a time may change, and up to 64 may look at while nobody does.
///
/// All zero bytes are a free, whole lock around a zero value. A reader that dies is forgotten. If a writer dies, the next
/// writer gets [`Taken::Recovered`], as with [`Mutex`](crate::Mutex); readers see nothing half written: until a
/// writer has repaired it they get [`LockError::NeedsRepair`], or do it by [`Self::read_or_repair`]. A writer that
/// dies before its first store or after its last one is passed over in silence.
///
/// A writer that waits keeps new readers out, so readers do not starve writers. The other way round it is not so, and
/// among those who wait there is no order.
///
/// Who has it and asks again gets [`LockError::Relock`]; but a reader may read again while no writer waits.
#[repr(C)]
pub struct RwLock<T> {
    lock: RawRwLock,
    value: UnsafeCell<T>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RwLock<u64>>() == 280 && std::mem::offset_of!(RwLock<u64>, value) == 272);

#[cfg(not(loom))]
crate::place::in_place!(impl [T: bytemuck::Pod] RwLock<T>, "rwlock", (size_of::<T>(), align_of::<T>()));

// SAFETY: readers share the value, and a writer has it to itself.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for RwLock<T> {}

/// A readers-writer lock that was taken for writing.
pub type Written<'a, T> = Taken<WriteGuard<'a, T>>;

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub fn new(value: T) -> Self {
        Self { lock: RawRwLock::new(), value: UnsafeCell::new(value) }
    }

    /// The value, by whoever is the only one left to see it, whatever state it is in.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Becomes a reader, however long that lasts.
    #[inline]
    pub fn read(&self, party: &Party) -> Result<ReadGuard<'_, T>, LockError> {
        self.acquire_read(party, Deadline::Never)
    }

    /// Becomes a reader if no writer is there, without waiting; otherwise [`LockError::TimedOut`].
    #[inline]
    pub fn try_read(&self, party: &Party) -> Result<ReadGuard<'_, T>, LockError> {
        self.acquire_read(party, Deadline::Now)
    }

    /// Becomes a reader, waiting at most for `timeout`.
    pub fn read_timeout(&self, party: &Party, timeout: Duration) -> Result<ReadGuard<'_, T>, LockError> {
        self.acquire_read(party, Deadline::In(timeout))
    }

    /// Becomes a reader, waiting at most until `deadline`.
    pub fn read_deadline(&self, party: &Party, deadline: Instant) -> Result<ReadGuard<'_, T>, LockError> {
        self.acquire_read(party, Deadline::At(deadline))
    }

    /// Becomes the writer, however long that lasts.
    #[inline]
    pub fn write(&self, party: &Party) -> Result<Written<'_, T>, LockError> {
        self.acquire_write(party, Deadline::Never)
    }

    /// Becomes the writer if nobody who lives is there, without waiting; otherwise [`LockError::TimedOut`].
    #[inline]
    pub fn try_write(&self, party: &Party) -> Result<Written<'_, T>, LockError> {
        self.acquire_write(party, Deadline::Now)
    }

    /// Becomes the writer, waiting at most for `timeout`.
    pub fn write_timeout(&self, party: &Party, timeout: Duration) -> Result<Written<'_, T>, LockError> {
        self.acquire_write(party, Deadline::In(timeout))
    }

    /// Becomes the writer, waiting at most until `deadline`.
    pub fn write_deadline(&self, party: &Party, deadline: Instant) -> Result<Written<'_, T>, LockError> {
        self.acquire_write(party, Deadline::At(deadline))
    }

    /// Becomes the writer; if the last one died, `repair` makes the value whole first. A panic in `repair` poisons.
    pub fn write_or_repair(
        &self,
        party: &Party,
        repair: impl FnOnce(&mut T),
    ) -> Result<WriteGuard<'_, T>, LockError> {
        Ok(self.write(party)?.or_repair(|guard| repair(guard)))
    }

    /// Becomes a reader; if the last writer died, first the writer, and `repair` makes the value whole.
    pub fn read_or_repair(
        &self,
        party: &Party,
        mut repair: impl FnMut(&mut T),
    ) -> Result<ReadGuard<'_, T>, LockError> {
        loop {
            match self.read(party) {
                Err(LockError::NeedsRepair { .. }) => drop(self.write_or_repair(party, &mut repair)?),
                other => return other,
            }
        }
    }

    /// Declares a poisoned value whole again. Who calls it knows why.
    pub fn clear(&self) {
        self.lock.clear();
    }

    /// Who left the value in doubt, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        self.lock.poisoned()
    }

    #[inline]
    fn acquire_read(&self, party: &Party, deadline: Deadline) -> Result<ReadGuard<'_, T>, LockError> {
        let cell = self.lock.read(party, deadline)?;
        Ok(ReadGuard { lock: self, cell, party: *party })
    }

    #[inline]
    fn acquire_write(&self, party: &Party, deadline: Deadline) -> Result<Written<'_, T>, LockError> {
        let from = self.lock.write(party, deadline)?;
        let guard = WriteGuard { lock: self, party: *party, panicking: thread::panicking(), in_doubt: None };
        Ok(Taken::new(guard, from.map(|dead| party.table().holder(dead))))
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (writer, readers) = self.lock.holders();
        f.debug_struct("RwLock")
            .field("writer", &writer.map(|owner| (owner.slot(), owner.thread())))
            .field("readers", &readers)
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}

/// A look at the value until dropped. Nobody writes meanwhile.
#[must_use = "dropping it gives the lock back at once"]
pub struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    cell: usize,
    /// Makes the guard `!Send` too: the cell names this thread.
    party: Party,
}

// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: Sync> Sync for ReadGuard<'_, T> {}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: our cell keeps writers out, so all references are shared ones.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.party.is_here() {
            self.lock.lock.leave(self.cell);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadGuard").field(&**self).finish()
    }
}

/// Access to the value until dropped. A panic while it is held poisons the lock.
#[must_use = "dropping it gives the lock back at once"]
pub struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    /// Makes the guard `!Send` too: the word names this thread.
    party: Party,
    /// Whether the thread was panicking already when it took the lock: then it is not this lock's fault.
    panicking: bool,
    /// The dead writer whose value was not repaired.
    in_doubt: Option<Holder>,
}

// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: Sync> Sync for WriteGuard<'_, T> {}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there is no other writer and no reader; our own references borrow the guard.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if !self.party.is_here() {
            return;
        }
        if let Some(dead) = self.in_doubt {
            self.lock.lock.poison(PoisonedBy::Death(dead));
        } else if thread::panicking() && !self.panicking {
            self.lock.lock.poison(PoisonedBy::Panic(self.party.table().holder(self.party.owner())));
        } else {
            self.lock.lock.unlock();
        }
    }
}

impl<T> Sealed for WriteGuard<'_, T> {}

impl<T> Guarded for WriteGuard<'_, T> {
    /// The doubt word has our name already, as that of any writer.
    fn set_repaired(&self) {}

    fn set_doubtful(&mut self, dead: Holder) {
        self.in_doubt = Some(dead);
    }
}

impl<T: fmt::Debug> fmt::Debug for WriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteGuard").field(&**self).finish()
    }
}
