//! Our locks behind raw_sync's traits: the holder is killed, and the others go on.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use swath_sync::raw_sync::Timeout;
use swath_sync::raw_sync::locks::*;

/// A lock and the value behind it, in memory that children share.
struct Place(*mut u8);

impl Place {
    fn new<L: LockInit>() -> (Place, Box<dyn LockImpl>) {
        let place = Place(shared_memory(4096));
        // SAFETY: room for the lock before byte 64, for the value behind it; mapped for ever.
        let (lock, used) = unsafe { L::new(place.0, place.value().cast()) }.unwrap();
        assert!(used <= 64 && used == L::size_of(Some(place.0)));
        (place, lock)
    }

    fn value(&self) -> *mut u64 {
        self.0.wrapping_add(64).cast()
    }

    fn attach<L: LockInit>(&self) -> Box<dyn LockImpl> {
        // SAFETY: as in `new`.
        unsafe { L::from_existing(self.0, self.value().cast()) }.unwrap().0
    }
}

fn add(lock: &dyn LockImpl, times: u64) {
    for _ in 0..times {
        let guard = lock.lock().unwrap();
        // SAFETY: the value of the lock that is held.
        unsafe {
            let value: *mut u64 = (*guard).cast();
            value.write_volatile(value.read_volatile() + 1);
        }
    }
}

fn recovered(lock: &dyn LockImpl) -> u32 {
    // SAFETY: the test's own lock, mapped.
    unsafe { recoveries(lock.as_raw()) }
}

fn counts_across_processes_and_threads<L: LockInit>(test: &'static str) {
    let _watchdog = Watchdog::new(test);
    let (place, lock) = Place::new::<L>();
    let children: Vec<_> =
        (0..2).map(|_| fork(Life::Unwatched, |_| add(&*place.attach::<L>(), 20_000))).collect();
    let base = place.0 as usize;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || add(&*Place(base as *mut u8).attach::<L>(), 20_000));
        }
    });
    Child::join_all(children);
    let _guard = lock.lock().unwrap();
    // SAFETY: nobody else is left.
    assert_eq!(unsafe { place.value().read() }, 80_000);
    assert_eq!(recovered(&*lock), 0);
}

#[test]
fn a_mutex_counts_across_processes_and_threads() {
    counts_across_processes_and_threads::<Mutex>("a_mutex_counts_across_processes_and_threads");
}

#[test]
fn a_rwlock_counts_across_processes_and_threads() {
    counts_across_processes_and_threads::<RwLock>("a_rwlock_counts_across_processes_and_threads");
}

/// A child that takes the lock as `take` does, says so, and waits for its death.
fn holder(flag: &AtomicU32, take: impl FnOnce()) -> Child {
    let child = fork(Life::Unwatched, |_| {
        take();
        raise(flag);
        loop {
            thread::park();
        }
    });
    until(|| flag.load(Ordering::SeqCst) != 0);
    child
}

#[test]
fn a_killed_holder_is_recovered_from_and_counted() {
    let _watchdog = Watchdog::new("a_killed_holder_is_recovered_from_and_counted");
    let (place, lock) = Place::new::<Mutex>();
    let [first, _] = words::<2>();
    let mut child = holder(first, || std::mem::forget(place.attach::<Mutex>().lock().map(std::mem::forget)));
    let refused = lock.try_lock(Timeout::Val(Duration::from_millis(1)));
    assert!(refused.err().unwrap().to_string().contains(&child.pid.to_string()), "it says who holds it");
    child.kill();
    drop(lock.lock().unwrap());
    assert_eq!(recovered(&*lock), 1);
    drop(lock.try_lock(Timeout::Val(Duration::ZERO)).unwrap());
    assert_eq!(recovered(&*lock), 1);
}

#[test]
fn a_stopped_holder_keeps_its_lock() {
    let _watchdog = Watchdog::new("a_stopped_holder_keeps_its_lock");
    let (place, lock) = Place::new::<Mutex>();
    let [first, _] = words::<2>();
    let mut child = holder(first, || std::mem::forget(place.attach::<Mutex>().lock().map(std::mem::forget)));
    child.signal(libc::SIGSTOP);
    until(|| child.state() == 'T');
    let begun = Instant::now();
    assert!(lock.try_lock(Timeout::Val(Duration::from_millis(120))).is_err());
    assert!(begun.elapsed() >= Duration::from_millis(120));
    child.kill();
    drop(lock.lock().unwrap());
}

#[test]
fn killed_readers_and_writers_of_a_rwlock_are_recovered_from() {
    let _watchdog = Watchdog::new("killed_readers_and_writers_of_a_rwlock_are_recovered_from");
    let (place, lock) = Place::new::<RwLock>();
    let [reading, writing] = words::<2>();
    let mut reader =
        holder(reading, || std::mem::forget(place.attach::<RwLock>().rlock().map(std::mem::forget)));
    let beside = lock.rlock().unwrap();
    assert!(lock.try_lock(Timeout::Val(Duration::ZERO)).is_err(), "two read");
    drop(beside);
    reader.kill();
    drop(lock.lock().unwrap());
    assert_eq!(recovered(&*lock), 0, "a reader changes nothing");
    let mut writer =
        holder(writing, || std::mem::forget(place.attach::<RwLock>().lock().map(std::mem::forget)));
    assert!(lock.try_rlock(Timeout::Val(Duration::ZERO)).is_err(), "one writes");
    writer.kill();
    drop(lock.rlock().unwrap());
    assert_eq!(recovered(&*lock), 1);
    drop(lock.lock().unwrap());
}

#[test]
fn more_readers_than_cells_take_turns() {
    let _watchdog = Watchdog::new("more_readers_than_cells_take_turns");
    let (place, lock) = Place::new::<RwLock>();
    let base = place.0 as usize;
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let lock = Place(base as *mut u8).attach::<RwLock>();
                for _ in 0..500 {
                    drop(lock.rlock().unwrap());
                }
            });
        }
    });
    drop(lock.lock().unwrap());
}

#[test]
fn misuse_is_an_error_and_any_timeout_is_possible() {
    let (_place, mutex) = Place::new::<Mutex>();
    assert!(mutex.release().is_err(), "nobody holds it");
    let guard = mutex.try_lock(Timeout::Val(Duration::MAX)).unwrap();
    assert!(mutex.lock().err().unwrap().to_string().contains("already"));
    thread::scope(|scope| {
        let other = Words(std::ptr::from_ref(&*mutex));
        scope.spawn(move || assert!(other.get().release().is_err(), "another thread holds it"));
    });
    drop(guard);
    let (_place, lock) = Place::new::<RwLock>();
    let reading = lock.rlock().unwrap();
    assert!(lock.lock().err().unwrap().to_string().contains("reads it"));
    drop(reading);
    let writing = lock.lock().unwrap();
    assert!(lock.rlock().is_err());
    drop(writing.into_read_guard());
    drop(lock.lock().unwrap());
}

/// raw_sync's trait objects are not `Send`; these are, for the length of a scope.
struct Words(*const dyn LockImpl);

// SAFETY: our locks are a reference to atomics and a pointer that this test does not follow.
unsafe impl Send for Words {}

impl Words {
    fn get(&self) -> &dyn LockImpl {
        // SAFETY: the scope ends before the lock.
        unsafe { &*self.0 }
    }
}
