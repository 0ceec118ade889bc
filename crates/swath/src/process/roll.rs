//! The processes that this one has started and that have not ended: who they are, and what becomes of them at its own end.

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use swath_platform::{process, signal};

use super::record::Record;
use crate::limits::{TERM_GRACE, UNKILLABLE_AFTER};
use crate::relay;

struct Roll {
    /// Whose children these are: a forked child has a copy of its parent's roll.
    starter: u32,
    children: Vec<Arc<Record>>,
}

static ROLL: Mutex<Roll> = Mutex::new(Roll { starter: 0, children: Vec::new() });

fn roll() -> MutexGuard<'static, Roll> {
    let mut roll = ROLL.lock().unwrap_or_else(PoisonError::into_inner);
    let own = process::getpid();
    if roll.starter != own {
        *roll = Roll { starter: own, children: Vec::new() };
    }
    roll
}

/// A process has been started.
pub(crate) fn enter(record: &Arc<Record>) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        process::at_exit(at_exit);
    });
    roll().children.push(record.clone());
}

/// It has ended, and all that was kept for it has been let go.
pub(crate) fn leave(record: &Arc<Record>) {
    roll().children.retain(|other| !Arc::ptr_eq(other, record));
}

/// Those that live. Takes the exit status of those that nobody else reaps.
pub(crate) fn living() -> Vec<Arc<Record>> {
    let children = roll().children.clone();
    let (ended, living): (Vec<_>, Vec<_>) = children.into_iter().partition(|record| record.end().is_some());
    ended.iter().for_each(leave);
    living
}

/// The end of the program: daemons are asked to end, then killed; all others are waited for.
pub(crate) extern "C" fn at_exit() {
    let daemons = || living().into_iter().filter(|record| record.about.daemon);
    daemons().for_each(|record| drop(record.signal(signal::TERM)));
    // Each of the others waits for its own children first.
    for record in living().iter().filter(|record| !record.about.daemon) {
        record.wait_exit(None);
    }
    await_all(TERM_GRACE);
    daemons().for_each(|record| drop(record.kill()));
    await_all(UNKILLABLE_AFTER);
    relay::last_drain();
}

/// Waits until all have ended, but not longer than `patience`.
fn await_all(patience: Duration) {
    let deadline = Instant::now() + patience;
    for record in living() {
        record.wait_exit(Some(deadline));
    }
}
