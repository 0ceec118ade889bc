//! Every interleaving of the parked wait and its wake, with and without a death of the waker at each step.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::{AtomicU32, Ordering};
use swath_sync::{SLICE, spin_then_park, wake_one_parked, wake_parked};

struct Words {
    word: AtomicU32,
    parked: AtomicU32,
}

fn words() -> Arc<Words> {
    Arc::new(Words { word: AtomicU32::new(0), parked: AtomicU32::new(0) })
}

impl Words {
    fn reached(&self, value: u32) -> bool {
        self.word.load(Ordering::Acquire) >= value
    }

    fn post(&self, value: u32) {
        self.word.store(value, Ordering::Release);
        wake_parked(&self.word, &self.parked);
    }
}

/// The idle wait has no slice: a lost wake-up would be a deadlock here.
#[test]
fn no_wake_is_lost_by_an_idle_sleeper() {
    explore(3, || {
        let words = words();
        let waker = {
            let words = words.clone();
            thread::spawn(move || (1..=2).for_each(|value| words.post(value)))
        };
        for value in 1..=2 {
            assert!(spin_then_park(&words.word, &words.parked, || words.reached(value), None));
        }
        waker.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost_by_two_idle_sleepers() {
    explore(3, || {
        let words = words();
        let sleeper = {
            let words = words.clone();
            move || assert!(spin_then_park(&words.word, &words.parked, || words.reached(1), None))
        };
        let other = thread::spawn(sleeper.clone());
        let third = thread::spawn({
            let words = words.clone();
            move || words.post(1)
        });
        sleeper();
        other.join().unwrap();
        third.join().unwrap();
    });
}

/// Things to be taken, each by one of those who sleep; whoever brings one wakes one.
struct Counter {
    bell: AtomicU32,
    parked: AtomicU32,
    things: AtomicU32,
}

impl Counter {
    fn bring(&self) {
        self.things.fetch_add(1, Ordering::SeqCst);
        self.bell.fetch_add(1, Ordering::SeqCst);
        wake_one_parked(&self.parked);
    }

    fn take(&self) {
        loop {
            let heard = self.bell.load(Ordering::SeqCst);
            let seen = self.things.load(Ordering::SeqCst);
            if seen > 0 {
                if self.things.compare_exchange(seen, seen - 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return;
                }
                continue;
            }
            let rung = || self.bell.load(Ordering::SeqCst) != heard;
            assert!(spin_then_park(&self.bell, &self.parked, rung, None));
        }
    }
}

/// A sleeper is woken for each thing, or finds it: nobody sleeps on while something is there for it.
#[test]
fn one_wake_for_each_thing_is_enough() {
    for (takers, each) in [(1, 2), (2, 1)] {
        explore(3, move || {
            let counter = Arc::new(Counter {
                bell: AtomicU32::new(0),
                parked: AtomicU32::new(0),
                things: AtomicU32::new(0),
            });
            let taking: Vec<_> = (0..takers)
                .map(|_| {
                    let counter = counter.clone();
                    thread::spawn(move || (0..each).for_each(|_| counter.take()))
                })
                .collect();
            (0..takers * each).for_each(|_| counter.bring());
            taking.into_iter().for_each(|taker| taker.join().unwrap());
        });
    }
}

/// A wake for all that comes between wakes for one.
#[test]
fn a_wake_for_all_reaches_those_whom_a_wake_for_one_left_asleep() {
    explore(3, || {
        let words = words();
        let sleeper = {
            let words = words.clone();
            move || assert!(spin_then_park(&words.word, &words.parked, || words.reached(1), None))
        };
        let (one, two) = (thread::spawn(sleeper.clone()), thread::spawn(sleeper));
        words.word.store(1, Ordering::Release);
        wake_one_parked(&words.parked);
        wake_parked(&words.word, &words.parked);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_slice_gets_over_a_waker_that_dies_at_any_step() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(1);
        let words = words();
        let waker = {
            let words = words.clone();
            thread::spawn(move || mortal.live(world, 0, || words.post(1)))
        };
        let ready = spin_then_park(&words.word, &words.parked, || words.reached(1), Some(SLICE));
        let lived = waker.join().unwrap();
        assert!(ready || !lived || spin_then_park(&words.word, &words.parked, || words.reached(1), None));
    });
}
