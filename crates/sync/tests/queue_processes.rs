//! The queue between real processes, some of which are killed.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use support::*;
use swath_sync::{InPlace, JoinableQueue, Plan, Queue, QueueError, SLICE, SimpleQueue};

fn place<P: Plan>(plan: P) -> &'static P::Object
where
    P::Object: InPlace,
{
    let cells = plan.cells();
    let layout = P::Object::layout(cells).unwrap();
    let memory = shared_memory(layout.size());
    // SAFETY: zeroed, aligned to a page, large enough, never unmapped.
    unsafe {
        plan.place(memory);
        P::Object::at(memory, cells)
    }
}

fn queue(capacity: usize) -> &'static Queue<u64> {
    place(Queue::with_capacity(capacity))
}

#[test]
fn everything_put_is_got_once_and_in_each_putters_order() {
    let _watchdog = Watchdog::new("everything_put_is_got_once_and_in_each_putters_order");
    const PUTTERS: u64 = 3;
    const EACH: u64 = 20_000;
    let queue = queue(7);
    let seen: &[AtomicU32; PUTTERS as usize] = words();
    let putters: Vec<_> = (0..PUTTERS)
        .map(|who| {
            fork(Life::Unwatched, move |party| {
                (0..EACH).for_each(|n| queue.put(party, who << 32 | n).unwrap());
            })
        })
        .collect();
    let getters = [(); 2].map(|()| {
        fork(Life::Unwatched, |party| {
            let mut last = [None; PUTTERS as usize];
            loop {
                match queue.get(party) {
                    Ok(item) => {
                        let (who, n) = ((item >> 32) as usize, item as u32);
                        assert!(last[who].is_none_or(|last| last < n), "out of order");
                        last[who] = Some(n);
                        seen[who].fetch_add(1, Ordering::Relaxed);
                    }
                    Err(QueueError::Closed) => break,
                    Err(other) => panic!("{other}"),
                }
            }
        })
    });
    Child::join_all(putters);
    queue.close();
    Child::join_all(getters);
    assert!(seen.iter().all(|seen| u64::from(seen.load(Ordering::Relaxed)) == EACH));
    assert!(queue.is_empty());
}

#[test]
fn putters_and_getters_that_are_killed_lose_nothing_of_others() {
    let _watchdog = Watchdog::new("putters_and_getters_that_are_killed_lose_nothing_of_others");
    let queue = queue(5);
    let me = me();
    let [put, got]: &[AtomicU32; 2] = words();
    for round in 0..60_u32 {
        let before = (put.load(Ordering::SeqCst), got.load(Ordering::SeqCst));
        let mut putter = fork(Life::Unwatched, |party| {
            loop {
                let number = put.load(Ordering::SeqCst);
                queue.put(party, u64::from(number)).unwrap();
                put.store(number + 1, Ordering::SeqCst);
            }
        });
        let mut getter = fork(Life::Unwatched, |party| {
            loop {
                queue.get(party).unwrap();
                raise(got);
            }
        });
        until(|| put.load(Ordering::SeqCst) > before.0 + round && got.load(Ordering::SeqCst) > before.1);
        for child in [&mut putter, &mut getter] {
            child.kill();
            child.mark_dead(swath_sync::DeathCause::killed_by(9));
        }
        // Whatever they were at: between what was noted and one more of each.
        let mut left = 0;
        while queue.try_get(&me).is_ok() {
            left += 1;
        }
        let (put_now, got_now) = (put.load(Ordering::SeqCst), got.load(Ordering::SeqCst));
        let balance = i64::from(put_now) - i64::from(got_now) - i64::from(left);
        assert!((-1..=1).contains(&balance), "{put_now} put, {got_now} got, {left} left");
        got.store(put_now, Ordering::SeqCst);
        for number in 0..5 {
            queue.try_put(&me, number).expect("all room is there again");
        }
        assert_eq!(queue.try_put(&me, 5), Err(QueueError::Full));
        (0..5).for_each(|number| assert_eq!(queue.try_get(&me), Ok(number)));
    }
}

#[test]
fn who_dies_writing_leaves_no_trace_and_who_dies_reading_leaves_the_item() {
    let _watchdog = Watchdog::new("who_dies_writing_leaves_no_trace_and_who_dies_reading_leaves_the_item");
    let queue = queue(4);
    let me = me();
    let [inside]: &[AtomicU32; 1] = words();
    for life in [Life::Watched, Life::Unwatched] {
        inside.store(0, Ordering::SeqCst);
        let mut child = fork(life, |party| {
            let _ = queue.put_with(party, |item| -> Result<(), ()> {
                *item = 1;
                raise(inside);
                await_the_end()
            });
        });
        until(|| raised(inside));
        queue.put(&me, 2).unwrap();
        // Slow is not dead: the turn is kept, and the error says whose it is.
        match queue.get_timeout(&me, SLICE) {
            Err(QueueError::Empty { behind: Some(who) }) => assert_eq!(who.pid, child.pid),
            other => panic!("{other:?}"),
        }
        child.kill();
        child.mark_dead(swath_sync::DeathCause::killed_by(9));
        assert_eq!(queue.get(&me), Ok(2));

        inside.store(0, Ordering::SeqCst);
        queue.put(&me, 3).unwrap();
        let mut child = fork(life, |party| {
            let _ = queue.get_with(party, |_| -> () {
                raise(inside);
                await_the_end()
            });
        });
        until(|| raised(inside));
        queue.put(&me, 4).unwrap();
        assert_eq!(queue.get(&me), Ok(4), "a reader holds up nobody");
        assert_eq!(queue.try_get(&me), Err(QueueError::Empty { behind: None }));
        child.kill();
        child.mark_dead(swath_sync::DeathCause::killed_by(9));
        assert_eq!(queue.get(&me), Ok(3));
        assert_eq!(queue.try_get(&me), Err(QueueError::Empty { behind: None }));
    }
}

#[test]
fn an_item_in_hand_does_not_hold_up_those_that_come_after() {
    let _watchdog = Watchdog::new("an_item_in_hand_does_not_hold_up_those_that_come_after");
    let queue: &JoinableQueue<u64> = place(JoinableQueue::with_capacity(3));
    let me = me();
    queue.put(&me, 100).unwrap();
    let held = queue.get(&me).unwrap();
    for number in 0..50 {
        queue.try_put(&me, number).unwrap();
        queue.try_put(&me, number + 1000).unwrap();
        assert_eq!(queue.try_put(&me, 0), Err(QueueError::Full));
        for expected in [number, number + 1000] {
            let delivery = queue.try_get(&me).unwrap();
            assert_eq!(*delivery, expected);
            delivery.done();
        }
        assert!(!queue.try_join(&me));
    }
    queue.put(&me, 7).unwrap();
    drop(held); // comes back
    let mut left: Vec<u64> = (0..2)
        .map(|_| {
            let delivery = queue.try_get(&me).unwrap();
            let item = *delivery;
            delivery.done();
            item
        })
        .collect();
    left.sort_unstable();
    assert_eq!(left, [7, 100]);
    assert!(queue.try_join(&me) && queue.queue().is_empty());
}

#[test]
fn what_a_dead_reader_had_is_the_next_ones() {
    let _watchdog = Watchdog::new("what_a_dead_reader_had_is_the_next_ones");
    let queue: &JoinableQueue<u64> = place(JoinableQueue::with_capacity(2));
    let me = me();
    for round in 0..5 {
        let child = fork(Life::Unwatched, |party| {
            queue.try_put(party, 5).unwrap();
            std::mem::forget(queue.try_get(party).unwrap());
        });
        child.join();
        if round % 2 == 1 {
            assert_eq!(queue.try_put(&me, 6), Ok(()));
        }
        // What comes back comes when somebody looks for it, which who finds an item at once does not.
        let mut got = Vec::new();
        while let Ok(delivery) = queue.try_get(&me) {
            got.push(*delivery);
            delivery.done();
        }
        got.sort_unstable();
        assert_eq!(got, if round % 2 == 1 { vec![5, 6] } else { vec![5] });
        for item in 0..2 {
            queue.try_put(&me, item).unwrap();
        }
        for item in 0..2 {
            let delivery = queue.try_get(&me).unwrap();
            assert_eq!(*delivery, item);
            delivery.done();
        }
    }
}

#[test]
fn join_returns_when_all_is_done_whoever_dies() {
    let _watchdog = Watchdog::new("join_returns_when_all_is_done_whoever_dies");
    const ITEMS: u64 = 200;
    let queue: &JoinableQueue<u64> = place(JoinableQueue::with_capacity(8));
    let me = me();
    let done: &[AtomicU32; ITEMS as usize] = words();
    let [holding]: &[AtomicU32; 1] = words();
    let mut doomed = fork(Life::Unwatched, |party| {
        let _delivery = queue.get(party).unwrap();
        raise(holding);
        await_the_end()
    });
    queue.put(&me, 0).unwrap();
    until(|| raised(holding));
    assert!(!queue.join_timeout(&me, Duration::from_millis(5)));
    let workers = [(); 2].map(|()| {
        fork(Life::Unwatched, |party| {
            while let Ok(delivery) = queue.get(party) {
                raise(&done[*delivery as usize]);
                delivery.done();
            }
        })
    });
    for item in 1..ITEMS {
        queue.put(&me, item).unwrap();
    }
    doomed.kill();
    doomed.mark_dead(swath_sync::DeathCause::killed_by(9));
    queue.join(&me);
    assert!(done.iter().all(|done| done.load(Ordering::SeqCst) == 1));
    queue.queue().close();
    Child::join_all(workers);
    assert!(queue.try_join(&me));
}

#[test]
fn waits_end_in_time_and_by_close() {
    let _watchdog = Watchdog::new("waits_end_in_time_and_by_close");
    let queue = queue(1);
    let me = me();
    let start = Instant::now();
    assert!(matches!(queue.get_timeout(&me, Duration::from_millis(80)), Err(QueueError::Empty { .. })));
    assert!(start.elapsed() >= Duration::from_millis(80));
    queue.put_timeout(&me, 1, Duration::MAX).unwrap();
    assert_eq!(queue.put_timeout(&me, 2, Duration::ZERO), Err(QueueError::Full));
    assert_eq!(queue.put_deadline(&me, 2, Instant::now()), Err(QueueError::Full));
    let child = fork(Life::Unwatched, |party| {
        assert_eq!(queue.put(party, 2), Err(QueueError::Closed));
    });
    until(|| child.state() == 'S');
    queue.close();
    child.join();
    assert_eq!(queue.try_put(&me, 3), Err(QueueError::Closed));
    assert_eq!((queue.get(&me), queue.get(&me)), (Ok(1), Err(QueueError::Closed)));
}

#[test]
fn a_put_that_fails_or_panics_takes_no_room() {
    let _watchdog = Watchdog::new("a_put_that_fails_or_panics_takes_no_room");
    let queue = queue(2);
    let me = me();
    for _ in 0..5 {
        assert_eq!(queue.put_with(&me, |_| Err("bad")), Ok(Err("bad")));
        let panics = std::panic::AssertUnwindSafe(|| {
            queue.put_with(&me, |_| -> Result<(), ()> { panic!("on purpose") })
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(queue.len(), 0);
    }
    let write = |item: &mut u64| {
        *item = 9;
        Ok::<_, ()>(())
    };
    queue.put_with(&me, write).unwrap().unwrap();
    queue.put(&me, 8).unwrap();
    let panics = std::panic::AssertUnwindSafe(|| queue.get_with(&me, |_| -> () { panic!("on purpose") }));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(queue.get_with(&me, |item| *item), Ok(9));
    assert_eq!(queue.get(&me), Ok(8));
}

#[test]
fn a_simple_queue_is_a_queue() {
    let queue: &SimpleQueue<u32> = place(SimpleQueue::new());
    let me = me();
    assert!(queue.empty());
    queue.put(&me, 5).unwrap();
    assert!(!queue.empty());
    assert_eq!(queue.get(&me), Ok(5));
}
