//! `recovery-of-recovery`: three deaths in a row, of everything that is recovered after a death.
//!
//! The first dies in the critical place, before the play. The forerunner takes over and dies somewhere in that, the victim
//! takes over from it and dies somewhere in that, and a fourth, the checker, must come through and find the state right.

mod barrier;
mod condvar;
mod locks;
mod messages;
mod once;
mod queue;
mod raw;
mod record;
mod ring;
mod semaphore;

use std::ops::RangeInclusive;

use swath_sync::Party;

use super::props::{self, CHECKER, FORERUNNER, News, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// Where the objects lie that are no letters; one of them on each stage.
const AT: usize = 0x9_0000;

/// What dead parties leave to each other.
trait Heirloom {
    /// Makes it, if zero bytes do not.
    fn make(&self, _stage: &Stage) {}

    /// What the first does, who does not live to undo it.
    fn leave(&self, stage: &Stage, me: &Party);

    /// What an heir does before it comes to that.
    fn prepare(&self) {}

    /// Takes over from whoever was there before, and goes through to the end: what forerunner and victim die in.
    fn inherit(&self, stage: &Stage, me: &Party, heir: Heir) -> Finding;

    /// The checker's part: nobody else is left.
    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding;

    /// As [`Scenario::short_points`], for all deaths of the forerunner together.
    fn short_points(&self) -> usize {
        300
    }

    /// Who else is there.
    fn companions(&self) -> &[Entrance] {
        &[]
    }

    /// As [`Scenario::companion`].
    fn companion(&self, _n: usize, _stage: &Stage, _me: &Party) -> Finding {
        Ok(Verdict::Clean)
    }
}

/// The two who die after the first.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Heir {
    Forerunner,
    Victim,
}

/// How far both came.
#[derive(Copy, Clone)]
struct Ends {
    forerunner: Moment,
    victim: Moment,
}

impl Ends {
    /// How often that heir's deed was done.
    fn deeds_of(self, heir: Heir) -> RangeInclusive<u32> {
        match if heir == Heir::Forerunner { self.forerunner } else { self.victim } {
            Moment::Before => 0..=0,
            Moment::Within => 0..=1,
            Moment::After => 1..=1,
        }
    }

    /// How many deeds were done by both.
    fn deeds(self) -> RangeInclusive<u32> {
        let (one, other) = (self.deeds_of(Heir::Forerunner), self.deeds_of(Heir::Victim));
        one.start() + other.start()..=one.end() + other.end()
    }

    /// Of something that tells of deaths: the next to come is told of one that was not repaired, and of no other.
    fn expect_told(self, found: Verdict) -> Result<(), String> {
        let last = if self.victim == Moment::Before { self.forerunner } else { self.victim };
        let fits = match last {
            Moment::Before => found == Verdict::Recovered,
            Moment::Within => true,
            Moment::After => found == Verdict::Clean,
        };
        expect(fits, || format!("{found:?}, and the last to die did so {last:?}"))
    }
}

/// Three deaths over one heirloom.
struct Succession<H> {
    heirloom: H,
    news: News,
}

impl<H: Heirloom> Succession<H> {
    fn heir<'s>(&'s self, stage: &'s Stage, heir: Heir) -> Box<dyn FnOnce() + 's> {
        let slot = if heir == Heir::Forerunner { FORERUNNER } else { VICTIM };
        let me = props::become_party(stage, slot, self.news != News::Service);
        self.heirloom.prepare();
        Box::new(move || drop(std::hint::black_box(self.heirloom.inherit(stage, &me, heir))))
    }
}

impl<H: Heirloom> Scenario for Succession<H> {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        self.heirloom.make(stage);
        props::died_before(stage, |party| self.heirloom.leave(stage, party));
    }

    fn companions(&self) -> &[Entrance] {
        self.heirloom.companions()
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        self.heirloom.companion(n, stage, &me)
    }

    fn has_forerunner(&self) -> bool {
        true
    }

    fn forerunner<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        self.heir(stage, Heir::Forerunner)
    }

    fn bury(&self, stage: &Stage) {
        if self.news != News::Mark {
            props::confirm_death(stage, FORERUNNER);
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        self.heir(stage, Heir::Victim)
    }

    fn short_points(&self) -> usize {
        self.heirloom.short_points()
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let forerunner = stage.forerun().ok_or("there was no forerunner")?;
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let found = self.heirloom.check(stage, &me, Ends { forerunner, victim: moment })?;
        for heir in [FORERUNNER, VICTIM] {
            props::confirm_death(stage, heir);
            props::release(stage, heir)?;
        }
        Ok(found)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    fn of(operation: &'static str, heirloom: impl Heirloom + 'static) -> Case {
        by(operation, "recovery-of-recovery", heirloom, News::Both)
    }
    fn by(
        operation: &'static str,
        scenario: &'static str,
        heirloom: impl Heirloom + 'static,
        news: News,
    ) -> Case {
        case(operation, scenario, Succession { heirloom, news })
    }
    vec![
        of("lock", locks::Halves::Mutex),
        by("lock", "recovery-of-recovery-mark-only", locks::Halves::Mutex, News::Mark),
        by("lock", "recovery-of-recovery-service-only", locks::Halves::Mutex, News::Service),
        of("rw-write", locks::Halves::RwLock),
        of("relock", locks::Halves::Recursive),
        of("array", locks::Halves::Array),
        of("raw-lock", raw::Raw::Lock),
        of("raw-read", raw::Raw::Read),
        of("sem-acquire", semaphore::Permit),
        of("cond-wait", condvar::Letters),
        of("once", once::Work),
        of("record", record::Row),
        of("barrier-reset", barrier::Closed),
        of("queue-put", queue::Put),
        of("queue-get", queue::Get { put_back: false }),
        of("join-put-back", queue::Get { put_back: true }),
        of("ring-push", ring::Push),
        of("ring-pop", ring::Pop),
        of("message-put", messages::Post::Put),
        of("message-get", messages::Post::Get),
        of("pipe-send", messages::Post::Send),
    ]
}
