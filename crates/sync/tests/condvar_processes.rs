//! The condition between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{Condvar, InPlace, LockError, Locked, Mutex, MutexGuard, Party, Waited};

type Shared = (&'static Mutex<u64>, &'static Condvar);

fn shared() -> Shared {
    let memory = shared_memory(4096);
    // SAFETY: zeroed, aligned, never unmapped; all users are parties of the one table.
    unsafe { (Mutex::at(memory), <Condvar as InPlace>::at(memory.add(256), 1)) }
}

fn word(condvar: &Condvar) -> &AtomicU32 {
    // SAFETY: the word is the first one, an atomic.
    unsafe { &*std::ptr::from_ref(condvar).cast() }
}

fn lock(mutex: &'static Mutex<u64>, party: &Party) -> MutexGuard<'static, u64> {
    mutex.lock_or_repair(party, |_| {}).unwrap()
}

/// Waits for a token and takes it.
fn take((mutex, condvar): Shared, party: &Party) {
    let mut guard = lock(mutex, party);
    while *guard == 0 {
        guard = condvar.wait_while(guard, |tokens| *tokens == 0).unwrap().or_repair(|_| {});
    }
    *guard -= 1;
}

fn give((mutex, condvar): Shared, party: &Party) {
    *lock(mutex, party) += 1;
    condvar.notify_one();
}

/// Asleep in the condition: it is marked, and the mutex is free.
fn asleep((mutex, condvar): Shared, child: &Child) -> bool {
    word(condvar).load(Ordering::SeqCst) & 1 != 0 && mutex.try_lock(&me()).is_ok() && child.state() == 'S'
}

#[test]
fn tokens_and_notifications_come_out_even() {
    let _watchdog = Watchdog::new("tokens_and_notifications_come_out_even");
    const TOKENS: u64 = 3_000;
    let shared = shared();
    let takers =
        [0, 1, 2].map(|_| fork(Life::Watched, |party| (0..TOKENS).for_each(|_| take(shared, party))));
    for _ in 0..3 * TOKENS {
        give(shared, &me());
    }
    Child::join_all(takers);
    assert_eq!(*lock(shared.0, &me()), 0);
}

/// Row A9: a dead waiter is no one's business.
#[test]
fn a_dead_waiter_holds_nobody_up() {
    let _watchdog = Watchdog::new("a_dead_waiter_holds_nobody_up");
    let shared = shared();
    let mut first = fork(Life::Watched, |party| take(shared, party));
    until(|| asleep(shared, &first));
    let second = fork(Life::Watched, |party| take(shared, party));
    until(|| asleep(shared, &second));
    first.kill();
    give(shared, &me());
    second.join();
    assert_eq!(*lock(shared.0, &me()), 0);
}

/// Row A8: the notification goes to the first sleeper, which dies before it acts on it.
#[test]
fn a_notified_waiter_that_dies_does_not_take_the_notification_with_it() {
    let _watchdog = Watchdog::new("a_notified_waiter_that_dies_does_not_take_the_notification_with_it");
    let shared = shared();
    let mut first = fork(Life::Watched, |party| take(shared, party));
    until(|| asleep(shared, &first));
    let second = fork(Life::Watched, |party| take(shared, party));
    until(|| asleep(shared, &second));
    first.signal(libc::SIGSTOP);
    until(|| first.state() == 'T');
    give(shared, &me());
    first.kill();
    second.join();
}

#[test]
fn a_holder_that_dies_is_reported_by_the_wait() {
    let _watchdog = Watchdog::new("a_holder_that_dies_is_reported_by_the_wait");
    let shared = shared();
    let [told] = words();
    let waiter = fork(Life::Watched, |party| {
        let guard = lock(shared.0, party);
        let Ok(Locked::Recovered(guard)) = shared.1.wait_while(guard, |tokens| *tokens == 0) else {
            panic!("the notifier died holding the mutex")
        };
        drop(guard.repaired());
        raise(told);
    });
    until(|| asleep(shared, &waiter));
    let mut dying = fork(Life::Watched, |party| {
        let mut guard = lock(shared.0, party);
        *guard = 1;
        shared.1.notify_all();
        raise(told);
        await_the_end();
    });
    until(|| raised(told));
    dying.kill();
    waiter.join();
}

#[test]
fn a_wait_that_nobody_ends_ends_at_its_deadline_and_not_before() {
    let _watchdog = Watchdog::new("a_wait_that_nobody_ends_ends_at_its_deadline_and_not_before");
    let shared = shared();
    for timeout in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(120)] {
        let begun = Instant::now();
        let guard = lock(shared.0, &me());
        let (locked, waited) = shared.1.wait_timeout_while(guard, timeout, |tokens| *tokens == 0).unwrap();
        assert_eq!((waited, *locked.acquired().unwrap()), (Waited::TimedOut, 0));
        assert!(begun.elapsed() >= timeout);
    }
    let guard = lock(shared.0, &me());
    let past = Instant::now();
    let (locked, waited) = shared.1.wait_deadline(guard, past).unwrap();
    assert_eq!(waited, Waited::TimedOut);
    drop(locked);
    // For ever, as far as the clock can say.
    let other = fork(Life::Watched, |party| {
        let guard = lock(shared.0, party);
        let (locked, waited) =
            shared.1.wait_timeout_while(guard, Duration::MAX, |tokens| *tokens == 0).unwrap();
        assert_eq!((waited, *locked.acquired().unwrap()), (Waited::Notified, 1));
    });
    until(|| asleep(shared, &other));
    give(shared, &me());
    other.join();
}

/// The relock after a wait is one like any other.
#[test]
fn a_wait_returns_poison() {
    let _watchdog = Watchdog::new("a_wait_returns_poison");
    let shared = shared();
    let waiter = fork(Life::Watched, |party| {
        let guard = lock(shared.0, party);
        assert!(matches!(shared.1.wait(guard), Err(LockError::Poisoned { .. })));
    });
    until(|| asleep(shared, &waiter));
    let poisoned = std::thread::spawn(move || {
        let _guard = lock(shared.0, &me());
        shared.1.notify_all();
        panic!("as a test");
    });
    assert!(poisoned.join().is_err());
    waiter.join();
}

/// Row I4: the sequence wraps.
#[test]
fn notifications_reach_their_waiter_across_the_wrap() {
    let _watchdog = Watchdog::new("notifications_reach_their_waiter_across_the_wrap");
    let shared = shared();
    word(shared.1).store(u32::MAX - 5, Ordering::SeqCst);
    let taker = fork(Life::Watched, |party| (0..20).for_each(|_| take(shared, party)));
    for _ in 0..20 {
        until(|| *lock(shared.0, &me()) == 0);
        give(shared, &me());
    }
    taker.join();
    assert!(word(shared.1).load(Ordering::SeqCst) < u32::MAX - 5);
}

/// Rows A8, A9 in bulk: takers and givers killed at random; every token that was given is taken or still there.
#[test]
fn giving_and_taking_goes_on_while_all_are_killed() {
    let _watchdog = Watchdog::new("giving_and_taking_goes_on_while_all_are_killed");
    const CHILDREN: usize = 4;
    let shared = shared();
    let done: &[AtomicU32; CHILDREN] = words();
    let work = |index: usize| {
        fork(if index.is_multiple_of(2) { Life::Unwatched } else { Life::Watched }, |party| {
            loop {
                if index < 2 {
                    give(shared, party)
                } else {
                    take(shared, party)
                }
                done[index].fetch_add(1, Ordering::SeqCst);
                while index < 2 && *lock(shared.0, party) > 10 {
                    std::thread::yield_now();
                }
            }
        })
    };
    let taken = || u64::from(done[2].load(Ordering::SeqCst) + done[3].load(Ordering::SeqCst));
    let mut children: [Child; CHILDREN] = [0, 1, 2, 3].map(work);
    for kill in 0..100_u64 {
        let index = (kill % 4) as usize;
        let reached = taken() + 1 + kill * 7 % 50;
        until(|| taken() >= reached);
        children[index].bury();
        children[index] = work(index);
    }
}
