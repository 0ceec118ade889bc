//! Every interleaving of the barrier's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{BarrierError, DeathCause, OwnedBarrier};

#[test]
fn no_wake_is_lost_in_two_rounds_and_each_has_one_leader() {
    explore(3, || {
        let world = World::new(2);
        let barrier = Arc::new(OwnedBarrier::new(&[world.id(0), world.id(1)]));
        let leaders = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let (barrier, leaders) = (barrier.clone(), leaders.clone());
            move || {
                without_slices(|| {
                    for _ in 0..2 {
                        if barrier.get().wait(&world.party(index), None).unwrap() {
                            leaders.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
        assert_eq!(leaders.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn three_parties_pass_together() {
    explore(2, || {
        let world = World::new(3);
        let barrier = Arc::new(OwnedBarrier::new(&[world.id(0), world.id(1), world.id(2)]));
        let came = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let (barrier, came) = (barrier.clone(), came.clone());
            move || {
                without_slices(|| {
                    came.fetch_add(1, Ordering::Relaxed);
                    barrier.get().wait(&world.party(index), None).unwrap();
                    assert_eq!(came.load(Ordering::Relaxed), 3);
                });
            }
        };
        let others = [1, 2].map(|index| thread::spawn(run(index)));
        run(0)();
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// The property that glibc's barrier does not have.
#[test]
fn a_death_at_any_step_breaks_it_or_comes_after_the_arrival() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let barrier = Arc::new(OwnedBarrier::new(&[world.id(0), world.id(1)]));
        let data = Arc::new(loom::cell::UnsafeCell::new(0));
        let dying = {
            let (barrier, data) = (barrier.clone(), data.clone());
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    // SAFETY: the other party reads it behind the barrier only.
                    data.with_mut(|data| unsafe { *data = 7 });
                    let _ = barrier.get().wait(&world.party(1), None);
                })
            })
        };
        match barrier.get().wait(&world.party(0), None) {
            // SAFETY: the writer has passed the barrier.
            Ok(_) => assert_eq!(data.with(|data| unsafe { *data }), 7),
            Err(BarrierError::Broken { slot, .. }) => assert_eq!(slot, world.id(1)),
            Err(other) => panic!("{other}"),
        }
        let lived = dying.join().unwrap();
        if !lived {
            // The dead one does not come to the next round, so nobody passes that.
            let next = barrier.get().wait(&world.party(0), None);
            assert!(
                matches!(next, Err(BarrierError::Broken { slot, .. }) if slot == world.id(1)),
                "{next:?}"
            );
        }
    });
}

#[test]
fn two_survivors_are_told_the_same_death() {
    explore(2, || {
        let world = World::new(3);
        let barrier = Arc::new(OwnedBarrier::new(&[world.id(0), world.id(1), world.id(2)]));
        let run = |index| {
            let barrier = barrier.clone();
            move || barrier.get().wait(&world.party(index), None)
        };
        let other = thread::spawn(run(1));
        world.table.mark_dead(world.id(2), DeathCause::exit(3));
        let expected = BarrierError::Broken { slot: world.id(2), pid: 0, cause: DeathCause::exit(3) };
        assert_eq!((run(0)(), other.join().unwrap()), (Err(expected), Err(expected)));
    });
}

#[test]
fn an_abort_is_for_all_or_comes_too_late() {
    explore(3, || {
        let world = World::new(2);
        let barrier = Arc::new(OwnedBarrier::new(&[world.id(0), world.id(1)]));
        let other = {
            let barrier = barrier.clone();
            thread::spawn(move || {
                let mut result = Ok(false);
                without_slices(|| result = barrier.get().wait(&world.party(1), None));
                result
            })
        };
        barrier.get().abort();
        assert_eq!(barrier.get().wait(&world.party(0), None), Err(BarrierError::Aborted));
        assert_eq!(other.join().unwrap(), Err(BarrierError::Aborted));
    });
}
