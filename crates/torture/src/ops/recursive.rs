//! `relock` of `swath_sync::RecursiveMutex`: taken, taken again, given back twice.

use swath_sync::{Party, RecursiveMutex, Taken};

use super::props::{self, CHECKER, News, Pair, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const MUTEX_AT: usize = 0x8_6000;
/// Count 0 of the stage: how many survivors were told of a death by the lock.
const RECOVERIES: usize = 0;

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Somebody has it, and gives it back when the victim sleeps.
    Holder,
    /// Who had it, twice, is dead.
    Dead,
}

struct Play {
    company: Company,
    /// The victim has it twice when the operation begins, which gives it back twice.
    held: bool,
    news: News,
    fault: Fault,
}

fn mutex(stage: &Stage) -> &'static RecursiveMutex<Pair> {
    props::object(stage, MUTEX_AT, 1)
}

/// Half of the change under the first lock, half under the second.
fn change(stage: &Stage, me: &Party) -> Finding {
    let halves = |which: usize| move |pair: &mut Pair| pair[which] += 1;
    let outer = match mutex(stage).lock(me) {
        Ok(Taken::Acquired(guard)) => guard,
        Ok(Taken::Recovered(recovered)) => {
            props::add(stage, RECOVERIES);
            let repaired = recovered.guard().with(|pair| *pair = [pair[0].max(pair[1]); 2]);
            repaired.map_err(|error| error.to_string())?;
            drop(recovered.repaired());
            return Ok(Verdict::Recovered);
        }
        Err(error) => return Err(error.to_string()),
    };
    let found = outer.with(|pair| *pair).map_err(|error| error.to_string())?;
    expect(found[0] == found[1], || format!("acquired as if whole, but the halves are {found:?}"))?;
    outer.with(halves(0)).map_err(|error| error.to_string())?;
    let Ok(Taken::Acquired(inner)) = mutex(stage).lock(me) else { return Err("not taken again".to_owned()) };
    inner.with(halves(1)).map_err(|error| error.to_string())?;
    drop(inner);
    drop(outer);
    Ok(Verdict::Clean)
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        if self.company == Company::Dead {
            props::died_before(stage, |party| {
                for _ in 0..2 {
                    if let Ok(Taken::Acquired(guard)) = mutex(stage).lock(party) {
                        guard.keep();
                    }
                }
            });
        }
    }

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Holder if self.held => &[Entrance::AfterVictim],
            Company::Holder => &[Entrance::BeforeVictim],
            _ => &[],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        if self.held {
            stage.arrive(n + 1);
            return change(stage, &me);
        }
        let Ok(Taken::Acquired(guard)) = mutex(stage).lock(&me) else {
            return Err("the first to come did not get the lock".to_owned());
        };
        stage.arrive(n + 1);
        stage.await_cue(1);
        drop(guard);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        if self.held {
            let lock = || mutex(stage).lock(&me).ok().and_then(Taken::acquired).expect("a free lock");
            lock().keep();
            lock().keep();
            return Box::new(move || {
                let _ = std::hint::black_box((mutex(stage).release(&me), mutex(stage).release(&me)));
            });
        }
        Box::new(move || drop(std::hint::black_box(change(stage, &me))))
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        match mutex(stage).lock_timeout(&me, std::time::Duration::from_millis(70)) {
            Ok(Taken::Recovered(_)) => Err("taken from somebody who is alive".to_owned()),
            _ => Ok(Verdict::Clean),
        }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let first = change(stage, &me)?;
        expect(change(stage, &me)? == Verdict::Clean, || "recovered twice".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(first)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let told = props::read(stage, RECOVERIES);
        let expected = match moment {
            Moment::Before => u32::from(self.held || self.company == Company::Dead),
            // The victim, of who died before; and a survivor, of the victim.
            Moment::Within => told.min(1 + u32::from(self.company == Company::Dead)),
            // The victim itself was told of an earlier death.
            Moment::After => u32::from(!self.held && self.company == Company::Dead),
        };
        expect(told == expected, || format!("{told} were told of a death instead of {expected}"))?;
        let text = format!("{:?}", mutex(stage));
        expect(text.contains("holder: None") && text.contains("depth: 0"), || format!("in the end: {text}"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use News::{Both, Mark, Service};
    let kill = |company, held, news| Play { company, held, news, fault: Fault::Kill };
    vec![
        case("relock", "free", kill(Company::Nobody, false, Both)),
        case("relock", "free-mark-only", kill(Company::Nobody, false, Mark)),
        case("relock", "free-service-only", kill(Company::Nobody, false, Service)),
        case("relock", "contended", kill(Company::Holder, false, Both)),
        case("relock", "inherited", kill(Company::Dead, false, Both)),
        case("relock", "release", kill(Company::Nobody, true, Both)),
        case("relock", "release-waiter", kill(Company::Holder, true, Both)),
        case(
            "relock",
            "paused",
            Play { company: Company::Nobody, held: false, news: Both, fault: Fault::Pause },
        ),
    ]
}
