//! A mutex that is taken again after a wait, from somebody who died after the notification.
//!
//! The first dies holding the mutex. The forerunner waits for one letter, the victim for two; each letter is given by a
//! companion that notifies and dies holding the mutex too, so that both waits end in a recovery.

use std::mem;

use swath_sync::{Condvar, Mutex, MutexGuard, Party};

use super::super::props::{self, Pair};
use super::{AT, Ends, Heir, Heirloom};
use crate::scenario::{Entrance, Finding, Verdict, expect};
use crate::stage::Stage;

const CONDVAR_AT: usize = AT + 256;
/// The halves of the pair are equal when it is whole.
const GIVERS: usize = 2;

pub(super) struct Letters;

fn mutex(stage: &Stage) -> &'static Mutex<Pair> {
    props::object(stage, AT, 1)
}

fn condvar(stage: &Stage) -> &'static Condvar {
    props::object(stage, CONDVAR_AT, 1)
}

fn repair(pair: &mut Pair) {
    *pair = [pair[0].max(pair[1]); 2];
}

fn lock(stage: &Stage, me: &Party) -> Result<MutexGuard<'static, Pair>, String> {
    let guard = mutex(stage).lock_or_repair(me, repair).map_err(|error| error.to_string())?;
    expect(guard[0] == guard[1], || format!("as if whole, but the halves are {:?}", *guard))?;
    Ok(guard)
}

/// Until so many letters were given.
fn wait(stage: &Stage, me: &Party, letters: u64) -> Result<(), String> {
    let mut guard = lock(stage, me)?;
    while guard[0] < letters {
        let woken = condvar(stage).wait(guard).map_err(|error| error.to_string())?;
        guard = woken.or_repair(|pair| repair(pair));
    }
    expect(guard[0] == guard[1], || format!("as if whole, but the halves are {:?}", *guard))
}

impl Heirloom for Letters {
    fn leave(&self, stage: &Stage, me: &Party) {
        mem::forget(lock(stage, me));
    }

    /// Each goes through two sleeps.
    fn short_points(&self) -> usize {
        150
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim; GIVERS]
    }

    /// One letter when somebody sleeps, the second when somebody sleeps again; half of a change each, and the mutex is kept.
    fn companion(&self, n: usize, stage: &Stage, me: &Party) -> Finding {
        stage.arrive(n + 1);
        stage.await_cue(n as u32 + 1);
        let mut guard = loop {
            let guard = lock(stage, me)?;
            if guard[0] == n as u64 {
                break guard;
            }
            drop(guard);
            std::thread::sleep(std::time::Duration::from_micros(100));
        };
        guard[0] += 1;
        condvar(stage).notify_all();
        mem::forget(guard);
        Ok(Verdict::Clean)
    }

    fn inherit(&self, stage: &Stage, me: &Party, heir: Heir) -> Finding {
        wait(stage, me, if heir == Heir::Forerunner { 1 } else { 2 })?;
        Ok(Verdict::Clean)
    }

    fn check(&self, stage: &Stage, me: &Party, _ends: Ends) -> Finding {
        (0..GIVERS).for_each(|_| stage.give_cue());
        wait(stage, me, GIVERS as u64)?;
        let whole = *lock(stage, me)?;
        expect(whole == [GIVERS as u64; 2], || format!("{whole:?} letters"))?;
        Ok(Verdict::Clean)
    }
}
