//! Every interleaving of the queue's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{JoinableQueue, Queue, QueueError};

/// Two words, so that a torn item shows.
type Item = [u64; 2];

fn item(number: u64) -> Item {
    [number, !number]
}

#[test]
fn two_putters_and_a_getter_in_one_cell_lose_no_wake() {
    explore(2, || {
        let world = World::new(3);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<1>());
        let putters = [1, 2].map(|index| {
            let queue = queue.clone();
            thread::spawn(move || {
                without_slices(|| queue.put(&world.party(index), item(u64::from(index))).unwrap());
            })
        });
        let mut sum = 0;
        without_slices(|| {
            for _ in 0..2 {
                let [number, inverse] = queue.get(&world.party(0)).unwrap();
                assert_eq!(number, !inverse, "torn");
                sum += number;
            }
        });
        assert_eq!(sum, 3);
        putters.into_iter().for_each(|putter| putter.join().unwrap());
    });
}

#[test]
fn two_getters_share_two_items_of_one_putter() {
    explore(2, || {
        let world = World::new(3);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<2>());
        let sum = Arc::new(AtomicU32::new(0));
        let getters = [1, 2].map(|index| {
            let (queue, sum) = (queue.clone(), sum.clone());
            thread::spawn(move || {
                without_slices(|| {
                    let [number, inverse] = queue.get(&world.party(index)).unwrap();
                    assert_eq!(number, !inverse, "torn");
                    sum.fetch_add(number as u32, Ordering::Relaxed);
                });
            })
        });
        for number in [1, 2] {
            queue.try_put(&world.party(0), item(number)).unwrap();
        }
        getters.into_iter().for_each(|getter| getter.join().unwrap());
        assert_eq!(sum.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn what_is_put_back_reaches_who_waits() {
    explore(2, || {
        let world = World::new(2);
        let queue: Arc<Box<JoinableQueue<Item>>> = Arc::new(JoinableQueue::for_model::<1>());
        queue.put(&world.party(0), item(5)).unwrap();
        let delivery = queue.try_get(&world.party(0)).unwrap();
        let other = {
            let queue = queue.clone();
            thread::spawn(move || {
                let party = world.party(1);
                without_slices(|| {
                    let delivery = queue.get(&party).unwrap();
                    assert_eq!(*delivery, item(5));
                    delivery.done();
                });
            })
        };
        drop(delivery);
        without_slices(|| queue.join(&world.party(0)));
        other.join().unwrap();
        assert!(queue.queue().is_empty());
    });
}

#[test]
fn a_close_reaches_all_and_strands_nothing() {
    explore(2, || {
        let world = World::new(2);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<1>());
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || {
                let put = queue.try_put(&world.party(1), item(1));
                queue.close();
                put
            })
        };
        let mut got = 0;
        without_slices(|| {
            while queue.get(&world.party(0)) != Err(QueueError::Closed) {
                got += 1;
            }
        });
        assert_eq!(putter.join().unwrap().map(|()| 1).unwrap_or(0), got);
        assert!(queue.is_empty());
    });
}

#[test]
fn a_close_beside_a_put_leaves_nothing_behind() {
    explore(2, || {
        let world = World::new(3);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<1>());
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || queue.try_put(&world.party(1), item(1)).is_ok())
        };
        let closer = {
            let queue = queue.clone();
            thread::spawn(move || queue.close())
        };
        let mut got = false;
        without_slices(|| {
            while queue.get(&world.party(0)) != Err(QueueError::Closed) {
                got = true;
            }
        });
        closer.join().unwrap();
        assert_eq!(putter.join().unwrap(), got);
    });
}

#[test]
fn a_putter_that_dies_at_any_step_has_put_it_or_not() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<1>());
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || mortal.live(world, 1, || queue.put(&world.party(1), item(1)).unwrap()))
        };
        let me = world.party(0);
        let first = queue.try_get(&me);
        let lived = dying.join().unwrap();
        let put = first.or_else(|_| queue.try_get(&me));
        assert!(!lived || put.is_ok());
        if let Ok(whole) = put {
            assert_eq!(whole, item(1));
        }
        queue.try_put(&me, item(2)).unwrap();
        assert_eq!(queue.try_put(&me, item(3)), Err(QueueError::Full));
        assert_eq!(queue.try_get(&me), Ok(item(2)));
    });
}

#[test]
fn a_getter_that_dies_at_any_step_has_got_it_or_another_does() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let queue: Arc<Box<JoinableQueue<Item>>> = Arc::new(JoinableQueue::for_model::<2>());
        queue.put(&world.party(0), item(1)).unwrap();
        queue.put(&world.party(0), item(2)).unwrap();
        let done = Arc::new(AtomicU32::new(0));
        let dying = {
            let (queue, done) = (queue.clone(), done.clone());
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let party = world.party(1);
                    if let Ok(delivery) = queue.try_get(&party) {
                        assert_eq!(*delivery, item(delivery[0]));
                        delivery.done();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
        };
        let me = world.party(0);
        let mut got = 0;
        while got + done.load(Ordering::Relaxed) < 1 {
            if let Ok(delivery) = queue.try_get(&me) {
                delivery.done();
                got += 1;
            }
            thread::yield_now();
        }
        let lived = dying.join().unwrap();
        while let Ok(delivery) = queue.try_get(&me) {
            assert_eq!(*delivery, item(delivery[0]));
            delivery.done();
            got += 1;
        }
        let by_it = done.load(Ordering::Relaxed);
        // What it had done and could not note any more is done all the same.
        assert!(got + by_it == 2 || (!lived && got == 1), "{got} by us, {by_it} by it");
        assert!(queue.try_join(&me));
    });
}

/// The one who finds what a dead one left dies over it.
#[test]
fn a_death_over_the_recovery_changes_nothing() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let queue: Arc<Box<JoinableQueue<Item>>> = Arc::new(JoinableQueue::for_model::<2>());
        queue.put(&world.party(0), item(1)).unwrap();
        std::mem::forget(queue.try_get(&world.party(2)).unwrap());
        world.declare_dead(2, swath_sync::DeathCause::killed_by(9));
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || std::mem::forget(queue.try_get(&world.party(1))));
            })
        };
        let me = world.party(0);
        let mut got = queue.try_get(&me).is_ok_and(|delivery| {
            delivery.done();
            true
        });
        dying.join().unwrap();
        world.declare_dead(1, swath_sync::DeathCause::killed_by(9));
        if let Ok(delivery) = queue.try_get(&me) {
            assert!(!got, "delivered twice");
            delivery.done();
            got = true;
        }
        assert!(got && queue.try_join(&me));
    });
}

/// What the dead one's turn becomes, beside somebody who puts: nobody is stuck behind it, and nothing overtakes.
#[test]
fn a_dead_putters_turn_holds_up_nobody_and_changes_no_order() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<2>());
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || mortal.live(world, 1, || queue.try_put(&world.party(1), item(9)).unwrap()))
        };
        let me = world.party(0);
        queue.try_put(&me, item(1)).unwrap();
        let lived = dying.join().unwrap();
        let mut got = Vec::new();
        // A turn that was claimed and not used may take up room until it is passed.
        let second = queue.try_put(&me, item(2));
        while let Ok(found) = queue.try_get(&me) {
            assert_eq!(found, item(found[0]));
            got.push(found[0]);
        }
        assert!(second.is_ok() || got.contains(&9), "{got:?}");
        assert!(!lived || got.contains(&9));
        got.retain(|number| *number != 9);
        assert_eq!(got, if second.is_ok() { vec![1, 2] } else { vec![1] });
        for number in [3, 4] {
            queue.try_put(&me, item(number)).unwrap();
        }
        assert_eq!((queue.try_get(&me), queue.try_get(&me)), (Ok(item(3)), Ok(item(4))));
    });
}

/// One gives back the turn of a dead putter while another takes the next one: no turn that nobody has stays before an item.
#[test]
fn a_turn_given_back_beside_a_put_hides_no_item() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let queue: Arc<Box<Queue<Item>>> = Arc::new(Queue::for_model::<2>());
        let lived = mortal.live(world, 2, || queue.try_put(&world.party(2), item(9)).unwrap());
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.try_put(&world.party(1), item(1)).unwrap())
        };
        let me = world.party(0);
        let early = queue.try_get(&me);
        other.join().unwrap();
        let mut got: Vec<u64> = early.into_iter().map(|found| found[0]).collect();
        while let Ok(found) = queue.try_get(&me) {
            got.push(found[0]);
        }
        assert!(got.contains(&1), "{got:?}");
        assert!(!lived || got.contains(&9), "{got:?}");
    });
}
