//! The lock word and the poison word that every lock with a single holder is made of. Steps M1–M8 of `README.md`.

use crate::atomics::{AtomicU32, Ordering, wake};
use crate::deadline::Deadline;
use crate::lock_error::LockError;
use crate::owner::Owner;
use crate::party::Party;
use crate::peer::PeerWait;
use crate::poison::PoisonedBy;

/// Nobody holds it.
const FREE: u32 = 0;
/// Somebody may sleep on the word: whoever unlocks must wake one.
const WAITERS: u32 = 1 << 31;
/// The holder took it from a dead one and has not said that the value is whole again.
const RECOVER: u32 = 1 << 30;

/// Looks at a held lock before sleeping, with a pause each. Few: two processes that fight for a lock get most done when one of
/// them sleeps and the other has the line of the lock to itself (measured; 100 looks halve the throughput).
const SPINS: u32 = 4;

/// A lock without a value; all zero is free and whole.
#[repr(C)]
pub(crate) struct RawLock {
    /// `WAITERS:1 | RECOVER:1 | owner:30`, 0 when free.
    word: AtomicU32,
    /// `0 | BY_DEATH:1 | owner:30` of whoever left the value in doubt, 0 when whole.
    poison: AtomicU32,
    /// The process that the poison word's owner was.
    poison_pid: AtomicU32,
    _reserved: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<RawLock>() == 16 && align_of::<RawLock>() == 4);
    assert!(offset_of!(RawLock, word) == 0 && offset_of!(RawLock, poison) == 4);
    assert!(offset_of!(RawLock, poison_pid) == 8);
};

impl RawLock {
    pub(crate) fn new() -> Self {
        let word = || AtomicU32::new(0);
        Self { word: word(), poison: word(), poison_pid: word(), _reserved: word() }
    }

    /// M1–M7: until the lock is the caller's; `Some` names the dead holder that it was taken from.
    ///
    /// The error is boxed so that the answer fits into registers: a guard that is put together in memory and read back whole
    /// costs a stalled load, five times as much as the lock itself.
    #[inline(always)]
    pub(crate) fn lock(&self, party: &Party, deadline: Deadline) -> Result<Option<Owner>, Box<LockError>> {
        let me = party.owner().bits();
        // M1. Nothing to repair unless the poison word says so: only under the lock does it become set.
        let held = self.word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if held && self.poison.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        self.lock_slow(party, deadline, held)
    }

    /// Everything but the free and whole lock; `held` when it was free and is poisoned.
    #[cold]
    #[inline(never)]
    fn lock_slow(
        &self,
        party: &Party,
        deadline: Deadline,
        held: bool,
    ) -> Result<Option<Owner>, Box<LockError>> {
        let from = if held { None } else { self.wait(party, deadline)? };
        match self.poisoned() {
            None => Ok(from),
            Some(who) => {
                self.unlock();
                Err(Box::new(LockError::Poisoned { who }))
            }
        }
    }

    /// M2–M6.
    fn wait(&self, party: &Party, deadline: Deadline) -> Result<Option<Owner>, LockError> {
        let me = party.owner();
        let mut wait = PeerWait::new(party, deadline);
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
                return Err(LockError::Relock { holder: party.table().holder(me) });
            }
            if wait.finds_dead(owner)? {
                // M3. From the dead one's word to ours in one step; WAITERS stays set, being cheap if wrong.
                match self.swap_word(word, me.bits() | RECOVER | WAITERS) {
                    Ok(()) => return Ok(Some(owner)),
                    Err(changed) => word = changed,
                }
                continue;
            }
            if word & WAITERS == 0 {
                // M4
                if let Err(changed) = self.swap_word(word, word | WAITERS) {
                    word = changed;
                    continue;
                }
                word |= WAITERS;
            }
            wait.sleep(&self.word, word, owner)?; // M5, M6
            waiters = WAITERS;
            word = self.word.load(Ordering::Relaxed);
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
    pub(crate) fn unlock(&self) {
        // M8. Killed before: M3 by the next. Killed after, before the wake: a sleeper's slice ends.
        if self.word.swap(FREE, Ordering::Release) & WAITERS != 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        wake(&self.word, 1);
    }

    /// Who holds it at this moment, whether alive or not.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::of_word(self.word.load(Ordering::Relaxed))
    }

    /// By a holder who took it from a dead one: the value is whole.
    pub(crate) fn repaired(&self) {
        self.word.fetch_and(!RECOVER, Ordering::Relaxed);
    }

    /// M7: the name before the mark, the mark before the unlock; killed in between, the next one recovers.
    #[cold]
    pub(crate) fn poison(&self, who: PoisonedBy) {
        let (word, pid) = who.to_word();
        self.poison_pid.store(pid, Ordering::Relaxed);
        self.poison.store(word, Ordering::Release);
    }

    /// Who left the value in doubt, if somebody did.
    pub(crate) fn poisoned(&self) -> Option<PoisonedBy> {
        let word = self.poison.load(Ordering::Acquire);
        PoisonedBy::of_word(word, self.poison_pid.load(Ordering::Relaxed))
    }

    /// The value is whole again, whoever says so.
    pub(crate) fn clear(&self) {
        self.poison.store(0, Ordering::Release);
    }
}
