//! Shared signals: `Event`, `Condvar`, `Barrier`, `Once`.

use std::time::{Duration, Instant};

use swath_sync::{
    Barrier, BarrierError, Called, Condvar, Event, Holder, LockError, Locked, MutexGuard, Once, Waited,
};

use super::{Refused, Shared, forward, forward_sure, forward_waiting};

impl Shared<Event> {
    forward_sure! {
        /// Whether the event is set.
        fn is_set() -> bool;
        /// Sets the event and wakes all who wait.
        fn set() -> ();
        /// Clears the event.
        fn clear() -> ();
        /// Waits until the event is set, or has been set since the call.
        fn wait() -> ();
        /// Waits at most for `timeout`; says whether the event was set.
        fn wait_timeout(timeout: Duration) -> bool;
        /// Waits at most until `deadline`; says whether the event was set.
        fn wait_deadline(deadline: Instant) -> bool;
    }
}

impl Shared<Condvar> {
    forward_sure! {
        /// Wakes one who waits.
        fn notify_one() -> ();
        /// Wakes `n` of those who wait.
        fn notify_n(n: u32) -> ();
        /// Wakes all who wait.
        fn notify_all() -> ();
    }

    /// Gives the lock back, waits until notified, takes the lock again. May return without a notification.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait`], with the condition's name.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> Result<Locked<'a, T>, Refused<LockError>> {
        self.ask(|condvar, _| condvar.wait(guard))
    }

    /// As [`Self::wait`], at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait_timeout`], with the condition's name.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(Locked<'a, T>, Waited), Refused<LockError>> {
        self.ask(|condvar, _| condvar.wait_timeout(guard, timeout))
    }

    /// As [`Self::wait`], at most until `deadline`.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait_deadline`], with the condition's name.
    pub fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Instant,
    ) -> Result<(Locked<'a, T>, Waited), Refused<LockError>> {
        self.ask(|condvar, _| condvar.wait_deadline(guard, deadline))
    }

    /// Waits while `condition` holds.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait_while`], with the condition's name.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<Locked<'a, T>, Refused<LockError>> {
        self.ask(|condvar, _| condvar.wait_while(guard, condition))
    }

    /// Waits while `condition` holds, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait_timeout_while`], with the condition's name.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(Locked<'a, T>, Waited), Refused<LockError>> {
        self.ask(|condvar, _| condvar.wait_timeout_while(guard, timeout, condition))
    }
}

impl Shared<Barrier> {
    forward_waiting! {
        "Waits until all parties have come; one of them is told `true`":
            wait try_wait wait_timeout wait_deadline() -> bool, BarrierError;
    }
    forward! {
        /// Waits until all have come, and the last one runs `action` before anybody passes.
        fn wait_with(action: impl FnOnce()) -> bool, BarrierError;
    }
    forward_sure! {
        /// Closes it for all, until it is reset.
        fn abort() -> ();
        /// Opens it again, with all seats free.
        fn reset_seats() -> ();
        /// How many parties it has.
        fn parties() -> usize;
    }
}

impl Shared<Once> {
    forward! {
        /// Runs `body` if nobody has yet; waits for who is at it. `body` is told who died at it before.
        fn call_once(body: impl FnOnce(Option<Holder>)) -> Called, LockError;
    }
    forward_sure! {
        /// Whether it has been done.
        fn is_done() -> bool;
    }
}
