//! Messages of every length through queues and pipes between real processes, some of which are killed.

#![cfg(not(loom))]

#[path = "support/extents.rs"]
mod extents;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use extents::FileExtents;
use support::*;
use swath_sync::{
    DeathCause, INLINE_BYTES_MAX, InPlace, MessageFault, MessageQueue, MessageQueueError, Pipe, PipeEnd,
    PipeError, PipeSide, Plan,
};

fn place<P: Plan>(plan: P) -> &'static P::Object
where
    P::Object: InPlace,
{
    let cells = plan.cells();
    let memory = shared_memory(P::Object::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, large enough, never unmapped.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

/// A message that says its number and length in every word.
fn message(number: u32, len: usize) -> Vec<u8> {
    let mut seed = number.wrapping_mul(2_654_435_761) ^ len as u32;
    let mut bytes = Vec::with_capacity(len + 4);
    while bytes.len() < len {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

const LENGTHS: [usize; 8] = [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 4096, 65_536, 65_537, 3_000_000];

#[test]
fn messages_of_every_length_pass_through_a_queue_and_leave_nothing_behind() {
    let _watchdog = Watchdog::new("messages_of_every_length_pass_through_a_queue_and_leave_nothing_behind");
    let (queue, extents) = (place(MessageQueue::with_capacity(3)), FileExtents::new());
    let putter = fork(Life::Unwatched, |party| {
        for round in 0..5 {
            for len in LENGTHS {
                queue.put(party, &extents, &message(round, len)).unwrap();
            }
        }
        queue.close();
    });
    let me = me();
    for round in 0..5 {
        for len in LENGTHS {
            assert_eq!(queue.get(&me, &extents).unwrap(), message(round, len));
        }
    }
    assert!(matches!(queue.get(&me, &extents), Err(MessageQueueError::Closed)));
    putter.join();
    assert_eq!(extents.taken_up(), 0);
}

#[test]
fn without_room_nothing_is_put_and_nothing_is_lost() {
    let _watchdog = Watchdog::new("without_room_nothing_is_put_and_nothing_is_lost");
    let queue = place(MessageQueue::with_capacity(2));
    let mut extents = FileExtents::new();
    extents.limit = 100_000;
    let me = me();
    for _ in 0..5 {
        match queue.put(&me, &extents, &message(1, 200_000)) {
            Err(MessageQueueError::Message(MessageFault::Extent { len, .. })) => assert_eq!(len, 200_000),
            other => panic!("{other:?}"),
        }
        assert_eq!((queue.len(), extents.taken_up()), (0, 0));
    }
    queue.put(&me, &extents, b"short").unwrap();
    queue.put(&me, &extents, b"").unwrap();
    assert!(matches!(queue.try_put(&me, &extents, b""), Err(MessageQueueError::Full)));
    assert_eq!(queue.get(&me, &extents).unwrap(), b"short");
    assert_eq!(queue.get_timeout(&me, &extents, Duration::MAX).unwrap(), b"");
}

#[test]
fn killed_with_long_messages_nothing_leaks_and_all_that_comes_is_whole() {
    let _watchdog = Watchdog::new("killed_with_long_messages_nothing_leaks_and_all_that_comes_is_whole");
    let (queue, extents) = (place(MessageQueue::with_capacity(4)), FileExtents::new());
    let me = me();
    let [put, got]: &[AtomicU32; 2] = words();
    for round in 0..40 {
        let before = (put.load(Ordering::SeqCst), got.load(Ordering::SeqCst));
        let mut putter = fork(Life::Unwatched, |party| {
            loop {
                queue.put(party, &extents, &message(7, 300_000)).unwrap();
                raise(put);
            }
        });
        let mut getter = fork(Life::Unwatched, |party| {
            loop {
                assert_eq!(queue.get(party, &extents).unwrap(), message(7, 300_000));
                raise(got);
            }
        });
        until(|| put.load(Ordering::SeqCst) > before.0 + round % 7 && got.load(Ordering::SeqCst) > before.1);
        for child in [&mut putter, &mut getter] {
            child.kill();
            child.mark_dead(DeathCause::killed_by(9));
        }
        loop {
            match queue.try_get(&me, &extents) {
                Ok(whole) => assert_eq!(whole, message(7, 300_000)),
                Err(MessageQueueError::Empty { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(extents.taken_up(), 0, "round {round}");
    }
}

#[test]
fn two_ends_talk() {
    let _watchdog = Watchdog::new("two_ends_talk");
    let (pipe, extents) = (place(Pipe::with_capacity(4)), FileExtents::new());
    let child = fork(Life::Unwatched, |party| {
        let mut end = pipe.end(party, &extents, PipeSide::B).unwrap();
        loop {
            match end.recv_bytes() {
                Ok(mut question) => {
                    question.reverse();
                    end.send_bytes(&question).unwrap();
                }
                Err(PipeError::Closed) => break,
                Err(other) => panic!("{other}"),
            }
        }
    });
    let me = me();
    let mut end = pipe.end(&me, &extents, PipeSide::A).unwrap();
    assert!(!end.poll(Duration::from_millis(2)));
    for round in 0..5 {
        for len in LENGTHS {
            let mut question = message(round, len);
            end.send_bytes(&question).unwrap();
            assert!(end.poll(Duration::MAX));
            question.reverse();
            assert_eq!(end.recv_bytes().unwrap(), question);
        }
    }
    assert!(matches!(end.recv_bytes_timeout(Duration::from_millis(2)), Err(PipeError::TimedOut)));
    assert!(matches!(end.try_recv_bytes(), Err(PipeError::TimedOut)));
    pipe.close();
    child.join();
    assert!(end.poll(Duration::ZERO) && matches!(end.recv_bytes(), Err(PipeError::Closed)));
    assert_eq!(extents.taken_up(), 0);
}

#[test]
fn a_dead_end_is_told_and_taken_over() {
    let _watchdog = Watchdog::new("a_dead_end_is_told_and_taken_over");
    let (pipe, extents) = (place(Pipe::with_capacity(4)), FileExtents::new());
    let me = me();
    let [sent]: &[AtomicU32; 1] = words();
    let mut child = fork(Life::Unwatched, |party| {
        let mut end = pipe.end(party, &extents, PipeSide::B).unwrap();
        end.send_bytes(&message(1, 500)).unwrap();
        end.send_bytes(&message(2, 5)).unwrap();
        raise(sent);
        await_the_end()
    });
    until(|| raised(sent));
    let mut end = pipe.end(&me, &extents, PipeSide::A).unwrap();
    match pipe.end(&me, &extents, PipeSide::B) {
        Err(PipeError::Held { holder }) => assert_eq!(holder.pid, child.pid),
        other => panic!("{other:?}"),
    }
    child.kill();
    child.mark_dead(DeathCause::killed_by(9));
    assert_eq!(end.recv_bytes().unwrap(), message(1, 500));
    assert_eq!(end.recv_bytes().unwrap(), message(2, 5));
    match end.recv_bytes() {
        Err(PipeError::PeerDied { who }) => assert_eq!((who.slot, who.pid), (child.id, child.pid)),
        other => panic!("{other:?}"),
    }
    let heir = fork(Life::Unwatched, |party| {
        let mut end = pipe.end(party, &extents, PipeSide::B).unwrap();
        end.send_bytes(b"heir").unwrap();
    });
    heir.join();
    assert_eq!(end.recv_bytes().unwrap(), b"heir");
}

fn talk(end: &mut PipeEnd<'_>, done: &AtomicU32, receives: bool) {
    loop {
        let result = if receives {
            end.recv_bytes().map(|whole| assert!(whole == message(1, 200_000) || whole == message(1, 50)))
        } else {
            let len = if done.load(Ordering::SeqCst).is_multiple_of(2) { 200_000 } else { 50 };
            end.send_bytes(&message(1, len))
        };
        match result {
            Ok(()) => raise(done),
            Err(PipeError::PeerDied { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn ends_that_are_killed_leave_whole_messages_and_no_room_taken() {
    let _watchdog = Watchdog::new("ends_that_are_killed_leave_whole_messages_and_no_room_taken");
    let (pipe, extents) = (place(Pipe::with_capacity(2)), FileExtents::new());
    let me = me();
    let [sent, received]: &[AtomicU32; 2] = words();
    for round in 0..40 {
        let before = (sent.load(Ordering::SeqCst), received.load(Ordering::SeqCst));
        let mut children =
            [(PipeSide::A, false, sent), (PipeSide::B, true, received)].map(|(side, receives, done)| {
                let extents = &extents;
                fork(Life::Unwatched, move |party| {
                    talk(&mut pipe.end(party, extents, side).unwrap(), done, receives)
                })
            });
        until(|| {
            sent.load(Ordering::SeqCst) > before.0 + round % 5 && received.load(Ordering::SeqCst) > before.1
        });
        for child in &mut children {
            child.kill();
            child.mark_dead(DeathCause::killed_by(9));
        }
        let mut b = pipe.end(&me, &extents, PipeSide::B).unwrap();
        loop {
            match b.recv_bytes() {
                Ok(whole) => assert!(whole == message(1, 200_000) || whole == message(1, 50)),
                Err(PipeError::PeerDied { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        // The one who died sending has no heir yet, and left nothing.
        assert_eq!(extents.taken_up(), 0, "round {round}");
    }
}
