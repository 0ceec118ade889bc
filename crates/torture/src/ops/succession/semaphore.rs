//! The only permit of a semaphore.

use std::mem;

use swath_sync::{Party, Semaphore};

use super::super::props;
use super::{AT, Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

const CAPACITY: usize = 4;

pub(super) struct Permit;

fn semaphore(stage: &Stage) -> &'static Semaphore {
    props::object(stage, AT, CAPACITY)
}

impl Heirloom for Permit {
    fn make(&self, stage: &Stage) {
        props::place(stage, AT, Semaphore::with(1, CAPACITY));
    }

    fn leave(&self, stage: &Stage, me: &Party) {
        mem::forget(semaphore(stage).acquire(me));
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        drop(semaphore(stage).acquire(me).map_err(|error| error.to_string())?);
        Ok(Verdict::Clean)
    }

    /// It is there, and it is the only one.
    fn check(&self, stage: &Stage, me: &Party, _ends: Ends) -> Finding {
        let semaphore = semaphore(stage);
        let permit = semaphore.acquire(me).map_err(|error| error.to_string())?;
        expect(semaphore.try_acquire(me).is_err(), || "a permit too many".to_owned())?;
        drop(permit);
        expect(semaphore.available(me) == 1, || "it did not come back".to_owned())?;
        Ok(Verdict::Clean)
    }
}
