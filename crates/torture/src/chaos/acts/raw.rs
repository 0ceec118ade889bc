//! The locks behind raw_sync's traits: a sum under the lock, and its parts beside it. Nobody is told of a death; the lock counts
//! them, and whoever finds the count moved since the last repair repairs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_sync::SlotId;
use swath_sync::raw_sync::Timeout;
use swath_sync::raw_sync::locks::LockImpl;

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::raw_memory::{Which, taken_over};

const LOCK: usize = 0;
const LOCK_TIMEOUT: usize = 1;
const UNLOCK: usize = 2;
const READ: usize = 3;
const LET_GO: usize = 4;
/// Who waits for ever looks for the dead after a slice of 50 ms, who waits so long when it is over. Most do, or the game
/// would be a game of slices.
const SOON: Duration = Duration::from_millis(1);

pub(super) struct Counted {
    which: Which,
    lock: Box<dyn LockImpl>,
    sum: &'static AtomicU64,
    /// The count at which the sum was last whole. Written under the lock.
    known: &'static AtomicU64,
    parts: Parts,
}

impl Counted {
    pub(super) fn new(arena: &Arena<'_>, which: Which) -> Counted {
        let (lock, parts) = (which.within(arena.words()), Parts::new(arena));
        Counted { which, lock, sum: arena.words(), known: arena.words(), parts }
    }

    fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Whether nobody has died over it since it was known to be whole.
    fn is_whole(&self) -> bool {
        u64::from(taken_over(&*self.lock)) == self.known.load(Ordering::Relaxed)
    }

    fn write(&self, me: &Me) -> Result<(), String> {
        let guard = if me.one_in(8) {
            me.inside(LOCK, || self.lock.lock()).map_err(|error| error.to_string())?
        } else {
            match me.inside(LOCK_TIMEOUT, || self.lock.try_lock(Timeout::Val(SOON))) {
                Ok(guard) => guard,
                Err(_) => return Ok(()),
            }
        };
        if !self.is_whole() {
            me.recovered();
            self.sum.store(self.parts.sum(), Ordering::Relaxed);
            me.may_crash();
            self.known.store(u64::from(taken_over(&*self.lock)), Ordering::Relaxed);
        }
        self.parts.check(self.sum())?;
        self.parts.raise(me);
        self.sum.store(self.sum() + 1, Ordering::Relaxed);
        me.inside(UNLOCK, || drop(guard));
        self.parts.acknowledge(me);
        Ok(())
    }

    fn read(&self, me: &Me) -> Result<(), String> {
        let Ok(guard) = me.inside(READ, || self.lock.try_rlock(Timeout::Val(SOON))) else {
            return Ok(());
        };
        // A reader cannot repair.
        if self.is_whole() {
            self.parts.check(self.sum())?;
            me.may_crash();
            self.parts.check(self.sum())?;
        }
        me.inside(LET_GO, || drop(guard));
        Ok(())
    }
}

impl Act for Counted {
    fn name(&self) -> &'static str {
        if self.which == Which::Mutex { "raw mutex" } else { "raw rwlock" }
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "try_lock", "unlock", "try_rlock", "let go"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        if self.which == Which::RwLock && me.one_in(2) { self.read(me) } else { self.write(me) }
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.parts.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.parts.tally()
    }
}
