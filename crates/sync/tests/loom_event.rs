//! Every interleaving of the event's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::Event;
use swath_sync::atomics::without_slices;

#[test]
fn no_wake_is_lost_by_two_waiters() {
    explore(3, || {
        let event = Arc::new(Event::new());
        let waiters = [(); 2].map(|()| {
            let event = event.clone();
            thread::spawn(move || without_slices(|| event.wait()))
        });
        event.set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(event.is_set());
    });
}

#[test]
fn a_set_and_a_clear_pass_on_what_came_before() {
    explore(3, || {
        let event = Arc::new(Event::new());
        let data = Arc::new(loom::cell::UnsafeCell::new(0));
        let setter = {
            let (event, data) = (event.clone(), data.clone());
            thread::spawn(move || {
                // SAFETY: the reader waits for the event.
                data.with_mut(|data| unsafe { *data = 7 });
                event.set();
            })
        };
        without_slices(|| event.wait());
        // SAFETY: the writer has set the event.
        assert_eq!(data.with(|data| unsafe { *data }), 7);
        event.clear();
        assert!(!event.is_set());
        setter.join().unwrap();
    });
}

#[test]
fn a_setter_that_dies_at_any_step_has_set_it_or_not() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(1);
        let event = Arc::new(Event::new());
        let dying = {
            let event = event.clone();
            thread::spawn(move || {
                let lived = mortal.live(world, 0, || event.set());
                if !event.is_set() {
                    assert!(!lived);
                    event.set(); // somebody else's
                }
            })
        };
        event.wait();
        dying.join().unwrap();
        assert!(event.is_set());
    });
}
