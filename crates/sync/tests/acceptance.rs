//! Rows of the catalogues of failures and of behaviour that must hold, each a test that has its name: what a user of any of
//! the locks may rely on. (Every instruction of the operations named here is killed at by `swath-torture steps`.)

#![cfg(not(loom))]

mod locks;
mod support;

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use locks::{Dead, Denied, Kind, all_locks, lock_of};
use support::*;
use swath_sync::{
    Barrier, BarrierError, BoundedSemaphore, Condvar, DeathCause, Event, LockError, LockedArray, Mutex,
    NoParty, Once, Party, Record, RecursiveMutex, ReleaseError, RwLock, Semaphore, SemaphoreError, SlotId,
    Taken, Value, Waited,
};

/// A child that holds the lock until killed.
fn holder(life: Life, lock: Kind) -> Child {
    let [held] = words();
    let child = fork(life, move |party| {
        lock.take(party).unwrap();
        raise(held);
        await_the_end();
    });
    until(|| raised(held));
    child
}

fn confirm(child: &mut Child) {
    child.bury();
}

#[test]
fn c33_lock_family_errors() {
    let _watchdog = Watchdog::new("c33_lock_family_errors");
    // Taken twice without waiting: refused, by somebody else and by oneself.
    for lock in all_locks() {
        let mut child = holder(Life::Watched, lock);
        assert_eq!(lock.try_take(&me()), Err(Denied::TimedOut(vec![child.pid])), "{lock:?}");
        // In time, and not before it.
        let begun = Instant::now();
        let late = lock.take_timeout(&me(), Duration::from_millis(70));
        assert_eq!(late, Err(Denied::TimedOut(vec![child.pid])), "{lock:?}");
        assert!(begun.elapsed() >= Duration::from_millis(70), "{lock:?}");
        confirm(&mut child);
        let _ = lock.take(&me()).unwrap();
        lock.give(&me());
    }
    // Released three times and once more; by who has it not; without being held.
    let recursive = lock_of(RecursiveMutex::new(0_u64));
    assert_eq!(recursive.release(&me()), Err(ReleaseError::NotLocked));
    (0..3).for_each(|_| recursive.lock(&me()).unwrap().acquired().unwrap().keep());
    fork(Life::Watched, |party| {
        assert!(matches!(recursive.release(party), Err(ReleaseError::NotOwner { .. })));
    })
    .join();
    let released = [(); 4].map(|()| recursive.release(&me()));
    assert_eq!(released, [Ok(()), Ok(()), Ok(()), Err(ReleaseError::NotLocked)]);
    // Over-released: an error, and the value unchanged.
    let bounded = lock_of(BoundedSemaphore::new(2));
    assert_eq!(bounded.release(&me()), Err(SemaphoreError::OverRelease { initial: 2 }));
    let semaphore = lock_of(Semaphore::new(2));
    assert_eq!(semaphore.release(&me()), Err(SemaphoreError::Full { capacity: 2 }));
    assert_eq!((bounded.available(&me()), semaphore.available(&me())), (2, 2));
}

/// The last clause of C33: a waiter that is killed is no one's business.
#[test]
fn c33_a_killed_waiter_does_not_affect_the_others() {
    let _watchdog = Watchdog::new("c33_a_killed_waiter_does_not_affect_the_others");
    for lock in all_locks() {
        lock.take(&me()).unwrap();
        let wait = |party: &Party| assert_eq!(lock.take(party), Ok(Dead(None)), "{lock:?}");
        let mut first = fork(Life::Watched, wait);
        until(|| first.state() == 'S');
        let second = fork(Life::Watched, |party| {
            wait(party);
            lock.give(party);
        });
        until(|| second.state() == 'S');
        first.kill();
        lock.give(&me());
        second.join();
    }
}

#[test]
fn c34_holder_dies() {
    let _watchdog = Watchdog::new("c34_holder_dies");
    for life in [Life::Watched, Life::Unwatched] {
        for lock in all_locks() {
            let mut child = holder(life, lock);
            // Who has it can be seen.
            let seen = format!("{lock:?}");
            assert!(lock.has_no_name_in_debug() || seen.contains(&child.id.index.to_string()), "{seen}");
            child.kill();
            if life == Life::Unwatched {
                child.mark_dead(DeathCause::killed_by(libc::SIGKILL));
            }
            // The next one is told, by pid, where there is something to repair.
            let told = lock.take(&me()).unwrap();
            assert_eq!(told, Dead(lock.tells().then_some(child.pid)), "{lock:?}");
            lock.give(&me());
            assert_eq!(lock.take(&me()), Ok(Dead(None)), "{lock:?}: told twice");
            lock.give(&me());
        }
    }
}

/// The rest of C34: unrepaired means poisoned, in the name of the dead, until somebody clears it.
#[test]
fn c34_what_nobody_repaired_is_not_recoverable() {
    let _watchdog = Watchdog::new("c34_what_nobody_repaired_is_not_recoverable");
    let mutex = lock_of(Mutex::new(0_u64));
    let rwlock = lock_of(RwLock::new(0_u64));
    let recursive = lock_of(RecursiveMutex::new(0_u64));
    let array = lock_of(LockedArray::<u8>::zeros(3));
    let [held] = words();
    let mut child = fork(Life::Watched, |party| {
        mem::forget((mutex.lock(party), rwlock.write(party), array.lock(party)));
        (0..3).for_each(|_| recursive.lock(party).unwrap().acquired().unwrap().keep());
        raise(held);
        await_the_end();
    });
    until(|| raised(held));
    child.kill();
    assert!(matches!(mutex.lock(&me()), Ok(Taken::Recovered(_))));
    assert!(matches!(rwlock.write(&me()), Ok(Taken::Recovered(_))));
    assert!(matches!(recursive.lock(&me()), Ok(Taken::Recovered(_))));
    assert!(matches!(array.lock(&me()), Ok(Taken::Recovered(_))));
    let by_the_dead = |error: LockError| {
        assert!(
            matches!(error, LockError::Poisoned { .. }) && error.to_string().contains(&child.pid.to_string())
        );
    };
    by_the_dead(mutex.lock(&me()).unwrap_err());
    by_the_dead(rwlock.read(&me()).map(|_| ()).unwrap_err());
    by_the_dead(recursive.lock(&me()).unwrap_err());
    by_the_dead(array.lock(&me()).unwrap_err());
    mutex.clear();
    rwlock.clear();
    recursive.clear();
    array.clear();
    assert!(mutex.lock(&me()).unwrap().acquired().is_some() && rwlock.read(&me()).is_ok());
    assert!(recursive.lock(&me()).unwrap().acquired().is_some() && array.get(&me(), 2) == Ok(0));
}

/// Five parties, this process the last of them.
fn five(plan: impl FnOnce(&[SlotId]) -> swath_sync::BarrierPlan) -> (&'static Barrier, [SlotId; 4]) {
    let others: [SlotId; 4] = std::array::from_fn(|_| table().reserve().unwrap());
    let all: Vec<_> = others.into_iter().chain([me().slot()]).collect();
    (lock_of(plan(&all)), others)
}

#[test]
fn c36_barrier() {
    let _watchdog = Watchdog::new("c36_barrier");
    // Exactly one leads, an action runs once per pass, and a thousand passes are in step.
    let (barrier, others) = five(Barrier::of);
    let [leaders, actions]: &[AtomicU32; 2] = words();
    let passes = |party: &Party| {
        for pass in 1..=1000 {
            if barrier.wait_with(party, || raise(actions)).unwrap() {
                raise(leaders);
            }
            assert_eq!(actions.load(Ordering::SeqCst), pass);
            barrier.wait(party).unwrap();
        }
    };
    let children = others.map(|id| fork_as(id, Life::Watched, passes));
    passes(&me());
    Child::join_all(children);
    assert_eq!((leaders.load(Ordering::SeqCst), actions.load(Ordering::SeqCst)), (1000, 1000));

    // An abort: all are told.
    let aborted =
        |party: &Party, barrier: &Barrier| assert_eq!(barrier.wait(party), Err(BarrierError::Aborted));
    let (barrier, others) = five(Barrier::of);
    let children = others.map(|id| fork_as(id, Life::Watched, |party| aborted(party, barrier)));
    until(|| barrier.missing() == [me().slot()]);
    barrier.abort();
    aborted(&me(), barrier);
    Child::join_all(children);

    // A reset: those inside are let go, and then all pass.
    let (barrier, others) = five(Barrier::of);
    let [sent_home] = words();
    let children = others.map(|id| {
        fork_as(id, Life::Watched, |party| {
            aborted(party, barrier);
            raise(sent_home);
            while barrier.wait(party) == Err(BarrierError::Aborted) {}
        })
    });
    until(|| barrier.missing() == [me().slot()]);
    let all: Vec<_> = others.into_iter().chain([me().slot()]).collect();
    barrier.reset(&all);
    barrier.wait(&me()).unwrap();
    Child::join_all(children);
    assert_eq!(sent_home.load(Ordering::SeqCst), 4);
}

#[test]
fn c36_barrier_timeouts() {
    let _watchdog = Watchdog::new("c36_barrier_timeouts");
    // One is late: all five are told, by the wait's own timeout and by the barrier's.
    let timed_out = |result| assert_eq!(result, Err(BarrierError::TimedOut));
    let (barrier, others) = five(Barrier::of);
    let children = others.map(|id| {
        fork_as(id, Life::Watched, |party| timed_out(barrier.wait_timeout(party, Duration::from_millis(100))))
    });
    Child::join_all(children);
    timed_out(barrier.wait(&me()));
    let (barrier, others) = five(|all| Barrier::of(all).timeout(Duration::from_millis(100)));
    let children = others.map(|id| fork_as(id, Life::Watched, |party| timed_out(barrier.wait(party))));
    Child::join_all(children);
    timed_out(barrier.wait(&me()));
}

#[test]
fn c36_barrier_with_a_killed_party() {
    let _watchdog = Watchdog::new("c36_barrier_with_a_killed_party");
    let (barrier, others) = five(Barrier::of);
    let mut children = others.map(|id| {
        fork_as(id, Life::Watched, |party| {
            let broken = barrier.wait(party);
            assert!(
                matches!(broken, Err(BarrierError::Broken { slot, .. }) if slot == others[2]),
                "{broken:?}"
            );
        })
    });
    until(|| barrier.missing() == [me().slot()]);
    let pid = children[2].pid;
    children[2].kill();
    let broken = barrier.wait(&me()).unwrap_err();
    assert!(broken.to_string().contains(&format!("pid {pid}")), "{broken}");
    for (index, child) in children.into_iter().enumerate() {
        if index != 2 {
            child.join();
        }
    }
}

/// Killed asleep in the lock, holding it, and on the way in and out of it: the next one always gets it.
#[test]
fn a7_killed_in_holding_or_leaving_each_kind_of_lock() {
    let _watchdog = Watchdog::new("a7_killed_in_holding_or_leaving_each_kind_of_lock");
    for lock in all_locks() {
        lock.take(&me()).unwrap();
        let mut asleep = fork(Life::Watched, |party| drop(lock.take(party)));
        until(|| asleep.state() == 'S');
        confirm(&mut asleep);
        lock.give(&me());
        assert_eq!(lock.take(&me()), Ok(Dead(None)), "{lock:?}: who slept had nothing");
        lock.give(&me());
        for kill in 0..20_u32 {
            let [rounds] = words();
            let mut busy = fork(Life::Watched, |party| {
                loop {
                    lock.take(party).unwrap();
                    lock.give(party);
                    raise(rounds);
                }
            });
            until(|| rounds.load(Ordering::SeqCst) > kill * 3);
            confirm(&mut busy);
            let told = lock.take(&me()).unwrap();
            assert!(told == Dead(None) || told == Dead(Some(busy.pid)), "{lock:?}: {told:?}");
            lock.give(&me());
        }
    }
}

/// The first sleeper is woken and dies before it acts on it.
#[test]
fn a8_a_woken_waiter_dies_before_it_acquires() {
    let _watchdog = Watchdog::new("a8_a_woken_waiter_dies_before_it_acquires");
    for lock in all_locks() {
        lock.take(&me()).unwrap();
        let mut first = fork(Life::Watched, |party| drop(lock.take(party)));
        until(|| first.state() == 'S');
        let second = fork(Life::Watched, |party| {
            lock.take(party).unwrap();
            lock.give(party);
        });
        until(|| second.state() == 'S');
        first.signal(libc::SIGSTOP);
        until(|| first.state() == 'T');
        lock.give(&me());
        first.kill();
        second.join();
    }
}

#[test]
fn a9_dead_reader_permit_holder_cond_waiter_and_barrier_party() {
    let _watchdog = Watchdog::new("a9_dead_reader_permit_holder_cond_waiter_and_barrier_party");
    let rwlock = lock_of(RwLock::new(0_u64));
    let semaphore = lock_of(Semaphore::new(3));
    let (mutex, condvar) = (lock_of(Mutex::new(0_u64)), lock_of(Condvar::new()));
    let id = table().reserve().unwrap();
    let barrier = lock_of(Barrier::of(&[me().slot(), id]));
    let [ready] = words();
    let mut reader = fork(Life::Watched, |party| {
        let _guard = rwlock.read(party).unwrap();
        let _permits = [semaphore.acquire(party).unwrap(), semaphore.acquire(party).unwrap()];
        raise(ready);
        await_the_end();
    });
    let mut waiter = fork(Life::Watched, |party| {
        let guard = mutex.lock(party).unwrap().acquired().unwrap();
        raise(ready);
        drop(condvar.wait_while(guard, |value| *value == 0));
    });
    let mut party = fork_as(id, Life::Watched, |party| {
        let _ = barrier.wait(party);
    });
    until(|| ready.load(Ordering::SeqCst) == 2 && barrier.missing() == [me().slot()]);
    until(|| waiter.state() == 'S' && mutex.try_lock(&me()).is_ok());
    for child in [&mut reader, &mut waiter, &mut party] {
        child.kill();
    }
    drop(rwlock.write(&me()).unwrap().acquired().expect("a reader changes nothing"));
    assert_eq!(semaphore.available(&me()), 3);
    *mutex.lock(&me()).unwrap().acquired().unwrap() = 1;
    condvar.notify_all();
    let broken = barrier.wait(&me());
    assert!(matches!(broken, Err(BarrierError::Broken { slot, pid, .. }) if slot == id && pid == party.pid));
}

/// A stopped holder keeps what it has, and who waits is told who that is.
#[test]
fn b2_a_stopped_holder_is_reported_by_name() {
    let _watchdog = Watchdog::new("b2_a_stopped_holder_is_reported_by_name");
    for lock in all_locks() {
        let child = holder(Life::Watched, lock);
        child.signal(libc::SIGSTOP);
        until(|| child.state() == 'T');
        let late = lock.take_timeout(&me(), Duration::from_millis(120));
        assert_eq!(late, Err(Denied::TimedOut(vec![child.pid])), "{lock:?}");
    }
}

#[test]
fn b6_deadlocks_and_relocks_are_errors_that_name_the_parties() {
    let _watchdog = Watchdog::new("b6_deadlocks_and_relocks_are_errors_that_name_the_parties");
    for lock in all_locks().into_iter().filter(|lock| lock.refuses_its_holder()) {
        lock.take(&me()).unwrap();
        assert_eq!(lock.take(&me()), Err(Denied::Relock), "{lock:?}");
        lock.give(&me());
    }
    // Each kind against the next one, which is of another kind.
    let locks: Vec<_> = all_locks().into_iter().filter(|lock| lock.has_one_holder()).collect();
    for (index, one) in locks.iter().enumerate() {
        let pair = [*one, locks[(index + 1) % locks.len()]];
        let ready: &[AtomicU32; 2] = words();
        let told: &[AtomicU32; 1] = words();
        let children = [0, 1].map(|mine| {
            let (pair, ready, told) = (pair, ready, told);
            fork(Life::Watched, move |party| {
                pair[mine].take(party).unwrap();
                raise(&ready[mine]);
                until(|| raised(&ready[1 - mine]));
                match pair[1 - mine].take(party) {
                    Ok(_) => pair[1 - mine].give(party), // the other one gave way
                    Err(Denied::Deadlock(parties)) => {
                        assert_eq!(parties.len(), 2);
                        assert_eq!(parties[0], std::process::id());
                        raise(&told[0]);
                    }
                    Err(other) => panic!("{other:?}"),
                }
                pair[mine].give(party);
            })
        });
        Child::join_all(children);
        assert!(raised(&told[0]), "{pair:?}: nobody was told");
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// A signal every millisecond that interrupts system calls.
fn interrupt_every_millisecond() {
    let every = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a handler that does nothing, without SA_RESTART; live locals.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
        assert_eq!(libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()), 0);
    }
}

/// No wait ends before its time, and none misses what it waits for.
#[test]
fn h3_interrupted_all_the_time() {
    let _watchdog = Watchdog::new("h3_interrupted_all_the_time");
    const WAIT: Duration = Duration::from_millis(130);
    let (mutex, condvar, event) =
        (lock_of(Mutex::new(0_u64)), lock_of(Condvar::new()), lock_of(Event::new()));
    let absent = table().reserve().unwrap();
    for lock in all_locks() {
        lock.take(&me()).unwrap();
        let [ready] = words();
        let waiter = fork(Life::Watched, |party| {
            interrupt_every_millisecond();
            let begun = Instant::now();
            assert!(matches!(lock.take_timeout(party, WAIT), Err(Denied::TimedOut(_))), "{lock:?}");
            assert!(begun.elapsed() >= WAIT, "{lock:?}: too early");
            raise(ready);
            lock.take(party).unwrap();
            lock.give(party);
        });
        until(|| raised(ready));
        lock.give(&me());
        waiter.join();
    }
    let id = table().reserve().unwrap();
    let barrier = lock_of(Barrier::of(&[id, absent]));
    fork_as(id, Life::Watched, |party| {
        interrupt_every_millisecond();
        let begun = Instant::now();
        let guard = mutex.lock(party).unwrap().acquired().unwrap();
        let (locked, waited) = condvar.wait_timeout_while(guard, WAIT, |value| *value == 0).unwrap();
        assert_eq!(waited, Waited::TimedOut);
        drop(locked);
        assert!(begun.elapsed() >= WAIT && !event.wait_timeout(WAIT) && begun.elapsed() >= 2 * WAIT);
        assert_eq!(barrier.wait_timeout(party, WAIT), Err(BarrierError::TimedOut));
        assert!(begun.elapsed() >= 3 * WAIT);
    })
    .join();
    declare_dead(absent, DeathCause::UNKNOWN);
}

/// Every wait is on the monotonic clock: a process that would die of asking for any other one does not.
#[test]
fn i1_the_wall_clock_does_not_matter() {
    let _watchdog = Watchdog::new("i1_the_wall_clock_does_not_matter");
    let (event, absent) = (lock_of(Event::new()), table().reserve().unwrap());
    let id = table().reserve().unwrap();
    let barrier = lock_of(Barrier::of(&[id, absent]));
    let locks = all_locks();
    for lock in &locks {
        lock.take(&me()).unwrap();
    }
    fork_as(id, Life::Watched, |party| {
        locks::die_of_waiting_by_the_wall_clock();
        for lock in &locks {
            let late = lock.take_timeout(party, Duration::from_millis(20));
            assert!(matches!(late, Err(Denied::TimedOut(_))), "{lock:?}");
        }
        assert!(!event.wait_timeout(Duration::from_millis(20)));
        assert_eq!(barrier.wait_timeout(party, Duration::from_millis(20)), Err(BarrierError::TimedOut));
    })
    .join();
    // The filter does bite.
    let mut proof = fork(Life::Watched, |_| {
        locks::die_of_waiting_by_the_wall_clock();
        locks::wait_by_the_wall_clock();
    });
    assert_eq!(proof.reap().signal(), Some(libc::SIGSYS));
    declare_dead(absent, DeathCause::UNKNOWN);
}

#[test]
fn i3_no_time_at_all_and_more_than_there_is() {
    let _watchdog = Watchdog::new("i3_no_time_at_all_and_more_than_there_is");
    let endless = [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_nanos(u64::MAX)];
    for lock in all_locks() {
        lock.take(&me()).unwrap();
        fork(Life::Watched, |party| {
            assert!(matches!(lock.take_timeout(party, Duration::ZERO), Err(Denied::TimedOut(_))), "{lock:?}");
        })
        .join();
        let waiters = endless.map(|timeout| {
            fork(Life::Watched, move |party| {
                lock.take_timeout(party, timeout).unwrap();
                lock.give(party);
            })
        });
        until(|| waiters.iter().all(|waiter| waiter.state() == 'S'));
        lock.give(&me());
        Child::join_all(waiters);
    }
}

/// The sequence words of each type, preset just before they wrap.
#[test]
fn i4_counters_wrap() {
    let _watchdog = Watchdog::new("i4_counters_wrap");
    fn first_word<T: ?Sized>(object: &T) -> &AtomicU32 {
        // SAFETY: each of the types begins with an atomic of 32 bits.
        unsafe { &*std::ptr::from_ref(object).cast() }
    }
    // The turn of an event has 30 bits.
    let event = lock_of(Event::new());
    first_word(event).store((1 << 30) - 3, Ordering::SeqCst);
    for _ in 0..6 {
        let waiter = fork(Life::Watched, |_| event.wait());
        until(|| waiter.state() == 'S');
        event.set();
        event.clear();
        waiter.join();
    }
    // The mark that a semaphore's waiters leave counts in 31 bits.
    let semaphore = lock_of(Semaphore::with(0, 4));
    first_word(semaphore).store(u32::MAX - 4, Ordering::SeqCst);
    for _ in 0..6 {
        let waiter = fork(Life::Watched, |party| semaphore.acquire(party).unwrap().consume());
        until(|| waiter.state() == 'S');
        semaphore.release(&me()).unwrap();
        waiter.join();
    }
    assert!(first_word(semaphore).load(Ordering::SeqCst) < 100);
    // The version of a record has 64 bits, and still.
    let record = lock_of(Record::new(0_u64));
    // SAFETY: the version lies behind the lock's 16 bytes.
    let version = unsafe { &*std::ptr::from_ref(record).cast::<AtomicU64>().add(2) };
    record.set(&me(), 1).unwrap();
    version.store(u64::MAX - 2, Ordering::SeqCst);
    for n in 0..6 {
        record.set(&me(), n).unwrap();
        assert_eq!(record.get(), n);
    }
    // Integers wrap at their own width.
    let value = lock_of(Value::new(u8::MAX));
    assert_eq!((value.fetch_add(2), value.load()), (u8::MAX, 1));
}

/// A copy of the process that is made behind our back is nobody: it can take nothing, and give nothing back.
#[test]
fn j1_the_host_forks_after_the_start() {
    let _watchdog = Watchdog::new("j1_the_host_forks_after_the_start");
    let mutex = lock_of(Mutex::new(1_u64));
    let rwlock = lock_of(RwLock::new(1_u64));
    let semaphore = lock_of(Semaphore::new(1));
    let recursive = lock_of(RecursiveMutex::new(1_u64));
    let me = me();
    let held = (mutex.lock(&me), rwlock.write(&me), semaphore.acquire(&me), recursive.lock(&me));
    // SAFETY: the child drops guards and makes system calls.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let nobody = matches!(Party::current(), Err(NoParty::Forked { .. }));
        drop(held);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!nobody)) };
    }
    let mut status = 0;
    // SAFETY: our own child, a live local.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the copy took itself for its parent");
    fork(Life::Watched, |party| {
        let found = mutex.try_lock(party);
        assert!(matches!(found, Err(LockError::TimedOut { .. })), "{found:?}");
        assert!(matches!(rwlock.try_read(party), Err(LockError::TimedOut { .. })));
        assert!(matches!(semaphore.try_acquire(party), Err(SemaphoreError::TimedOut { .. })));
        assert!(matches!(recursive.try_lock(party), Err(LockError::TimedOut { .. })));
    })
    .join();
    drop(held);
    fork(Life::Watched, |party| {
        assert!(mutex.try_lock(party).is_ok() && rwlock.try_write(party).is_ok());
        assert!(semaphore.try_acquire(party).is_ok() && recursive.try_lock(party).is_ok());
    })
    .join();
}

/// A child that a holder makes lives on when the holder dies: the locks are the holder's, and dead with it.
#[test]
fn j2_a_holder_forks_and_dies() {
    let _watchdog = Watchdog::new("j2_a_holder_forks_and_dies");
    for lock in all_locks() {
        let [held, grandchild]: &[AtomicU32; 2] = words();
        let mut child = fork(Life::Watched, |party| {
            lock.take(party).unwrap();
            // SAFETY: the child waits for its end.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                await_the_end();
            }
            grandchild.store(pid as u32, Ordering::SeqCst);
            raise(held);
            await_the_end();
        });
        until(|| raised(held));
        assert!(matches!(lock.try_take(&me()), Err(Denied::TimedOut(_))));
        child.kill();
        assert_eq!(lock.take(&me()), Ok(Dead(lock.tells().then_some(child.pid))), "{lock:?}");
        lock.give(&me());
        // SAFETY: nobody else's child: its parent is dead, and it waits for nothing but this.
        unsafe { libc::kill(grandchild.load(Ordering::SeqCst) as i32, libc::SIGKILL) };
    }
    let once = lock_of(Once::new());
    assert!(once.call_once(&me(), |_| ()).is_ok());
}
