//! Every interleaving of the readers-writer lock's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{LockError, Party, RwLock};

/// Two halves that are equal whenever somebody may look.
type Pair = [u32; 2];

fn count(lock: &RwLock<Pair>, party: &Party) {
    let mut guard = lock.write_or_repair(party, |pair| pair[1] = pair[0]).unwrap();
    assert_eq!(guard[0], guard[1]);
    guard[0] += 1;
    guard[1] += 1;
}

fn look(lock: &RwLock<Pair>, party: &Party) -> u32 {
    let guard = lock.read_or_repair(party, |pair| pair[1] = pair[0]).unwrap();
    assert_eq!(guard[0], guard[1]);
    guard[0]
}

#[test]
fn no_wake_is_lost_between_a_writer_and_a_reader() {
    explore(3, || {
        let world = World::new(2);
        let lock = Arc::new(RwLock::new([0, 0]));
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || {
                without_slices(|| {
                    let first = look(&lock, &world.party(1));
                    assert!(look(&lock, &world.party(1)) >= first);
                })
            })
        };
        without_slices(|| count(&lock, &world.party(0)));
        reader.join().unwrap();
        assert_eq!(look(&lock, &world.party(0)), 1);
    });
}

#[test]
fn no_wake_is_lost_between_two_writers_and_a_reader() {
    explore(2, || {
        let world = World::new(3);
        let lock = Arc::new(RwLock::new([0, 0]));
        let (writing, reading) = (lock.clone(), lock.clone());
        let writer = thread::spawn(move || without_slices(|| count(&writing, &world.party(1))));
        let reader = thread::spawn(move || {
            without_slices(|| {
                let _ = look(&reading, &world.party(2));
            })
        });
        without_slices(|| count(&lock, &world.party(0)));
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(look(&lock, &world.party(0)), 2);
    });
}

/// A model's lock has two cells: three readers, one of whom waits for a cell.
#[test]
fn a_reader_without_a_cell_is_woken_when_one_becomes_free() {
    explore(2, || {
        let world = World::new(3);
        let lock = Arc::new(RwLock::new([7, 7]));
        let readers = [1, 2].map(|index| {
            let lock = lock.clone();
            thread::spawn(move || without_slices(|| assert_eq!(look(&lock, &world.party(index)), 7)))
        });
        without_slices(|| assert_eq!(look(&lock, &world.party(0)), 7));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_writer_that_dies_at_any_step_leaves_the_lock_to_a_reader_and_a_writer() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let lock = Arc::new(RwLock::new([0, 0]));
        let dying = {
            let lock = lock.clone();
            thread::spawn(move || mortal.live(world, 1, || count(&lock, &world.party(1))))
        };
        let before = look(&lock, &world.party(0));
        count(&lock, &world.party(0));
        let lived = dying.join().unwrap();
        let after = look(&lock, &world.party(0));
        assert!(before <= 1 && (after == 2 || after == 1 && !lived), "{before} {after}");
    });
}

#[test]
fn a_reader_that_dies_at_any_step_is_swept() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let lock = Arc::new(RwLock::new([0, 0]));
        let dying = {
            let lock = lock.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let _ = look(&lock, &world.party(1));
                })
            })
        };
        count(&lock, &world.party(0));
        dying.join().unwrap();
        count(&lock, &world.party(0));
        assert_eq!(look(&lock, &world.party(0)), 2);
    });
}

/// Row A18: the death comes while the lock is being recovered.
#[test]
fn a_death_at_any_step_of_the_recovery_is_recovered() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let lock = Arc::new(RwLock::new([0, 0]));
        let mut guard = lock.write(&world.party(2)).unwrap().acquired().unwrap();
        guard[0] = 1;
        std::mem::forget(guard);
        world.declare_dead(2, swath_sync::DeathCause::killed_by(9));
        assert!(
            matches!(lock.read(&world.party(0)), Err(LockError::NeedsRepair { dead }) if dead.slot == world.id(2))
        );
        let dying = {
            let lock = lock.clone();
            thread::spawn(move || mortal.live(world, 1, || count(&lock, &world.party(1))))
        };
        count(&lock, &world.party(0));
        dying.join().unwrap();
        assert!((2..=3).contains(&look(&lock, &world.party(0))));
    });
}
