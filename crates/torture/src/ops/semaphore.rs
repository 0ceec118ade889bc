//! `sem-acquire`, `sem-release` (drop, release, keep, consume, a new permit) of `swath_sync::Semaphore`.
//!
//! What must hold: in the end there are as many permits as the moment says, none lost with the dead, none made by it.

use std::mem;
use std::ops::RangeInclusive;
use std::time::Duration;

use swath_sync::{Semaphore, SemaphoreError};

use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const SEMAPHORE_AT: usize = 0x8_3000;
const CAPACITY: usize = 4;
const PATIENCE: Duration = Duration::from_millis(70);

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Acquire,
    AcquireTimeout,
    /// Takes a permit and gives it back.
    Both,
    /// Gives a guard's permit back.
    Drop,
    /// Gives a kept one back.
    Release,
    /// Makes one.
    Signal,
    Keep,
    Consume,
}

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Somebody has the only permit, and gives it back when the victim sleeps.
    Holder,
    /// The same, and another one waits beside the victim.
    HolderAndWaiter,
    /// One waits when the victim's operation begins.
    Waiter,
    TwoWaiters,
    /// Who had the only permit is dead.
    Dead,
}

struct Play {
    deed: Deed,
    company: Company,
    news: News,
    fault: Fault,
}

impl Play {
    /// With a single permit everybody waits for everybody.
    fn initial(&self) -> usize {
        if self.deed == Deed::Signal && self.company != Company::Nobody { 0 } else { 1 }
    }
}

fn semaphore(stage: &Stage) -> &'static Semaphore {
    props::object(stage, SEMAPHORE_AT, CAPACITY)
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        props::place(stage, SEMAPHORE_AT, Semaphore::with(self.initial(), CAPACITY));
        if self.company == Company::Dead {
            props::died_before(stage, |party| mem::forget(semaphore(stage).acquire(party)));
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
        if n == 0 && matches!(self.company, Company::Holder | Company::HolderAndWaiter) {
            let permit = semaphore(stage).acquire(&me).map_err(|error| error.to_string())?;
            stage.arrive(n + 1);
            stage.await_cue(1);
            drop(permit);
            return Ok(Verdict::Clean);
        }
        stage.arrive(n + 1);
        drop(semaphore(stage).acquire(&me).map_err(|error| error.to_string())?);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let semaphore = semaphore(stage);
        let permit = || semaphore.acquire(&me).expect("a free permit");
        match self.deed {
            Deed::Acquire => Box::new(move || mem::forget(semaphore.acquire(&me))),
            Deed::AcquireTimeout => {
                Box::new(move || mem::forget(semaphore.acquire_timeout(&me, Duration::from_secs(1))))
            }
            Deed::Both => Box::new(move || drop(semaphore.acquire(&me))),
            Deed::Signal => Box::new(move || drop(semaphore.release(&me))),
            Deed::Release => {
                permit().keep();
                Box::new(move || drop(semaphore.release(&me)))
            }
            Deed::Drop => {
                let permit = permit();
                Box::new(move || drop(permit))
            }
            Deed::Keep => {
                let permit = permit();
                Box::new(move || permit.keep())
            }
            Deed::Consume => {
                let permit = permit();
                Box::new(move || permit.consume())
            }
        }
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// Slow is not dead: its permit is not taken.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        match semaphore(stage).acquire_timeout(&me, PATIENCE) {
            Ok(permit) => {
                drop(permit);
                Ok(Verdict::Clean)
            }
            Err(SemaphoreError::TimedOut { .. }) => Ok(Verdict::Clean),
            Err(other) => Err(other.to_string()),
        }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let semaphore = semaphore(stage);
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        if self.initial() == 0 || self.deed == Deed::Consume {
            // So that whoever waits gets one, if the victim did not come to it; taken away again below.
            semaphore.release(&me).map_err(|error| error.to_string())?;
        } else {
            // As anybody would.
            drop(semaphore.acquire(&me).map_err(|error| error.to_string())?);
        }
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(Verdict::Clean)
    }

    /// When all have ended: every permit can be had, and no more than there are.
    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let me = props::become_party(stage, props::companion(2), false);
        let semaphore = semaphore(stage);
        let found: Vec<_> = std::iter::from_fn(|| semaphore.try_acquire(&me).ok()).collect();
        let made = usize::from(self.initial() == 0 || self.deed == Deed::Consume);
        let expected = self.expected(moment);
        let real = found.len() - made.min(found.len());
        expect(expected.contains(&real), || format!("{real} permits instead of {expected:?}"))?;
        let before = found.len();
        drop(found);
        expect(semaphore.available(&me) == before, || "not all came back".to_owned())
    }
}

impl Play {
    fn expected(&self, moment: Moment) -> RangeInclusive<usize> {
        let initial = self.initial();
        match (self.deed, moment) {
            (Deed::Signal, Moment::After) => initial + 1..=initial + 1,
            (Deed::Signal, Moment::Within) => initial..=initial + 1,
            (Deed::Consume, Moment::After) => 0..=0,
            (Deed::Consume, Moment::Within) => 0..=1,
            _ => initial..=initial,
        }
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{Dead, Holder, HolderAndWaiter, Nobody, TwoWaiters, Waiter};
    use News::{Both, Mark, Service};
    let kill = |deed, company, news| Play { deed, company, news, fault: Fault::Kill };
    let pause = |deed, company| Play { deed, company, news: Both, fault: Fault::Pause };
    vec![
        case("sem-acquire", "free", kill(Deed::Acquire, Nobody, Both)),
        case("sem-acquire", "free-mark-only", kill(Deed::Acquire, Nobody, Mark)),
        case("sem-acquire", "free-service-only", kill(Deed::Acquire, Nobody, Service)),
        case("sem-acquire", "contended", kill(Deed::Acquire, Holder, Both)),
        case("sem-acquire", "contended-service-only", kill(Deed::Acquire, Holder, Service)),
        case("sem-acquire", "contended-by-two", kill(Deed::Acquire, HolderAndWaiter, Both)),
        case("sem-acquire", "timeout", kill(Deed::AcquireTimeout, Holder, Both)),
        case("sem-acquire", "dead-holder", kill(Deed::Acquire, Dead, Both)),
        case("sem-acquire", "paused", pause(Deed::Both, Nobody)),
        case("sem-release", "drop", kill(Deed::Drop, Nobody, Both)),
        case("sem-release", "drop-waiter", kill(Deed::Drop, Waiter, Both)),
        case("sem-release", "drop-waiter-mark-only", kill(Deed::Drop, Waiter, Mark)),
        case("sem-release", "drop-two-waiters", kill(Deed::Drop, TwoWaiters, Both)),
        case("sem-release", "kept", kill(Deed::Release, Nobody, Both)),
        case("sem-release", "kept-waiter", kill(Deed::Release, Waiter, Both)),
        case("sem-release", "keep", kill(Deed::Keep, Nobody, Both)),
        case("sem-release", "keep-waiter", kill(Deed::Keep, Waiter, Both)),
        case("sem-release", "consume", kill(Deed::Consume, Nobody, Both)),
        case("sem-release", "signal", kill(Deed::Signal, Nobody, Both)),
        case("sem-release", "signal-waiter", kill(Deed::Signal, Waiter, Both)),
        case("sem-release", "signal-two-waiters", kill(Deed::Signal, TwoWaiters, Both)),
    ]
}
