//! `Once`: many of them, one after the other. Each is completed by exactly one party, whoever had begun and died; who
//! returns finds it done.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use swath_sync::{Called, Holder, Once};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::scenario::expect;

/// How many there are in a game; when they are used up, the last one stays.
const ONCES: usize = 1024;
/// Somebody goes on to the next one once in so many rounds, so that several meet at one.
const ROUNDS_PER_ONCE: usize = 12;

const CALL_ONCE: usize = 0;

pub(super) struct Beginnings {
    onces: Vec<&'static Once>,
    present: &'static AtomicU64,
    /// What each has made: two halves.
    made: &'static [[AtomicU32; 2]; ONCES],
    /// How many were told that they have completed it.
    completed: &'static [AtomicU32; ONCES],
}

impl Beginnings {
    pub(super) fn new(arena: &Arena<'_>) -> Beginnings {
        let onces = (0..ONCES).map(|_| arena.place(Once::new())).collect();
        Beginnings { onces, present: arena.words(), made: arena.words(), completed: arena.words() }
    }
}

impl Act for Beginnings {
    fn name(&self) -> &'static str {
        "once"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["call_once"]
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let which = (self.present.load(Ordering::SeqCst) as usize).min(ONCES - 1);
        let made = &self.made[which];
        let body = |before: Option<Holder>| {
            if before.is_some() {
                me.recovered();
            }
            made[0].store(1, Ordering::SeqCst);
            me.may_crash();
            made[1].store(1, Ordering::SeqCst);
        };
        let called = me.inside(CALL_ONCE, || self.onces[which].call_once(&me.party, body));
        if !matches!(called.map_err(|error| error.to_string())?, Called::AlreadyDone) {
            let before = self.completed[which].fetch_add(1, Ordering::SeqCst);
            expect(before == 0, || format!("completed {} times", before + 1))?;
        }
        let whole = made.iter().all(|half| half.load(Ordering::SeqCst) == 1);
        expect(whole && self.onces[which].is_done(), || "returned, and it is not done".to_owned())?;
        if me.one_in(ROUNDS_PER_ONCE) {
            self.present.fetch_max(which as u64 + 1, Ordering::SeqCst);
        }
        Ok(())
    }
}
