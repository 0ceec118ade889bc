//! `event-set`, `event-wait` of `swath_sync::Event`: no owner, so a death loses nothing and holds nobody up.

use std::time::Duration;

use super::props::{self, VICTIM};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// The victim sets the event for which `waiters` sleep.
struct Set {
    waiters: usize,
}

impl Scenario for Set {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::AfterVictim, Entrance::AfterVictim];
        &all[..self.waiters]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        props::event(stage).wait();
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        props::become_party(stage, VICTIM, true);
        let event = props::event(stage);
        Box::new(move || event.set())
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let event = props::event(stage);
        let was_set = event.is_set();
        expect(moment != Moment::Before || !was_set, || "set by nobody".to_owned())?;
        expect(moment != Moment::After || was_set, || "not set".to_owned())?;
        if !was_set {
            event.set();
        }
        event.wait();
        Ok(Verdict::Clean)
    }
}

/// The victim waits for the event, perhaps with another waiter beside it; somebody sets it when it sleeps or is dead.
struct Wait {
    timeout: bool,
    beside: bool,
}

impl Scenario for Wait {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::BeforeVictim, Entrance::AfterVictim];
        &all[..1 + usize::from(self.beside)]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        if n == 0 {
            stage.await_cue(1);
            props::event(stage).set();
        } else {
            props::event(stage).wait();
        }
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        props::become_party(stage, VICTIM, true);
        let event = props::event(stage);
        if self.timeout {
            return Box::new(move || {
                std::hint::black_box(event.wait_timeout(Duration::from_secs(5)));
            });
        }
        Box::new(move || event.wait())
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let event = props::event(stage);
        event.wait();
        event.clear();
        expect(!event.is_set(), || "set after a clear".to_owned())?;
        expect(!event.wait_timeout(Duration::from_millis(1)), || {
            "a cleared event was waited for".to_owned()
        })?;
        Ok(Verdict::Clean)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("event-set", "free", Set { waiters: 0 }),
        case("event-set", "waiter", Set { waiters: 1 }),
        case("event-set", "two-waiters", Set { waiters: 2 }),
        case("event-wait", "alone", Wait { timeout: false, beside: false }),
        case("event-wait", "beside-another", Wait { timeout: false, beside: true }),
        case("event-wait", "timeout", Wait { timeout: true, beside: false }),
    ]
}
