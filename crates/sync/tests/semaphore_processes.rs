//! Semaphores between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use support::*;
use swath_sync::{BoundedSemaphore, DeathCause, InPlace, Party, Permit, Plan, Semaphore, SemaphoreError};

fn placed<P: Plan>(plan: P) -> &'static P::Object {
    let cells = plan.cells();
    let memory = shared_memory(P::Object::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, never unmapped, and nobody knows it yet.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

fn somebody_sleeps(semaphore: &Semaphore) -> bool {
    // SAFETY: the parked word is the first one, an atomic.
    let parked = unsafe { &*std::ptr::from_ref(semaphore).cast::<AtomicU32>() };
    parked.load(Ordering::SeqCst) & 1 != 0
}

/// A child that takes permits in some way until killed.
fn holder(life: Life, take: impl Fn(&Party)) -> Child {
    let [holding] = words();
    let child = fork(life, |party| {
        take(party);
        raise(holding);
        await_the_end();
    });
    until(|| raised(holding));
    child
}

#[test]
fn the_permits_of_the_dead_come_back_exactly() {
    let _watchdog = Watchdog::new("the_permits_of_the_dead_come_back_exactly");
    for life in [Life::Watched, Life::Unwatched] {
        let semaphore = placed(Semaphore::with(4, 8));
        let mut child = holder(life, |party| {
            mem::forget(semaphore.acquire(party).unwrap());
            semaphore.acquire(party).unwrap().keep();
            semaphore.acquire(party).unwrap().consume(); // this one is gone for good
        });
        assert_eq!(semaphore.available(&me()), 1);
        child.kill();
        if life == Life::Unwatched {
            child.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        assert_eq!(semaphore.available(&me()), 3);
        let permits: Vec<_> = (0..3).map(|_| semaphore.try_acquire(&me()).unwrap()).collect();
        assert!(semaphore.try_acquire(&me()).is_err());
        drop(permits);
        assert_eq!(semaphore.available(&me()), 3);
    }
}

#[test]
fn who_waits_gets_the_permit_of_a_holder_that_dies() {
    let _watchdog = Watchdog::new("who_waits_gets_the_permit_of_a_holder_that_dies");
    for life in [Life::Watched, Life::Unwatched] {
        let semaphore = placed(Semaphore::new(1));
        let mut dying = holder(life, |party| mem::forget(semaphore.acquire(party).unwrap()));
        let waiter = fork(Life::Watched, |party| drop(semaphore.acquire(party).unwrap()));
        until(|| somebody_sleeps(semaphore) && waiter.state() == 'S');
        dying.kill();
        if life == Life::Unwatched {
            dying.mark_dead(DeathCause::killed_by(libc::SIGKILL));
        }
        waiter.join();
        assert_eq!(semaphore.available(&me()), 1);
    }
}

/// Row A8: both sleepers are woken, the first one dies before it acts on it.
#[test]
fn a_woken_waiter_that_dies_does_not_take_the_wake_with_it() {
    let _watchdog = Watchdog::new("a_woken_waiter_that_dies_does_not_take_the_wake_with_it");
    let semaphore = placed(Semaphore::new(1));
    let permit = semaphore.acquire(&me()).unwrap();
    let wait = |party: &Party| drop(semaphore.acquire(party).unwrap());
    let mut first = fork(Life::Watched, wait);
    until(|| somebody_sleeps(semaphore) && first.state() == 'S');
    let second = fork(Life::Watched, wait);
    first.signal(libc::SIGSTOP);
    until(|| first.state() == 'T' && second.state() == 'S');
    drop(permit);
    first.bury();
    second.join();
    assert_eq!(semaphore.available(&me()), 1);
}

#[test]
fn who_waits_is_told_who_holds_them() {
    let _watchdog = Watchdog::new("who_waits_is_told_who_holds_them");
    let semaphore = placed(Semaphore::new(2));
    let children =
        [0, 1].map(|_| holder(Life::Watched, |party| mem::forget(semaphore.acquire(party).unwrap())));
    children[0].signal(libc::SIGSTOP);
    until(|| children[0].state() == 'T');
    let error = semaphore.acquire_timeout(&me(), Duration::from_millis(70)).unwrap_err();
    let text = error.to_string();
    let SemaphoreError::TimedOut { holders } = error else { panic!("{text}") };
    assert_eq!(holders.len(), 2);
    for child in &children {
        assert!(
            holders.iter().any(|holder| holder.pid == child.pid) && text.contains(&child.pid.to_string())
        );
    }
}

/// A signal by `release`, taken by `consume`: the semaphore as a counter of events.
#[test]
fn signals_between_processes_are_counted() {
    let _watchdog = Watchdog::new("signals_between_processes_are_counted");
    const SIGNALS: usize = 2_000;
    let semaphore = placed(Semaphore::with(0, 16));
    let waiter = fork(Life::Watched, |party| {
        for _ in 0..SIGNALS {
            semaphore.acquire(party).unwrap().consume();
        }
    });
    for _ in 0..SIGNALS {
        while semaphore.release(&me()) == Err(SemaphoreError::Full { capacity: 16 }) {
            std::thread::yield_now();
        }
    }
    waiter.join();
    assert_eq!(semaphore.available(&me()), 0);
}

#[test]
fn a_bounded_one_is_not_released_more_often_than_acquired() {
    let _watchdog = Watchdog::new("a_bounded_one_is_not_released_more_often_than_acquired");
    let semaphore = placed(BoundedSemaphore::new(2));
    let too_often = Err(SemaphoreError::OverRelease { initial: 2 });
    assert_eq!(semaphore.release(&me()), too_often);
    let guard = semaphore.acquire(&me()).unwrap();
    assert_eq!(semaphore.release(&me()), too_often, "a guard's permit is nobody else's to give");
    drop(guard);
    // What another process took and keeps can be given back here.
    fork(Life::Watched, |party| semaphore.acquire(party).unwrap().keep()).join();
    let child = holder(Life::Watched, |party| semaphore.acquire(party).unwrap().keep());
    assert_eq!(semaphore.available(&me()), 1);
    assert_eq!(semaphore.release(&me()), Ok(()));
    drop(child);
    semaphore.acquire(&me()).unwrap().consume();
    assert_eq!(semaphore.release(&me()), Ok(()));
    assert_eq!((semaphore.release(&me()), semaphore.available(&me())), (too_often, 2));
}

/// Rows A7, A9 in bulk: holders and waiters killed at random; never more inside than permits, and all come back.
#[test]
fn permits_are_exact_while_all_are_killed() {
    let _watchdog = Watchdog::new("permits_are_exact_while_all_are_killed");
    const CHILDREN: usize = 4;
    const PERMITS: usize = 2;
    let semaphore = placed(Semaphore::with(PERMITS, 8));
    let done: &[AtomicU32; CHILDREN] = words();
    let work = |index: usize| {
        fork(if index.is_multiple_of(2) { Life::Unwatched } else { Life::Watched }, |party| {
            loop {
                let permit = semaphore.acquire(party).unwrap();
                if done[index].fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                    permit.keep();
                    semaphore.release(party).unwrap();
                }
            }
        })
    };
    let total = || done.iter().map(|done| u64::from(done.load(Ordering::SeqCst))).sum::<u64>();
    let mut children: [Child; CHILDREN] = [0, 1, 2, 3].map(work);
    for kill in 0..150_u64 {
        let index = (kill % 4) as usize;
        let reached = total() + 1 + kill * 7 % 100;
        until(|| total() >= reached);
        children[index].bury();
        children[index] = work(index);
    }
    for child in &mut children {
        child.bury();
    }
    assert_eq!(semaphore.available(&me()), PERMITS);
    let permits: Vec<_> = (0..PERMITS).map(|_| semaphore.try_acquire(&me()).unwrap()).collect();
    assert!(semaphore.try_acquire(&me()).is_err());
    drop(permits);
}

#[derive(Copy, Clone, Debug)]
enum Deed {
    Acquire,
    Drop,
    Keep,
    Consume,
    Release,
}

/// The same as numbers: free permits, guards, kept ones, capacity.
#[derive(Debug)]
struct Model {
    free: usize,
    guards: usize,
    kept: usize,
    capacity: usize,
}

impl Model {
    /// Whether the deed succeeds.
    fn does(&mut self, deed: Deed) -> bool {
        let from = match deed {
            Deed::Acquire => &mut self.free,
            Deed::Drop | Deed::Keep | Deed::Consume => &mut self.guards,
            Deed::Release if self.kept > 0 => &mut self.kept,
            Deed::Release => {
                // A bounded one has as much room as it has permits, so what was consumed is what can come back.
                let room = self.free + self.guards + self.kept < self.capacity;
                self.free += usize::from(room);
                return room;
            }
        };
        if *from == 0 {
            return false;
        }
        *from -= 1;
        match deed {
            Deed::Acquire => self.guards += 1,
            Deed::Drop | Deed::Release => self.free += 1,
            Deed::Keep => self.kept += 1,
            Deed::Consume => {}
        }
        true
    }
}

fn run(
    deeds: &[Deed],
    mut model: Model,
    acquire: impl Fn() -> Option<Permit<'static>>,
    release: impl Fn() -> bool,
    available: impl Fn() -> usize,
) {
    let mut guards = Vec::new();
    for deed in deeds {
        let done = match deed {
            Deed::Acquire => acquire().map(|permit| guards.push(permit)).is_some(),
            Deed::Drop => guards.pop().map(drop).is_some(),
            Deed::Keep => guards.pop().map(Permit::keep).is_some(),
            Deed::Consume => guards.pop().map(Permit::consume).is_some(),
            Deed::Release => release(),
        };
        assert_eq!(done, model.does(*deed), "{deed:?} {model:?}");
        assert_eq!(available(), model.free, "{deed:?} {model:?}");
    }
}

proptest! {
    #[test]
    fn behaves_like_numbers(
        initial in 1..4_usize,
        more in 0..3_usize,
        bounded in any::<bool>(),
        deeds in prop::collection::vec(
            prop::sample::select(vec![Deed::Acquire, Deed::Drop, Deed::Keep, Deed::Consume, Deed::Release]),
            0..60,
        ),
    ) {
        let me = me();
        let capacity = if bounded { initial } else { initial + more };
        let model = Model { free: initial, guards: 0, kept: 0, capacity };
        if bounded {
            let semaphore = placed(BoundedSemaphore::new(initial));
            run(&deeds, model, || semaphore.try_acquire(&me).ok(), || semaphore.release(&me).is_ok(), || semaphore.available(&me));
        } else {
            let semaphore = placed(Semaphore::with(initial, capacity));
            run(&deeds, model, || semaphore.try_acquire(&me).ok(), || semaphore.release(&me).is_ok(), || semaphore.available(&me));
        }
    }
}
