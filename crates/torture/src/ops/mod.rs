//! The operations of swath, one file per family.

mod barrier;
mod condvar;
mod event;
mod ledger;
mod letters;
mod list;
mod messages;
mod mutex;
mod once;
mod pipe;
mod post;
pub(crate) mod props;
mod queue;
mod raw_lock;
mod recursive;
mod ring;
mod rwlock;
mod segment;
mod semaphore;
mod slot;
mod succession;
mod value;
mod wait_any;

use crate::scenario::Case;

/// Every operation in every scenario, in the order of the report.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = mutex::cases();
    cases.extend(rwlock::cases());
    cases.extend(recursive::cases());
    cases.extend(raw_lock::cases());
    cases.extend(semaphore::cases());
    cases.extend(condvar::cases());
    cases.extend(once::cases());
    cases.extend(value::cases());
    cases.extend(barrier::cases());
    cases.extend(event::cases());
    cases.extend(queue::cases());
    cases.extend(ring::cases());
    cases.extend(messages::cases());
    cases.extend(pipe::cases());
    cases.extend(post::cases());
    cases.extend(wait_any::cases());
    cases.extend(list::cases());
    cases.extend(succession::cases());
    cases.extend(slot::cases());
    cases.extend(ledger::cases());
    cases.extend(segment::cases());
    cases
}

/// What is asked once per process and answered from memory afterwards: here, so that it is not asked in every victim.
pub(crate) fn warm_up() {
    swath_platform::life::self_test();
    letters::files();
}

/// A process that a victim started by executing ourselves (its guardian) does its work here and does not return.
pub(crate) fn become_helper_process() {
    let argv: Vec<_> = std::env::args_os().collect();
    if let Some(code) = swath_segment::guardian_entry(&argv) {
        std::process::exit(code);
    }
}
