//! `raw-lock`, `raw-unlock`, `raw-read`, `raw-write`, `raw-leave` of the locks behind raw_sync's traits.
//!
//! There is no table of parties: deaths are seen in `/proc`, and told by a count alone. What must hold: nobody hangs, and whoever
//! finds half a change finds the count moved since the value was last whole.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swath_sync::raw_sync::Timeout;
use swath_sync::raw_sync::locks::LockImpl;

use super::props;
use crate::raw_memory::{Which, learn_own_name, taken_over};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const LOCK_AT: usize = 0x9_0000;
const HALVES_AT: usize = LOCK_AT + 256;
/// The count at which the value was last whole.
const KNOWN: usize = 0;
/// Who is dead is looked for when the time is over: soon, so that not every point costs a slice.
pub(super) const SOON: Duration = Duration::from_millis(2);
/// How long the others try while the victim stands still: longer than a slice.
const PATIENCE: Duration = Duration::from_millis(70);

/// What the victim does between the brackets.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    /// Takes it, for writing if that makes a difference.
    Lock,
    LockTimeout,
    /// Gives it back after a change.
    Unlock,
    Read,
    /// Gives back what it has for reading.
    Leave,
}

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    /// Somebody holds it, and gives it back when the victim sleeps.
    Holder,
    /// The same, and another one sleeps beside the victim.
    HolderAndWaiter,
    /// Somebody reads, and leaves when the victim sleeps.
    Reader,
    /// One sleeps when the victim's operation begins.
    Waiter,
    TwoWaiters,
    /// Who held it is dead, half-way through a change.
    Dead,
    /// Who read is dead.
    DeadReader,
}

struct Play {
    which: Which,
    deed: Deed,
    company: Company,
    fault: Fault,
}

impl Play {
    fn lock(&self, stage: &Stage) -> Box<dyn LockImpl> {
        lock_of(self.which, stage)
    }

    fn take_and_look(&self, stage: &Stage) -> Finding {
        update(self.which, stage)
    }
}

/// The lock of this run.
pub(super) fn lock_of(which: Which, stage: &Stage) -> Box<dyn LockImpl> {
    which.within(stage.part(LOCK_AT))
}

/// Takes it, finds out whether somebody died, repairs, changes, gives it back.
pub(super) fn update(which: Which, stage: &Stage) -> Finding {
    let lock = lock_of(which, stage);
    let guard = loop {
        // Not for ever: it is the wait with an end that has to ask before it gives up.
        match lock.try_lock(Timeout::Val(SOON)) {
            Ok(guard) => break guard,
            Err(_) => continue,
        }
    };
    let verdict = look(stage, &*lock)?;
    change(stage);
    drop(guard);
    Ok(verdict)
}

/// What the lock guards: two halves that are equal when nobody holds it.
pub(super) fn halves(stage: &Stage) -> &'static [AtomicU64; 2] {
    stage.part(HALVES_AT)
}

/// Under the lock.
fn look(stage: &Stage, lock: &dyn LockImpl) -> Finding {
    let [left, right] = halves(stage).each_ref().map(|half| half.load(Ordering::SeqCst));
    let count = taken_over(lock);
    let known = props::count(stage, KNOWN).load(Ordering::SeqCst);
    expect(left == right || count != known, || {
        format!("nobody is said to have died, but the halves are {left} and {right}")
    })?;
    halves(stage)[1].store(left, Ordering::SeqCst);
    props::count(stage, KNOWN).store(count, Ordering::SeqCst);
    Ok(if count == known { Verdict::Clean } else { Verdict::Recovered })
}

fn change(stage: &Stage) {
    halves(stage).iter().for_each(|half| _ = half.fetch_add(1, Ordering::SeqCst));
}

impl Scenario for Play {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        match self.company {
            Company::Dead => props::died_before(stage, |_| {
                mem::forget(self.lock(stage).lock().map(mem::forget));
                halves(stage)[0].fetch_add(1, Ordering::SeqCst);
            }),
            Company::DeadReader => {
                props::died_before(stage, |_| mem::forget(self.lock(stage).rlock().map(mem::forget)));
            }
            _ => {}
        }
    }

    fn companions(&self) -> &[Entrance] {
        use Entrance::{AfterVictim, BeforeVictim};
        match self.company {
            Company::Nobody | Company::Dead | Company::DeadReader => &[],
            Company::Holder | Company::Reader => &[BeforeVictim],
            Company::HolderAndWaiter => &[BeforeVictim, AfterVictim],
            Company::Waiter => &[AfterVictim],
            Company::TwoWaiters => &[AfterVictim, AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let lock = self.lock(stage);
        match self.company {
            Company::Holder | Company::HolderAndWaiter if n == 0 => {
                let guard = lock.lock().map_err(|error| error.to_string())?;
                stage.arrive(n + 1);
                stage.await_cue(1);
                change(stage);
                drop(guard);
                Ok(Verdict::Clean)
            }
            Company::Reader => {
                let guard = lock.rlock().map_err(|error| error.to_string())?;
                stage.arrive(n + 1);
                stage.await_cue(1);
                drop(guard);
                Ok(Verdict::Clean)
            }
            _ => {
                stage.arrive(n + 1);
                let guard = lock.lock().map_err(|error| error.to_string())?;
                let verdict = look(stage, &*lock)?;
                change(stage);
                drop(guard);
                Ok(verdict)
            }
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        learn_own_name();
        let lock: &dyn LockImpl = Box::leak(self.lock(stage));
        match self.deed {
            Deed::Lock => Box::new(move || mem::forget(lock.lock())),
            Deed::LockTimeout => {
                Box::new(move || mem::forget(lock.try_lock(Timeout::Val(Duration::from_secs(1)))))
            }
            Deed::Read => Box::new(move || mem::forget(lock.rlock())),
            Deed::Unlock => {
                let guard = lock.lock().expect("a free lock");
                change(stage);
                Box::new(move || drop(guard))
            }
            Deed::Leave => {
                let guard = lock.rlock().expect("no writer");
                Box::new(move || drop(guard))
            }
        }
    }

    fn short_points(&self) -> usize {
        if self.fault == Fault::Pause { 20 } else { 60 }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// Slow is not dead: nothing is taken from who stands still.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let lock = self.lock(stage);
        let before = taken_over(&*lock);
        if let Ok(guard) = lock.try_lock(Timeout::Val(PATIENCE)) {
            look(stage, &*lock)?;
            drop(guard);
        }
        expect(taken_over(&*lock) == before, || "taken from somebody who is alive".to_owned())?;
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let first = self.take_and_look(stage)?;
        // Whatever the first found, the second finds a lock like any other.
        let second = self.take_and_look(stage)?;
        expect(second == Verdict::Clean, || "recovered twice".to_owned())?;
        Ok(first)
    }

    fn tally(&self, stage: &Stage, moment: Moment) -> Result<(), String> {
        let lock = self.lock(stage);
        let counted = taken_over(&*lock);
        let before = u32::from(self.company == Company::Dead);
        let held = |holds: bool| u32::from(holds);
        let expected = match (self.deed, moment) {
            (Deed::Read | Deed::Leave, Moment::Before | Moment::After) => before..=before,
            (Deed::Unlock, Moment::Before) => 1..=1,
            (Deed::Lock | Deed::LockTimeout, Moment::After) => {
                before + held(self.fault == Fault::Kill)..=before + 1
            }
            (_, Moment::Before | Moment::After) => before..=before,
            (_, Moment::Within) => before..=before + 1,
        };
        expect(expected.contains(&counted), || format!("{counted} deaths counted, not {expected:?}"))?;
        drop(lock.try_lock(Timeout::Val(Duration::ZERO)).map_err(|error| format!("in the end: {error}"))?);
        let [left, right] = halves(stage).each_ref().map(|half| half.load(Ordering::SeqCst));
        expect(left == right, || format!("in the end the halves are {left} and {right}"))
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    use Company::{Dead, DeadReader, Holder, HolderAndWaiter, Nobody, Reader, TwoWaiters, Waiter};
    let mutex = |deed, company| Play { which: Which::Mutex, deed, company, fault: Fault::Kill };
    let rwlock = |deed, company| Play { which: Which::RwLock, deed, company, fault: Fault::Kill };
    let pause = |play: Play| Play { fault: Fault::Pause, ..play };
    vec![
        case("raw-lock", "free", mutex(Deed::Lock, Nobody)),
        case("raw-lock", "contended", mutex(Deed::Lock, Holder)),
        case("raw-lock", "contended-by-two", mutex(Deed::Lock, HolderAndWaiter)),
        case("raw-lock", "timeout", mutex(Deed::LockTimeout, Holder)),
        case("raw-lock", "inherited", mutex(Deed::Lock, Dead)),
        case("raw-lock", "paused", pause(mutex(Deed::Lock, Nobody))),
        case("raw-unlock", "free", mutex(Deed::Unlock, Nobody)),
        case("raw-unlock", "waiter", mutex(Deed::Unlock, Waiter)),
        case("raw-unlock", "two-waiters", mutex(Deed::Unlock, TwoWaiters)),
        case("raw-unlock", "paused", pause(mutex(Deed::Unlock, Nobody))),
        case("raw-write", "free", rwlock(Deed::Lock, Nobody)),
        case("raw-write", "contended", rwlock(Deed::Lock, Holder)),
        case("raw-write", "reader-there", rwlock(Deed::Lock, Reader)),
        case("raw-write", "dead-reader", rwlock(Deed::Lock, DeadReader)),
        case("raw-write", "inherited", rwlock(Deed::Lock, Dead)),
        case("raw-write", "unlock-waiter", rwlock(Deed::Unlock, Waiter)),
        case("raw-read", "free", rwlock(Deed::Read, Nobody)),
        case("raw-read", "contended", rwlock(Deed::Read, Holder)),
        case("raw-read", "dead-writer", rwlock(Deed::Read, Dead)),
        case("raw-read", "leave-writer-waits", rwlock(Deed::Leave, Waiter)),
    ]
}
