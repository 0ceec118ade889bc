//! Every interleaving of waiting for several things: somebody makes one ready, or dies, while the waiter announces itself.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{DeathCause, Event, JoinableQueue, Party, Queue, Sentinel, Waitable, wait_any};

type Item = u64;

fn queue<const N: usize>() -> Arc<Box<Queue<Item>>> {
    Arc::new(Queue::for_model::<N>())
}

/// Which of an event and a queue are ready, sleeping without slices.
fn either(party: &Party, event: &Event, queue: &Queue<Item>) -> Vec<usize> {
    let mut found = Vec::new();
    without_slices(|| found = wait_any(party, &[event, &queue as &dyn Waitable]).unwrap());
    found
}

#[test]
fn a_setter_and_a_putter_are_both_noticed() {
    explore(3, || {
        let world = World::new(2);
        let (event, queue) = (Arc::new(Event::new()), queue::<1>());
        let setter = {
            let event = event.clone();
            thread::spawn(move || event.set())
        };
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || queue.try_put(&world.party(1), 7).unwrap())
        };
        let me = world.party(0);
        let (mut was_set, mut item) = (false, None);
        while !was_set || item.is_none() {
            for ready in either(&me, &event, &queue) {
                match ready {
                    0 => {
                        was_set = true;
                        event.clear();
                    }
                    _ => item = queue.try_get(&me).ok(),
                }
            }
        }
        assert_eq!(item, Some(7));
        setter.join().unwrap();
        putter.join().unwrap();
    });
}

#[test]
fn of_two_who_wait_for_one_item_one_gets_it_and_tells_the_other() {
    explore(2, || {
        let world = World::new(3);
        let (event, queue) = (Arc::new(Event::new()), queue::<1>());
        let take = move |index: u16, event: &Event, queue: &Queue<Item>| {
            let me = world.party(index);
            loop {
                let ready = either(&me, event, queue);
                if ready.contains(&0) {
                    return 0;
                }
                if queue.try_get(&me).is_ok() {
                    event.set();
                    return 1;
                }
            }
        };
        let other = {
            let (event, queue) = (event.clone(), queue.clone());
            thread::spawn(move || take(1, &event, &queue))
        };
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || queue.try_put(&world.party(2), 7).unwrap())
        };
        let mine = take(0, &event, &queue);
        assert_eq!(mine + other.join().unwrap(), 1);
        putter.join().unwrap();
    });
}

#[test]
fn a_death_ends_the_wait_for_it() {
    explore(3, || {
        let world = World::new(2);
        let queue = queue::<1>();
        let service = thread::spawn(move || {
            world.declare_dead(1, DeathCause::killed_by(9));
        });
        let sentinel = Sentinel::new(world.table, world.id(1));
        let me = world.party(0);
        without_slices(|| {
            let found = wait_any(&me, &[&&**queue as &dyn Waitable, &sentinel]);
            assert_eq!(found, Ok(vec![1]));
        });
        service.join().unwrap();
    });
}

/// Without slices: the confirmed death wakes whoever the dead one would have.
#[test]
fn a_putter_that_dies_at_any_step_ends_the_wait_by_its_item_or_by_its_death() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let queue = queue::<1>();
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || mortal.live(world, 1, || queue.put(&world.party(1), 7).unwrap()))
        };
        let sentinel = Sentinel::new(world.table, world.id(1));
        let me = world.party(0);
        without_slices(|| {
            let found = wait_any(&me, &[&&**queue as &dyn Waitable, &sentinel]).unwrap();
            assert!(!found.is_empty());
        });
        let lived = dying.join().unwrap();
        let got = queue.try_get(&me);
        assert!(got == Ok(7) || got.is_err() && !lived, "{got:?}");
        queue.try_put(&me, 8).unwrap();
        assert_eq!(wait_any(&me, &[&&**queue as &dyn Waitable]), Ok(vec![0]));
    });
}

/// A reader dies with the item in hand: who waits for the queue is told that it is worth a look.
#[test]
fn a_getter_that_dies_at_any_step_leaves_the_item_to_who_waits() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let queue: Arc<Box<JoinableQueue<Item>>> = Arc::new(JoinableQueue::for_model::<1>());
        let me = world.party(0);
        queue.put(&me, 7).unwrap();
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    drop(queue.try_get(&world.party(1))); // put back, if it was there
                })
            })
        };
        without_slices(|| {
            loop {
                assert_eq!(wait_any(&me, &[&&**queue as &dyn Waitable]), Ok(vec![0]));
                if let Ok(delivery) = queue.try_get(&me) {
                    delivery.done();
                    break;
                }
            }
        });
        dying.join().unwrap();
        assert!(queue.try_join(&me));
    });
}
