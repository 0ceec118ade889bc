//! Shared locks: `Mutex`, `RecursiveMutex`, `RwLock`, `Semaphore`, `BoundedSemaphore`.

use bytemuck::Pod;
use swath_sync::{
    BoundedSemaphore, LockError, Locked, Mutex, MutexGuard, Permit, ReadGuard, RecursiveGuard,
    RecursiveMutex, RecursivelyLocked, ReleaseError, RwLock, Semaphore, SemaphoreError, WriteGuard, Written,
};

use super::{Refused, Shared, forward, forward_sure, forward_waiting};

impl<T: Pod> Shared<Mutex<T>> {
    forward_waiting! {
        "Takes the lock": lock try_lock lock_timeout lock_deadline() -> Locked<'_, T>, LockError;
    }
    forward! {
        /// Takes the lock; if its holder died, `repair` makes the value whole first.
        fn lock_or_repair(repair: impl FnOnce(&mut T)) -> MutexGuard<'_, T>, LockError;
    }
    forward_sure! {
        /// Declares the value whole again, whoever left it in doubt.
        fn clear() -> ();
    }
}

impl<T: Pod> Shared<RecursiveMutex<T>> {
    forward_waiting! {
        "Takes the lock, also if the calling thread has it":
            lock try_lock lock_timeout lock_deadline() -> RecursivelyLocked<'_, T>, LockError;
    }
    forward! {
        /// Takes the lock; if its holder died, `repair` makes the value whole first.
        fn lock_or_repair(repair: impl FnOnce(&mut T)) -> RecursiveGuard<'_, T>, LockError;
        /// Gives back one level of a lock that was kept.
        fn release() -> (), ReleaseError;
    }
    forward_sure! {
        /// Declares the value whole again, whoever left it in doubt.
        fn clear() -> ();
    }
}

impl<T: Pod> Shared<RwLock<T>> {
    forward_waiting! {
        "Takes the lock for reading, beside other readers":
            read try_read read_timeout read_deadline() -> ReadGuard<'_, T>, LockError;
        "Takes the lock for writing": write try_write write_timeout write_deadline() -> Written<'_, T>, LockError;
    }
    forward! {
        /// Takes the lock for writing; if a writer died, `repair` makes the value whole first.
        fn write_or_repair(repair: impl FnOnce(&mut T)) -> WriteGuard<'_, T>, LockError;
        /// Takes the lock for reading; if a writer died, `repair` makes the value whole first.
        fn read_or_repair(repair: impl FnMut(&mut T)) -> ReadGuard<'_, T>, LockError;
    }
    forward_sure! {
        /// Declares the value whole again, whoever left it in doubt.
        fn clear() -> ();
    }
}

impl Shared<Semaphore> {
    forward_waiting! {
        "Takes a permit": acquire try_acquire acquire_timeout acquire_deadline() -> Permit<'_>, SemaphoreError;
    }
    forward! {
        /// Gives a kept permit back, or adds one.
        fn release() -> (), SemaphoreError;
    }
}

impl Shared<BoundedSemaphore> {
    forward_waiting! {
        "Takes a permit": acquire try_acquire acquire_timeout acquire_deadline() -> Permit<'_>, SemaphoreError;
    }
    forward! {
        /// Gives a permit back that somebody holds.
        fn release() -> (), SemaphoreError;
    }
}

/// Permits that can be had, counting those of the dead.
macro_rules! available {
    ($($semaphore:ty),*) => {
        $(impl Shared<$semaphore> {
            /// Permits that can be had at this moment.
            ///
            /// # Errors
            ///
            /// The calling thread cannot take part.
            pub fn available(&self) -> Result<usize, Refused<std::convert::Infallible>> {
                self.ask(|semaphore, me| Ok(semaphore.available(me)))
            }
        })*
    };
}

available!(Semaphore, BoundedSemaphore);
