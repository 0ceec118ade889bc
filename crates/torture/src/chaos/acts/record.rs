//! `Record`: a row of numbers with their sum, read without a lock; never half of a change.

use swath_sync::{Record, SlotId};

use crate::chaos::act::{Acknowledged, Act};
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const GET: usize = 0;
const UPDATE: usize = 1;

/// A number for each seat, and the sum.
type Row = [u64; SEATS + 1];

pub(super) struct Rows {
    record: &'static Record<Row>,
    acknowledged: Acknowledged,
}

impl Rows {
    pub(super) fn new(arena: &Arena<'_>) -> Rows {
        Rows { record: arena.place(Record::new([0; SEATS + 1])), acknowledged: Acknowledged(arena.words()) }
    }

    fn check(row: &Row) -> Result<(), String> {
        expect(row[SEATS] == row[..SEATS].iter().sum(), || format!("half a change: {row:?}"))
    }
}

impl Act for Rows {
    fn name(&self) -> &'static str {
        "record"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["get", "update"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        Rows::check(&me.inside(GET, || self.record.get()))?;
        let change = |row: &mut Row| {
            row[me.seat] += 1;
            me.may_crash();
            row[SEATS] += 1;
        };
        me.inside(UPDATE, || self.record.update(&me.party, change)).map_err(|error| error.to_string())?;
        self.acknowledged.add(me.seat);
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        let row = self.record.get();
        Rows::check(&row)?;
        self.acknowledged.settle(seat, row[seat])
    }

    fn tally(&self) -> Result<(), String> {
        self.acknowledged.equal(self.record.get()[..SEATS].iter().copied())
    }
}
