//! The mutex between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{DeathCause, LockError, Locked, Mutex, PoisonedBy};

const WAITERS: u32 = 1 << 31;

fn mutex<T: bytemuck::Pod>() -> &'static Mutex<T> {
    // SAFETY: zeroed, aligned, never unmapped; all users are parties of the one table.
    unsafe { Mutex::at(shared_memory(size_of::<Mutex<T>>())) }
}

/// The lock word, which is the mutex's first (see `layout.rs`).
fn word<T>(mutex: &Mutex<T>) -> &AtomicU32 {
    // SAFETY: the word is an atomic there.
    unsafe { &*std::ptr::from_ref(mutex).cast::<AtomicU32>() }
}

/// A child that holds `mutex` half-way through an update, until killed.
fn holder(life: Life, mutex: &'static Mutex<[u64; 2]>) -> Child {
    let [held] = words();
    let child = fork(life, |party| {
        let Locked::Acquired(mut guard) = mutex.lock(party).unwrap() else { panic!("nobody died") };
        guard[0] += 1;
        raise(held);
        await_the_end();
    });
    until(|| raised(held));
    child
}

#[test]
fn a_dead_holder_is_noticed_by_its_life_word_alone() {
    let _watchdog = Watchdog::new("a_dead_holder_is_noticed_by_its_life_word_alone");
    let mutex = mutex();
    let mut child = holder(Life::Watched, mutex);
    child.kill();
    // Nobody has told the table: only the kernel's mark does.
    let Locked::Recovered(guard) = mutex.lock(&me()).unwrap() else { panic!("the holder died") };
    assert_eq!((guard.dead().slot, guard.dead().pid), (child.id, child.pid));
    assert_eq!(*guard, [1, 0]);
    let mut guard = guard.repaired();
    guard[1] = 1;
    drop(guard);
    assert_eq!(*mutex.lock(&me()).unwrap().acquired().unwrap(), [1, 1]);
}

#[test]
fn a_waiter_asleep_gets_the_lock_of_a_holder_that_dies() {
    let _watchdog = Watchdog::new("a_waiter_asleep_gets_the_lock_of_a_holder_that_dies");
    for life in [Life::Watched, Life::Unwatched] {
        let mutex = mutex();
        let mut dying = holder(life, mutex);
        let waiter = fork(Life::Unwatched, |party| {
            let guard = mutex.lock_or_repair(party, |value| value[1] = value[0]).unwrap();
            assert_eq!(*guard, [1, 1]);
        });
        until(|| word(mutex).load(Ordering::SeqCst) & WAITERS != 0);
        until(|| waiter.state() == 'S');
        dying.kill();
        if life == Life::Unwatched {
            dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        waiter.join();
    }
}

#[test]
fn an_unwatched_holder_keeps_its_lock_until_its_exit_is_confirmed() {
    let _watchdog = Watchdog::new("an_unwatched_holder_keeps_its_lock_until_its_exit_is_confirmed");
    let mutex = mutex();
    let mut child = holder(Life::Unwatched, mutex);
    child.kill();
    let Err(LockError::TimedOut { holder, .. }) = mutex.try_lock(&me()) else { panic!("not confirmed") };
    assert_eq!(holder.slot, child.id);
    child.mark_dead(DeathCause::killed_by(libc::SIGKILL));
    assert!(matches!(mutex.try_lock(&me()), Ok(Locked::Recovered(_))));
}

#[test]
fn a_holder_whose_slot_has_a_new_tenant_is_dead() {
    let _watchdog = Watchdog::new("a_holder_whose_slot_has_a_new_tenant_is_dead");
    let mutex = mutex();
    let mut child = holder(Life::Unwatched, mutex);
    child.bury();
    table().release(child.id);
    let Locked::Recovered(guard) = mutex.lock(&me()).unwrap() else { panic!("the holder died") };
    assert_eq!(guard.dead().slot, child.id);
    drop(guard.repaired());
}

#[test]
fn a_stopped_holder_is_not_a_dead_one() {
    let _watchdog = Watchdog::new("a_stopped_holder_is_not_a_dead_one");
    let mutex = mutex();
    let child = holder(Life::Watched, mutex);
    child.signal(libc::SIGSTOP);
    until(|| child.state() == 'T');
    let error = mutex.lock_timeout(&me(), Duration::from_millis(120)).unwrap_err();
    let LockError::TimedOut { holder, held_for } = &error else { panic!("{error}") };
    assert_eq!((holder.slot, holder.pid), (child.id, child.pid));
    assert!(*held_for >= Duration::from_millis(100), "{held_for:?}");
    assert!(error.to_string().contains(&format!("pid {}", child.pid)), "{error}");
}

/// Row A8: the kernel wakes the first sleeper, which dies before it acts on it.
#[test]
fn a_woken_waiter_that_dies_does_not_take_the_wake_with_it() {
    let _watchdog = Watchdog::new("a_woken_waiter_that_dies_does_not_take_the_wake_with_it");
    let mutex = mutex::<[u64; 2]>();
    let guard = mutex.lock(&me()).unwrap();
    let wait = |party: &swath_sync::Party| drop(mutex.lock(party).unwrap());
    let mut first = fork(Life::Watched, wait);
    until(|| word(mutex).load(Ordering::SeqCst) & WAITERS != 0 && first.state() == 'S');
    let second = fork(Life::Watched, wait);
    first.signal(libc::SIGSTOP);
    until(|| first.state() == 'T' && second.state() == 'S');
    drop(guard);
    first.kill();
    second.join();
    assert!(matches!(mutex.lock(&me()), Ok(Locked::Acquired(_))));
}

/// Row A18: the second holder dies in the middle of the repair.
#[test]
fn a_death_during_the_repair_is_a_death_again() {
    let _watchdog = Watchdog::new("a_death_during_the_repair_is_a_death_again");
    let mutex = mutex();
    let mut first = holder(Life::Watched, mutex);
    first.kill();
    let [repairing] = words();
    let mut second = fork(Life::Watched, |party| {
        let Locked::Recovered(_guard) = mutex.lock(party).unwrap() else { panic!("the first one died") };
        raise(repairing);
        await_the_end();
    });
    until(|| raised(repairing));
    second.kill();
    let Locked::Recovered(guard) = mutex.lock(&me()).unwrap() else { panic!("the second one died") };
    assert_eq!(guard.dead().pid, second.pid);
}

#[test]
fn an_unrepaired_value_is_poisoned_in_the_name_of_the_dead() {
    let _watchdog = Watchdog::new("an_unrepaired_value_is_poisoned_in_the_name_of_the_dead");
    let mutex = mutex();
    let mut child = holder(Life::Watched, mutex);
    child.kill();
    drop(mutex.lock(&me()).unwrap());
    for _ in 0..2 {
        let Err(LockError::Poisoned { who: PoisonedBy::Death(dead) }) = mutex.lock(&me()) else {
            panic!("nobody repaired it")
        };
        assert_eq!((dead.slot, dead.pid), (child.id, child.pid));
    }
    mutex.clear();
    assert_eq!(*mutex.lock(&me()).unwrap().acquired().unwrap(), [1, 0]);
}

#[test]
fn two_processes_that_wait_for_each_other_are_told_so() {
    let _watchdog = Watchdog::new("two_processes_that_wait_for_each_other_are_told_so");
    let locks: [&Mutex<u64>; 2] = [mutex(), mutex()];
    let ready: &[AtomicU32; 2] = words();
    let ids = [table().reserve().unwrap(), table().reserve().unwrap()];
    let children = [0, 1].map(|mine| {
        let theirs = 1 - mine;
        fork_as(ids[mine], Life::Watched, move |party| {
            let own = locks[mine].lock(party).unwrap();
            raise(&ready[mine]);
            until(|| raised(&ready[theirs]));
            match locks[theirs].lock(party) {
                Ok(_) => {} // the other one gave way
                Err(LockError::Deadlock { parties }) => {
                    assert_eq!(
                        parties.iter().map(|party| party.slot).collect::<Vec<_>>(),
                        [ids[mine], ids[theirs]]
                    );
                }
                Err(other) => panic!("{other}"),
            }
            drop(own);
        })
    });
    Child::join_all(children);
    for lock in locks {
        assert!(lock.try_lock(&me()).unwrap().acquired().is_some());
    }
}

#[test]
fn a_long_chain_of_waiters_is_not_a_deadlock() {
    let _watchdog = Watchdog::new("a_long_chain_of_waiters_is_not_a_deadlock");
    let locks: [&Mutex<u64>; 4] = [mutex(), mutex(), mutex(), mutex()];
    let held: &[AtomicU32; 4] = words();
    let last = locks[0].lock(&me()).unwrap();
    let children = [1, 2, 3].map(|n| {
        fork(Life::Watched, move |party| {
            let own = locks[n].lock(party).unwrap();
            raise(&held[n]);
            // The lock before is taken by its holder first.
            until(|| n == 1 || raised(&held[n - 1]));
            drop(locks[n - 1].lock(party).unwrap());
            drop(own);
        })
    });
    // Eight slices: enough for everyone to publish, walk and walk again.
    let end = Instant::now() + Duration::from_millis(400);
    until(|| Instant::now() >= end);
    drop(last);
    Child::join_all(children);
}

/// Rows A2 to A7 in bulk: holders, waiters and leavers killed at random, 200 times.
#[test]
fn counting_goes_on_while_counters_are_killed() {
    let _watchdog = Watchdog::new("counting_goes_on_while_counters_are_killed");
    let mutex: &Mutex<[u64; 2]> = mutex();
    let laps = laps_under_kills(200, |party| {
        let mut guard = mutex.lock_or_repair(party, |value| value[1] = value[0]).unwrap();
        assert_eq!(guard[0], guard[1]);
        guard[0] += 1;
        guard[1] += 1;
    });
    let guard = mutex.lock_or_repair(&me(), |value| value[1] = value[0]).unwrap();
    assert_eq!(guard[0], guard[1]);
    assert!(laps.contains(&guard[0]), "{} of {laps:?}", guard[0]);
}
