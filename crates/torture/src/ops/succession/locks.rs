//! A pair of halves under a lock. Who has it repairs what it is told of, changes both halves, and gives it back.

use std::mem;

use swath_sync::{LockError, Locked, LockedArray, Mutex, Party, RecursiveMutex, RwLock, Taken};

use super::super::props::{self, Pair};
use super::{AT, Ends, Heir, Heirloom};
use crate::scenario::{Finding, Verdict, expect};
use crate::stage::Stage;

/// Which lock it is.
#[derive(Copy, Clone)]
pub(super) enum Halves {
    Mutex,
    /// For writing.
    RwLock,
    Recursive,
    Array,
}

fn mutex(stage: &Stage) -> &'static Mutex<Pair> {
    props::object(stage, AT, 1)
}

fn rwlock(stage: &Stage) -> &'static RwLock<Pair> {
    props::object(stage, AT, 1)
}

fn recursive(stage: &Stage) -> &'static RecursiveMutex<Pair> {
    props::object(stage, AT, 1)
}

fn array(stage: &Stage) -> &'static LockedArray<u64> {
    props::object(stage, AT, 2)
}

impl Halves {
    /// Takes it, has `hand` do what it wants, told or not, and gives it back.
    fn hold(
        self,
        stage: &Stage,
        me: &Party,
        hand: impl FnOnce(&mut [u64], bool) -> Result<(), String>,
    ) -> Finding {
        let text = |error: LockError| error.to_string();
        let told = match self {
            Halves::Mutex => match mutex(stage).lock(me).map_err(text)? {
                Locked::Acquired(mut guard) => hand(&mut *guard, false).map(|()| false)?,
                Locked::Recovered(mut guard) => {
                    hand(&mut *guard, true)?;
                    drop(guard.repaired());
                    true
                }
            },
            Halves::RwLock => match rwlock(stage).write(me).map_err(text)? {
                Taken::Acquired(mut guard) => hand(&mut *guard, false).map(|()| false)?,
                Taken::Recovered(mut guard) => {
                    hand(&mut *guard, true)?;
                    drop(guard.repaired());
                    true
                }
            },
            Halves::Array => match array(stage).lock(me).map_err(text)? {
                Taken::Acquired(mut guard) => hand(&mut guard, false).map(|()| false)?,
                Taken::Recovered(mut guard) => {
                    hand(&mut guard, true)?;
                    drop(guard.repaired());
                    true
                }
            },
            Halves::Recursive => match recursive(stage).lock(me).map_err(text)? {
                Taken::Acquired(guard) => {
                    guard.with(|pair| hand(pair, false)).map_err(|error| error.to_string())??;
                    false
                }
                Taken::Recovered(recovered) => {
                    let hand = recovered.guard().with(|pair| hand(pair, true));
                    hand.map_err(|error| error.to_string())??;
                    drop(recovered.repaired());
                    true
                }
            },
        };
        Ok(if told { Verdict::Recovered } else { Verdict::Clean })
    }
}

impl Heirloom for Halves {
    fn make(&self, stage: &Stage) {
        if let Halves::Array = self {
            props::place(stage, AT, LockedArray::<u64>::zeros(2));
        }
    }

    /// Half of a change.
    fn leave(&self, stage: &Stage, me: &Party) {
        let left = self.hold(stage, me, |pair, _| {
            pair[0] += 1;
            std::process::exit(0)
        });
        mem::forget(left);
    }

    fn inherit(&self, stage: &Stage, me: &Party, _heir: Heir) -> Finding {
        self.hold(stage, me, |pair, told| {
            if told {
                pair.fill(pair[0].max(pair[1]));
            }
            expect(pair[0] == pair[1], || format!("as if whole, but the halves are {pair:?}"))?;
            change(pair);
            Ok(())
        })
    }

    fn check(&self, stage: &Stage, me: &Party, ends: Ends) -> Finding {
        let first = self.inherit(stage, me, Heir::Victim)?;
        ends.expect_told(first)?;
        // Whatever the first found, the second finds a lock like any other.
        let second = self.inherit(stage, me, Heir::Victim)?;
        expect(second == Verdict::Clean, || "recovered twice".to_owned())?;
        let deeds = ends.deeds();
        // The first one's change, which the repair completes, and two of the checker's.
        let expected = u64::from(3 + deeds.start())..=u64::from(3 + deeds.end());
        self.hold(stage, me, |pair, _| {
            let fits = pair[0] == pair[1] && expected.contains(&pair[0]);
            expect(fits, || format!("{pair:?}, and there were {expected:?} changes"))
        })?;
        Ok(first)
    }
}

/// Not to be made one store.
fn change(pair: &mut [u64]) {
    pair[0] += 1;
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    std::hint::black_box(&mut *pair);
    pair[1] += 1;
}
