//! `Event`: parties in even seats set it once per lap, the others wait for it, and some clear it before. Who cleared it can
//! be woken by a later set only, and everybody is woken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_sync::{Event, SlotId};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const SET: usize = 0;
const CLEAR: usize = 1;
const WAIT: usize = 2;
const WAIT_TIMEOUT: usize = 3;

pub(super) struct Bell {
    event: &'static Event,
    /// Sets that each seat has begun, and those of them that are over.
    begun: &'static [AtomicU64; SEATS],
    over: &'static [AtomicU64; SEATS],
}

impl Bell {
    pub(super) fn new(arena: &Arena<'_>) -> Bell {
        Bell { event: arena.place(Event::new()), begun: arena.words(), over: arena.words() }
    }

    fn set(&self, me: &Me) {
        self.begun[me.seat].fetch_add(1, Ordering::SeqCst);
        me.inside(SET, || self.event.set());
        self.over[me.seat].fetch_add(1, Ordering::SeqCst);
    }

    /// Clears and waits for a moment: only a set that was not over before the clear can have ended the wait.
    fn listen(&self, me: &Me) -> Result<(), String> {
        let over = self.over.each_ref().map(|word| word.load(Ordering::SeqCst));
        me.inside(CLEAR, || self.event.clear());
        me.may_crash();
        let is_set = me.inside(WAIT_TIMEOUT, || self.event.wait_timeout(Duration::from_micros(20)));
        let set = self.begun.iter().zip(&over).any(|(begun, over)| begun.load(Ordering::SeqCst) > *over);
        expect(!is_set || set, || "a wait was ended, and nobody has set the event".to_owned())?;
        // Others may wait without end, and all who set it wait for us.
        self.set(me);
        Ok(())
    }
}

impl Act for Bell {
    fn name(&self) -> &'static str {
        "event"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["set", "clear", "wait", "wait_timeout"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        match (me.seat % 2, me.one_in(3)) {
            (0, true) => {
                me.inside(CLEAR, || self.event.clear());
                me.may_crash();
                self.set(me);
            }
            (0, false) => self.set(me),
            (_, true) => self.listen(me)?,
            (_, false) => me.inside(WAIT, || self.event.wait()),
        }
        Ok(())
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        let begun = self.begun[seat].load(Ordering::SeqCst);
        let over = self.over[seat].swap(begun, Ordering::SeqCst);
        expect(begun == over || begun == over + 1, || format!("{begun} sets begun, {over} over"))
    }

    fn release(&self) {
        self.begun[0].fetch_add(1, Ordering::SeqCst);
        self.event.set();
    }
}
