//! Every interleaving of the ring's steps, with and without a death at each of them.

#![cfg(loom)]

mod model;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use swath_sync::atomics::without_slices;
use swath_sync::{RingError, SpscRing};

/// Two words, so that a torn item shows.
type Item = [u64; 2];

fn item(number: u64) -> Item {
    [number, !number]
}

#[test]
fn items_arrive_in_order_and_no_wake_is_lost() {
    explore(3, || {
        let world = World::new(2);
        let ring: Arc<Box<SpscRing<Item>>> = Arc::new(SpscRing::for_model::<1>());
        let other = {
            let ring = ring.clone();
            thread::spawn(move || {
                let mut end = ring.producer(&world.party(1)).unwrap();
                without_slices(|| (0..3).for_each(|number| end.push(item(number)).unwrap()));
            })
        };
        let mut end = ring.consumer(&world.party(0)).unwrap();
        without_slices(|| (0..3).for_each(|number| assert_eq!(end.pop(), Ok(item(number)))));
        other.join().unwrap();
    });
}

#[test]
fn a_producer_that_dies_at_any_step_has_pushed_or_not_and_has_an_heir() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let ring: Arc<Box<SpscRing<Item>>> = Arc::new(SpscRing::for_model::<1>());
        let dying = {
            let ring = ring.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let mut end = ring.producer(&world.party(1)).unwrap();
                    end.push(item(1)).unwrap();
                    std::mem::forget(end);
                })
            })
        };
        let me = world.party(0);
        let mut end = ring.consumer(&me).unwrap();
        let early = end.try_pop();
        let lived = dying.join().unwrap();
        let got = early.or_else(|_| end.try_pop());
        match got {
            Ok(whole) => assert_eq!(whole, item(1)),
            Err(RingError::PeerDied { who }) => assert_eq!(who.slot, world.id(1)),
            Err(other) => assert!(other == RingError::Empty && !lived),
        }
        if !lived {
            let mut heir = ring.producer(&me).unwrap();
            heir.try_push(item(2)).unwrap();
            assert_eq!(end.try_pop(), Ok(item(2)));
        }
    });
}

#[test]
fn a_consumer_that_dies_at_any_step_has_popped_or_its_heir_does() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let ring: Arc<Box<SpscRing<Item>>> = Arc::new(SpscRing::for_model::<2>());
        let me = world.party(0);
        let mut producer = ring.producer(&me).unwrap();
        let dying = {
            let ring = ring.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || {
                    let mut end = ring.consumer(&world.party(1)).unwrap();
                    let first = end.pop().unwrap();
                    assert_eq!(first, item(1));
                    std::mem::forget(end);
                })
            })
        };
        producer.try_push(item(1)).unwrap();
        producer.try_push(item(2)).unwrap();
        if !dying.join().unwrap() {
            let mut heir = ring.consumer(&me).unwrap();
            let first = heir.try_pop().unwrap();
            assert!(first == item(1) || first == item(2));
            if first == item(1) {
                assert_eq!(heir.try_pop(), Ok(item(2)));
            }
            assert_eq!(heir.try_pop(), Err(RingError::Empty));
        }
    });
}
