//! Waiting for several things between real processes.

#![cfg(not(loom))]

#[path = "support/extents.rs"]
mod extents;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use extents::FileExtents;
use support::*;
use swath_sync::{
    DeathCause, Event, InPlace, Party, Peers, Pipe, PipeSide, Plan, Queue, Sentinel, SlotTable, SpscRing,
    WAIT_ANY_MAX, WaitAnyError, Waitable, Witness, try_wait_any, wait_any, wait_any_deadline,
    wait_any_timeout,
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

#[test]
fn each_kind_of_thing_ends_the_wait_and_is_named() {
    let _watchdog = Watchdog::new("each_kind_of_thing_ends_the_wait_and_is_named");
    let me = me();
    let queue: &Queue<u64> = place(Queue::with_capacity(4));
    let event: &Event = place(Event::new());
    let ring: &SpscRing<u64> = place(SpscRing::with_capacity(4));
    let (pipe, files) = (place(Pipe::with_capacity(4)), FileExtents::new());
    let mut consumer = ring.consumer(&me).unwrap();
    let mut end = pipe.end(&me, &files, PipeSide::A).unwrap();
    for which in 0..5 {
        let child = fork(Life::Unwatched, |party| {
            // Only when the other side sleeps.
            std::thread::sleep(Duration::from_millis(3));
            match which {
                0 => queue.put(party, 1).unwrap(),
                1 => event.set(),
                2 => ring.producer(party).unwrap().push(1).unwrap(),
                3 => pipe.end(party, &files, PipeSide::B).unwrap().send_bytes(b"").unwrap(),
                _ => {}
            }
        });
        let sentinel = Sentinel::new(table(), child.id);
        let things: [&dyn Waitable; 5] = [&queue, event, &consumer, &end, &sentinel];
        let found = if which == 4 {
            child.join();
            wait_any(&me, &things)
        } else {
            let found = wait_any(&me, &things);
            child.join();
            found
        };
        assert_eq!(found, Ok(vec![which]));
        match which {
            0 => assert_eq!(queue.try_get(&me), Ok(1)),
            1 => event.clear(),
            2 => assert_eq!(consumer.try_pop(), Ok(1)),
            3 => assert_eq!(end.try_recv_bytes().unwrap(), b""),
            _ => {}
        }
    }
}

/// An end knows its own party: who waits may do so as a party of another table, in which the other end's holder is nobody.
#[test]
fn ends_ask_about_the_parties_of_their_own_table() {
    let _watchdog = Watchdog::new("ends_ask_about_the_parties_of_their_own_table");
    let mine = me();
    // SAFETY: zeroed, aligned, never unmapped.
    let others = unsafe { SlotTable::from_ptr(shared_memory(size_of::<SlotTable>())) };
    // SAFETY: one namespace, no locks.
    unsafe { Peers { same_pids: true, lock_is_free: Arc::new(|_| None) }.register(others) };
    // SAFETY: 1. reserved for this process and for its child; 2. ring and pipe are used with parties of that table only.
    let party = |id| unsafe { Party::of(others, id, std::process::id()) }.unwrap();
    let here = others.reserve().unwrap();
    let ring: &SpscRing<u64> = place(SpscRing::with_capacity(4));
    let (pipe, files) = (place(Pipe::with_capacity(4)), FileExtents::new());
    let consumer = ring.consumer(&party(here)).unwrap();
    let end = pipe.end(&party(here), &files, PipeSide::A).unwrap();
    let things: [&dyn Waitable; 2] = [&consumer, &end];
    for which in 0..2 {
        let there = others.reserve().unwrap();
        let [held] = words();
        let mut child = fork(Life::Unwatched, |_| {
            let _producer = (which == 0).then(|| ring.producer(&party(there)).unwrap());
            let _end = (which == 1).then(|| pipe.end(&party(there), &files, PipeSide::B).unwrap());
            raise(held);
            await_the_end();
        });
        until(|| raised(held));
        // SAFETY: the child has that slot.
        unsafe { others.started(there, child.pid, 0, Witness::Pidfd) };
        assert_eq!(try_wait_any(&mine, &things[which..=which]), Err(WaitAnyError::TimedOut));
        child.kill();
        assert_eq!(wait_any_timeout(&mine, &things[which..=which], Duration::from_secs(20)), Ok(vec![0]));
    }
}

#[test]
fn a_death_during_the_wait_ends_it() {
    let _watchdog = Watchdog::new("a_death_during_the_wait_ends_it");
    let me = me();
    let queue: &Queue<u64> = place(Queue::with_capacity(4));
    let mut child = fork(Life::Unwatched, |_| await_the_end());
    let id = child.id;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let me = swath_sync::Party::current().unwrap();
            let sentinel = Sentinel::new(table(), id);
            wait_any(&me, &[&queue, &sentinel])
        });
        child.kill();
        child.mark_dead(DeathCause::killed_by(9));
        assert_eq!(waiter.join().unwrap(), Ok(vec![1]));
    });
    queue.put(&me, 5).unwrap();
    assert_eq!(wait_any(&me, &[&queue, &Sentinel::new(table(), id)]), Ok(vec![0, 1]));
}

#[test]
fn what_a_dead_reader_had_makes_a_queue_ready() {
    let _watchdog = Watchdog::new("what_a_dead_reader_had_makes_a_queue_ready");
    let me = me();
    let queue: &swath_sync::JoinableQueue<u64> = place(swath_sync::JoinableQueue::with_capacity(4));
    queue.put(&me, 9).unwrap();
    let child = fork(Life::Unwatched, |party| std::mem::forget(queue.get(party).unwrap()));
    child.join();
    assert_eq!(wait_any(&me, &[&queue]), Ok(vec![0]));
    assert_eq!(*queue.try_get(&me).unwrap(), 9);
}

#[test]
fn times_and_numbers() {
    let _watchdog = Watchdog::new("times_and_numbers");
    let me = me();
    let events: Vec<&'static Event> = (0..=WAIT_ANY_MAX).map(|_| place(Event::new())).collect();
    let all: Vec<&dyn Waitable> = events.iter().map(|event| *event as &dyn Waitable).collect();
    assert_eq!(try_wait_any(&me, &all), Err(WaitAnyError::TooMany { number: WAIT_ANY_MAX + 1 }));
    let most = &all[..WAIT_ANY_MAX];
    let start = Instant::now();
    assert_eq!(wait_any_timeout(&me, most, Duration::from_millis(60)), Err(WaitAnyError::TimedOut));
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(try_wait_any(&me, most), Err(WaitAnyError::TimedOut));
    assert_eq!(wait_any_deadline(&me, most, Instant::now()), Err(WaitAnyError::TimedOut));
    let last = WAIT_ANY_MAX - 1;
    let child = fork(Life::Unwatched, |_| {
        std::thread::sleep(Duration::from_millis(3));
        events[last].set();
    });
    assert_eq!(wait_any(&me, most), Ok(vec![last]));
    child.join();
}
