//! Every interleaving of the condition's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{Condvar, Mutex, Party};

struct Shared {
    tokens: Mutex<u32>,
    changed: Condvar,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { tokens: Mutex::new(0), changed: Condvar::new() })
    }

    fn take(&self, party: &Party) {
        let mut guard = self.tokens.lock_or_repair(party, |_| {}).unwrap();
        loop {
            guard = self.changed.wait_while(guard, |tokens| *tokens == 0).unwrap().or_repair(|_| {});
            if *guard > 0 {
                *guard -= 1;
                return;
            }
        }
    }

    fn give(&self, party: &Party, notify: impl FnOnce(&Condvar)) {
        *self.tokens.lock_or_repair(party, |_| {}).unwrap() += 1;
        notify(&self.changed);
    }
}

#[test]
fn no_notification_of_one_is_lost() {
    explore(3, || {
        let world = World::new(2);
        let shared = Shared::new();
        let taker = {
            let shared = shared.clone();
            thread::spawn(move || without_slices(|| shared.take(&world.party(1))))
        };
        without_slices(|| shared.give(&world.party(0), Condvar::notify_one));
        taker.join().unwrap();
    });
}

/// The mark is taken away when nobody sleeps, beside a waiter that comes anew.
#[test]
fn no_notification_is_lost_when_the_same_waiter_comes_again() {
    explore(2, || {
        let world = World::new(2);
        let shared = Shared::new();
        let taker = {
            let shared = shared.clone();
            thread::spawn(move || {
                without_slices(|| {
                    shared.take(&world.party(1));
                    shared.take(&world.party(1));
                })
            })
        };
        without_slices(|| {
            shared.give(&world.party(0), Condvar::notify_one);
            shared.give(&world.party(0), Condvar::notify_one);
        });
        taker.join().unwrap();
    });
}

#[test]
fn a_notification_of_all_reaches_both() {
    explore(2, || {
        let world = World::new(3);
        let shared = Shared::new();
        let takers = [1, 2].map(|index| {
            let shared = shared.clone();
            thread::spawn(move || without_slices(|| shared.take(&world.party(index))))
        });
        without_slices(|| {
            *shared.tokens.lock_or_repair(&world.party(0), |_| {}).unwrap() += 2;
            shared.changed.notify_all();
        });
        takers.into_iter().for_each(|taker| taker.join().unwrap());
    });
}

#[test]
fn a_waiter_that_dies_at_any_step_holds_nobody_up() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let shared = Shared::new();
        let dying = {
            let shared = shared.clone();
            thread::spawn(move || mortal.live(world, 1, || shared.take(&world.party(1))))
        };
        shared.give(&world.party(0), Condvar::notify_one);
        let lived = dying.join().unwrap();
        let tokens = *shared.tokens.lock_or_repair(&world.party(0), |_| {}).unwrap();
        assert!(tokens == 0 || tokens == 1 && !lived);
        shared.give(&world.party(0), Condvar::notify_one);
        shared.take(&world.party(0));
    });
}

#[test]
fn a_notifier_that_dies_at_any_step_costs_a_slice_at_most() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let shared = Shared::new();
        let dying = {
            let shared = shared.clone();
            thread::spawn(move || {
                let lived = mortal.live(world, 1, || shared.give(&world.party(1), Condvar::notify_one));
                if !lived {
                    // It may have died before the notification: then nobody was notified, and somebody else must do it.
                    shared.give(&world.party(2), Condvar::notify_one);
                }
            })
        };
        shared.take(&world.party(0));
        dying.join().unwrap();
    });
}
