//! A party, as it sees itself: which seat it has, where it is, what it has been told.

use std::cell::{Cell, RefCell};

use swath_sync::{Party, SlotId, SlotTable};

use super::act::Act;
use super::dice::Dice;
use super::fault;
use super::seat::{Seat, Whereabouts};
use crate::party;

const LAPS_PER_GATHERING: usize = 4;

/// The calling process.
pub(crate) struct Me {
    /// What the operations ask for.
    pub(crate) party: Party,
    /// Its seat's number.
    pub(crate) seat: usize,
    words: Seat,
    act: Cell<usize>,
    laps: Cell<usize>,
    dice: RefCell<Dice>,
}

impl Me {
    /// Enters the slot: from here on the kernel watches.
    pub(crate) fn enter(table: &'static SlotTable, id: SlotId, seat: usize, words: Seat, dice: Dice) -> Me {
        party::install(table, id);
        assert!(party::enter(table, id, true), "the slot was reserved for this process");
        let party = Party::current().expect("installed");
        Me { party, seat, words, act: Cell::new(0), laps: Cell::new(0), dice: RefCell::new(dice) }
    }

    /// Every act once; those that gather last, and only now and then: or most of the time would be spent there.
    pub(crate) fn lap(&self, acts: &[Box<dyn Act>]) -> Result<(), String> {
        let lap = self.laps.replace(self.laps.get() + 1);
        let gather = lap.is_multiple_of(LAPS_PER_GATHERING);
        let mut order: Vec<usize> = (0..acts.len()).filter(|act| gather || !acts[*act].gathers()).collect();
        self.dice.borrow_mut().shuffle(&mut order);
        order.sort_by_key(|act| acts[*act].gathers());
        for act in order {
            self.act.set(act);
            self.words.is_at(Whereabouts::Between { act });
            acts[act].round(self).map_err(|wrong| format!("{}: {wrong}", acts[act].name()))?;
            self.words.is_at(Whereabouts::Outside);
        }
        self.words.lap();
        Ok(())
    }

    /// A public call, number `operation` of the act's list. Who is killed in here is killed inside an operation.
    pub(crate) fn inside<R>(&self, operation: usize, call: impl FnOnce() -> R) -> R {
        let act = self.act.get();
        self.words.is_at(Whereabouts::Inside { act, operation });
        let result = call();
        self.words.is_at(Whereabouts::Between { act });
        result
    }

    /// A moment between two calls, with whatever is held: a party that was asked to crash does it here, or at one of the
    /// next: the first one in a round is not the only one that matters.
    pub(crate) fn may_crash(&self) {
        let way = self.words.crash_asked();
        if way != 0 && self.one_in(3) {
            fault::crash_as_asked(way);
        }
    }

    /// It was told of a death.
    pub(crate) fn recovered(&self) {
        self.words.recovered();
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&self, n: usize) -> bool {
        self.dice.borrow_mut().below(n) == 0
    }
}
