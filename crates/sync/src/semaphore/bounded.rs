//! A semaphore that notices when it is released more often than acquired.

use std::fmt;
use std::time::{Duration, Instant};

#[cfg(not(loom))]
use super::SemaphorePlan;
use super::{Cell, FREE, KEPT, NONE, Permit, Semaphore, SemaphoreError};
use crate::owner::Owner;
use crate::party::Party;
#[cfg(not(loom))]
use crate::place::in_place_of_another;

/// A [`Semaphore`] that never has more permits than in the beginning: a release without a permit that somebody keeps is an
/// error, and changes nothing. (Python's: any party may give back what another one took and keeps.)
#[repr(transparent)]
pub struct BoundedSemaphore<C: ?Sized = [Cell]>(Semaphore<C>);

/// A bounded semaphore before it has a place.
#[cfg(not(loom))]
#[derive(Copy, Clone, Debug)]
pub struct BoundedSemaphorePlan(SemaphorePlan);

impl BoundedSemaphore {
    /// A semaphore with so many permits.
    ///
    /// # Panics
    /// Without permits, or with more than [`PERMITS_MAX`](super::PERMITS_MAX).
    #[cfg(not(loom))]
    #[allow(clippy::new_ret_no_self)]
    pub fn new(initial: usize) -> BoundedSemaphorePlan {
        BoundedSemaphorePlan(Semaphore::new(initial))
    }

    /// How many permits there are.
    pub fn initial(&self) -> usize {
        self.0.capacity()
    }

    /// As [`Semaphore::available`].
    pub fn available(&self, party: &Party) -> usize {
        self.0.available(party)
    }

    /// As [`Semaphore::acquire`].
    #[inline]
    pub fn acquire(&self, party: &Party) -> Result<Permit<'_>, SemaphoreError> {
        self.0.acquire(party)
    }

    /// As [`Semaphore::try_acquire`].
    #[inline]
    pub fn try_acquire(&self, party: &Party) -> Result<Permit<'_>, SemaphoreError> {
        self.0.try_acquire(party)
    }

    /// As [`Semaphore::acquire_timeout`].
    pub fn acquire_timeout(&self, party: &Party, timeout: Duration) -> Result<Permit<'_>, SemaphoreError> {
        self.0.acquire_timeout(party, timeout)
    }

    /// As [`Semaphore::acquire_deadline`].
    pub fn acquire_deadline(&self, party: &Party, deadline: Instant) -> Result<Permit<'_>, SemaphoreError> {
        self.0.acquire_deadline(party, deadline)
    }

    /// Gives a permit back that the calling thread keeps, else one of this process, else anybody's; else one that was
    /// consumed. Never waits.
    ///
    /// # Errors
    /// [`SemaphoreError::OverRelease`].
    pub fn release(&self, party: &Party) -> Result<(), SemaphoreError> {
        // A dead one's has come back already.
        let lives = |seen| Owner::of_word(seen).is_some_and(|owner| !party.table().is_dead(owner));
        let kept = |seen: u32| seen & (FREE | KEPT) == KEPT && lives(seen);
        let permits = &self.0;
        if permits.release_own(party) || permits.free_first(kept) || permits.free_first(|seen| seen == NONE) {
            return Ok(());
        }
        Err(SemaphoreError::OverRelease { initial: self.initial() })
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundedSemaphore").field(&&self.0).finish()
    }
}

#[cfg(not(loom))]
in_place_of_another!(impl [] BoundedSemaphore, by BoundedSemaphorePlan, as Semaphore, "bounded semaphore");
