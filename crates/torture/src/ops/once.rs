//! `once` of `swath_sync::Once`.

use std::mem;
use std::sync::atomic::Ordering;

use swath_sync::{Called, Once, Party};

use super::props::{self, CHECKER, News, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const ONCE_AT: usize = 0x8_5000;
/// Counts of the stage: initialisers that came to their end, survivors that ran it after somebody's death.
const RUN: usize = 0;
const AGAIN: usize = 1;

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Somebody is in it, and comes to its end when the victim sleeps.
    Running,
    /// It is done.
    Done,
    /// Who was in it is dead.
    Dead,
}

struct Call {
    company: Company,
    news: News,
    fault: Fault,
}

fn once(stage: &Stage) -> &'static Once {
    props::object(stage, ONCE_AT, 1)
}

fn call(stage: &Stage, me: &Party) -> Result<Called, String> {
    once(stage).call_once(me, |_| props::add(stage, RUN)).map_err(|error| error.to_string())
}

fn call_and_look(stage: &Stage, me: &Party) -> Finding {
    let called = call(stage, me)?;
    expect(once(stage).is_done() && props::read(stage, RUN) > 0, || "done, but not run".to_owned())?;
    if let Called::RanAgain { .. } = called {
        props::add(stage, AGAIN);
        return Ok(Verdict::Recovered);
    }
    Ok(Verdict::Clean)
}

impl Scenario for Call {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        match self.company {
            Company::Dead => props::died_before(stage, |party| {
                // Its end by the way it goes: out of the process.
                let _ = once(stage).call_once(party, |_| std::process::exit(0));
            }),
            Company::Done => props::died_before(stage, |party| drop(call(stage, party))),
            _ => {}
        }
    }

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Running => &[Entrance::BeforeVictim, Entrance::AfterVictim],
            _ => &[],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        if n == 1 {
            stage.arrive(n + 1);
            return call_and_look(stage, &me);
        }
        let called = once(stage).call_once(&me, |_| {
            stage.arrive(n + 1);
            stage.await_cue(1);
            props::add(stage, RUN);
        });
        expect(called == Ok(Called::Ran), || format!("the first to come: {called:?}"))?;
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        Box::new(move || mem::forget(call(stage, &me)))
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// Slow is not dead: it is not run a second time beside it.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        let patience = std::time::Duration::from_millis(70);
        match once(stage).call_once_timeout(&me, patience, |_| props::add(stage, RUN)) {
            Ok(Called::RanAgain { .. }) => Err("taken from somebody who is alive".to_owned()),
            _ => Ok(Verdict::Clean),
        }
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        expect(moment != Moment::After || once(stage).is_done(), || "not done".to_owned())?;
        let me = props::become_party(stage, CHECKER, true);
        let first = call_and_look(stage, &me)?;
        expect(call_and_look(stage, &me)? == Verdict::Clean, || "run again".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(first)
    }

    fn tally(&self, stage: &Stage, _moment: Moment) -> Result<(), String> {
        let (run, again) = (
            props::count(stage, RUN).load(Ordering::SeqCst),
            props::count(stage, AGAIN).load(Ordering::SeqCst),
        );
        // It may have died after its work and before it could say so: then it was done twice, and told.
        expect(run == 1 || run == 2 && again == 1, || format!("run {run} times, {again} of them told"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use News::{Both, Mark, Service};
    let kill = |company, news| Call { company, news, fault: Fault::Kill };
    vec![
        case("once", "new", kill(Company::Nobody, Both)),
        case("once", "new-mark-only", kill(Company::Nobody, Mark)),
        case("once", "new-service-only", kill(Company::Nobody, Service)),
        case("once", "running", kill(Company::Running, Both)),
        case("once", "running-service-only", kill(Company::Running, Service)),
        case("once", "done", kill(Company::Done, Both)),
        case("once", "dead", kill(Company::Dead, Both)),
        case("once", "paused", Call { company: Company::Nobody, news: Both, fault: Fault::Pause }),
    ]
}
