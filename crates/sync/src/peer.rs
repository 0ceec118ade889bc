//! A wait for one party that is known by name: who holds a lock. Steps M5 and M6 of `README.md`.
//!
//! A primitive's loop is
//!
//! ```text
//! let mut wait = PeerWait::new(party, deadline);
//! loop {
//!     … try; Err(Relock) if the word names the caller …
//!     if wait.finds_dead(owner)? { … take over; continue }
//!     … mark the word, so that a waker knows of us …
//!     wait.sleep(&word, marked, owner)?;
//! }
//! ```

use std::time::Duration;

use swath_platform::life::OWNER_DIED;

use crate::atomics::{AtomicU32, Ordering, Wait, now_ns, wait_any_until, wake_all};
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::owner::Owner;
use crate::park;
use crate::party::Party;
use crate::waits::Watch;

/// See the module.
pub(crate) struct PeerWait<'p> {
    party: &'p Party,
    deadline_ns: u64,
    deaths: u32,
    watch: Watch,
    /// Whom this waiter knows as the holder, and since when: for the error, which says "for at least".
    seen: Option<Owner>,
    since_ns: u64,
}

impl<'p> PeerWait<'p> {
    pub(crate) fn new(party: &'p Party, deadline: Deadline) -> Self {
        Self {
            party,
            deadline_ns: deadline.on_the_clock(),
            deaths: 0,
            watch: Watch::new(),
            seen: None,
            since_ns: 0,
        }
    }

    /// Whether the holder is known to be dead. Before each sleep.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when the deadline has passed and it lives.
    pub(crate) fn finds_dead(&mut self, owner: Owner) -> Result<bool, LockError> {
        let table = self.party.table();
        self.deaths = table.deaths().load(Ordering::Acquire); // before the look: a death after it ends M5 at once
        if table.is_dead(owner) {
            return Ok(true);
        }
        let now = now_ns();
        if self.seen != Some(owner) {
            (self.seen, self.since_ns) = (Some(owner), now);
        }
        if now < self.deadline_ns {
            return Ok(false);
        }
        if table.learns_of_death(owner) {
            return Ok(true);
        }
        let held_for = Duration::from_nanos(now - self.since_ns);
        Err(LockError::TimedOut { holder: table.holder(owner), held_for })
    }

    /// M5, M6: as [`Self::doze`]; after a whole slice with the same holder also looks for a cycle. For a wait that only
    /// this owner can end.
    ///
    /// # Errors
    /// [`LockError::Deadlock`].
    pub(crate) fn sleep(&mut self, word: &AtomicU32, value: u32, owner: Owner) -> Result<(), LockError> {
        let still = |word: &AtomicU32| Owner::of_word(word.load(Ordering::Relaxed)) == Some(owner);
        if self.doze(word, value, owner)
            && still(word)
            && !self.party.table().learns_of_death(owner)
            && let Some(parties) = self.watch.look(self.party, owner)
        {
            return Err(LockError::Deadlock { parties });
        }
        Ok(())
    }

    /// M5: sleeps while `word` holds `value`, for at most a slice, and also on the table's count of deaths and the
    /// holder's life word. True after a whole slice.
    pub(crate) fn doze(&mut self, word: &AtomicU32, value: u32, owner: Owner) -> bool {
        let table = self.party.table();
        let deaths = (table.deaths(), self.deaths);
        let end_ns = park::slice_end(self.deadline_ns);
        let ended = match table.watched_life(owner) {
            Some(life) => {
                let ended = wait_any_until(&[(word, value), deaths, life], end_ns);
                // The kernel wakes one sleeper of a life word; that one passes the news on.
                if ended == Wait::Woken && life.0.load(Ordering::Relaxed) & OWNER_DIED != 0 {
                    wake_all(life.0);
                }
                ended
            }
            // It died since we looked, and its mark is there: nobody will wake us for it any more.
            None if table.is_dead(owner) => return false,
            None => wait_any_until(&[(word, value), deaths], end_ns),
        };
        if ended == Wait::Woken {
            self.seen = None; // the same owner may hold it anew
        }
        ended == Wait::TimedOut
    }
}
