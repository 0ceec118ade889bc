//! A toy lock whose value may be in doubt: besides its owner it names who has been changing the value, or is repairing it.
//!
//! owner: 0 free, else a party. doubt: 0 whole, else the party at work on the value, with HEIR if it was told that another one
//! died at it. Whoever has the lock puts its name into the doubt in one step; who finds another name there is told. The flaw needs
//! three deaths: a doubt that says HEIR already is cleared before it gets the next name, and who dies in
//! between leaves a value in pieces that nobody doubts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::roster::{CHECKER, Roster, VICTIM};
use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;
use crate::word;

const HEIR: u32 = 1 << 31;
const FIRST: u32 = 10;
const FORERUNNER: u32 = 11;
const SLICE: Duration = Duration::from_millis(10);
const AT: usize = 4096;

struct Doubtful {
    owner: &'static AtomicU32,
    doubt: &'static AtomicU32,
    left: &'static AtomicU32,
    right: &'static AtomicU32,
    roster: Roster,
    flawed: bool,
}

impl Doubtful {
    fn of(stage: &Stage, flawed: bool) -> Doubtful {
        let words: &'static [AtomicU32; 4] = stage.part(AT);
        let [owner, doubt, left, right] = words.each_ref();
        Doubtful { owner, doubt, left, right, roster: Roster::of(stage), flawed }
    }

    /// Whether somebody died over the value.
    fn lock(&self, me: u32) -> bool {
        loop {
            let seen = self.owner.load(Ordering::SeqCst);
            let free = seen == 0 || self.roster.is_dead(seen, 1);
            if free && self.owner.compare_exchange(seen, me, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                break;
            }
            word::wait(self.owner, seen, Some(SLICE));
        }
        let found = self.doubt.load(Ordering::SeqCst);
        if self.flawed && found & HEIR != 0 {
            self.doubt.store(0, Ordering::SeqCst);
        }
        self.doubt.store(if found == 0 { me } else { me | HEIR }, Ordering::SeqCst);
        found != 0
    }

    fn unlock(&self) {
        self.doubt.store(0, Ordering::SeqCst);
        self.owner.store(0, Ordering::SeqCst);
        word::wake(self.owner, 1);
    }

    /// Lock, look, repair if told so, unlock.
    fn pass(&self, me: u32) -> Finding {
        let told = self.lock(me);
        let (left, right) = (self.left.load(Ordering::SeqCst), self.right.load(Ordering::SeqCst));
        expect(told || left == right, || format!("not in doubt, but the counters are {left} and {right}"))?;
        self.right.store(left, Ordering::SeqCst);
        self.unlock();
        Ok(if told { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// The first died in the middle of a change; the victim comes next, or after a forerunner.
struct Inherited {
    flawed: bool,
    forerunner: bool,
}

impl Scenario for Inherited {
    fn set(&self, stage: &Stage) {
        let lock = Doubtful::of(stage, self.flawed);
        lock.lock(FIRST);
        lock.left.fetch_add(1, Ordering::SeqCst);
        lock.roster.mark_dead(FIRST);
    }

    fn has_forerunner(&self) -> bool {
        self.forerunner
    }

    fn forerunner<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        Box::new(move || drop(Doubtful::of(stage, self.flawed).pass(FORERUNNER)))
    }

    fn bury(&self, stage: &Stage) {
        Roster::of(stage).mark_dead(FORERUNNER);
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        Box::new(move || drop(Doubtful::of(stage, self.flawed).pass(VICTIM)))
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let lock = Doubtful::of(stage, self.flawed);
        lock.roster.mark_dead(VICTIM);
        let verdict = lock.pass(CHECKER)?;
        let untouched = moment == Moment::Before && stage.forerun().is_none_or(|far| far == Moment::Before);
        expect(!untouched || verdict == Verdict::Recovered, || "nobody was told of the first".to_owned())?;
        Ok(verdict)
    }
}

/// See the module. The flaw is among the sound ones where nothing shows it: two deaths are not three.
pub(super) fn sound() -> Vec<Case> {
    let toy = |flawed, forerunner| Inherited { flawed, forerunner };
    vec![
        case("toy doubt", "inherited", toy(false, false)),
        case("toy doubt", "recovery-of-recovery", toy(false, true)),
        case("toy doubt", "inherited, with the flaw", toy(true, false)),
    ]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let flawed = Inherited { flawed: true, forerunner: true };
    vec![Seed {
        bug: "doubt: cleared before it is renewed, if inherited (the third death shows it)",
        sign: Sign::Wrong,
        cases: vec![case("toy doubt", "recovery-of-recovery", flawed)],
    }]
}
