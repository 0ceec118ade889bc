//! Every interleaving of the once's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{Called, Once, Party};

struct Shared {
    once: Once,
    value: UnsafeCell<u32>,
}

// SAFETY: the value is written in the once and read after it, which is what the models are about.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { once: Once::new(), value: UnsafeCell::new(0) })
    }

    fn value(&self, party: &Party) -> (Called, u32) {
        // SAFETY: only one initialiser runs.
        let called = self.once.call_once(party, |_| self.value.with_mut(|value| unsafe { *value += 7 }));
        // SAFETY: it is done, and nobody writes any more.
        (called.unwrap(), self.value.with(|value| unsafe { *value }))
    }
}

#[test]
fn one_runs_it_and_all_see_what_it_did() {
    explore(3, || {
        let world = World::new(3);
        let shared = Shared::new();
        let run = |index| {
            let shared = shared.clone();
            move || {
                let mut found = None;
                without_slices(|| found = Some(shared.value(&world.party(index))));
                found.unwrap()
            }
        };
        let others = [1, 2].map(|index| thread::spawn(run(index)));
        let mut found = vec![run(0)()];
        found.extend(others.into_iter().map(|other| other.join().unwrap()));
        assert!(found.iter().all(|(_, value)| *value == 7));
        assert_eq!(found.iter().filter(|(called, _)| *called == Called::Ran).count(), 1);
    });
}

#[test]
fn a_death_at_any_step_leaves_it_to_the_next() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let shared = Shared::new();
        let dying = {
            let shared = shared.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let _ = shared.value(&world.party(1));
                })
            })
        };
        let (called, value) = shared.value(&world.party(0));
        let lived = dying.join().unwrap();
        match called {
            Called::Ran => assert_eq!(value, 7),
            Called::RanAgain { dead } => {
                assert!(!lived && dead.slot == world.id(1));
                assert!(value == 7 || value == 14); // what the dead one did is there
            }
            Called::AlreadyDone => assert_eq!(value, 7),
        }
        assert!(shared.once.is_done());
    });
}
