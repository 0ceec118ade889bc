//! Thread numbers: as many as fit, and back when threads end. One test, because the numbers are the process's.

#![cfg(not(loom))]

mod support;

use std::sync::Barrier as StdBarrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use support::*;
use swath_sync::{NoParty, Party, THREADS_PER_SLOT_MAX};

#[test]
fn as_many_as_fit_and_back_when_threads_end() {
    let _watchdog = Watchdog::new("as_many_as_fit_and_back_when_threads_end");
    table(); // takes no number: it is unwatched
    for _ in 0..THREADS_PER_SLOT_MAX + 10 {
        thread::spawn(|| assert_eq!(me().slot().index, 0)).join().unwrap();
    }
    const TOO_MANY: usize = THREADS_PER_SLOT_MAX + 3;
    let refused = AtomicU32::new(0);
    let all_asked = StdBarrier::new(TOO_MANY);
    thread::scope(|scope| {
        for _ in 0..TOO_MANY {
            scope.spawn(|| {
                if Party::current().is_err_and(|error| error == NoParty::TooManyThreads) {
                    raise(&refused);
                }
                all_asked.wait();
            });
        }
    });
    assert_eq!(refused.load(Ordering::SeqCst), 3);
}
