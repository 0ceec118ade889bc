//! A toy semaphore of two permits and a toy readers' lock: who has a permit, or reads, stands by name in a cell, so that it can be
//! taken back when its owner is dead. The flaw is a number in the place of the names.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::roster::{CHECKER, Roster, VICTIM};
use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;
use crate::word;

const AT: usize = 4096;
const CELLS: usize = 2;
const SLICE: Duration = Duration::from_millis(10);

struct Permits {
    cells: &'static [AtomicU32; CELLS],
    /// The flaw: how many are taken, by nobody in particular.
    taken: &'static AtomicU32,
    roster: Roster,
    anonymous: bool,
}

impl Permits {
    fn of(stage: &Stage, anonymous: bool) -> Permits {
        Permits { cells: stage.part(AT), taken: stage.part(AT + 64), roster: Roster::of(stage), anonymous }
    }

    /// One permit; whether it was a dead one's.
    fn acquire(&self, me: u32) -> bool {
        loop {
            let count = self.taken.load(Ordering::SeqCst);
            if self.anonymous {
                let free = count < CELLS as u32;
                if free
                    && self
                        .taken
                        .compare_exchange(count, count + 1, Ordering::SeqCst, Ordering::SeqCst)
                        .is_ok()
                {
                    return false;
                }
            } else if let Some(dead) = self.cells.iter().find_map(|cell| self.take(cell, me)) {
                return dead;
            }
            word::wait(self.taken, count, Some(SLICE));
        }
    }

    fn take(&self, cell: &AtomicU32, me: u32) -> Option<bool> {
        let owner = cell.load(Ordering::SeqCst);
        let dead = owner != 0 && self.roster.is_dead(owner, 1);
        let taken = (owner == 0 || dead)
            && cell.compare_exchange(owner, me, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        taken.then_some(dead)
    }

    fn release(&self, me: u32) {
        if self.anonymous {
            self.taken.fetch_sub(1, Ordering::SeqCst);
        } else {
            let mine = self.cells.iter().find(|cell| cell.load(Ordering::SeqCst) == me);
            if let Some(cell) = mine {
                cell.store(0, Ordering::SeqCst);
            }
        }
        word::wake(self.taken, 1);
    }
}

/// The victim has a permit for a while; then somebody wants all there are, as a writer wants all readers gone.
struct Held {
    anonymous: bool,
}

impl Scenario for Held {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let permits = Permits::of(stage, self.anonymous);
        Box::new(move || {
            permits.acquire(VICTIM);
            permits.release(VICTIM);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let permits = Permits::of(stage, self.anonymous);
        permits.roster.mark_dead(VICTIM);
        let recovered = (0..CELLS).fold(false, |any, _| permits.acquire(CHECKER) | any);
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// A reader marks its own cell and looks at the writer's word; the writer waits for all cells to be empty, or dead.
struct Read {
    anonymous: bool,
}

impl Scenario for Read {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let readers = Permits::of(stage, self.anonymous);
        Box::new(move || {
            readers.acquire(VICTIM);
            readers.release(VICTIM);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let readers = Permits::of(stage, self.anonymous);
        readers.roster.mark_dead(VICTIM);
        let reads = |cell: &AtomicU32| {
            let owner = cell.load(Ordering::SeqCst);
            owner != 0 && !readers.roster.is_dead(owner, 1)
        };
        while readers.taken.load(Ordering::SeqCst) > 0 || readers.cells.iter().any(reads) {
            word::wait(readers.taken, readers.taken.load(Ordering::SeqCst), Some(SLICE));
        }
        let left = readers.cells.iter().any(|cell| cell.load(Ordering::SeqCst) != 0);
        Ok(if left { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    let anonymous = false;
    vec![
        case("toy semaphore", "permit held", Held { anonymous }),
        case("toy readers' lock", "reader in it", Read { anonymous }),
    ]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let anonymous = true;
    vec![
        Seed {
            bug: "semaphore: permits are a number (sem_t; CPython gh-88304)",
            sign: Sign::Hung,
            cases: vec![case("toy semaphore", "permit held", Held { anonymous })],
        },
        Seed {
            bug: "readers' lock: readers are a number (pthread_rwlock_t)",
            sign: Sign::Hung,
            cases: vec![case("toy readers' lock", "reader in it", Read { anonymous })],
        },
    ]
}
