//! `RecursiveMutex`: as the mutex, with the sum changed by who has it twice.

use swath_sync::{RecursiveMutex, SlotId, Taken};

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;

const LOCK: usize = 0;
const LOCK_AGAIN: usize = 1;
const REPAIRED: usize = 2;
const UNLOCK_ONCE: usize = 3;
const UNLOCK: usize = 4;

pub(super) struct Nested {
    lock: &'static RecursiveMutex<u64>,
    parts: Parts,
}

impl Nested {
    pub(super) fn new(arena: &Arena<'_>) -> Nested {
        Nested { lock: arena.place(RecursiveMutex::new(0)), parts: Parts::new(arena) }
    }
}

impl Act for Nested {
    fn name(&self) -> &'static str {
        "recursive mutex"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "lock again", "repaired", "unlock once", "unlock"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let outer = match me.inside(LOCK, || self.lock.lock(&me.party)).map_err(|error| text(&error))? {
            Taken::Acquired(outer) => outer,
            Taken::Recovered(outer) => {
                me.recovered();
                let outer = me.inside(REPAIRED, || outer.repaired());
                outer.with(|sum| *sum = self.parts.sum()).map_err(|error| text(&error))?;
                outer
            }
        };
        outer.with(|sum| self.parts.check(*sum)).map_err(|error| text(&error))??;
        self.parts.raise(me);
        let Taken::Acquired(inner) =
            me.inside(LOCK_AGAIN, || self.lock.lock(&me.party)).map_err(|error| text(&error))?
        else {
            return Err("taken from itself".to_owned());
        };
        inner.with(|sum| *sum += 1).map_err(|error| text(&error))?;
        me.inside(UNLOCK_ONCE, || drop(inner));
        me.may_crash();
        me.inside(UNLOCK, || drop(outer));
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
