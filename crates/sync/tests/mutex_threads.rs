//! The mutex between threads of one process, which are parties of one slot.

#![cfg(not(loom))]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier as StdBarrier;
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{LockError, Locked, Mutex, Party, PoisonedBy};

#[test]
fn threads_count_together() {
    let _watchdog = Watchdog::new("threads_count_together");
    const ROUNDS: u64 = 100_000;
    let total = Mutex::new(0_u64);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let me = me();
                for _ in 0..ROUNDS {
                    *total.lock(&me).unwrap().acquired().unwrap() += 1;
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 4 * ROUNDS);
}

#[test]
fn a_thread_that_locks_twice_is_told_so_and_a_sibling_waits() {
    let _watchdog = Watchdog::new("a_thread_that_locks_twice_is_told_so_and_a_sibling_waits");
    let mutex = Mutex::new(0_u64);
    let me = me();
    let guard = mutex.lock(&me).unwrap();
    assert!(matches!(mutex.lock(&me), Err(LockError::Relock { holder }) if holder.slot == me.slot()));
    assert!(matches!(mutex.try_lock(&me), Err(LockError::Relock { .. })));
    thread::scope(|scope| {
        scope.spawn(|| {
            let sibling = support::me();
            let busy = mutex.try_lock(&sibling).unwrap_err();
            assert!(matches!(busy, LockError::TimedOut { holder, .. } if holder.pid == std::process::id()));
            let past = mutex.lock_deadline(&sibling, Instant::now());
            assert!(matches!(past, Err(LockError::TimedOut { .. })));
            assert!(mutex.lock_timeout(&sibling, Duration::from_millis(60)).is_err());
        });
    });
    drop(guard);
    assert!(mutex.lock_timeout(&me, Duration::MAX).unwrap().acquired().is_some());
}

#[test]
fn a_panic_poisons_by_name_until_cleared() {
    let _watchdog = Watchdog::new("a_panic_poisons_by_name_until_cleared");
    let mutex = Mutex::new(1_u64);
    let me = me();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock(&me).unwrap();
        panic!("half-way");
    }));
    assert!(result.is_err());
    let error = mutex.lock(&me).unwrap_err();
    assert!(matches!(error, LockError::Poisoned { who: PoisonedBy::Panic(who) } if who.slot == me.slot()));
    assert!(error.to_string().contains("panicked holding it"), "{error}");
    mutex.clear();
    assert_eq!(mutex.poisoned(), None);
    assert!(matches!(mutex.lock(&me), Ok(Locked::Acquired(guard)) if *guard == 1));
}

#[test]
fn a_lock_taken_while_unwinding_is_not_poisoned_by_that() {
    let _watchdog = Watchdog::new("a_lock_taken_while_unwinding_is_not_poisoned_by_that");
    struct LocksInDrop<'a>(&'a Mutex<u64>, Party);
    impl Drop for LocksInDrop<'_> {
        fn drop(&mut self) {
            *self.0.lock(&self.1).unwrap().acquired().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(0_u64);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _locks = LocksInDrop(&mutex, me());
        panic!("elsewhere");
    }));
    assert!(result.is_err());
    assert_eq!(*mutex.lock(&me()).unwrap().acquired().unwrap(), 1);
}

#[test]
fn three_threads_in_a_ring_are_told_so() {
    let _watchdog = Watchdog::new("three_threads_in_a_ring_are_told_so");
    let locks = [Mutex::new(0_u64), Mutex::new(0), Mutex::new(0)];
    let all_hold = StdBarrier::new(3);
    let found: Vec<usize> = thread::scope(|scope| {
        let spawn = |n: usize| {
            let (locks, all_hold) = (&locks, &all_hold);
            scope.spawn(move || {
                let me = me();
                let _own = locks[n].lock(&me).unwrap();
                all_hold.wait();
                match locks[(n + 1) % 3].lock(&me) {
                    Ok(_) => 0,
                    Err(LockError::Deadlock { parties }) => parties.len(),
                    Err(other) => panic!("{other}"),
                }
            })
        };
        let threads: Vec<_> = (0..3).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.contains(&3) && found.iter().all(|parties| [0, 3].contains(parties)), "{found:?}");
}
