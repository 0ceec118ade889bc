//! `Shared<Event>`.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use swath_sync::Event;

use super::{Refused, Shared};

impl Shared<Event> {
    /// Whether the event is set.
    ///
    /// # Errors
    ///
    /// The calling thread cannot take part: the process was forked since.
    pub fn is_set(&self) -> Result<bool, Refused<Infallible>> {
        self.ask(|event, _| Ok(event.is_set()))
    }

    /// Sets the event and wakes all who wait.
    ///
    /// # Errors
    ///
    /// As [`Self::is_set`].
    pub fn set(&self) -> Result<(), Refused<Infallible>> {
        self.ask(|event, _| {
            event.set();
            Ok(())
        })
    }

    /// Clears the event.
    ///
    /// # Errors
    ///
    /// As [`Self::is_set`].
    pub fn clear(&self) -> Result<(), Refused<Infallible>> {
        self.ask(|event, _| {
            event.clear();
            Ok(())
        })
    }

    /// Waits until the event is set, or has been set since the call.
    ///
    /// # Errors
    ///
    /// As [`Self::is_set`].
    pub fn wait(&self) -> Result<(), Refused<Infallible>> {
        self.ask(|event, _| {
            event.wait();
            Ok(())
        })
    }

    /// Waits at most for `timeout`; says whether the event was set.
    ///
    /// # Errors
    ///
    /// As [`Self::is_set`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Refused<Infallible>> {
        self.ask(|event, _| Ok(event.wait_timeout(timeout)))
    }

    /// Waits at most until `deadline`; says whether the event was set.
    ///
    /// # Errors
    ///
    /// As [`Self::is_set`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<bool, Refused<Infallible>> {
        self.wait_timeout(deadline.saturating_duration_since(Instant::now()))
    }
}
