//! Kills a coordinator before and after each of its system calls, from its first to its last.

mod calls;

use std::process::Command;

use swath_segment::{Segment, admin, set_initialised};

use crate::stage::{PROMISE, eventually, is_private, shm_names};
use calls::{End, follow, opened};

/// The scenario: a session from its beginning to its end, with one segment of each kind.
pub(crate) fn traced(_: &[String]) {
    set_initialised();
    let name = format!("traced-{}", std::process::id());
    let named = Segment::options().name(name).create(5000).unwrap();
    let unnamed = Segment::options().unnamed("scratch").create(5000).unwrap();
    drop(named);
    drop(unnamed);
}

pub(crate) fn killed_at_every_system_call() {
    if !is_private() {
        println!(
            "skipped: killed_at_every_system_call (no private /dev/shm: needs root and mount namespaces)"
        );
        return;
    }
    // The first stops belong to the loader and the runtime: nothing of ours exists yet.
    let mut stop = stops_before_the_session();
    let first = stop;
    while run(|_, count| stop != count) == End::Killed {
        // Nobody cleans up: before there is a guardian there are no names.
        let gone = eventually(PROMISE, || shm_names().is_empty());
        assert!(gone, "killed at stop {stop}: {:?}, {:?}", shm_names(), admin::list());
        stop += 1;
    }
    assert_eq!(shm_names().len(), 0, "an untouched run leaves nothing");
    println!("{} kills", stop - first);
    assert!(stop - first > 100);
}

fn stops_before_the_session() -> u32 {
    let mut before = 0;
    run(|tracee, count| {
        before = count;
        // Opens of /dev/shm begin with the reclaim of dead sessions.
        !opened(tracee).is_some_and(|path| path.starts_with("/dev/shm"))
    });
    assert!(eventually(PROMISE, || shm_names().is_empty()));
    before.saturating_sub(2)
}

/// Follows the scenario; `go_on(thread, stop)` is asked at every stop, counted from 1.
fn run(mut go_on: impl FnMut(libc::pid_t, u32) -> bool) -> End {
    let mut count = 0;
    follow(Command::new(std::env::current_exe().unwrap()).args(["scenario", "traced"]), |thread| {
        count += 1;
        go_on(thread, count)
    })
}
