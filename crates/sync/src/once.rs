//! Something that is done once, by whoever comes first and lives long enough. Steps I1–I4 of `README.md`.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use crate::atomics::{AtomicU32, Ordering, wake_all};
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::owner::{Holder, OWNER_MASK, Owner};
use crate::party::Party;
use crate::peer::PeerWait;
use crate::poison::PoisonedBy;

/// Nobody has begun.
const NEW: u32 = 0;
/// Somebody sleeps until it is over.
const WAITERS: u32 = 1 << 31;
/// It is over: well if no owner stands beside it, by that owner's panic otherwise.
const OVER: u32 = 1 << 30;

/// Runs an initialiser once, whoever of all processes comes first; the others wait for it.
///
/// All zero is one that has not run. If the one who runs it dies, the next one runs it again, and is told so. If it
/// panics, nobody runs it again until [`Self::clear`].
#[repr(C)]
pub struct Once {
    /// `WAITERS:1 | OVER:1 | owner:30`.
    word: AtomicU32,
    /// The process of the owner who panicked.
    pid: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Once>() == 8 && std::mem::offset_of!(Once, word) == 0);

#[cfg(not(loom))]
crate::place::in_place!(impl [] Once, "once", (0, 1));

/// What a call found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Called {
    /// The caller has run it, the first to begin.
    Ran,
    /// The caller has run it, after this party had begun and died.
    RanAgain {
        /// Who died in it.
        dead: Holder,
    },
    /// Somebody had run it, or did while the caller waited.
    AlreadyDone,
}

impl Once {
    /// One that has not run.
    pub fn new() -> Self {
        Self { word: AtomicU32::new(NEW), pid: AtomicU32::new(0) }
    }

    /// Whether it has run. If so, all that it did is visible here.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.word.load(Ordering::Acquire) & !WAITERS == OVER
    }

    /// Runs `body` unless it has run; if somebody is at it, waits for that, however long it lasts. `body` is given who died
    /// in it before, if somebody did: what that one left half made is there.
    ///
    /// # Errors
    /// [`LockError::Poisoned`] by who panicked in it; [`LockError::Relock`] inside `body`; [`LockError::Deadlock`].
    pub fn call_once(&self, party: &Party, body: impl FnOnce(Option<Holder>)) -> Result<Called, LockError> {
        self.call(party, Deadline::Never, body)
    }

    /// [`Self::call_once`] without waiting: [`LockError::TimedOut`] if somebody is at it.
    ///
    /// # Errors
    /// As [`Self::call_once`].
    pub fn try_call_once(
        &self,
        party: &Party,
        body: impl FnOnce(Option<Holder>),
    ) -> Result<Called, LockError> {
        self.call(party, Deadline::Now, body)
    }

    /// [`Self::call_once`], waiting at most for `timeout`.
    ///
    /// # Errors
    /// As [`Self::call_once`].
    pub fn call_once_timeout(
        &self,
        party: &Party,
        timeout: Duration,
        body: impl FnOnce(Option<Holder>),
    ) -> Result<Called, LockError> {
        self.call(party, Deadline::In(timeout), body)
    }

    /// [`Self::call_once`], waiting at most until `deadline`.
    ///
    /// # Errors
    /// As [`Self::call_once`].
    pub fn call_once_deadline(
        &self,
        party: &Party,
        deadline: Instant,
        body: impl FnOnce(Option<Holder>),
    ) -> Result<Called, LockError> {
        self.call(party, Deadline::At(deadline), body)
    }

    /// Who panicked in it, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        self.poisoned_by(self.word.load(Ordering::Acquire))
    }

    /// The same, as a word says that was read before.
    fn poisoned_by(&self, word: u32) -> Option<PoisonedBy> {
        let over = word & OVER != 0;
        over.then(|| PoisonedBy::of_word(word & OWNER_MASK, self.pid.load(Ordering::Relaxed)))?
    }

    /// After a panic in it: the next caller runs it again.
    pub fn clear(&self) {
        let word = self.word.load(Ordering::Acquire);
        if self.poisoned_by(word).is_some() {
            let _ = self.word.compare_exchange(word, NEW, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    #[inline]
    fn call(
        &self,
        party: &Party,
        deadline: Deadline,
        body: impl FnOnce(Option<Holder>),
    ) -> Result<Called, LockError> {
        if self.is_done() {
            return Ok(Called::AlreadyDone);
        }
        let dead = match self.begin(party, deadline)? {
            Begun::Done => return Ok(Called::AlreadyDone),
            Begun::Ours(dead) => dead.map(|dead| party.table().holder(dead)),
        };
        let running = Running { once: self, party };
        body(dead);
        mem::forget(running);
        self.end(OVER); // I3
        Ok(dead.map_or(Called::Ran, |dead| Called::RanAgain { dead }))
    }

    /// I1, I2, I4: until it is the caller's to run, or has been run.
    #[cold]
    fn begin(&self, party: &Party, deadline: Deadline) -> Result<Begun, LockError> {
        let me = party.owner();
        let mut wait = PeerWait::new(party, deadline);
        loop {
            let word = self.word.load(Ordering::Acquire);
            if let Some(who) = self.poisoned_by(word) {
                return Err(LockError::Poisoned { who });
            }
            let (next, dead) = match Owner::of_word(word) {
                None if word & OVER != 0 => return Ok(Begun::Done),
                None => (me.bits(), None), // I1
                Some(owner) if owner == me => {
                    return Err(LockError::Relock { holder: party.table().holder(me) });
                }
                Some(owner) if wait.finds_dead(owner)? => (me.bits() | word & WAITERS, Some(owner)), // I2
                Some(owner) => {
                    let marked = word | WAITERS;
                    let order = (Ordering::Relaxed, Ordering::Relaxed);
                    if word == marked || self.word.compare_exchange(word, marked, order.0, order.1).is_ok() {
                        wait.sleep(&self.word, marked, owner)?; // I4
                    }
                    continue;
                }
            };
            if self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(Begun::Ours(dead));
            }
        }
    }

    /// I3. Killed before: I2 by the next. Killed between swap and wake: slices end.
    fn end(&self, word: u32) {
        if self.word.swap(word, Ordering::AcqRel) & WAITERS != 0 {
            wake_all(&self.word);
        }
    }
}

enum Begun {
    Done,
    /// To run it, perhaps after a dead one.
    Ours(Option<Owner>),
}

/// Somebody is in the initialiser; dropped by a panic only.
struct Running<'a> {
    once: &'a Once,
    party: &'a Party,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let me = self.party.owner();
        self.once.pid.store(self.party.table().holder(me).pid, Ordering::Relaxed);
        self.once.end(OVER | me.bits());
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("done", &self.is_done())
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}
