//! Shared values: `Value`, `Record`, `LockedArray`.

use bytemuck::Pod;
use swath_sync::{ArrayError, LockError, Locked, LockedArray, MutexGuard, Number, Record, Value};

use super::{Refused, Shared, forward, forward_sure, forward_waiting};

/// A number's own methods (`load`, `store`, `fetch_add`, `update` …) need no party: `Shared<Value<T>>` is one.
impl<T: Number> std::ops::Deref for Shared<Value<T>> {
    type Target = Value<T>;

    fn deref(&self) -> &Value<T> {
        self.object()
    }
}

impl<T: Pod> Shared<Record<T>> {
    forward_sure! {
        /// The record as it was after some update, whole.
        fn get() -> T;
    }
    forward! {
        /// Replaces the record.
        fn set(value: T) -> (), LockError;
    }

    /// Changes the record as a whole: whoever dies in `change` has changed nothing.
    ///
    /// # Errors
    ///
    /// As [`Record::update`], with the record's name.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Refused<LockError>> {
        self.ask(|record, me| record.update(me, change))
    }
}

impl<T: Pod> Shared<LockedArray<T>> {
    forward! {
        /// One element.
        fn get(index: usize) -> T, ArrayError;
        /// Changes one element.
        fn set(index: usize, value: T) -> (), ArrayError;
        /// Takes the lock; if its holder died, `repair` makes the elements whole first.
        fn lock_or_repair(repair: impl FnOnce(&mut [T])) -> MutexGuard<'_, [T]>, LockError;
    }
    forward_waiting! {
        "Takes the lock of all elements": lock try_lock lock_timeout lock_deadline() -> Locked<'_, [T]>, LockError;
    }
    forward_sure! {
        /// How many elements.
        fn len() -> usize;
        /// Whether there are none.
        fn is_empty() -> bool;
    }
}
