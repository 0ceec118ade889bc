//! The once between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use support::*;
use swath_sync::{Called, DeathCause, InPlace, LockError, Once, PoisonedBy};

fn once() -> &'static Once {
    // SAFETY: zeroed, aligned, never unmapped; all users are parties of the one table.
    unsafe { Once::at(shared_memory(size_of::<Once>()), 1) }
}

/// A child in the initialiser, until killed.
fn initialiser(life: Life, once: &'static Once) -> Child {
    let [running] = words();
    let child = fork(life, |party| {
        let _ = once.call_once(party, |_| {
            raise(running);
            await_the_end();
        });
    });
    until(|| raised(running));
    child
}

#[test]
fn of_many_processes_one_runs_it() {
    let _watchdog = Watchdog::new("of_many_processes_one_runs_it");
    let once = once();
    let [ran, begin] = words();
    let children = [0; 6].map(|_| {
        fork(Life::Watched, |party| {
            until(|| raised(begin));
            once.call_once(party, |dead| {
                assert_eq!(dead, None);
                raise(ran);
            })
            .unwrap();
            assert_eq!(ran.load(Ordering::SeqCst), 1);
        })
    });
    raise(begin);
    Child::join_all(children);
    assert!(once.is_done());
    assert_eq!(once.call_once(&me(), |_| panic!("again")), Ok(Called::AlreadyDone));
}

#[test]
fn after_a_death_the_next_one_runs_it_again_and_is_told() {
    let _watchdog = Watchdog::new("after_a_death_the_next_one_runs_it_again_and_is_told");
    for life in [Life::Watched, Life::Unwatched] {
        let once = once();
        let mut dying = initialiser(life, once);
        let (id, pid) = (dying.id, dying.pid);
        assert!(!once.is_done());
        let [ran]: &[AtomicU32; 1] = words();
        let waiter = fork(Life::Watched, |party| {
            let called = once.call_once(party, |dead| {
                assert_eq!(dead.map(|dead| (dead.slot, dead.pid)), Some((id, pid)));
                raise(ran);
            });
            assert!(matches!(called, Ok(Called::RanAgain { dead }) if dead.slot == id));
        });
        until(|| waiter.state() == 'S');
        dying.kill();
        if life == Life::Unwatched {
            dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        waiter.join();
        assert!(once.is_done() && raised(ran));
    }
}

#[test]
fn a_panic_in_it_is_named_until_it_is_cleared() {
    let _watchdog = Watchdog::new("a_panic_in_it_is_named_until_it_is_cleared");
    let once = once();
    let mut child = fork(Life::Watched, |party| {
        std::panic::set_hook(Box::new(|_| {}));
        let _ = once.call_once(party, |_| panic!("as a test"));
    });
    assert_eq!(child.reap(), DeathCause::exit(101));
    for _ in 0..2 {
        let found = once.call_once(&me(), |_| panic!("poisoned"));
        let Err(LockError::Poisoned { who: PoisonedBy::Panic(who) }) = found else { panic!("{found:?}") };
        assert_eq!((who.slot, who.pid), (child.id, child.pid));
    }
    once.clear();
    assert_eq!(once.call_once(&me(), |_| {}), Ok(Called::Ran));
    once.clear();
    assert!(once.is_done(), "a clear is for panics");
}

#[test]
fn who_waits_too_long_or_for_itself_is_told_so() {
    let _watchdog = Watchdog::new("who_waits_too_long_or_for_itself_is_told_so");
    let once = once();
    let child = initialiser(Life::Watched, once);
    let late = once.call_once_timeout(&me(), Duration::from_millis(70), |_| panic!("not ours"));
    assert!(matches!(late, Err(LockError::TimedOut { holder, .. }) if holder.pid == child.pid));
    assert!(matches!(once.try_call_once(&me(), |_| ()), Err(LockError::TimedOut { .. })));
    drop(child);
    let called = once.call_once(&me(), |dead| {
        assert!(dead.is_some());
        assert!(matches!(once.call_once(&me(), |_| ()), Err(LockError::Relock { .. })));
    });
    assert!(matches!(called, Ok(Called::RanAgain { .. })));
}
