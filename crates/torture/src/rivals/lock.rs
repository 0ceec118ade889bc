//! What any lock is put through: its holder is killed, one who waits for it, and one at every instruction of taking it, an
//! update and giving it back. Afterwards somebody else takes it, looks at what it guards, and gives it back.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::battery::{Form, Point};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// The two counters that the lock guards lie behind the lock.
const GUARDED_AT: usize = 128 * 1024;

/// Who takes a lock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Who {
    /// The one that is killed.
    Victim,
    /// One who holds it while the victim waits.
    Holder,
    /// One who comes when the victim is dead.
    Survivor,
}

/// A lock of some system, on the stage.
pub(super) trait Lock: Copy + 'static {
    /// Makes it.
    fn make(self, stage: &Stage);

    /// The calling process begins.
    fn join(self, _stage: &Stage, _who: Who) {}

    /// Takes it; whether the caller is told that a holder died.
    fn take(self, stage: &Stage, who: Who) -> Result<bool, String>;

    /// What has been taken by `take` is given back.
    fn give(self, stage: &Stage);

    /// Whether the victim changes what the lock guards; a reader does not, nor who has one of several permits.
    fn victim_changes(self) -> bool {
        true
    }

    /// The death is confirmed.
    fn buried(self, _stage: &Stage) {}
}

/// The places where a party is killed, with the form in which the battery strikes there.
pub(super) fn cases(lock: impl Lock) -> Vec<(&'static str, Form, Case)> {
    let dies = |place| case("rival", "lock", Dies { lock, place });
    vec![
        ("holding it", Form::Only(Point::at(0)), dies(Place::Holding)),
        ("waiting for it", Form::Asleep, dies(Place::Waiting)),
        ("anywhere in take, update, give", Form::UntilCaught, dies(Place::Anywhere)),
    ]
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Place {
    Holding,
    Waiting,
    Anywhere,
}

struct Dies<L> {
    lock: L,
    place: Place,
}

fn guarded(stage: &Stage) -> &'static [AtomicU32; 2] {
    stage.part(GUARDED_AT)
}

/// Not one atomic step, on purpose.
fn update(stage: &Stage) {
    guarded(stage).iter().for_each(|counter| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
}

impl<L: Lock> Scenario for Dies<L> {
    fn set(&self, stage: &Stage) {
        self.lock.make(stage);
    }

    fn companions(&self) -> &[Entrance] {
        let all = &[Entrance::BeforeVictim];
        &all[..usize::from(self.place == Place::Waiting)]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        self.lock.join(stage, Who::Holder);
        self.lock.take(stage, Who::Holder)?;
        stage.arrive(n + 1);
        stage.await_cue(1);
        update(stage);
        self.lock.give(stage);
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        self.lock.join(stage, Who::Victim);
        if self.place == Place::Holding {
            let _ = self.lock.take(stage, Who::Victim);
            guarded(stage)[0].fetch_add(u32::from(self.lock.victim_changes()), Ordering::SeqCst);
            return Box::new(|| ());
        }
        Box::new(move || {
            let _ = self.lock.take(stage, Who::Victim);
            if self.lock.victim_changes() {
                update(stage);
            }
            self.lock.give(stage);
        })
    }

    fn confirmed(&self, stage: &Stage) {
        self.lock.buried(stage);
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        self.lock.join(stage, Who::Survivor);
        let told = self.lock.take(stage, Who::Survivor)?;
        let [one, other] = guarded(stage).each_ref().map(|counter| counter.load(Ordering::SeqCst));
        expect(told || one == other, || format!("given as if nothing had happened, at {one} and {other}"))?;
        guarded(stage)[1].store(one, Ordering::SeqCst);
        self.lock.give(stage);
        Ok(if told { Verdict::Recovered } else { Verdict::Clean })
    }
}
