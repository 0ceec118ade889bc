//! Every interleaving of a pipe's two lanes: messages both ways, a close, the death of an end and its heir.

#![cfg(loom)]

mod model;
#[path = "model/room.rs"]
mod room;

use loom::thread;
use model::{Deaths, World, explore};
use room::{ENOUGH_STEPS, Fatal, Room, Stuck, message};
use swath_sync::atomics::{killed_at_step, without_slices};
use swath_sync::{DeathCause, Party, Pipe, PipeEnd, PipeError, PipeSide};

/// With room for one message each way; leaked, as its ends want it for their time.
fn pipe() -> &'static Pipe {
    Box::leak(Pipe::for_model::<2>())
}

fn end(pipe: &'static Pipe, party: &Party, room: &'static Room, side: PipeSide) -> PipeEnd<'static> {
    pipe.end(party, room, side).unwrap()
}

/// All that is there for this end.
fn empty(end: &mut PipeEnd<'_>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| end.try_recv_bytes().ok()).collect()
}

#[test]
fn both_send_and_receive_and_no_wake_is_lost() {
    explore(3, || {
        let world = World::new(2);
        let (pipe, room) = (pipe(), Room::new());
        let other = thread::spawn(move || {
            let mut b = end(pipe, &world.party(1), room, PipeSide::B);
            without_slices(|| {
                b.send_bytes(&[9]).unwrap();
                assert_eq!(b.recv_bytes().unwrap(), [1]);
                assert_eq!(b.recv_bytes().unwrap(), message(2));
            });
        });
        let mut a = end(pipe, &world.party(0), room, PipeSide::A);
        without_slices(|| {
            a.send_bytes(&[1]).unwrap();
            a.send_bytes(&message(2)).unwrap(); // waits for room
            assert_eq!(a.recv_bytes().unwrap(), [9]);
        });
        other.join().unwrap();
        assert_eq!(room.taken_up(), 0);
    });
}

#[test]
fn a_close_reaches_both_ends_and_strands_nothing() {
    explore(3, || {
        let world = World::new(2);
        let (pipe, room) = (pipe(), Room::new());
        let other = thread::spawn(move || {
            let mut b = end(pipe, &world.party(1), room, PipeSide::B);
            let sent = b.send_bytes(&[9]).is_ok();
            pipe.close();
            assert!(matches!(b.send_bytes(&[8]), Err(PipeError::Closed)));
            // Its end is given back here; what it has sent stays.
            sent
        });
        let mut a = end(pipe, &world.party(0), room, PipeSide::A);
        let mut got = Vec::new();
        without_slices(|| {
            loop {
                match a.recv_bytes() {
                    Ok(message) => got.push(message),
                    Err(PipeError::Closed) => break,
                    Err(other) => panic!("{other}"),
                }
            }
        });
        assert_eq!(got, vec![vec![9]; usize::from(other.join().unwrap())]);
    });
}

#[test]
fn a_sender_that_dies_at_any_step_has_sent_it_or_its_peer_is_told() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let (pipe, room) = (pipe(), Room::new());
        let me = world.party(0);
        let dying = thread::spawn(move || {
            mortal.live(world, 1, || {
                let mut a = end(pipe, &world.party(1), room, PipeSide::A);
                a.send_bytes(&message(1)).unwrap();
                std::mem::forget(a);
            })
        });
        let mut b = end(pipe, &me, room, PipeSide::B);
        let early = b.try_recv_bytes();
        let lived = dying.join().unwrap();
        let got: Vec<_> = early.into_iter().chain(empty(&mut b)).collect();
        assert!(got == [message(1)] || got.is_empty() && !lived, "{got:?}");
        if !lived {
            let mut heir = end(pipe, &me, room, PipeSide::A);
            heir.try_send_bytes(&message(2)).unwrap();
            assert_eq!(b.try_recv_bytes().unwrap(), message(2));
        }
        assert_eq!(room.taken_up(), 0);
    });
}

/// Without slices: the message, or the confirmed death, wakes it.
#[test]
fn who_waits_for_a_message_of_one_who_dies_is_woken() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let (pipe, room) = (pipe(), Room::new());
        let mut a = end(pipe, &world.party(1), room, PipeSide::A);
        let mut b = end(pipe, &world.party(0), room, PipeSide::B);
        let dying = thread::spawn(move || {
            let lived = mortal.live(world, 1, || a.send_bytes(&message(1)).unwrap());
            std::mem::forget(a);
            lived
        });
        let mut got = None;
        without_slices(|| got = Some(b.recv_bytes()));
        let lived = dying.join().unwrap();
        match got {
            Some(Ok(whole)) => assert_eq!(whole, message(1)),
            Some(Err(PipeError::PeerDied { who })) => assert!(who.slot == world.id(1) && !lived),
            other => panic!("{other:?}"),
        }
        assert_eq!(room.taken_up(), 0, "given back by the peer, without an heir");
    });
}

#[test]
fn a_receiver_that_dies_at_any_step_has_received_it_or_its_heir_does() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(2);
        let (pipe, room) = (pipe(), Room::new());
        let me = world.party(0);
        let mut a = end(pipe, &me, room, PipeSide::A);
        a.try_send_bytes(&message(1)).unwrap();
        let dying = thread::spawn(move || {
            let mut got = false;
            let lived = mortal.live(world, 1, || {
                let mut b = end(pipe, &world.party(1), room, PipeSide::B);
                got = b.try_recv_bytes().is_ok_and(|whole| whole == message(1));
                std::mem::forget(b);
            });
            (lived, got)
        });
        let second = a.try_send_bytes(&message(2)).is_ok();
        let (lived, got) = dying.join().unwrap();
        assert!(!lived || got);
        if !lived {
            let mut heir = end(pipe, &me, room, PipeSide::B);
            let rest = empty(&mut heir);
            let expected = [message(1), message(2)];
            let all = &expected[..1 + usize::from(second)];
            assert!(rest == all || rest == all[1..], "{rest:?}");
            assert!(!got || rest == all[1..], "received twice");
            a.try_send_bytes(&message(3)).unwrap();
            assert_eq!(heir.try_recv_bytes().unwrap(), message(3));
            assert_eq!(room.taken_up(), 0);
        }
    });
}

/// An end was left in the middle of a long message, and its heir dies at any step of taking it over, beside the peer.
#[test]
fn a_death_over_a_dead_ones_end_gives_back_what_both_left() {
    Deaths::at_every_step(3, |mortal| {
        let world = World::new(3);
        let (pipe, room) = (pipe(), Room::new());
        let me = world.party(0);
        let mut b = end(pipe, &me, room, PipeSide::B);
        let sent = killed_at_step(Some(ENOUGH_STEPS), || {
            let fatal = Fatal::new(room, Stuck::Writing);
            let mut a = pipe.end(&world.party(2), fatal, PipeSide::A).unwrap();
            a.send_bytes(&message(1)).unwrap();
        });
        assert!(!sent && room.taken_up() == 1, "it has died in sending");
        world.declare_dead(2, DeathCause::killed_by(9));
        let dying = thread::spawn(move || {
            mortal.live(world, 1, || {
                let mut heir = end(pipe, &world.party(1), room, PipeSide::A);
                heir.send_bytes(&message(2)).unwrap();
                std::mem::forget(heir);
            })
        });
        let early = b.try_recv_bytes();
        let lived = dying.join().unwrap();
        let got: Vec<_> = early.into_iter().chain(empty(&mut b)).collect();
        assert!(got == [message(2)] || got.is_empty() && !lived, "{got:?}");
        if !lived {
            let mut last = end(pipe, &me, room, PipeSide::A);
            last.try_send_bytes(&message(3)).unwrap();
            assert_eq!(b.try_recv_bytes().unwrap(), message(3));
        }
        assert_eq!(room.taken_up(), 0);
    });
}
