//! `lock`, `unlock`, `update` (lock, change both halves, unlock) of `swath_sync::Mutex`.

use std::mem;
use std::time::Duration;

use swath_sync::{LockError, Locked, Party};

use super::props::{self, CHECKER, News, Pair, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// Count 0 of the stage: how many survivors were told of a death by the lock.
const RECOVERIES: usize = 0;
/// How long the others try while the victim stands still: longer than a slice, shorter than the deadline.
const PATIENCE: Duration = Duration::from_millis(70);

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Lock,
    LockTimeout,
    Unlock,
    Update,
    /// Says that a recovered value is whole, and unlocks.
    Repair,
    /// Drops a recovered guard without a repair.
    Poison,
}

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Somebody holds the lock, and unlocks when the victim sleeps.
    Holder,
    /// Somebody holds it, and another one sleeps already when the victim comes.
    HolderAndWaiter,
    /// One sleeps while the victim holds it.
    Waiter,
    /// Two do.
    TwoWaiters,
    /// Who held it is dead.
    Dead,
}

struct Play {
    deed: Deed,
    company: Company,
    news: News,
    fault: Fault,
}

impl Play {
    fn holder_first(&self) -> bool {
        matches!(self.company, Company::Holder | Company::HolderAndWaiter)
    }

    fn somebody_is_dead(&self) -> bool {
        self.company == Company::Dead
    }
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        if self.somebody_is_dead() {
            props::died_before(stage, |party| {
                if let Ok(Locked::Acquired(mut guard)) = props::lock(stage).lock(party) {
                    guard[0] += 1; // half of an update
                    mem::forget(guard);
                }
            });
        }
    }

    fn companions(&self) -> &[Entrance] {
        use Entrance::{AfterVictim, BeforeVictim};
        match self.company {
            Company::Nobody | Company::Dead => &[],
            Company::Holder => &[BeforeVictim],
            Company::HolderAndWaiter => &[BeforeVictim, AfterVictim],
            Company::Waiter => &[AfterVictim],
            Company::TwoWaiters => &[AfterVictim, AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        if n == 0 && self.holder_first() {
            let Ok(Locked::Acquired(mut guard)) = props::lock(stage).lock(&me) else {
                return Err("the first to come did not get the lock".to_owned());
            };
            stage.arrive(n + 1);
            stage.await_cue(1);
            props::change(&mut guard);
            return Ok(Verdict::Clean);
        }
        stage.arrive(n + 1);
        self.take_and_look(stage, &me)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let lock = props::lock(stage);
        match self.deed {
            Deed::Lock => Box::new(move || mem::forget(lock.lock(&me))),
            Deed::LockTimeout => {
                Box::new(move || mem::forget(lock.lock_timeout(&me, Duration::from_secs(1))))
            }
            Deed::Update => Box::new(move || {
                if let Ok(Locked::Acquired(mut guard)) = lock.lock(&me) {
                    props::change(&mut guard);
                }
            }),
            Deed::Unlock => {
                let Ok(Locked::Acquired(mut guard)) = lock.lock(&me) else { panic!("a free lock") };
                props::change(&mut guard);
                Box::new(move || drop(guard))
            }
            Deed::Repair => {
                let Ok(Locked::Recovered(mut guard)) = lock.lock(&me) else { panic!("a dead one's lock") };
                props::repair(&mut guard);
                Box::new(move || drop(guard.repaired()))
            }
            Deed::Poison => {
                let Ok(Locked::Recovered(guard)) = lock.lock(&me) else { panic!("a dead one's lock") };
                Box::new(move || drop(guard))
            }
        }
    }

    fn short_points(&self) -> usize {
        // While the victim stands still, everybody is patient.
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// A stopped holder is not dead: who waits is told so at the deadline and takes nothing.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        match props::lock(stage).lock_timeout(&me, PATIENCE) {
            Ok(Locked::Acquired(mut guard)) => look_and_change(&mut guard),
            Ok(Locked::Recovered(_)) => Err("taken from somebody who is alive".to_owned()),
            Err(LockError::TimedOut { .. }) => Ok(Verdict::Clean),
            Err(other) => Err(other.to_string()),
        }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let first = self.take_and_look(stage, &me)?;
        // Whatever the first found, the second finds a lock like any other.
        let second = self.take_and_look(stage, &me)?;
        expect(second == Verdict::Clean, || "recovered twice".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(first)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let told = props::read(stage, RECOVERIES);
        let holds_at_the_end = matches!(self.deed, Deed::Lock | Deed::LockTimeout);
        let held_at_the_start = matches!(self.deed, Deed::Unlock | Deed::Repair | Deed::Poison);
        let expected = match moment {
            Moment::Before if held_at_the_start || self.somebody_is_dead() => 1,
            Moment::Before => 0,
            Moment::After if holds_at_the_end => 1,
            Moment::After => 0,
            Moment::Within => told.min(1),
        };
        expect(told == expected, || format!("{told} survivors were told of a death instead of {expected}"))?;
        let me = props::become_party(stage, props::companion(2), false);
        match props::lock(stage).try_lock(&me) {
            Ok(Locked::Acquired(guard)) if guard[0] == guard[1] => Ok(()),
            Ok(other) => Err(format!("in the end: {other:?}")),
            Err(error) => Err(format!("in the end: {error}")),
        }
    }
}

impl Play {
    fn take_and_look(&self, stage: &Stage, me: &Party) -> Finding {
        let lock = props::lock(stage);
        match lock.lock(me) {
            Ok(Locked::Acquired(mut guard)) => look_and_change(&mut guard),
            Ok(Locked::Recovered(mut guard)) => {
                props::add(stage, RECOVERIES);
                props::repair(&mut guard);
                drop(guard.repaired());
                Ok(Verdict::Recovered)
            }
            Err(LockError::Poisoned { .. }) if self.deed == Deed::Poison => {
                lock.clear();
                match lock.lock(me) {
                    Ok(Locked::Acquired(mut guard)) => {
                        props::repair(&mut guard);
                        Ok(Verdict::Clean)
                    }
                    // Cleared by two survivors at the same time: the other one was faster.
                    Ok(Locked::Recovered(_)) => Err("recovered after a clear".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn look_and_change(pair: &mut Pair) -> Finding {
    props::look(pair)?;
    props::change(pair);
    Ok(Verdict::Clean)
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{Dead, Holder, HolderAndWaiter, Nobody, TwoWaiters, Waiter};
    let kill = |deed, company, news| Play { deed, company, news, fault: Fault::Kill };
    let pause = |deed, company| Play { deed, company, news: News::Both, fault: Fault::Pause };
    vec![
        case("lock", "free", kill(Deed::Lock, Nobody, News::Both)),
        case("lock", "free-mark-only", kill(Deed::Lock, Nobody, News::Mark)),
        case("lock", "free-service-only", kill(Deed::Lock, Nobody, News::Service)),
        case("lock", "contended", kill(Deed::Lock, Holder, News::Both)),
        case("lock", "contended-mark-only", kill(Deed::Lock, Holder, News::Mark)),
        case("lock", "contended-service-only", kill(Deed::Lock, Holder, News::Service)),
        case("lock", "contended-by-two", kill(Deed::Lock, HolderAndWaiter, News::Both)),
        case("lock", "contended-by-two-mark-only", kill(Deed::Lock, HolderAndWaiter, News::Mark)),
        case("lock", "timeout", kill(Deed::LockTimeout, Holder, News::Both)),
        case("lock", "inherited", kill(Deed::Lock, Dead, News::Both)),
        case("lock", "paused", pause(Deed::Lock, Nobody)),
        case("unlock", "free", kill(Deed::Unlock, Nobody, News::Both)),
        case("unlock", "waiter", kill(Deed::Unlock, Waiter, News::Both)),
        case("unlock", "waiter-mark-only", kill(Deed::Unlock, Waiter, News::Mark)),
        case("unlock", "waiter-service-only", kill(Deed::Unlock, Waiter, News::Service)),
        case("unlock", "two-waiters", kill(Deed::Unlock, TwoWaiters, News::Both)),
        case("unlock", "repaired", kill(Deed::Repair, Dead, News::Both)),
        case("unlock", "poisoning", kill(Deed::Poison, Dead, News::Both)),
        case("unlock", "paused", pause(Deed::Unlock, Nobody)),
        case("update", "free", kill(Deed::Update, Nobody, News::Both)),
        case("update", "contended", kill(Deed::Update, Holder, News::Both)),
        case("update", "paused", pause(Deed::Update, Nobody)),
    ]
}
