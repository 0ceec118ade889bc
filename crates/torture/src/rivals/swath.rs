//! Our own lock, put through the same.

use std::cell::RefCell;

use swath_sync::{Locked, MutexGuard, Party};

use super::lock::{Lock, Who};
use crate::ops::props::{self, Pair};
use crate::stage::Stage;

thread_local! {
    /// What the calling process holds.
    static HELD: RefCell<Option<MutexGuard<'static, Pair>>> = const { RefCell::new(None) };
}

/// `swath_sync::Mutex`.
#[derive(Copy, Clone)]
pub(super) struct Mutex;

impl Lock for Mutex {
    fn make(self, stage: &Stage) {
        props::reserve_all(stage);
    }

    fn join(self, stage: &Stage, who: Who) {
        let id = match who {
            Who::Victim => props::VICTIM,
            Who::Holder => props::companion(0),
            Who::Survivor => props::CHECKER,
        };
        props::become_party(stage, id, true);
    }

    fn take(self, stage: &Stage, _who: Who) -> Result<bool, String> {
        let me = Party::current().map_err(|error| error.to_string())?;
        let (guard, told) = match props::lock(stage).lock(&me).map_err(|error| error.to_string())? {
            Locked::Acquired(guard) => (guard, false),
            Locked::Recovered(guard) => (guard.repaired(), true),
        };
        HELD.set(Some(guard));
        Ok(told)
    }

    fn give(self, _stage: &Stage) {
        drop(HELD.take());
    }

    fn buried(self, stage: &Stage) {
        props::confirm_death(stage, props::VICTIM);
    }
}
