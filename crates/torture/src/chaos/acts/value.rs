//! `Value`: one number that all add to; no addition is lost, and none counts twice.

use std::sync::atomic::{AtomicU64, Ordering};

use swath_sync::{SlotId, Value};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const FETCH_ADD: usize = 0;
const UPDATE: usize = 1;

pub(super) struct Counter {
    value: &'static Value<u64>,
    /// Additions that each seat has begun, and those that are over.
    begun: &'static [AtomicU64; SEATS],
    over: &'static [AtomicU64; SEATS],
    /// Those that a death has cut short.
    half: &'static AtomicU64,
}

impl Counter {
    pub(super) fn new(arena: &Arena<'_>) -> Counter {
        let value = arena.place(Value::new(0));
        Counter { value, begun: arena.words(), over: arena.words(), half: arena.words() }
    }
}

impl Act for Counter {
    fn name(&self) -> &'static str {
        "value"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["fetch_add", "update"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        self.begun[me.seat].fetch_add(1, Ordering::SeqCst);
        if me.one_in(2) {
            me.inside(FETCH_ADD, || self.value.fetch_add(1));
        } else {
            me.inside(UPDATE, || self.value.update(|value| value + 1));
        }
        self.over[me.seat].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        let begun = self.begun[seat].load(Ordering::SeqCst);
        let missing = begun - self.over[seat].swap(begun, Ordering::SeqCst);
        self.half.fetch_add(missing, Ordering::SeqCst);
        Ok(())
    }

    fn tally(&self) -> Result<(), String> {
        let over: u64 = self.over.iter().map(|word| word.load(Ordering::SeqCst)).sum();
        let (value, half) = (self.value.load(), self.half.load(Ordering::SeqCst));
        expect(value <= over && over <= value + half, || {
            format!("{value} after {over} additions, {half} of them cut short")
        })
    }
}
