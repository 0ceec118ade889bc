//! `cond-wait`, `cond-notify` of `swath_sync::Condvar` with a mutex.
//!
//! Who waits, waits for a letter: the mutex guards how many were given and how many were taken.

use std::time::Duration;

use swath_sync::{Condvar, Mutex, MutexGuard, Party};

use super::props::{self, CHECKER, News, Pair, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const MUTEX_AT: usize = 0x8_4000;
const CONDVAR_AT: usize = 0x8_4100;
const GIVEN: usize = 0;
const TAKEN: usize = 1;

fn mutex(stage: &Stage) -> &'static Mutex<Pair> {
    props::object(stage, MUTEX_AT, 1)
}

fn condvar(stage: &Stage) -> &'static Condvar {
    props::object(stage, CONDVAR_AT, 1)
}

/// Each change is one store, so what a dead one left is whole.
fn lock(stage: &Stage, me: &Party) -> Result<MutexGuard<'static, Pair>, String> {
    mutex(stage).lock_or_repair(me, |_| ()).map_err(|error| error.to_string())
}

fn take(stage: &Stage, me: &Party) -> Finding {
    let mut guard = lock(stage, me)?;
    while guard[GIVEN] == guard[TAKEN] {
        let woken = condvar(stage).wait_while(guard, |pair| pair[GIVEN] == pair[TAKEN]);
        guard = woken.map_err(|error| error.to_string())?.or_repair(|_| ());
    }
    guard[TAKEN] += 1;
    Ok(Verdict::Clean)
}

/// The victim waits, perhaps beside another one; somebody gives letters when it sleeps or is dead.
struct Wait {
    timeout: bool,
    beside: bool,
    news: News,
}

impl Scenario for Wait {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::BeforeVictim, Entrance::BeforeVictim];
        &all[..1 + usize::from(self.beside)]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        stage.arrive(n + 1);
        if n == 1 {
            return take(stage, &me);
        }
        stage.await_cue(1);
        // One for each who waits, one at a time: what the dead one does not take is there for the checker.
        for _ in 0..1 + usize::from(self.beside) {
            lock(stage, &me)?[GIVEN] += 1;
            condvar(stage).notify_one();
        }
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        if self.timeout {
            return Box::new(move || {
                let Ok(guard) = lock(stage, &me) else { return };
                let patience = Duration::from_secs(5);
                let woken =
                    condvar(stage).wait_timeout_while(guard, patience, |pair| pair[GIVEN] == pair[TAKEN]);
                if let Ok((locked, _)) = woken {
                    locked.or_repair(|_| ())[TAKEN] += 1;
                }
            });
        }
        Box::new(move || drop(std::hint::black_box(take(stage, &me))))
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        if moment != Moment::After {
            // What the victim did not take. If it did, one more.
            lock(stage, &me)?[GIVEN] += 1;
            condvar(stage).notify_one();
            take(stage, &me)?;
        }
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let me = props::become_party(stage, props::companion(2), false);
        let guard = lock(stage, &me)?;
        let left = guard[GIVEN] - guard[TAKEN];
        let fine = match moment {
            Moment::Before => left == 1,
            Moment::Within => left <= 1,
            Moment::After => left == 0,
        };
        expect(fine, || format!("{left} letters are left"))
    }
}

/// The victim gives letters to those who sleep.
struct Notify {
    all: bool,
    waiters: usize,
    news: News,
}

impl Scenario for Notify {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::AfterVictim, Entrance::AfterVictim];
        &all[..self.waiters]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        stage.arrive(n + 1);
        take(stage, &me)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        Box::new(move || {
            if let Ok(mut guard) = lock(stage, &me) {
                guard[GIVEN] += if self.all { self.waiters.max(1) as u64 } else { 1 };
            }
            if self.all { condvar(stage).notify_all() } else { condvar(stage).notify_one() }
        })
    }

    /// Notifies only for letters that the victim did not give, or if it had not begun to notify: if it had, a slice must do.
    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let mut guard = lock(stage, &me)?;
        let missing = (self.waiters as u64).saturating_sub(guard[GIVEN]);
        guard[GIVEN] += missing;
        drop(guard);
        let begun = !format!("{:?}", condvar(stage)).contains("sequence: 0");
        if missing > 0 || !begun {
            condvar(stage).notify_all();
        }
        Ok(Verdict::Clean)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let me = props::become_party(stage, props::companion(2), false);
        let guard = lock(stage, &me)?;
        let left = guard[GIVEN] - guard[TAKEN];
        let most = u64::from(self.waiters == 0);
        expect(left <= most && (moment != Moment::Before || left == 0), || format!("{left} letters are left"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use News::{Both, Mark, Service};
    let wait = |timeout, beside, news| Wait { timeout, beside, news };
    let notify = |all, waiters, news| Notify { all, waiters, news };
    vec![
        case("cond-wait", "alone", wait(false, false, Both)),
        case("cond-wait", "alone-mark-only", wait(false, false, Mark)),
        case("cond-wait", "alone-service-only", wait(false, false, Service)),
        case("cond-wait", "beside-another", wait(false, true, Both)),
        case("cond-wait", "timeout", wait(true, false, Both)),
        case("cond-notify", "nobody", notify(false, 0, Both)),
        case("cond-notify", "one-of-one", notify(false, 1, Both)),
        case("cond-notify", "one-of-one-service-only", notify(false, 1, Service)),
        case("cond-notify", "one-of-two", notify(false, 2, Both)),
        case("cond-notify", "all-of-two", notify(true, 2, Both)),
        case("cond-notify", "all-of-two-mark-only", notify(true, 2, Mark)),
    ]
}
