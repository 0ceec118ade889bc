//! Whatever a stranger writes into an object, also while it is used: an error or a wrong value in that object, never a panic,
//! an access outside it, or a wait beyond the deadline.

#![cfg(not(loom))]

mod locks;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use locks::lock_of;
use support::*;
use swath_sync::{
    Barrier, BoundedSemaphore, Condvar, Event, InPlace, LockedArray, Mutex, Once, Party, Plan, Record,
    RecursiveMutex, RwLock, Semaphore, Value,
};

/// How long each object is written to by the stranger.
const SCRIBBLING: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_millis(2);

/// Another process writes to all words of the object, now values that mean something, now any.
fn scribble(words: &'static [AtomicU32], seed: u32) -> Child {
    fork(Life::Unwatched, move |party| {
        let owner = u32::from(party.slot().index) | u32::from(party.slot().generation) << 10;
        let mut random = seed;
        loop {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let word = &words[random as usize / 16 % words.len()];
            let value = match random % 8 {
                0 => 0,
                1 => 1 << 31,
                2 => 1 << 30,
                3 => owner,
                4 => owner | 3 << 30,
                5 => u32::MAX,
                6 => owner | 1 << 31,
                _ => random,
            };
            word.store(value, Ordering::SeqCst);
            if random.is_multiple_of(64) {
                std::thread::yield_now();
            }
        }
    })
}

/// Uses the object in another process while it is written to, and proves that both ran.
fn under_attack<P: Plan>(plan: P, seed: u32, use_it: impl Fn(&'static P::Object, &Party))
where
    P::Object: 'static,
{
    let bytes = P::Object::layout(plan.cells()).unwrap().size();
    let object = lock_of(plan);
    // SAFETY: the object's own bytes, which are words of atomics or values under them.
    let words =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(object).cast::<AtomicU32>(), bytes / 4) };
    let [laps] = support::words();
    let mut stranger = scribble(words, seed);
    let user = fork(Life::Unwatched, |party| {
        let end = Instant::now() + SCRIBBLING;
        while Instant::now() < end {
            use_it(object, party);
            raise(laps);
        }
    });
    user.join();
    assert!(laps.load(Ordering::SeqCst) > 0);
    stranger.kill();
}

#[test]
fn locks_survive_strangers() {
    let _watchdog = Watchdog::new("locks_survive_strangers");
    under_attack(Mutex::new([0_u64; 2]), 1, |lock, party| {
        drop(lock.lock_timeout(party, PATIENCE));
        lock.clear();
    });
    under_attack(RwLock::new([0_u64; 2]), 2, |lock, party| {
        drop(lock.read_timeout(party, PATIENCE));
        drop(lock.write_timeout(party, PATIENCE));
        lock.clear();
    });
    under_attack(RecursiveMutex::new(0_u64), 3, |lock, party| {
        if let Ok(outer) = lock.lock_timeout(party, PATIENCE) {
            drop(lock.try_lock(party));
            let _ = outer.acquired().map(|guard| guard.with(|value| *value = value.wrapping_add(1)));
        }
        let _ = lock.release(party);
        lock.clear();
    });
    under_attack(LockedArray::from_slice(&[0_u32; 9]), 4, |array, party| {
        drop(array.lock_timeout(party, PATIENCE));
        array.clear();
    });
    under_attack(Once::new(), 5, |once, party| {
        let _ = once.call_once_timeout(party, PATIENCE, |_| ());
        once.clear();
    });
}

#[test]
fn permits_conditions_and_values_survive_strangers() {
    let _watchdog = Watchdog::new("permits_conditions_and_values_survive_strangers");
    under_attack(Semaphore::with(1, 5), 6, |semaphore, party| {
        let permit = semaphore.acquire_timeout(party, PATIENCE);
        let _ = (semaphore.release(party), semaphore.available(party));
        drop(permit);
    });
    under_attack(BoundedSemaphore::new(3), 7, |semaphore, party| {
        if let Ok(permit) = semaphore.acquire_timeout(party, PATIENCE) {
            permit.keep();
        }
        let _ = semaphore.release(party);
    });
    let mutex = lock_of(Mutex::new(0_u64));
    under_attack(Condvar::new(), 8, |condvar, party| {
        let guard = mutex.lock(party).unwrap().acquired().unwrap();
        drop(condvar.wait_timeout(guard, PATIENCE));
        condvar.notify_one();
        condvar.notify_all();
    });
    under_attack(Event::new(), 9, |event, _| {
        event.wait_timeout(PATIENCE);
        event.set();
        event.clear();
    });
    under_attack(Record::new([0_u64; 3]), 10, |record, party| {
        let _ = (record.update_timeout(party, PATIENCE, |value| value[0] = 1), record.get());
    });
    under_attack(Value::new(false), 11, |value, _| {
        value.update(|seen| !seen);
    });
}

#[test]
fn barriers_survive_strangers() {
    let _watchdog = Watchdog::new("barriers_survive_strangers");
    for shrinks in [false, true] {
        let parties = [me().slot(), me().slot(), table().reserve().unwrap()];
        let plan = Barrier::of(&parties);
        under_attack(if shrinks { plan.shrink() } else { plan }, 12, |barrier, party| {
            let _ = (barrier.try_wait(party), barrier.wait_with_timeout(party, PATIENCE, || ()));
            let _ = (barrier.missing(), barrier.parties());
            barrier.reset(&[party.slot()]);
            let _ = barrier.wait_timeout(party, PATIENCE);
        });
        declare_dead(parties[2], swath_sync::DeathCause::UNKNOWN);
    }
}
