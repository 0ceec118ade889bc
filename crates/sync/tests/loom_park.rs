//! Every interleaving of the parked wait and its wake, with and without a death of the waker at each step.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::{AtomicU32, Ordering};
use swath_sync::{SLICE, spin_then_park, wake_parked};

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
