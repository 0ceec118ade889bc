//! Every interleaving of the mutex's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{DeathCause, LockError, Locked, Mutex, PoisonedBy};

/// Two halves that are equal whenever the lock is free and whole.
type Pair = [u32; 2];

fn count(mutex: &Mutex<Pair>, party: &swath_sync::Party) {
    let mut guard = mutex.lock_or_repair(party, |pair| pair[1] = pair[0]).unwrap();
    assert_eq!(guard[0], guard[1]);
    guard[0] += 1;
    guard[1] += 1;
}

/// A party has died half-way through its update.
fn die_holding(mutex: &Mutex<Pair>, world: World, index: u16) {
    let mut guard = mutex.lock(&world.party(index)).unwrap().acquired().unwrap();
    guard[0] = 1;
    std::mem::forget(guard);
    world.declare_dead(index, DeathCause::killed_by(9));
}

#[test]
fn no_wake_is_lost() {
    explore(3, || {
        let world = World::new(3);
        let mutex = Arc::new(Mutex::new([0, 0]));
        let threads = [1, 2].map(|index| {
            let mutex = mutex.clone();
            thread::spawn(move || without_slices(|| count(&mutex, &world.party(index))))
        });
        without_slices(|| count(&mutex, &world.party(0)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*mutex.lock(&world.party(0)).unwrap().acquired().unwrap(), [3, 3]);
    });
}

#[test]
fn a_death_at_any_step_leaves_the_lock_to_the_next() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let mutex = Arc::new(Mutex::new([0, 0]));
        let dying = {
            let mutex = mutex.clone();
            thread::spawn(move || mortal.live(world, 1, || count(&mutex, &world.party(1))))
        };
        count(&mutex, &world.party(0));
        let lived = dying.join().unwrap();
        let guard = mutex.lock_or_repair(&world.party(0), |pair| pair[1] = pair[0]).unwrap();
        assert_eq!(guard[0], guard[1]);
        assert!(guard[0] == 2 || guard[0] == 1 && !lived);
    });
}

#[test]
fn of_two_survivors_one_recovers() {
    explore(3, || {
        let world = World::new(3);
        let mutex = Arc::new(Mutex::new([0, 0]));
        die_holding(&mutex, world, 2);
        let recover = |index| {
            let mutex = mutex.clone();
            move || match mutex.lock(&world.party(index)).unwrap() {
                Locked::Acquired(guard) => {
                    assert_eq!(*guard, [2, 2]);
                    false
                }
                Locked::Recovered(guard) => {
                    assert_eq!(*guard, [1, 0]);
                    *guard.repaired() = [2, 2];
                    true
                }
            }
        };
        let other = thread::spawn(recover(1));
        let mine = recover(0)();
        assert!(mine != other.join().unwrap());
    });
}

/// Row A18: the death comes while the lock is being recovered.
#[test]
fn a_death_at_any_step_of_the_recovery_is_recovered() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(3);
        let mutex = Arc::new(Mutex::new([0, 0]));
        die_holding(&mutex, world, 2);
        let dying = {
            let mutex = mutex.clone();
            thread::spawn(move || mortal.live(world, 1, || count(&mutex, &world.party(1))))
        };
        count(&mutex, &world.party(0));
        dying.join().unwrap();
        let guard = mutex.lock_or_repair(&world.party(0), |pair| pair[1] = pair[0]).unwrap();
        assert_eq!(guard[0], guard[1]);
        assert!(guard[0] == 2 || guard[0] == 3);
    });
}

#[test]
fn a_death_at_any_step_of_poisoning_leaves_poison_or_a_recovery() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(3);
        let mutex = Arc::new(Mutex::new([0, 0]));
        die_holding(&mutex, world, 2);
        let dying = {
            let mutex = mutex.clone();
            thread::spawn(move || mortal.live(world, 1, || drop(mutex.lock(&world.party(1)).unwrap())))
        };
        dying.join().unwrap();
        match mutex.lock(&world.party(0)) {
            Ok(Locked::Recovered(_)) => {}
            Err(LockError::Poisoned { who: PoisonedBy::Death(dead) }) => assert_eq!(dead.slot, world.id(2)),
            other => panic!("{other:?}"),
        };
    });
}
