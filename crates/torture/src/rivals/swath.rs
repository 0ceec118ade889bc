//! Our own locks, put through the same.

use std::any::Any;
use std::cell::RefCell;

use swath_sync::{Party, Semaphore as Permits, Taken};

use super::lock::{Lock, Who};
use crate::ops::props;
use crate::stage::Stage;

/// Where those lie that have no place on the stage of `steps`.
const AT: usize = 0xC_0000;

thread_local! {
    /// The guard that the calling process holds; its drop is the giving back.
    static HELD: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

fn hold(guard: impl Any) {
    HELD.set(Some(Box::new(guard)));
}

fn me() -> Result<Party, String> {
    Party::current().map_err(|error| error.to_string())
}

/// One of ours.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Ours {
    /// `swath_sync::Mutex`.
    Mutex,
    /// `swath_sync::RwLock`; the victim reads or writes, all others write.
    RwLock { victim_reads: bool },
    /// `swath_sync::Semaphore` with one permit: when its holder is dead, the permit is there again.
    Semaphore,
}

impl Lock for Ours {
    fn make(self, stage: &Stage) {
        props::reserve_all(stage);
        if self == Ours::Semaphore {
            props::place(stage, AT, Permits::new(1));
        }
    }

    fn join(self, stage: &Stage, who: Who) {
        let id = match who {
            Who::Victim => props::VICTIM,
            Who::Holder => props::companion(0),
            Who::Survivor => props::CHECKER,
        };
        props::become_party(stage, id, true);
    }

    fn take(self, stage: &Stage, who: Who) -> Result<bool, String> {
        let me = me()?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        match self {
            Ours::Mutex => match props::lock(stage).lock(&me).map_err(|error| text(&error))? {
                Taken::Acquired(guard) => hold(guard),
                Taken::Recovered(guard) => {
                    hold(guard.repaired());
                    return Ok(true);
                }
            },
            Ours::RwLock { victim_reads: true } if who == Who::Victim => {
                hold(rwlock(stage).read(&me).map_err(|error| text(&error))?);
            }
            Ours::RwLock { .. } => match rwlock(stage).write(&me).map_err(|error| text(&error))? {
                Taken::Acquired(mut guard) => {
                    // The lock counts stores to its own value.
                    *guard += 1;
                    hold(guard);
                }
                Taken::Recovered(guard) => {
                    hold(guard.repaired());
                    return Ok(true);
                }
            },
            Ours::Semaphore => {
                let semaphore: &'static Permits = props::object(stage, AT, 1);
                hold(semaphore.acquire(&me).map_err(|error| text(&error))?);
            }
        }
        Ok(false)
    }

    fn give(self, _stage: &Stage) {
        drop(HELD.take());
    }

    fn victim_changes(self) -> bool {
        !matches!(self, Ours::Semaphore | Ours::RwLock { victim_reads: true })
    }

    fn buried(self, stage: &Stage) {
        props::confirm_death(stage, props::VICTIM);
    }
}

fn rwlock(stage: &Stage) -> &'static swath_sync::RwLock<u64> {
    props::object(stage, AT, 1)
}
