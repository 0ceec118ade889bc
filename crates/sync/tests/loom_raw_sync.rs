//! Every interleaving of the steps of the locks behind raw_sync's traits, with and without a death at each of them.
//!
//! They tell nobody of a death: they count. What is checked is that nobody finds half a change and a count that has not moved.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use model::{Deaths, Mortal, explore};
use swath_sync::atomics::without_slices;
use swath_sync::raw_sync::{ModelLock, be_holder, mark_dead};

/// A lock and what it guards: two halves, loaded and stored with no order of their own.
#[derive(Clone)]
struct Guarded {
    lock: ModelLock,
    halves: Arc<[AtomicU32; 2]>,
}

impl Guarded {
    fn by(lock: ModelLock) -> Self {
        Self { lock, halves: Arc::new([AtomicU32::new(0), AtomicU32::new(0)]) }
    }

    fn load(&self) -> [u32; 2] {
        [0, 1].map(|which: usize| self.halves[which].load(Ordering::Relaxed))
    }

    /// Under the lock: are they whole, or is it known that somebody died?
    fn look(&self) -> [u32; 2] {
        let halves = self.load();
        let counted = self.lock.recoveries();
        assert!(halves[0] == halves[1] || counted > 0, "{halves:?}, and nobody has died");
        halves
    }

    /// Takes it, looks, repairs, changes, gives it back.
    fn update(&self, me: u32) {
        be_holder(me);
        let lock = self.lock.attach();
        // raw_sync's guard insists in its drop that it is released: who is dead cannot, and unwinds.
        std::mem::forget(lock.lock().unwrap());
        let changed = self.look()[0] + 1;
        self.halves[0].store(changed, Ordering::Relaxed);
        self.halves[1].store(changed, Ordering::Relaxed);
        drop(lock.release());
    }

    fn read(&self, me: u32) {
        be_holder(me);
        let lock = self.lock.attach();
        std::mem::forget(lock.rlock().unwrap());
        self.look();
        drop(lock.release());
    }

    /// A thread has died in the middle of a change.
    fn left_by(&self, dead: u32) {
        be_holder(dead);
        std::mem::forget(self.lock.attach().lock().map(std::mem::forget));
        self.halves[0].store(1, Ordering::Relaxed);
        mark_dead(dead);
    }

    /// `life` by a thread that dies at its step.
    fn mortal(&self, mortal: Mortal, me: u32, life: fn(&Self, u32)) -> thread::JoinHandle<bool> {
        let guarded = self.clone();
        thread::spawn(move || mortal.live_as(|| mark_dead(me), || life(&guarded, me)))
    }
}

#[test]
fn three_share_a_mutex_and_no_wake_is_lost() {
    explore(3, || {
        let guarded = Guarded::by(ModelLock::mutex());
        let threads = [2, 3].map(|me| {
            let guarded = guarded.clone();
            thread::spawn(move || without_slices(|| guarded.update(me)))
        });
        without_slices(|| guarded.update(1));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((guarded.load(), guarded.lock.recoveries()), ([3, 3], 0));
    });
}

#[test]
fn a_death_at_any_step_leaves_the_mutex_to_the_next() {
    Deaths::at_every_step(3, |mortal| {
        let guarded = Guarded::by(ModelLock::mutex());
        let dying = guarded.mortal(mortal, 2, Guarded::update);
        guarded.update(1);
        let lived = dying.join().unwrap();
        guarded.update(1);
        let [changes, _] = guarded.load();
        assert!(changes == 3 || changes == 2 && !lived, "{changes}");
    });
}

#[test]
fn a_death_at_any_step_of_a_take_over_is_counted() {
    Deaths::at_every_step(3, |mortal| {
        let guarded = Guarded::by(ModelLock::mutex());
        guarded.left_by(3);
        let dying = guarded.mortal(mortal, 2, Guarded::update);
        guarded.update(1);
        dying.join().unwrap();
        guarded.update(1);
        assert!((1..=2).contains(&guarded.lock.recoveries()));
    });
}

#[test]
fn of_two_survivors_one_takes_over() {
    explore(3, || {
        let guarded = Guarded::by(ModelLock::mutex());
        guarded.left_by(3);
        let other = {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.update(2))
        };
        guarded.update(1);
        other.join().unwrap();
        assert_eq!((guarded.load(), guarded.lock.recoveries()), ([3, 3], 1));
    });
}

#[test]
fn a_writer_and_two_readers_lose_no_wake() {
    explore(2, || {
        let guarded = Guarded::by(ModelLock::rwlock());
        let readers = [2, 3].map(|me| {
            let guarded = guarded.clone();
            thread::spawn(move || without_slices(|| guarded.read(me)))
        });
        without_slices(|| guarded.update(1));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!((guarded.load(), guarded.lock.recoveries()), ([1, 1], 0));
    });
}

#[test]
fn two_writers_and_a_reader_lose_no_wake() {
    explore(2, || {
        let guarded = Guarded::by(ModelLock::rwlock());
        let (reader, writer) = (guarded.clone(), guarded.clone());
        let reader = thread::spawn(move || without_slices(|| reader.read(2)));
        let writer = thread::spawn(move || without_slices(|| writer.update(3)));
        without_slices(|| guarded.update(1));
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!((guarded.load(), guarded.lock.recoveries()), ([2, 2], 0));
    });
}

#[test]
fn a_writer_that_dies_at_any_step_leaves_the_lock_to_a_reader_and_a_writer() {
    Deaths::at_every_step(2, |mortal| {
        let guarded = Guarded::by(ModelLock::rwlock());
        let dying = guarded.mortal(mortal, 2, Guarded::update);
        guarded.read(1);
        guarded.update(1);
        dying.join().unwrap();
        guarded.update(1);
    });
}

#[test]
fn a_reader_that_dies_at_any_step_holds_no_writer_up() {
    Deaths::at_every_step(2, |mortal| {
        let guarded = Guarded::by(ModelLock::rwlock());
        let dying = guarded.mortal(mortal, 2, Guarded::read);
        guarded.update(1);
        dying.join().unwrap();
        guarded.update(1);
        assert_eq!((guarded.load(), guarded.lock.recoveries()), ([2, 2], 0));
    });
}

/// A reader frees a dead writer's lock, and has to count it before it is free.
#[test]
fn a_reader_that_dies_at_any_step_of_freeing_a_dead_writers_lock_loses_no_count() {
    Deaths::at_every_step(2, |mortal| {
        let guarded = Guarded::by(ModelLock::rwlock());
        guarded.left_by(3);
        let dying = guarded.mortal(mortal, 2, Guarded::read);
        guarded.update(1);
        dying.join().unwrap();
        assert!((1..=2).contains(&guarded.lock.recoveries()));
    });
}
