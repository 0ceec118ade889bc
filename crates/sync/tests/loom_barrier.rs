//! Every interleaving of the barrier's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{Barrier, BarrierCell, BarrierError, DeathCause, SlotId};

/// In a model's own memory, leaked: models are short.
fn barrier<const N: usize>(parties: [SlotId; N]) -> &'static Barrier {
    Box::leak(Barrier::<[BarrierCell; N]>::for_model(parties, false))
}

#[test]
fn no_wake_is_lost_in_two_rounds_and_each_has_one_leader() {
    explore(3, || {
        let world = World::new(2);
        let barrier = barrier([world.id(0), world.id(1)]);
        let leaders = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let leaders = leaders.clone();
            move || {
                without_slices(|| {
                    for _ in 0..2 {
                        if barrier.wait(&world.party(index)).unwrap() {
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
        let barrier = barrier([world.id(0), world.id(1), world.id(2)]);
        let came = Arc::new(AtomicU32::new(0));
        let run = |index| {
            let came = came.clone();
            move || {
                without_slices(|| {
                    came.fetch_add(1, Ordering::Relaxed);
                    barrier.wait(&world.party(index)).unwrap();
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
        let barrier = barrier([world.id(0), world.id(1)]);
        let data = Arc::new(loom::cell::UnsafeCell::new(0));
        let dying = {
            let data = data.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    // SAFETY: the other party reads it behind the barrier only.
                    data.with_mut(|data| unsafe { *data = 7 });
                    let _ = barrier.wait(&world.party(1));
                })
            })
        };
        match barrier.wait(&world.party(0)) {
            // SAFETY: the writer has passed the barrier.
            Ok(_) => assert_eq!(data.with(|data| unsafe { *data }), 7),
            Err(BarrierError::Broken { slot, .. }) => assert_eq!(slot, world.id(1)),
            Err(other) => panic!("{other}"),
        }
        let lived = dying.join().unwrap();
        if !lived {
            // The dead one does not come to the next round, so nobody passes that.
            let next = barrier.wait(&world.party(0));
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
        let barrier = barrier([world.id(0), world.id(1), world.id(2)]);
        let run = |index| move || barrier.wait(&world.party(index));
        let other = thread::spawn(run(1));
        world.declare_dead(2, DeathCause::exit(3));
        let expected = BarrierError::Broken { slot: world.id(2), pid: 0, cause: DeathCause::exit(3) };
        assert_eq!((run(0)(), other.join().unwrap()), (Err(expected), Err(expected)));
    });
}

#[test]
fn an_abort_is_for_all_or_comes_too_late() {
    explore(3, || {
        let world = World::new(2);
        let barrier = barrier([world.id(0), world.id(1)]);
        let other = {
            thread::spawn(move || {
                let mut result = Ok(false);
                without_slices(|| result = barrier.wait(&world.party(1)));
                result
            })
        };
        barrier.abort();
        assert_eq!(barrier.wait(&world.party(0)), Err(BarrierError::Aborted));
        assert_eq!(other.join().unwrap(), Err(BarrierError::Aborted));
    });
}

#[test]
fn an_action_is_seen_by_all_who_pass() {
    explore(2, || {
        let world = World::new(2);
        let barrier = barrier([world.id(0), world.id(1)]);
        let data = Arc::new(loom::cell::UnsafeCell::new(0));
        let run = |index| {
            let data = data.clone();
            move || {
                without_slices(|| {
                    // SAFETY: only the leader writes, and all read behind the barrier.
                    let act = || data.with_mut(|data| unsafe { *data += 1 });
                    barrier.wait_with(&world.party(index), act).unwrap();
                    // SAFETY: as above.
                    assert_eq!(data.with(|data| unsafe { *data }), 1);
                })
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().unwrap();
    });
}

#[test]
fn a_death_at_any_step_of_a_round_with_an_action_breaks_it_or_comes_after_it() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let barrier = barrier([world.id(0), world.id(1)]);
        let acted = Arc::new(AtomicU32::new(0));
        let dying = {
            let acted = acted.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let act = || {
                        let _ = acted.fetch_add(1, Ordering::SeqCst);
                    };
                    let _ = barrier.wait_with(&world.party(1), act);
                })
            })
        };
        let act = || {
            let _ = acted.fetch_add(1, Ordering::SeqCst);
        };
        match barrier.wait_with(&world.party(0), act) {
            Ok(_) => assert_eq!(acted.load(Ordering::SeqCst), 1),
            Err(BarrierError::Broken { slot, .. }) => assert_eq!(slot, world.id(1)),
            Err(other) => panic!("{other}"),
        }
        dying.join().unwrap();
    });
}

#[test]
fn who_dies_at_any_step_leaves_a_barrier_that_shrinks() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let parties = [world.id(0), world.id(1)];
        let barrier: &'static Barrier = Box::leak(Barrier::<[BarrierCell; 2]>::for_model(parties, true));
        let led = Arc::new(AtomicU32::new(0));
        let dying = {
            let led = led.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    if barrier.wait(&world.party(1)).unwrap() {
                        led.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
        };
        let mine = u32::from(barrier.wait(&world.party(0)).unwrap());
        let lived = dying.join().unwrap();
        let leaders = mine + led.load(Ordering::SeqCst);
        // The leader may have died before it could say so.
        assert!(leaders == 1 || leaders == 0 && !lived, "{leaders} leaders");
        if !lived {
            assert_eq!((barrier.wait(&world.party(0)), barrier.parties()), (Ok(true), 1));
        }
    });
}
