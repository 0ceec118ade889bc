//! `Shared<Mutex<T>>`.

use std::time::{Duration, Instant};

use bytemuck::Pod;
use swath_sync::{LockError, Locked, Mutex, MutexGuard};

use super::{Refused, Shared, forward};

impl<T: Pod> Shared<Mutex<T>> {
    forward! {
        /// Takes the lock, however long that lasts.
        fn lock() -> Locked<'_, T>, LockError;
        /// Takes the lock if it is free or its holder is dead.
        fn try_lock() -> Locked<'_, T>, LockError;
        /// Takes the lock, waiting at most for `timeout`.
        fn lock_timeout(timeout: Duration) -> Locked<'_, T>, LockError;
        /// Takes the lock, waiting at most until `deadline`.
        fn lock_deadline(deadline: Instant) -> Locked<'_, T>, LockError;
    }

    /// Takes the lock; if its holder died, `repair` makes the value whole first.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock_or_repair`], with the object's name.
    pub fn lock_or_repair(
        &self,
        repair: impl FnOnce(&mut T),
    ) -> Result<MutexGuard<'_, T>, Refused<LockError>> {
        self.ask(|mutex, me| mutex.lock_or_repair(me, repair))
    }
}
