//! The ring between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{DeathCause, InPlace, Plan, RingError, SpscRing};

fn ring(capacity: usize) -> &'static SpscRing<u64> {
    let plan = SpscRing::<u64>::with_capacity(capacity);
    let cells = plan.cells();
    let memory = shared_memory(SpscRing::<u64>::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, large enough, never unmapped; zero is an empty ring.
    unsafe { SpscRing::at(memory, cells) }
}

/// Until the one who died has an heir.
fn patiently<R>(mut attempt: impl FnMut() -> Result<R, RingError>) -> R {
    loop {
        match attempt() {
            Err(RingError::PeerDied { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

#[test]
fn everything_arrives_in_order() {
    let _watchdog = Watchdog::new("everything_arrives_in_order");
    const ITEMS: u64 = 200_000;
    let ring = ring(5);
    assert_eq!(ring.capacity(), 8);
    let producer = fork(Life::Unwatched, |party| {
        let mut end = ring.producer(party).unwrap();
        (0..ITEMS).for_each(|item| end.push(item).unwrap());
        ring.close();
    });
    let me = me();
    let mut end = ring.consumer(&me).unwrap();
    (0..ITEMS).for_each(|item| assert_eq!(end.pop(), Ok(item)));
    assert_eq!(end.pop(), Err(RingError::Closed));
    producer.join();
}

#[test]
fn a_living_ones_end_cannot_be_had_and_a_dead_ones_can() {
    let _watchdog = Watchdog::new("a_living_ones_end_cannot_be_had_and_a_dead_ones_can");
    let ring = ring(4);
    let me = me();
    let [there]: &[AtomicU32; 1] = words();
    let mut child = fork(Life::Unwatched, |party| {
        let mut end = ring.producer(party).unwrap();
        end.push(1).unwrap();
        end.push(2).unwrap();
        raise(there);
        await_the_end()
    });
    until(|| raised(there));
    match ring.producer(&me) {
        Err(RingError::Held { holder }) => assert_eq!(holder.pid, child.pid),
        other => panic!("{other:?}"),
    }
    child.kill();
    child.mark_dead(DeathCause::killed_by(9));
    let mut end = ring.consumer(&me).unwrap();
    assert_eq!((end.pop(), end.pop()), (Ok(1), Ok(2)), "what it had pushed is delivered");
    match end.pop() {
        Err(RingError::PeerDied { who }) => assert_eq!((who.slot, who.pid), (child.id, child.pid)),
        other => panic!("{other:?}"),
    }
    let mut heir = ring.producer(&me).unwrap();
    heir.push(3).unwrap();
    assert_eq!((end.pop(), end.try_pop()), (Ok(3), Err(RingError::Empty)));
    drop(end);
    assert!(ring.consumer(&me).is_ok(), "an end that was given back is free");
}

#[test]
fn ends_that_are_killed_again_and_again_lose_and_double_nothing() {
    let _watchdog = Watchdog::new("ends_that_are_killed_again_and_again_lose_and_double_nothing");
    let ring = ring(4);
    let [pushed, popped, wrong]: &[AtomicU32; 3] = words();
    for round in 0..80_u32 {
        let (pushed_before, popped_before) = (pushed.load(Ordering::SeqCst), popped.load(Ordering::SeqCst));
        let mut producer = fork(Life::Unwatched, |party| {
            let mut end = ring.producer(party).unwrap();
            loop {
                // Pushed and not noted, by the one before? Then it lies in the ring, or has been popped.
                let next = pushed.load(Ordering::SeqCst);
                patiently(|| end.push(u64::from(next)));
                pushed.store(next + 1, Ordering::SeqCst);
            }
        });
        let mut consumer = fork(Life::Unwatched, |party| {
            let mut end = ring.consumer(party).unwrap();
            loop {
                let item = patiently(|| end.pop()) as u32;
                // Again only if the one before pushed or popped it and did not come to note that.
                let expected = popped.load(Ordering::SeqCst);
                if item != expected && item + 1 != expected && item != expected + 1 {
                    raise(wrong);
                }
                popped.store(item + 1, Ordering::SeqCst);
            }
        });
        until(|| {
            raised(wrong)
                || (pushed.load(Ordering::SeqCst) > pushed_before + round
                    && popped.load(Ordering::SeqCst) > popped_before + 1)
        });
        for child in [&mut producer, &mut consumer] {
            child.kill();
            child.mark_dead(DeathCause::killed_by(9));
        }
        assert!(!raised(wrong), "an item was lost or came late");
    }
}

#[test]
fn waits_end_in_time() {
    let _watchdog = Watchdog::new("waits_end_in_time");
    let ring = ring(1);
    let me = me();
    let (mut producer, mut consumer) = (ring.producer(&me).unwrap(), ring.consumer(&me).unwrap());
    let start = Instant::now();
    assert_eq!(consumer.pop_timeout(Duration::from_millis(70)), Err(RingError::Empty));
    assert!(start.elapsed() >= Duration::from_millis(70));
    producer.push_timeout(1, Duration::MAX).unwrap();
    assert_eq!(producer.push_timeout(2, Duration::from_millis(2)), Err(RingError::Full));
    assert_eq!(producer.try_push(2), Err(RingError::Full));
    assert_eq!(consumer.pop_deadline(Instant::now()), Ok(1));
    ring.close();
    assert_eq!((producer.push(1), consumer.pop()), (Err(RingError::Closed), Err(RingError::Closed)));
}
