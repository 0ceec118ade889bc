//! A toy condition: one number that every notification raises; who waits has noted it before, and sleeps while it is the same.
//!
//! So a notification leaves nothing behind that somebody else could take, and waits for nobody. The flaws keep tokens, or
//! count who waits.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Seed, Sign};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;
use crate::word;

const AT: usize = 4096;
const LATE_WAIT: Duration = Duration::from_millis(3);

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    TokensCanBeStolen,
    NotifyAwaitsSleepers,
    DestroyAwaitsSleepers,
}

struct Condition {
    /// Notifications so far; with the flaws, tokens that a waiter takes.
    number: &'static AtomicU32,
    /// How many are between the beginning and the end of a wait.
    sleepers: &'static AtomicU32,
    flaw: Flaw,
}

impl Condition {
    fn of(stage: &Stage, flaw: Flaw) -> Condition {
        Condition { number: stage.part(AT), sleepers: stage.part(AT + 64), flaw }
    }

    fn has_tokens(&self) -> bool {
        matches!(self.flaw, Flaw::TokensCanBeStolen | Flaw::NotifyAwaitsSleepers)
    }

    /// Until the next notification, or for so long; whether it came.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let (start, noted) = (Instant::now(), self.number.load(Ordering::SeqCst));
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let came = loop {
            let seen = self.number.load(Ordering::SeqCst);
            let comes = if self.has_tokens() {
                seen > 0
                    && self
                        .number
                        .compare_exchange(seen, seen - 1, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok()
            } else {
                seen != noted
            };
            if comes || limit.is_some_and(|limit| start.elapsed() > limit) {
                break comes;
            }
            word::wait(self.number, if self.has_tokens() { 0 } else { noted }, limit);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        came
    }

    /// Wakes all; a signal to one would do as well here.
    fn notify(&self) {
        match self.flaw {
            Flaw::TokensCanBeStolen => {
                self.number.fetch_add(1, Ordering::SeqCst);
            }
            Flaw::NotifyAwaitsSleepers => {
                self.number.store(self.sleepers.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            _ => {
                self.number.fetch_add(1, Ordering::SeqCst);
            }
        }
        word::wake(self.number, i32::MAX);
        if self.flaw == Flaw::NotifyAwaitsSleepers {
            self.await_sleepers();
        }
    }

    fn destroy(&self) {
        if self.flaw == Flaw::DestroyAwaitsSleepers {
            self.await_sleepers();
        }
    }

    fn await_sleepers(&self) {
        while self.sleepers.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// The victim waits; a companion notifies on cue. Killed, or overtaken by a late waiter while it stands still.
struct Wait {
    flaw: Flaw,
    fault: Fault,
}

impl Scenario for Wait {
    fn set(&self, _stage: &Stage) {}

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        stage.await_cue(1);
        Condition::of(stage, self.flaw).notify();
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let condition = Condition::of(stage, self.flaw);
        Box::new(move || {
            condition.wait(None);
        })
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    fn meanwhile(&self, stage: &Stage) -> Finding {
        Condition::of(stage, self.flaw).wait(Some(LATE_WAIT));
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let condition = Condition::of(stage, self.flaw);
        condition.destroy();
        expect(!condition.wait(Some(Duration::ZERO)) || condition.has_tokens(), || {
            "a wait ended before anything happened".to_owned()
        })?;
        Ok(Verdict::Clean)
    }
}

fn killed(flaw: Flaw) -> Vec<Case> {
    vec![case("toy condition", "waiter dies", Wait { flaw, fault: Fault::Kill })]
}

fn overtaken(flaw: Flaw) -> Vec<Case> {
    vec![case("toy condition", "a late waiter comes", Wait { flaw, fault: Fault::Pause })]
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    killed(Flaw::None).into_iter().chain(overtaken(Flaw::None)).collect()
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let seed = |bug, cases| Seed { bug, sign: Sign::Hung, cases };
    vec![
        seed(
            "condition: a late waiter takes another's signal (glibc BZ 25847)",
            overtaken(Flaw::TokensCanBeStolen),
        ),
        seed(
            "condition: notify waits for whom it has woken (CPython gh-75158)",
            killed(Flaw::NotifyAwaitsSleepers),
        ),
        seed(
            "condition: destroy waits for a count of waiters (pthread_cond_destroy)",
            killed(Flaw::DestroyAwaitsSleepers),
        ),
    ]
}
