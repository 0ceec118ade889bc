//! A toy barrier for two, and the way glibc's fails.
//!
//! Each party has a word of its own and stores the epoch there when it arrives; it is through when both words hold the
//! epoch, broken when the other is dead without the barrier having been complete. The flaw counts anonymous arrivals.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::roster::{CHECKER, Roster, VICTIM};
use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;
use crate::word;

const SLICE: Duration = Duration::from_millis(10);
const AT: usize = 4096;

struct ToyBarrier {
    arrived: &'static [AtomicU32; 2],
    /// 0 nobody is through, 1 complete, 2 broken.
    phase: &'static AtomicU32,
    count: &'static AtomicU32,
    roster: Roster,
    anonymous: bool,
}

impl ToyBarrier {
    fn of(stage: &Stage, anonymous: bool) -> ToyBarrier {
        let (arrived, phase, count) = (stage.part(AT), stage.part(AT + 64), stage.part(AT + 128));
        ToyBarrier { arrived, phase, count, roster: Roster::of(stage), anonymous }
    }

    /// Through (`true`) or broken.
    fn wait(&self, place: usize, other: u32) -> bool {
        let complete = if self.anonymous {
            self.count.fetch_add(1, Ordering::SeqCst) + 1 == 2
        } else {
            self.arrived[place].store(1, Ordering::SeqCst);
            self.arrived[1 - place].load(Ordering::SeqCst) == 1 && !self.roster.is_dead(other, 1)
        };
        if complete {
            let _ = self.phase.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        } else if self.roster.is_dead(other, 1) && !self.anonymous {
            let _ = self.phase.compare_exchange(0, 2, Ordering::SeqCst, Ordering::SeqCst);
        }
        word::wake(self.phase, i32::MAX);
        while self.phase.load(Ordering::SeqCst) == 0 {
            word::wait(self.phase, 0, Some(SLICE));
            if self.roster.is_dead(other, 1) {
                let _ = self.phase.compare_exchange(0, 2, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        self.phase.load(Ordering::SeqCst) == 1
    }
}

/// The victim arrives first and sleeps; the survivor comes when it is dead.
struct FirstArriver {
    anonymous: bool,
}

impl Scenario for FirstArriver {
    fn set(&self, _stage: &Stage) {}

    fn companions(&self) -> &[crate::scenario::Entrance] {
        &[crate::scenario::Entrance::BeforeVictim]
    }

    /// Arrives when the victim sleeps in the barrier, or is dead.
    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        stage.await_cue(1);
        let barrier = ToyBarrier::of(stage, self.anonymous);
        let dead_before = barrier.roster.is_dead(VICTIM, 1);
        let through = barrier.wait(1, VICTIM);
        if through && dead_before {
            return Err("passed a barrier of two alone: the other was dead".to_owned());
        }
        Ok(if through { Verdict::Clean } else { Verdict::Recovered })
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let barrier = ToyBarrier::of(stage, self.anonymous);
        Box::new(move || {
            barrier.wait(0, CHECKER);
        })
    }

    fn confirmed(&self, stage: &Stage) {
        Roster::of(stage).mark_dead(VICTIM);
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    vec![case("toy barrier", "first arriver", FirstArriver { anonymous: false })]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let cases = vec![case("toy barrier", "first arriver", FirstArriver { anonymous: true })];
    vec![Seed {
        bug: "barrier: arrivals are counted, not named (pthread_barrier_t)",
        sign: Sign::Wrong,
        cases,
    }]
}
