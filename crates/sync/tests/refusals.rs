//! Every way to learn of a death has another one behind it: each refused, as an old kernel or a container's filter
//! does, and the locks still change hands.

#![cfg(not(loom))]

mod locks;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use locks::{Dead, Denied, Kind, all_locks, lock_of, refuse};
use support::*;
use swath_sync::{Barrier, BarrierError, Condvar, DeathCause, Liveness, Mutex, Once, Peers, RwLock, Witness};

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

fn killed() -> DeathCause {
    DeathCause::killed_by(libc::SIGKILL)
}

/// Whoever waits gets it from a holder that is killed while it does, and is told.
fn changes_hands(lock: Kind, mut dying: Child, waiter: Child, told: &AtomicU32, confirm: bool) {
    until(|| waiter.state() == 'S');
    dying.kill();
    if confirm {
        dying.mark_dead(killed());
    }
    waiter.join();
    let expected = if lock.tells() { dying.pid } else { u32::MAX };
    assert_eq!(told.load(Ordering::SeqCst), expected, "{lock:?}");
}

/// A child that waits for the lock when it has refused itself something, and says whom it took it from.
fn waiter(lock: Kind, told: &'static AtomicU32, refusal: impl FnOnce()) -> Child {
    fork(Life::Watched, move |party| {
        refusal();
        let Dead(dead) = lock.take(party).unwrap();
        told.store(dead.unwrap_or(u32::MAX), Ordering::SeqCst);
        lock.give(party);
    })
}

/// Without `futex_waitv` who waits sleeps on one word, and looks after each slice.
#[test]
fn without_waiting_for_several_words() {
    let _watchdog = Watchdog::new("without_waiting_for_several_words");
    for errno in [libc::ENOSYS, libc::EPERM] {
        for lock in all_locks() {
            let [told] = words();
            let dying = holder(Life::Watched, lock);
            let waiter = waiter(lock, told, move || refuse(&[libc::SYS_futex_waitv], errno));
            // Nobody has told the table: only the kernel's mark does.
            changes_hands(lock, dying, waiter, told, false);
        }
    }
    // A barrier's party, and who runs an initialiser.
    let [id, waiting] = [(); 2].map(|()| table().reserve().unwrap());
    let barrier = lock_of(Barrier::of(&[id, waiting]));
    let once = lock_of(Once::new());
    let [ready] = words();
    let mut dying = fork_as(id, Life::Watched, |party| {
        let _ = once.call_once(party, |_| {
            raise(ready);
            await_the_end();
        });
    });
    until(|| raised(ready));
    let survivor = fork_as(waiting, Life::Watched, |party| {
        refuse(&[libc::SYS_futex_waitv], libc::ENOSYS);
        assert!(once.call_once(party, |dead| assert!(dead.is_some())).is_ok());
        assert!(matches!(barrier.wait(party), Err(BarrierError::Broken { slot, .. }) if slot == id));
    });
    until(|| survivor.state() == 'S');
    dying.kill();
    survivor.join();
}

/// Without `set_robust_list` the kernel marks nothing: the confirmed exit tells.
#[test]
fn without_the_kernels_mark() {
    let _watchdog = Watchdog::new("without_the_kernels_mark");
    for lock in all_locks() {
        let [told, held] = words();
        let id = table().reserve().unwrap();
        // It enters unwatched, refuses itself the list, and asks for the mark all the same.
        let dying = fork_as(id, Life::Unwatched, |party| {
            refuse(&[libc::SYS_set_robust_list], libc::ENOSYS);
            let [word] = words();
            assert!(!swath_platform::life::arm(word) && !raised(word));
            lock.take(party).unwrap();
            raise(held);
            await_the_end();
        });
        until(|| raised(held));
        assert_eq!(table().life(id.index), 0, "unwatched");
        let waiter = waiter(lock, told, || ());
        changes_hands(lock, dying, waiter, told, true);
    }
}

/// How this process looks at the locks that parties hold while they live: a word says what it would find.
fn register_lock(answer: &'static AtomicU32) {
    let lock_is_free: Arc<dyn Fn(u16) -> Option<bool> + Send + Sync> =
        Arc::new(move |_| match answer.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(false),
            _ => Some(true),
        });
    // SAFETY: 1. one namespace; 2. the tests answer for children that they have reaped.
    unsafe { Peers { same_pids: true, lock_is_free }.register(table()) };
}

/// Nobody watches the party, and its peers ask the kernel: refused the pidfd, they look at its lock; refused that, they ask
/// for the pidfd; refused both, they wait to their deadline, and take nothing from the living.
#[test]
fn without_a_pidfd_or_without_a_lock_to_look_at() {
    let _watchdog = Watchdog::new("without_a_pidfd_or_without_a_lock_to_look_at");
    const CANNOT_TELL: u32 = 0;
    const HELD: u32 = 1;
    const FREE: u32 = 2;
    for (pidfd, lock_says) in [(false, FREE), (true, CANNOT_TELL), (true, HELD)] {
        for lock in all_locks() {
            let [told, answer] = words();
            answer.store(if pidfd { lock_says } else { HELD }, Ordering::SeqCst);
            let mut dying = holder(Life::Unwatched, lock);
            watched_by(dying.id, dying.pid, Witness::Pidfd);
            let waiter = waiter(lock, told, move || {
                register_lock(answer);
                if !pidfd {
                    refuse(&[libc::SYS_pidfd_open], libc::ENOSYS);
                }
            });
            until(|| waiter.state() == 'S');
            dying.kill();
            answer.store(lock_says, Ordering::SeqCst);
            waiter.join();
            // Who found it dead has freed its slot, so its pid is nobody's any more.
            let expected = if lock.tells() { 0 } else { u32::MAX };
            let found = told.load(Ordering::SeqCst);
            assert!(found == expected || found == dying.pid, "{lock:?}: {found}");
            assert_eq!(table().liveness(dying.id), Liveness::Gone);
        }
    }
    for lock in all_locks() {
        let [told, answer] = words();
        let mut child = holder(Life::Unwatched, lock);
        watched_by(child.id, child.pid, Witness::Pidfd);
        let patient = fork(Life::Watched, |party| {
            register_lock(answer);
            refuse(&[libc::SYS_pidfd_open], libc::EPERM);
            let late = lock.take_timeout(party, Duration::from_millis(120));
            assert!(matches!(late, Err(Denied::TimedOut(_))), "{lock:?}");
            raise(told);
            lock.take(party).unwrap();
        });
        until(|| raised(told));
        child.kill();
        child.mark_dead(killed());
        patient.join();
    }
}

/// All refused at the same time: what is left are slices and the service thread's word.
#[test]
fn with_nothing_but_slices_and_the_confirmed_exit() {
    let _watchdog = Watchdog::new("with_nothing_but_slices_and_the_confirmed_exit");
    let poor =
        || refuse(&[libc::SYS_futex_waitv, libc::SYS_set_robust_list, libc::SYS_pidfd_open], libc::ENOSYS);
    for lock in all_locks() {
        let [told] = words();
        let dying = holder(Life::Unwatched, lock);
        let waiter = waiter(lock, told, poor);
        changes_hands(lock, dying, waiter, told, true);
    }
    // A reader that dies, a condition that is notified.
    let rwlock = lock_of(RwLock::new(0_u64));
    let (mutex, condvar) = (lock_of(Mutex::new(0_u64)), lock_of(Condvar::new()));
    let [reading] = words();
    let mut reader = fork(Life::Unwatched, |party| {
        let _guard = rwlock.read(party).unwrap();
        raise(reading);
        await_the_end();
    });
    until(|| raised(reading));
    let survivor = fork(Life::Unwatched, |party| {
        poor();
        drop(rwlock.write(party).unwrap().acquired().unwrap());
        let guard = mutex.lock(party).unwrap().acquired().unwrap();
        drop(condvar.wait_while(guard, |value| *value == 0).unwrap());
    });
    until(|| survivor.state() == 'S');
    reader.kill();
    reader.mark_dead(killed());
    until(|| sequence(condvar).load(Ordering::SeqCst) & 1 != 0);
    *mutex.lock(&me()).unwrap().acquired().unwrap() = 1;
    condvar.notify_one();
    survivor.join();
}

/// The sequence word, with the waiters' mark.
fn sequence(condvar: &Condvar) -> &AtomicU32 {
    // SAFETY: the word is the first one, an atomic.
    unsafe { &*std::ptr::from_ref(condvar).cast() }
}
