//! `Mutex`: a sum under the lock, and its parts beside it. Whoever dies between the two leaves them different, and the next
//! one is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_sync::{LockError, Locked, Mutex, SlotId};

use crate::chaos::act::{Acknowledged, Act};
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const LOCK: usize = 0;
const LOCK_TIMEOUT: usize = 1;
const REPAIRED: usize = 2;
const UNLOCK: usize = 3;

pub(super) struct Sum {
    lock: &'static Mutex<u64>,
    /// What each seat has added; changed under the lock only, but readable when its writer is dead.
    parts: &'static [AtomicU64; SEATS],
    acknowledged: Acknowledged,
}

impl Sum {
    pub(super) fn new(arena: &Arena<'_>) -> Sum {
        Sum {
            lock: arena.place(Mutex::new(0)),
            parts: arena.words(),
            acknowledged: Acknowledged(arena.words()),
        }
    }

    fn of_parts(&self) -> u64 {
        self.parts.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }
}

impl Act for Sum {
    fn name(&self) -> &'static str {
        "mutex"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "lock_timeout", "repaired", "unlock"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let locked = if me.one_in(4) {
            me.inside(LOCK_TIMEOUT, || self.lock.lock_timeout(&me.party, Duration::from_micros(200)))
        } else {
            me.inside(LOCK, || self.lock.lock(&me.party))
        };
        let mut sum = match locked {
            Ok(Locked::Acquired(sum)) => sum,
            Ok(Locked::Recovered(mut sum)) => {
                me.recovered();
                me.may_crash();
                *sum = self.of_parts();
                me.inside(REPAIRED, || sum.repaired())
            }
            Err(LockError::TimedOut { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        let parts = self.of_parts();
        expect(*sum == parts, || format!("taken as whole, but the sum is {} and the parts {parts}", *sum))?;
        // Not one atomic step, on purpose: the lock is what makes it one.
        let part = self.parts[me.seat].load(Ordering::Relaxed);
        me.may_crash();
        self.parts[me.seat].store(part + 1, Ordering::Relaxed);
        me.may_crash();
        *sum += 1;
        me.inside(UNLOCK, || drop(sum));
        self.acknowledged.add(me.seat);
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.acknowledged.settle(seat, self.parts[seat].load(Ordering::SeqCst))
    }

    fn tally(&self) -> Result<(), String> {
        self.acknowledged.equal(self.parts.iter().map(|part| part.load(Ordering::SeqCst)))
    }
}
