//! `ShareableList`: a slot for each seat, set by its party alone, and one that all set; whoever looks finds whole values.

use swath_sync::{ListValue, ShareableList, SlotId};

use crate::chaos::act::{Acknowledged, Act};
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::room::{item, message};
use crate::scenario::expect;

/// The slot that all set.
const COMMON: usize = SEATS;
const ROOM: usize = 400;

const GET: usize = 0;
const SET: usize = 1;
const SET_COMMON: usize = 2;

pub(super) struct Board {
    list: &'static ShareableList,
    acknowledged: Acknowledged,
}

impl Board {
    pub(super) fn new(arena: &Arena<'_>) -> Board {
        let slots = (0..=COMMON).map(|_| (message(0, false), ROOM));
        Board {
            list: arena.place(ShareableList::with_room(slots)),
            acknowledged: Acknowledged(arena.words()),
        }
    }

    /// The number that a slot says, whole.
    fn number(&self, slot: usize) -> Result<u64, String> {
        match self.list.get(slot) {
            Ok(ListValue::Bytes(bytes)) => item(&bytes),
            Ok(other) => Err(format!("slot {slot} has another kind of value: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Act for Board {
    fn name(&self) -> &'static str {
        "list"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["get", "set", "set, all the same slot"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let own = me.inside(GET, || self.number(me.seat))?;
        me.inside(GET, || self.number(COMMON))?;
        let value = message(own + 1, me.one_in(2));
        me.inside(SET_COMMON, || self.list.set(&me.party, COMMON, value.clone()))
            .map_err(|e| e.to_string())?;
        me.inside(SET, || self.list.set(&me.party, me.seat, value)).map_err(|error| error.to_string())?;
        self.acknowledged.add(me.seat);
        let now = me.inside(GET, || self.number(me.seat))?;
        expect(now == own + 1, || format!("{now} in a slot that was set to {}", own + 1))
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.acknowledged.settle(seat, self.number(seat)?)
    }

    fn tally(&self) -> Result<(), String> {
        let found: Result<Vec<u64>, String> = (0..SEATS).map(|seat| self.number(seat)).collect();
        self.acknowledged.equal(found?.into_iter())
    }
}
