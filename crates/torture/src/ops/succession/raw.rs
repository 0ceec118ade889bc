//! The locks behind raw_sync's traits, which count their dead.

use std::mem;
use std::sync::atomic::Ordering;

use swath_sync::Party;
use swath_sync::raw_sync::Timeout;

use super::super::raw_lock::{SOON, halves, lock_of, update};
use super::{Ends, Heir, Heirloom};
use crate::raw_memory::{Which, learn_own_name};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

/// What each heir does; the first died half-way through a change.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    /// Takes the mutex, repairs, changes.
    Lock,
    /// Reads under the readers-writer lock, for which the dead writer's lock has to be freed.
    Read,
}

impl Raw {
    fn which(self) -> Which {
        if self == Raw::Lock { Which::Mutex } else { Which::RwLock }
    }
}

impl Heirloom for Raw {
    fn leave(&self, stage: &Stage, _me: &Party) {
        mem::forget(lock_of(self.which(), stage).lock().map(mem::forget));
        halves(stage)[0].fetch_add(1, Ordering::SeqCst);
    }

    /// Each costs a look into `/proc`, and often a slice.
    fn short_points(&self) -> usize {
        40
    }

    fn prepare(&self) {
        learn_own_name();
    }

    fn inherit(&self, stage: &Stage, _me: &Party, _heir: Heir) -> Finding {
        if *self != Raw::Read {
            return update(self.which(), stage);
        }
        let lock = lock_of(self.which(), stage);
        while lock.try_rlock(Timeout::Val(SOON)).is_err() {}
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, _me: &Party, ends: Ends) -> Finding {
        let first = update(self.which(), stage)?;
        let second = update(self.which(), stage)?;
        expect(second == Verdict::Clean, || "recovered twice".to_owned())?;
        // Readers repair nothing.
        let deeds = if *self == Raw::Read { 0..=0 } else { ends.deeds() };
        if *self == Raw::Read || *ends.deeds().end() == 0 {
            expect(first == Verdict::Recovered, || "nobody was told of the first".to_owned())?;
        }
        let expected = u64::from(3 + deeds.start())..=u64::from(3 + deeds.end());
        let changes = halves(stage)[0].load(Ordering::SeqCst);
        expect(expected.contains(&changes), || format!("{changes} changes, not {expected:?}"))?;
        Ok(first)
    }
}
