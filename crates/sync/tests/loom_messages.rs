//! Every interleaving of the queue of messages' own steps: what lies outside of the cells is given back, once it is got or its
//! putter is dead, whoever dies over that.

#![cfg(loom)]

mod model;
#[path = "model/room.rs"]
mod room;

use loom::sync::Arc;
use loom::thread;
use model::{Deaths, World, explore};
use room::{ENOUGH_STEPS, Fatal, Room, Stuck, message};
use swath_sync::atomics::{killed_at_step, without_slices};
use swath_sync::{DeathCause, MessageQueue, MessageQueueError, Party};

fn queue<const N: usize>() -> Arc<Box<MessageQueue>> {
    Arc::new(MessageQueue::for_model::<N>())
}

/// All that can be got, by its byte.
fn empty(queue: &MessageQueue, me: &Party, room: &Room) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        match queue.try_get(me, room) {
            Ok(got) => {
                assert_eq!(got, message(got[0]), "torn");
                bytes.push(got[0]);
            }
            Err(MessageQueueError::Empty { .. }) => return bytes,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_long_message_arrives_whole_and_no_wake_is_lost() {
    explore(2, || {
        let world = World::new(2);
        let (queue, room) = (queue::<1>(), Room::new());
        let putter = {
            let queue = queue.clone();
            thread::spawn(move || {
                without_slices(|| {
                    for byte in [1, 2] {
                        queue.put(&world.party(1), room, &message(byte)).unwrap();
                    }
                })
            })
        };
        without_slices(|| {
            for byte in [1, 2] {
                assert_eq!(queue.get(&world.party(0), room).unwrap(), message(byte));
            }
        });
        putter.join().unwrap();
        assert_eq!(room.taken_up(), 0);
    });
}

#[test]
fn a_putter_that_dies_at_any_step_has_put_it_or_left_nothing() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let (queue, room) = (queue::<1>(), Room::new());
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || queue.put(&world.party(1), room, &message(1)).unwrap())
            })
        };
        let me = world.party(0);
        let mut got = empty(&queue, &me, room);
        let lived = dying.join().unwrap();
        got.extend(empty(&queue, &me, room));
        assert!(got == [1] || got.is_empty() && !lived, "{got:?}");
        queue.try_put(&me, room, &message(2)).unwrap();
        assert_eq!(empty(&queue, &me, room), [2]);
        assert_eq!(room.taken_up(), 0);
    });
}

/// Between DRAINED and the end the item is got already and still takes up room.
#[test]
fn a_getter_that_dies_at_any_step_has_got_it_or_another_does() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(2);
        let (queue, room) = (queue::<1>(), Room::new());
        let me = world.party(0);
        queue.try_put(&me, room, &message(1)).unwrap();
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut got = 0;
                let life = || got = usize::from(queue.try_get(&world.party(1), room).is_ok());
                let lived = mortal.live(world, 1, life);
                (lived, got)
            })
        };
        let early = empty(&queue, &me, room);
        let (lived, got) = dying.join().unwrap();
        let late = empty(&queue, &me, room);
        let sum = early.len() + late.len() + got;
        assert!(sum == 1 || sum == 0 && !lived, "{early:?} and {late:?}");
        assert_eq!(room.taken_up(), 0);
        queue.try_put(&me, room, &message(2)).unwrap();
        assert_eq!(empty(&queue, &me, room), [2]);
    });
}

/// One has died while it gave back what it had got; the next one dies at any step of doing that for it, beside a third.
#[test]
fn a_death_over_a_drained_cell_gives_back_once_more_and_nothing_else() {
    Deaths::at_every_step(2, |mortal| {
        let world = World::new(3);
        let (queue, room) = (queue::<2>(), Room::new());
        let me = world.party(0);
        queue.try_put(&me, room, &message(1)).unwrap();
        let lived = killed_at_step(Some(ENOUGH_STEPS), || {
            drop(queue.try_get(&world.party(2), Fatal::new(room, Stuck::Freeing)));
        });
        assert!(!lived && room.taken_up() == 1, "it has died in giving back");
        world.declare_dead(2, DeathCause::killed_by(9));
        let dying = {
            let queue = queue.clone();
            thread::spawn(move || {
                mortal.live(world, 1, || drop(queue.try_get(&world.party(1), room)));
            })
        };
        // Whatever is given back twice must not be this one's.
        queue.try_put(&me, room, &message(2)).unwrap();
        let early = empty(&queue, &me, room);
        dying.join().unwrap();
        let late = empty(&queue, &me, room);
        assert!(early.iter().chain(&late).all(|byte| *byte == 2) && early.len() + late.len() <= 1);
        for byte in [3, 4] {
            queue.try_put(&me, room, &message(byte)).unwrap();
        }
        assert_eq!(empty(&queue, &me, room), [3, 4]);
        assert_eq!(room.taken_up(), 0);
    });
}
