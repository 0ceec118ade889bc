//! A barrier that is closed, because somebody came and nobody else did, and is opened again for another party.

use std::time::Duration;

use swath_sync::{Barrier, Party};

use super::super::props::{self, CHECKER, DEAD};
use super::{Ends, Heir, Heirloom};
use crate::scenario::{Finding, Moment, Verdict, expect};
use crate::stage::Stage;

pub(super) struct Closed;

impl Heirloom for Closed {
    fn make(&self, stage: &Stage) {
        props::place_barrier(stage, Barrier::of(&[CHECKER, DEAD, props::companion(0)]));
    }

    fn leave(&self, stage: &Stage, me: &Party) {
        let _ = props::barrier(stage).wait_timeout(me, Duration::from_millis(1));
    }

    fn inherit(&self, stage: &Stage, _me: &Party, _heir: Heir) -> Finding {
        props::barrier(stage).reset(&[CHECKER]);
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        let barrier = props::barrier(stage);
        let pass = || barrier.wait_timeout(me, Duration::from_millis(1));
        let opened =
            ends.victim == Moment::After || ends.victim == Moment::Before && ends.forerunner == Moment::After;
        let early = pass();
        expect(!opened || early.is_ok(), || format!("after a reset: {early:?}"))?;
        self.inherit(stage, me, Heir::Victim)?;
        for round in 0..2 {
            let passed = pass();
            expect(passed == Ok(true), || format!("round {round} after the last reset: {passed:?}"))?;
        }
        Ok(if early.is_ok() { Verdict::Clean } else { Verdict::Recovered })
    }
}
