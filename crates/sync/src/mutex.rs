//! A mutex that knows when its holder dies. Steps M1–M8 of `README.md`.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use swath_platform::life::OWNER_DIED;

use crate::atomics::{AtomicU32, Ordering, UnsafeCell, Wait, now_ns, wait_any_until, wake, wake_all};
use crate::deadline::Deadline;
use crate::owner::{Holder, OWNER_MASK, Owner};
use crate::park;
use crate::party::Party;
use crate::waits::Watch;

/// Nobody holds it.
const FREE: u32 = 0;
/// Somebody may sleep on the word: whoever unlocks must wake one.
const WAITERS: u32 = 1 << 31;
/// The holder took it from a dead one and has not said that the value is whole again.
const RECOVER: u32 = 1 << 30;
/// In the poison word: by a death that was not repaired, not by a panic.
const BY_DEATH: u32 = 1 << 30;

/// Looks at a held lock before sleeping, with a pause each.
const SPINS: u32 = 100;

/// A value that one thread of one process at a time may touch.
///
/// All zero bytes are an unlocked, whole mutex around a zero value. The uncontended way in is one compare-and-swap, the
/// way out one swap. If the holder dies, the next one gets [`Locked::Recovered`] and must say that it made the value
/// whole; if it does not, or if a holder panics, the mutex is poisoned by name until [`Self::clear`].
///
/// A guard that is leaked holds the lock until its process ends.
#[repr(C)]
pub struct Mutex<T> {
    /// `WAITERS:1 | RECOVER:1 | owner:30`, 0 when free.
    word: AtomicU32,
    /// `0 | BY_DEATH:1 | owner:30` of whoever left the value in doubt, 0 when whole.
    poison: AtomicU32,
    /// The process that the poison word's owner was.
    poison_pid: AtomicU32,
    _reserved: AtomicU32,
    value: UnsafeCell<T>,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Mutex<u64>>() == 24 && align_of::<Mutex<u64>>() == 8);
    assert!(offset_of!(Mutex<u64>, word) == 0 && offset_of!(Mutex<u64>, poison) == 4);
    assert!(offset_of!(Mutex<u64>, poison_pid) == 8 && offset_of!(Mutex<u64>, value) == 16);
};

#[cfg(not(loom))]
crate::place::in_place!(impl [T: bytemuck::Pod] Mutex<T>, "mutex", (size_of::<T>(), align_of::<T>()));

// SAFETY: a mutex hands its value to one thread at a time, so sharing it sends the value.
unsafe impl<T: Send> Sync for Mutex<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex around `value`.
    pub fn new(value: T) -> Self {
        let word = || AtomicU32::new(0);
        Self {
            word: word(),
            poison: word(),
            poison_pid: word(),
            _reserved: word(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, by whoever is the only one left to see it, whatever state it is in.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The mutex at `pointer`, in memory that several processes map.
    ///
    /// # Safety
    /// 1. `pointer` is aligned for `Mutex<T>` and valid for reads and writes of its size during `'a`;
    /// 2. the bytes were zero, or a `Mutex<T>`, before anyone used them as one, and nothing else writes them;
    /// 3. all who use it are parties of one slot table.
    #[cfg(not(loom))]
    pub unsafe fn at<'a>(pointer: *const u8) -> &'a Self
    where
        T: bytemuck::Pod,
    {
        debug_assert!(pointer.cast::<Self>().is_aligned());
        // SAFETY: by 1 and 2. The words are atomics, the value is in a cell, and any bytes are a valid `T`: Pod.
        unsafe { &*pointer.cast::<Self>() }
    }

    /// Takes the lock, however long that lasts.
    #[inline]
    pub fn lock(&self, party: &Party) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::Never)
    }

    /// Takes the lock if it is free or its holder is dead, without waiting; otherwise [`LockError::TimedOut`].
    #[inline]
    pub fn try_lock(&self, party: &Party) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::Now)
    }

    /// Takes the lock, waiting at most for `timeout`.
    #[inline]
    pub fn lock_timeout(&self, party: &Party, timeout: Duration) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::In(timeout))
    }

    /// Takes the lock, waiting at most until `deadline`.
    #[inline]
    pub fn lock_deadline(&self, party: &Party, deadline: Instant) -> Result<Locked<'_, T>, LockError> {
        self.acquire(party, Deadline::At(deadline))
    }

    /// Takes the lock; if its holder died, `repair` makes the value whole first. A panic in `repair` poisons.
    pub fn lock_or_repair(
        &self,
        party: &Party,
        repair: impl FnOnce(&mut T),
    ) -> Result<MutexGuard<'_, T>, LockError> {
        match self.lock(party)? {
            Locked::Acquired(guard) => Ok(guard),
            Locked::Recovered(mut guard) => {
                repair(&mut guard);
                Ok(guard.repaired())
            }
        }
    }

    /// Declares the value whole again. Who calls it knows why; who waits for the lock does not notice.
    pub fn clear(&self) {
        self.poison.store(0, Ordering::Release);
    }

    /// Who left the value in doubt, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        let word = self.poison.load(Ordering::Acquire);
        let owner = Owner::of_word(word)?;
        let pid = self.poison_pid.load(Ordering::Relaxed);
        let who = Holder { slot: owner.slot(), thread: owner.thread(), pid };
        Some(if word & BY_DEATH != 0 { PoisonedBy::Death(who) } else { PoisonedBy::Panic(who) })
    }

    #[inline(always)]
    fn acquire(&self, party: &Party, deadline: Deadline) -> Result<Locked<'_, T>, LockError> {
        let me = party.owner().bits();
        // M1. Nothing to repair unless the poison word says so: only under the lock does it become set.
        let held = self.word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if held && self.poison.load(Ordering::Relaxed) == 0 {
            return Ok(Locked::Acquired(self.guard(party)));
        }
        self.acquire_slow(party, deadline, held)
    }

    /// Everything but the free and whole lock; `held` when it was free and is poisoned.
    #[cold]
    fn acquire_slow(
        &self,
        party: &Party,
        deadline: Deadline,
        held: bool,
    ) -> Result<Locked<'_, T>, LockError> {
        let from = if held { None } else { self.wait(party, deadline)? };
        if let Some(who) = self.poisoned() {
            self.unlock();
            return Err(LockError::Poisoned { who });
        }
        let guard = self.guard(party);
        Ok(match from {
            None => Locked::Acquired(guard),
            Some(dead) => Locked::Recovered(RecoveredGuard { guard, dead: party.table().holder(dead) }),
        })
    }

    #[inline(always)]
    fn guard(&self, party: &Party) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, party: *party, panicking: thread::panicking() }
    }

    /// M2–M7: until the lock is ours; `Some` names the dead holder that it was taken from.
    fn wait(&self, party: &Party, deadline: Deadline) -> Result<Option<Owner>, LockError> {
        let (table, me) = (party.table(), party.owner());
        let deadline_ns = deadline.on_the_clock();
        let mut watch = Watch::new();
        let mut seen = Seen::default();
        let mut waiters = 0;
        let mut word = self.spin();
        loop {
            let Some(owner) = Owner::of_word(word) else {
                // M2. `waiters` is kept once we have slept: others may sleep too, and nobody else knows.
                match self.swap_word(word, me.bits() | waiters) {
                    Ok(()) => return Ok(None),
                    Err(changed) => word = changed,
                }
                continue;
            };
            if owner == me {
                return Err(LockError::Relock { holder: table.holder(me) });
            }
            let deaths = table.deaths().load(Ordering::Acquire); // before the look: a death after it ends M5 at once
            let life = table.watched_life(owner);
            if table.is_dead(owner) {
                // M3. From the dead one's word to ours in one step; WAITERS stays set, being cheap if wrong.
                match self.swap_word(word, me.bits() | RECOVER | WAITERS) {
                    Ok(()) => return Ok(Some(owner)),
                    Err(changed) => word = changed,
                }
                continue;
            }
            let now = now_ns();
            let held_for = seen.held_for(word, now);
            if now >= deadline_ns {
                if table.learns_of_death(owner) {
                    continue; // M3
                }
                return Err(LockError::TimedOut { holder: table.holder(owner), held_for });
            }
            if word & WAITERS == 0 {
                // M4
                if let Err(changed) = self.swap_word(word, word | WAITERS) {
                    word = changed;
                    continue;
                }
                word |= WAITERS;
            }
            let ended = sleep(&self.word, word, (table.deaths(), deaths), life, park::slice_end(deadline_ns)); // M5
            waiters = WAITERS;
            seen.slept(ended);
            word = self.word.load(Ordering::Relaxed);
            // M6: a whole slice, and still the same holder: perhaps it is dead, perhaps we wait for each other.
            let long = ended == Wait::TimedOut && Owner::of_word(word) == Some(owner);
            if long && table.learns_of_death(owner) {
                continue; // M3
            }
            if let Some(parties) = long.then(|| watch.look(party, owner)).flatten() {
                return Err(LockError::Deadlock { parties });
            }
        }
    }

    fn swap_word(&self, old: u32, new: u32) -> Result<(), u32> {
        self.word.compare_exchange(old, new, Ordering::Acquire, Ordering::Relaxed).map(|_| ())
    }

    /// Looks for a moment whether the holder is about to leave; not if others sleep already.
    fn spin(&self) -> u32 {
        let mut left = if cfg!(loom) { 0 } else { SPINS };
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if word == FREE || word & WAITERS != 0 || left == 0 {
                return word;
            }
            crate::atomics::spin_loop();
            left -= 1;
        }
    }

    #[inline(always)]
    fn unlock(&self) {
        // M8. Killed before: M3 by the next. Killed after, before the wake: a sleeper's slice ends.
        if self.word.swap(FREE, Ordering::Release) & WAITERS != 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        wake(&self.word, 1);
    }

    /// M7: the name before the mark, the mark before the unlock; killed in between, the next one recovers.
    #[cold]
    fn poison(&self, who: Holder, flag: u32) {
        self.poison_pid.store(who.pid, Ordering::Relaxed);
        self.poison.store(Owner::new(who.slot, who.thread).bits() | flag, Ordering::Release);
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        let holder = Owner::of_word(word).map(|owner| (owner.slot(), owner.thread()));
        f.debug_struct("Mutex")
            .field("holder", &holder)
            .field("poisoned", &self.poisoned())
            .finish_non_exhaustive()
    }
}

/// M5: on the lock's word, on the table's count of deaths, and on the holder's life word if the kernel watches it.
fn sleep(
    word: &AtomicU32,
    value: u32,
    deaths: (&AtomicU32, u32),
    life: Option<(&AtomicU32, u32)>,
    end_ns: u64,
) -> Wait {
    let Some((life_word, alive)) = life else {
        return wait_any_until(&[(word, value), deaths], end_ns);
    };
    let ended = wait_any_until(&[(word, value), deaths, (life_word, alive)], end_ns);
    // The kernel wakes one sleeper of a life word; that one passes the news on.
    if ended == Wait::Woken && life_word.load(Ordering::Relaxed) & OWNER_DIED != 0 {
        wake_all(life_word);
    }
    ended
}

/// How long this waiter knows of the present holder: for the error, which says "for at least".
#[derive(Default)]
struct Seen {
    owner: u32,
    since_ns: u64,
}

impl Seen {
    fn held_for(&mut self, word: u32, now_ns: u64) -> Duration {
        if self.owner != word & OWNER_MASK {
            *self = Self { owner: word & OWNER_MASK, since_ns: now_ns };
        }
        Duration::from_nanos(now_ns - self.since_ns)
    }

    /// After a wake the same owner may hold it anew.
    fn slept(&mut self, ended: Wait) {
        if ended == Wait::Woken {
            self.owner = 0;
        }
    }
}

/// A lock that was taken.
#[must_use = "dropping it gives the lock back at once"]
#[derive(Debug)]
pub enum Locked<'a, T> {
    /// The value is as its last holder left it.
    Acquired(MutexGuard<'a, T>),
    /// The last holder died holding the lock; the value may be half changed.
    Recovered(RecoveredGuard<'a, T>),
}

impl<'a, T> Locked<'a, T> {
    /// The guard, unless the last holder died; then `None`, and the mutex is poisoned.
    pub fn acquired(self) -> Option<MutexGuard<'a, T>> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Recovered(_) => None,
        }
    }
}

/// Access to the value, and the lock, until dropped. A panic while it is held poisons the mutex.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Makes the guard `!Send` too: the lock word names this thread.
    party: Party,
    /// Whether the thread was panicking already when it took the lock: then it is not this lock's fault.
    panicking: bool,
}

// SAFETY: a shared guard gives out `&T` and nothing else.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so nobody else has a reference that writes; ours borrow the guard.
        self.mutex.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed mutably.
        self.mutex.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if thread::panicking() && !self.panicking {
            self.mutex.poison(self.party.table().holder(self.party.owner()), 0);
        }
        self.mutex.unlock();
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MutexGuard").field(&**self).finish()
    }
}

/// Access to a value whose last holder died. Make it whole and call [`Self::repaired`]; dropped without that, it
/// poisons the mutex in the dead one's name.
#[must_use = "dropping it without `repaired` poisons the mutex"]
pub struct RecoveredGuard<'a, T> {
    guard: MutexGuard<'a, T>,
    dead: Holder,
}

impl<'a, T> RecoveredGuard<'a, T> {
    /// Who died holding the lock.
    pub fn dead(&self) -> Holder {
        self.dead
    }

    /// Says that the value is whole, and goes on as a holder like any other.
    pub fn repaired(self) -> MutexGuard<'a, T> {
        let this = ManuallyDrop::new(self);
        this.guard.mutex.word.fetch_and(!RECOVER, Ordering::Relaxed);
        // SAFETY: `this` is never used again nor dropped, so the guard is moved, not copied.
        unsafe { std::ptr::read(&this.guard) }
    }
}

impl<T> Deref for RecoveredGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for RecoveredGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for RecoveredGuard<'_, T> {
    fn drop(&mut self) {
        self.guard.panicking = true; // the dead one's name goes in, not ours
        self.guard.mutex.poison(self.dead, BY_DEATH);
    }
}

impl<T: fmt::Debug> fmt::Debug for RecoveredGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveredGuard").field("dead", &self.dead).field("value", &**self).finish()
    }
}

/// Why and by whom a mutex is poisoned.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PoisonedBy {
    /// This party died holding the lock, and who recovered it did not repair the value.
    Death(Holder),
    /// This party panicked holding the lock.
    Panic(Holder),
}

impl fmt::Display for PoisonedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Death(who) => write!(f, "{who} died holding it and the value was not repaired"),
            Self::Panic(who) => write!(f, "{who} panicked holding it"),
        }
    }
}

/// Why a lock was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LockError {
    /// The deadline passed while somebody who lives held it.
    #[error("the lock was not to be had in time: {holder} has held it for at least {held_for:?}")]
    TimedOut {
        /// Who holds it.
        holder: Holder,
        /// Since this waiter first saw that.
        held_for: Duration,
    },
    /// The value is in doubt.
    #[error("the lock is poisoned: {who}")]
    Poisoned {
        /// Who left it so, and how.
        who: PoisonedBy,
    },
    /// The calling thread holds it already.
    #[error("the calling thread, {holder}, holds the lock already")]
    Relock {
        /// The calling thread.
        holder: Holder,
    },
    /// The parties wait for each other's locks, the caller first, each for the next, the last for the first.
    #[error("deadlock: {}", cycle(parties))]
    Deadlock {
        /// The parties of the cycle.
        parties: Vec<Holder>,
    },
}

fn cycle(parties: &[Holder]) -> String {
    let names = parties.iter().chain(parties.first()).map(Holder::to_string);
    names.collect::<Vec<_>>().join(" waits for ")
}
