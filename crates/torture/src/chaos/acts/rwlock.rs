//! `RwLock`: as the mutex, and readers who must never see sum and parts differ.

use swath_sync::{LockError, RwLock, SlotId, Taken};

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;

const READ: usize = 0;
const READ_OR_REPAIR: usize = 1;
const LET_GO: usize = 2;
const WRITE: usize = 3;
const REPAIRED: usize = 4;
const UNLOCK: usize = 5;

pub(super) struct Table {
    lock: &'static RwLock<u64>,
    parts: Parts,
}

impl Table {
    pub(super) fn new(arena: &Arena<'_>) -> Table {
        Table { lock: arena.place(RwLock::new(0)), parts: Parts::new(arena) }
    }

    fn read(&self, me: &Me) -> Result<(), String> {
        let sum = match me.inside(READ, || self.lock.read(&me.party)) {
            Err(LockError::NeedsRepair { .. }) => {
                me.recovered();
                let repair = |sum: &mut u64| *sum = self.parts.sum();
                me.inside(READ_OR_REPAIR, || self.lock.read_or_repair(&me.party, repair))
            }
            other => other,
        };
        let sum = sum.map_err(|error| error.to_string())?;
        self.parts.check(*sum)?;
        me.may_crash();
        self.parts.check(*sum)?;
        me.inside(LET_GO, || drop(sum));
        Ok(())
    }

    fn write(&self, me: &Me) -> Result<(), String> {
        let mut sum =
            match me.inside(WRITE, || self.lock.write(&me.party)).map_err(|error| error.to_string())? {
                Taken::Acquired(sum) => sum,
                Taken::Recovered(mut sum) => {
                    me.recovered();
                    *sum = self.parts.sum();
                    me.inside(REPAIRED, || sum.repaired())
                }
            };
        self.parts.check(*sum)?;
        // The lock counts its own value's stores only, so the parts change after the first of them.
        *sum += 1;
        self.parts.raise(me);
        me.inside(UNLOCK, || drop(sum));
        self.parts.acknowledge(me);
        Ok(())
    }
}

impl Act for Table {
    fn name(&self) -> &'static str {
        "rwlock"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["read", "read_or_repair", "let go", "write", "repaired", "unlock"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        if me.one_in(3) { self.write(me) } else { self.read(me) }
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.parts.bury(seat)
    }

    fn tally(&self) -> Result<(), String> {
        self.parts.tally()
    }
}
