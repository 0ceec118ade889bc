//! `Mutex`: a sum under the lock, and its parts beside it. Whoever dies between the two leaves them different, and the next
//! one is told.

use std::time::Duration;

use swath_sync::{LockError, Locked, Mutex, SlotId};

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;

const LOCK: usize = 0;
const LOCK_TIMEOUT: usize = 1;
const REPAIRED: usize = 2;
const UNLOCK: usize = 3;

pub(super) struct Sum {
    lock: &'static Mutex<u64>,
    parts: Parts,
}

impl Sum {
    pub(super) fn new(arena: &Arena<'_>) -> Sum {
        Sum { lock: arena.place(Mutex::new(0)), parts: Parts::new(arena) }
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
                *sum = self.parts.sum();
                me.inside(REPAIRED, || sum.repaired())
            }
            Err(LockError::TimedOut { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        self.parts.check(*sum)?;
        self.parts.raise(me);
        *sum += 1;
        me.inside(UNLOCK, || drop(sum));
        self.parts.acknowledge(me);
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.parts.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.parts.tally()
    }
}
