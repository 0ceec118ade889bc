//! `rw-read`, `rw-write`, `rw-unlock` of `swath_sync::RwLock`.

use std::mem;
use std::time::Duration;

use swath_sync::{LockError, Party, RwLock, Taken};

use super::props::{self, CHECKER, News, Pair, VICTIM};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const LOCK_AT: usize = 0x8_2000;
/// Count 0 of the stage: how many survivors were told of a death by the lock.
const RECOVERIES: usize = 0;
/// How long the others try while the victim stands still: longer than a slice, shorter than the deadline.
const PATIENCE: Duration = Duration::from_millis(70);

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Read,
    Write,
    /// A reader leaves.
    Leave,
    /// A writer leaves, having changed both halves.
    Unlock,
    /// Lock, change both halves, unlock.
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
    /// Somebody reads, and leaves when the victim sleeps.
    Reader,
    /// Somebody writes, and leaves when the victim sleeps.
    Writer,
    /// A writer sleeps when the victim's operation begins.
    WaitingWriter,
    /// A reader does.
    WaitingReader,
    /// Who wrote is dead.
    DeadWriter,
    /// Who read is dead.
    DeadReader,
}

struct Play {
    deed: Deed,
    company: Company,
    news: News,
    fault: Fault,
}

fn lock(stage: &Stage) -> &'static RwLock<Pair> {
    props::object(stage, LOCK_AT, 1)
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        match self.company {
            Company::DeadWriter => props::died_before(stage, |party| {
                if let Ok(Taken::Acquired(mut guard)) = lock(stage).write(party) {
                    guard[0] += 1; // half of an update
                    mem::forget(guard);
                }
            }),
            Company::DeadReader => props::died_before(stage, |party| mem::forget(lock(stage).read(party))),
            _ => {}
        }
    }

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Nobody | Company::DeadWriter | Company::DeadReader => &[],
            Company::Reader | Company::Writer => &[Entrance::BeforeVictim],
            Company::WaitingWriter | Company::WaitingReader => &[Entrance::AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(n), true);
        match self.company {
            Company::Reader => {
                let guard = lock(stage).read(&me).map_err(|error| error.to_string())?;
                stage.arrive(n + 1);
                stage.await_cue(1);
                props::look(&guard)
            }
            Company::Writer => {
                let Ok(Taken::Acquired(mut guard)) = lock(stage).write(&me) else {
                    return Err("the first to come did not get the lock".to_owned());
                };
                stage.arrive(n + 1);
                stage.await_cue(1);
                props::change(&mut guard);
                Ok(Verdict::Clean)
            }
            Company::WaitingReader => {
                stage.arrive(n + 1);
                self.read_and_look(stage, &me)
            }
            _ => {
                stage.arrive(n + 1);
                self.write_and_look(stage, &me)
            }
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, self.news != News::Service);
        let lock = lock(stage);
        let recovered = || match lock.write(&me) {
            Ok(Taken::Recovered(guard)) => guard,
            other => panic!("a dead one's lock: {other:?}"),
        };
        match self.deed {
            Deed::Read => Box::new(move || mem::forget(lock.read(&me))),
            Deed::Write => Box::new(move || mem::forget(lock.write(&me))),
            Deed::Update => Box::new(move || {
                if let Ok(Taken::Acquired(mut guard)) = lock.write(&me) {
                    props::change(&mut guard);
                }
            }),
            Deed::Leave => {
                let guard = lock.read(&me).expect("no writer");
                Box::new(move || drop(guard))
            }
            Deed::Unlock => {
                let Ok(Taken::Acquired(mut guard)) = lock.write(&me) else { panic!("a free lock") };
                props::change(&mut guard);
                Box::new(move || drop(guard))
            }
            Deed::Repair => {
                let mut guard = recovered();
                props::repair(&mut guard);
                Box::new(move || drop(guard.repaired()))
            }
            Deed::Poison => {
                let guard = recovered();
                Box::new(move || drop(guard))
            }
        }
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 60 } else { 250 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// Slow is not dead: who waits is told so at the deadline, and finds nothing half done.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let me = props::become_party(stage, props::companion(3), false);
        match lock(stage).read_timeout(&me, PATIENCE) {
            Ok(guard) => props::look(&guard)?,
            Err(LockError::TimedOut { .. }) => Verdict::Clean,
            Err(other) => return Err(other.to_string()),
        };
        match lock(stage).write_timeout(&me, PATIENCE) {
            Ok(Taken::Acquired(mut guard)) => {
                props::look(&guard)?;
                props::change(&mut guard);
                Ok(Verdict::Clean)
            }
            Ok(Taken::Recovered(_)) => Err("taken from somebody who is alive".to_owned()),
            Err(LockError::TimedOut { .. }) => Ok(Verdict::Clean),
            Err(other) => Err(other.to_string()),
        }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.news != News::Mark {
            props::confirm_death(stage, VICTIM);
        }
        let me = props::become_party(stage, CHECKER, true);
        let read = self.read_and_look(stage, &me)?;
        let written = self.write_and_look(stage, &me)?;
        expect(read.max(written) == Verdict::Clean || read != written, || "recovered twice".to_owned())?;
        expect(self.read_and_look(stage, &me)? == Verdict::Clean, || "recovered again".to_owned())?;
        props::confirm_death(stage, VICTIM);
        props::release(stage, VICTIM)?;
        Ok(read.max(written))
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let told = props::read(stage, RECOVERIES);
        let dead_before = self.company == Company::DeadWriter;
        let expected = match (moment, self.deed) {
            (_, Deed::Read | Deed::Leave) => u32::from(dead_before),
            (Moment::Before, _) if dead_before => 1,
            (Moment::Before, Deed::Unlock) | (Moment::After, Deed::Write) => 1,
            (Moment::Before | Moment::After, _) => 0,
            (Moment::Within, _) => told.min(1),
        };
        expect(told == expected, || format!("{told} survivors were told of a death instead of {expected}"))?;
        let me = props::become_party(stage, props::companion(2), false);
        match lock(stage).try_write(&me) {
            Ok(Taken::Acquired(guard)) if guard[0] == guard[1] => Ok(()),
            Ok(other) => Err(format!("in the end: {other:?}")),
            Err(error) => Err(format!("in the end: {error}")),
        }
    }
}

impl Play {
    fn read_and_look(&self, stage: &Stage, me: &Party) -> Finding {
        match lock(stage).read(me) {
            Ok(guard) => props::look(&guard),
            Err(LockError::NeedsRepair { .. }) => self.write_and_look(stage, me),
            Err(LockError::Poisoned { .. }) if self.deed == Deed::Poison => self.write_and_look(stage, me),
            Err(other) => Err(other.to_string()),
        }
    }

    fn write_and_look(&self, stage: &Stage, me: &Party) -> Finding {
        match lock(stage).write(me) {
            Ok(Taken::Acquired(mut guard)) => {
                props::look(&guard)?;
                props::change(&mut guard);
                Ok(Verdict::Clean)
            }
            Ok(Taken::Recovered(mut guard)) => {
                props::add(stage, RECOVERIES);
                props::repair(&mut guard);
                drop(guard.repaired());
                Ok(Verdict::Recovered)
            }
            Err(LockError::Poisoned { .. }) if self.deed == Deed::Poison => {
                lock(stage).clear();
                match lock(stage).write(me) {
                    Ok(Taken::Acquired(mut guard)) => {
                        props::repair(&mut guard);
                        Ok(Verdict::Clean)
                    }
                    Ok(Taken::Recovered(_)) => Err("recovered after a clear".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{DeadReader, DeadWriter, Nobody, Reader, WaitingReader, WaitingWriter, Writer};
    use News::{Both, Mark, Service};
    let kill = |deed, company, news| Play { deed, company, news, fault: Fault::Kill };
    let pause = |deed, company| Play { deed, company, news: Both, fault: Fault::Pause };
    vec![
        case("rw-read", "free", kill(Deed::Read, Nobody, Both)),
        case("rw-read", "free-mark-only", kill(Deed::Read, Nobody, Mark)),
        case("rw-read", "free-service-only", kill(Deed::Read, Nobody, Service)),
        case("rw-read", "beside-a-reader", kill(Deed::Read, Reader, Both)),
        case("rw-read", "contended", kill(Deed::Read, Writer, Both)),
        case("rw-read", "contended-service-only", kill(Deed::Read, Writer, Service)),
        case("rw-read", "dead-writer", kill(Deed::Read, DeadWriter, Both)),
        case("rw-read", "paused", pause(Deed::Read, Nobody)),
        case("rw-write", "free", kill(Deed::Write, Nobody, Both)),
        case("rw-write", "free-service-only", kill(Deed::Write, Nobody, Service)),
        case("rw-write", "reader-there", kill(Deed::Write, Reader, Both)),
        case("rw-write", "reader-there-mark-only", kill(Deed::Write, Reader, Mark)),
        case("rw-write", "contended", kill(Deed::Write, Writer, Both)),
        case("rw-write", "dead-reader", kill(Deed::Write, DeadReader, Both)),
        case("rw-write", "inherited", kill(Deed::Write, DeadWriter, Both)),
        case("rw-write", "update", kill(Deed::Update, Nobody, Both)),
        case("rw-write", "update-contended", kill(Deed::Update, Writer, Both)),
        case("rw-write", "paused", pause(Deed::Update, Nobody)),
        case("rw-unlock", "reader", kill(Deed::Leave, Nobody, Both)),
        case("rw-unlock", "reader-writer-waits", kill(Deed::Leave, WaitingWriter, Both)),
        case("rw-unlock", "reader-writer-waits-mark-only", kill(Deed::Leave, WaitingWriter, Mark)),
        case("rw-unlock", "reader-writer-waits-service-only", kill(Deed::Leave, WaitingWriter, Service)),
        case("rw-unlock", "writer", kill(Deed::Unlock, Nobody, Both)),
        case("rw-unlock", "writer-reader-waits", kill(Deed::Unlock, WaitingReader, Both)),
        case("rw-unlock", "writer-writer-waits", kill(Deed::Unlock, WaitingWriter, Both)),
        case("rw-unlock", "repaired", kill(Deed::Repair, DeadWriter, Both)),
        case("rw-unlock", "poisoning", kill(Deed::Poison, DeadWriter, Both)),
        case("rw-unlock", "paused", pause(Deed::Unlock, Nobody)),
    ]
}
