//! Every interleaving of the semaphore's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{Semaphore, SemaphoreCell};

/// In a model's own memory, leaked: models are short.
fn semaphore<const N: usize>(initial: usize) -> &'static Semaphore {
    Box::leak(Semaphore::<[SemaphoreCell; N]>::for_model(initial))
}

#[test]
fn one_permit_is_one_at_a_time_and_no_wake_is_lost() {
    explore(3, || {
        let world = World::new(2);
        let semaphore = semaphore::<1>(1);
        let inside = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let inside = inside.clone();
            move || {
                without_slices(|| {
                    let permit = semaphore.acquire(&world.party(index)).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                })
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
        assert_eq!(semaphore.available(&world.party(0)), 1);
    });
}

#[test]
fn three_parties_share_two_permits() {
    explore(2, || {
        let world = World::new(3);
        let semaphore = semaphore::<2>(2);
        let run =
            move |index| move || without_slices(|| drop(semaphore.acquire(&world.party(index)).unwrap()));
        let others = [1, 2].map(|index| thread::spawn(run(index)));
        run(0)();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(semaphore.available(&world.party(0)), 2);
    });
}

#[test]
fn signals_are_neither_lost_nor_doubled() {
    explore(3, || {
        let world = World::new(2);
        let semaphore = semaphore::<2>(0);
        let waiter = thread::spawn(move || {
            without_slices(|| {
                for _ in 0..2 {
                    semaphore.acquire(&world.party(1)).unwrap().consume();
                }
            })
        });
        without_slices(|| {
            for _ in 0..2 {
                semaphore.release(&world.party(0)).unwrap();
            }
        });
        waiter.join().unwrap();
        assert_eq!(semaphore.available(&world.party(0)), 0);
    });
}

#[test]
fn a_death_at_any_step_gives_the_permit_back() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let semaphore = semaphore::<1>(1);
        let dying = thread::spawn(move || {
            mortal.live(world, 1, || drop(semaphore.acquire(&world.party(1)).unwrap()))
        });
        drop(semaphore.acquire(&world.party(0)).unwrap());
        dying.join().unwrap();
        assert_eq!(semaphore.available(&world.party(0)), 1);
        assert!(semaphore.release(&world.party(0)).is_err(), "a permit too many");
    });
}

/// Two survivors and one dead holder: one of them gets the permit first, and it stays one.
#[test]
fn a_dead_ones_permit_goes_to_one() {
    explore(3, || {
        let world = World::new(3);
        let semaphore = semaphore::<1>(1);
        semaphore.acquire(&world.party(2)).unwrap().keep();
        world.declare_dead(2, swath_sync::DeathCause::killed_by(9));
        let inside = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let inside = inside.clone();
            move || {
                let permit = semaphore.acquire(&world.party(index)).unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(permit);
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
        assert_eq!(semaphore.available(&world.party(0)), 1);
    });
}
