//! `Barrier`: all seats pass together. A death breaks it until the seat is taken again and the referee opens it anew.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use swath_sync::{Barrier, BarrierError, InPlace as _, Plan as _, SlotId};

use crate::chaos::act::Act;
use crate::chaos::arena::Arena;
use crate::chaos::me::Me;
use crate::chaos::seat::SEATS;
use crate::scenario::expect;

const WAIT: usize = 0;

pub(super) struct Gathering {
    memory: *mut u8,
    /// Waits that each seat has begun, and those of them that are over (of the dead, when they are buried).
    begun: &'static [AtomicU64; SEATS],
    over: &'static [AtomicU64; SEATS],
    /// Seats whose party is known by all to be dead, and not replaced.
    empty: &'static AtomicU64,
    /// Counts the times that it was opened.
    opened: &'static AtomicU64,
    /// For each seat, which of those openings it knows to be over.
    told: &'static [AtomicU64; SEATS],
}

impl Gathering {
    pub(super) fn new(arena: &Arena<'_>) -> Gathering {
        let layout = Barrier::layout(SEATS).expect("a few seats");
        Gathering {
            memory: arena.room(layout),
            begun: arena.words(),
            over: arena.words(),
            empty: arena.words(),
            opened: arena.words(),
            told: arena.words(),
        }
    }

    fn barrier(&self) -> &'static Barrier {
        // SAFETY: (1) `reopen` made it there before the first party was forked; (2) the stage stays mapped.
        unsafe { Barrier::at(self.memory, SEATS) }
    }
}

impl Act for Gathering {
    fn name(&self) -> &'static str {
        "barrier"
    }

    fn operations(&self) -> &'static [&'static str] {
        &["wait"]
    }

    fn gathers(&self) -> bool {
        true
    }

    fn round(&self, me: &Me) -> Result<(), String> {
        let all = |words: &[AtomicU64; SEATS]| words.each_ref().map(|word| word.load(Ordering::SeqCst));
        let opened = self.opened.load(Ordering::SeqCst);
        let somebody_is_missing = self.empty.load(Ordering::SeqCst) > 0;
        let over_before = all(self.over);
        self.begun[me.seat].fetch_add(1, Ordering::SeqCst);
        let passed = me.inside(WAIT, || self.barrier().wait(&me.party));
        let begun = all(self.begun);
        self.over[me.seat].fetch_add(1, Ordering::SeqCst);
        match passed {
            Ok(_leads) => {
                let short = begun.iter().zip(&over_before).position(|(begun, over)| begun <= over);
                expect(short.is_none(), || format!("passed, and seat {} never came", short.unwrap_or(0)))?;
                let reopened = self.opened.load(Ordering::SeqCst) != opened;
                expect(!somebody_is_missing || reopened, || "passed beside a dead party".to_owned())
            }
            Err(BarrierError::Broken { .. } | BarrierError::Aborted) => {
                // Until it is opened anew, it is the same news every lap.
                if self.told[me.seat].swap(opened, Ordering::SeqCst) != opened {
                    me.recovered();
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn bury(&self, seat: usize, _dead: SlotId) -> Result<(), String> {
        self.empty.fetch_add(1, Ordering::SeqCst);
        let begun = self.begun[seat].load(Ordering::SeqCst);
        let over = self.over[seat].swap(begun, Ordering::SeqCst);
        expect(begun == over || begun == over + 1, || format!("{begun} waits begun, {over} over"))
    }

    fn reopen(&self, parties: &[SlotId; SEATS]) {
        self.empty.store(0, Ordering::SeqCst);
        if self.opened.fetch_add(1, Ordering::SeqCst) == 0 {
            // SAFETY: (1) 64-aligned, of that size (`new`); (2) no party exists yet.
            unsafe { Barrier::of(parties).place(self.memory) };
        } else {
            self.barrier().reset(parties);
        }
    }

    fn release(&self) {
        self.barrier().abort();
    }
}
