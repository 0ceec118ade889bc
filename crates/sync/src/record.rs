//! A value that is changed as a whole or not at all, whoever dies. Steps V1–V4 of `README.md`.
//!
//! Two copies and a version that says which one counts, as in LMDB's meta pages (`mdb.c`, `mdb_env_pick_meta`).

use std::fmt;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::atomics::{AtomicU64, Ordering, fence, spin_loop, yield_now};
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::lock_word::RawLock;
use crate::party::Party;
use crate::pod::PodCell;

/// How often [`Record::get`] tries before it gives its processor away between tries.
const TRIES: u32 = 100;

/// A value that is read without a lock, and changed under one as a whole: killed anywhere, who changes it leaves the old
/// value or the new one, never half of each, so nobody has to repair anything and nobody is told of the death.
///
/// All zero bytes are a zero value.
#[repr(C)]
pub struct Record<T: Pod> {
    lock: RawLock,
    /// How often it was changed; its lowest bit says which copy counts.
    version: AtomicU64,
    copies: [PodCell<T>; 2],
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Record<u64>>() == 40 && align_of::<Record<u64>>() == 8);
    assert!(offset_of!(Record<u64>, version) == 16 && offset_of!(Record<u64>, copies) == 24);
};

#[cfg(not(loom))]
crate::place::in_place!(impl [T: Pod] Record<T>, "record", (size_of::<T>(), align_of::<T>()));

impl<T: Pod> Record<T> {
    /// A record of this value.
    pub fn new(value: T) -> Self {
        Self {
            lock: RawLock::new(),
            version: AtomicU64::new(0),
            copies: [PodCell::of(value), PodCell::of(value)],
        }
    }

    /// The value as it was at some moment during the call. Without a lock: it never waits for who changes the record,
    /// alive or dead; it tries again when a change was completed meanwhile, as the next one writes where it has read.
    pub fn get(&self) -> T {
        let mut tries = 0;
        loop {
            let version = self.version.load(Ordering::Acquire);
            let value = self.copy(version).load(); // V1
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return value;
            }
            tries += 1;
            if cfg!(loom) || tries > TRIES { yield_now() } else { spin_loop() }
        }
    }

    /// Makes it this value.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn set(&self, party: &Party, value: T) -> Result<(), LockError> {
        self.update(party, |old| *old = value)
    }

    /// Changes the value, however long it lasts until nobody else does. A panic in `change` leaves it as it was.
    ///
    /// # Errors
    /// [`LockError::Relock`] inside of `change`, [`LockError::Deadlock`].
    pub fn update<R>(&self, party: &Party, change: impl FnOnce(&mut T) -> R) -> Result<R, LockError> {
        self.update_until(party, Deadline::Never, change)
    }

    /// [`Self::update`] without waiting.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when somebody else changes it.
    pub fn try_update<R>(&self, party: &Party, change: impl FnOnce(&mut T) -> R) -> Result<R, LockError> {
        self.update_until(party, Deadline::Now, change)
    }

    /// [`Self::update`], waiting at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] besides.
    pub fn update_timeout<R>(
        &self,
        party: &Party,
        timeout: Duration,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, LockError> {
        self.update_until(party, Deadline::In(timeout), change)
    }

    /// [`Self::update`], waiting at most until `deadline`.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] besides.
    pub fn update_deadline<R>(
        &self,
        party: &Party,
        deadline: Instant,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, LockError> {
        self.update_until(party, Deadline::At(deadline), change)
    }

    fn update_until<R>(
        &self,
        party: &Party,
        deadline: Deadline,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, LockError> {
        // Whom the lock was taken from does not matter: what it left is whole.
        self.lock.lock(party, deadline).map_err(|error| *error)?;
        let _held = Held(&self.lock);
        let version = self.version.load(Ordering::Relaxed);
        let mut value = self.copy(version).load();
        let result = change(&mut value); // V2
        // The copy that no longer counts may still be read: who reads what we write there sees the version above it.
        fence(Ordering::Release);
        let next = version.wrapping_add(1);
        self.copy(next).store(&value); // V3
        self.version.store(next, Ordering::Release); // V4
        Ok(result)
    }

    fn copy(&self, version: u64) -> &PodCell<T> {
        &self.copies[usize::from(version & 1 != 0)]
    }
}

/// The lock, given back also by a panic: what it guards is whole at any time.
struct Held<'a>(&'a RawLock);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Record<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.get()).finish()
    }
}
