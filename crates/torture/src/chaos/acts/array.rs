//! `LockedArray`: as the mutex, the sum being one of its elements.

use swath_sync::{LockedArray, SlotId, Taken};

use super::parts::Parts;
use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;

const LOCK: usize = 0;
const REPAIRED: usize = 1;
const UNLOCK: usize = 2;

pub(super) struct Column {
    array: &'static LockedArray<u64>,
    parts: Parts,
}

impl Column {
    pub(super) fn new(arena: &Arena<'_>) -> Column {
        Column { array: arena.place(LockedArray::zeros(3)), parts: Parts::new(arena) }
    }
}

impl Act for Column {
    fn name(&self) -> &'static str {
        "locked array"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["lock", "repaired", "unlock"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let locked = me.inside(LOCK, || self.array.lock(&me.party)).map_err(|error| error.to_string())?;
        let mut elements = match locked {
            Taken::Acquired(elements) => elements,
            Taken::Recovered(mut elements) => {
                me.recovered();
                elements[1] = self.parts.sum();
                me.inside(REPAIRED, || elements.repaired())
            }
        };
        self.parts.check(elements[1])?;
        self.parts.raise(me);
        elements[1] += 1;
        me.inside(UNLOCK, || drop(elements));
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
