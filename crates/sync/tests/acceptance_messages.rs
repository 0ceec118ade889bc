//! What was asked of queues, pipes and lists, by the names of the requirements.

#![cfg(not(loom))]

#[path = "support/extents.rs"]
mod extents;
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use extents::FileExtents;
use support::*;
use swath_sync::{
    InPlace, JoinableQueue, ListError, ListValue, MessageQueue, MessageQueueError, Plan, Queue, QueueError,
    ShareableList, SpscRing,
};

/// An object in memory that children share; and where it is, for a second look at it.
fn place_at<P: Plan>(plan: P) -> (&'static P::Object, *mut u8, usize)
where
    P::Object: InPlace,
{
    let cells = plan.cells();
    let memory = shared_memory(P::Object::layout(cells).unwrap().size());
    // SAFETY: zeroed, aligned to a page, large enough, never unmapped.
    unsafe {
        plan.place(memory);
        (P::Object::at(memory, cells), memory, cells)
    }
}

fn place<P: Plan>(plan: P) -> &'static P::Object
where
    P::Object: InPlace,
{
    place_at(plan).0
}

fn kill(mut child: Child) {
    child.bury();
}

/// SIGKILL in the receiver's and in the sender's critical section, and a record written by half: the siblings go on, the
/// torn record is never seen.
#[test]
fn c07_dies_inside_the_channel() {
    let _watchdog = Watchdog::new("c07_dies_inside_the_channel");
    let me = me();
    let [inside]: &[AtomicU32; 1] = words();

    // (a) In the middle of taking: the item goes to a sibling.
    let queue: &Queue<[u64; 32]> = place(Queue::with_capacity(4));
    queue.put(&me, [7; 32]).unwrap();
    let child = fork(Life::Watched, |party| {
        let _ = queue.get_with(party, |_| -> () {
            raise(inside);
            await_the_end()
        });
    });
    until(|| raised(inside));
    kill(child);
    let sibling = fork(Life::Watched, |party| assert_eq!(queue.get(party), Ok([7; 32])));
    sibling.join();

    // (b) In the middle of putting, half written: the siblings' items pass it.
    inside.store(0, Ordering::SeqCst);
    let child = fork(Life::Watched, |party| {
        let _ = queue.put_with(party, |item| -> Result<(), ()> {
            item[..16].fill(9);
            raise(inside);
            await_the_end()
        });
    });
    until(|| raised(inside));
    queue.put(&me, [8; 32]).unwrap();
    kill(child);
    assert_eq!(queue.get(&me), Ok([8; 32]));
    assert!(queue.is_empty());

    // (c) A long message, killed at any moment of many: whole or not there, and nothing of it left behind.
    let (messages, extents) = (place(MessageQueue::with_capacity(8)), FileExtents::new());
    for delay in 0..30 {
        inside.store(0, Ordering::SeqCst);
        let child = fork(Life::Watched, |party| {
            raise(inside);
            loop {
                messages.put(party, &extents, &[delay as u8; 2_000_000]).unwrap();
            }
        });
        until(|| raised(inside));
        std::thread::sleep(Duration::from_micros(100 * delay));
        kill(child);
        loop {
            match messages.try_get(&me, &extents) {
                Ok(whole) => {
                    assert!(whole.len() == 2_000_000 && whole.iter().all(|byte| *byte == delay as u8))
                }
                Err(MessageQueueError::Empty { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(extents.taken_up(), 0);
    }
}

#[test]
fn c31_queue_limits_and_times() {
    let _watchdog = Watchdog::new("c31_queue_limits_and_times");
    let me = me();
    let queue: &Queue<u64> = place(Queue::with_capacity(6));
    let never_early = |wait: Duration, attempt: &dyn Fn() -> bool| {
        let start = Instant::now();
        assert!(attempt());
        assert!(start.elapsed() >= wait, "{:?} is less than {wait:?}", start.elapsed());
    };
    let is_empty = |result| matches!(result, Err(QueueError::Empty { .. }));
    let (long, longer) = (Duration::from_millis(820), Duration::from_millis(1400));

    never_early(Duration::ZERO, &|| is_empty(queue.try_get(&me)));
    never_early(Duration::from_millis(200), &|| is_empty(queue.get_timeout(&me, Duration::from_millis(200))));
    never_early(long, &|| is_empty(queue.get_timeout(&me, long)));
    never_early(longer, &|| is_empty(queue.get_deadline(&me, Instant::now() + longer)));

    for item in 0..6 {
        queue.try_put(&me, item).unwrap();
        assert_eq!(queue.len() as u64, item + 1);
    }
    never_early(Duration::ZERO, &|| queue.try_put(&me, 6) == Err(QueueError::Full));
    never_early(long, &|| queue.put_timeout(&me, 6, long) == Err(QueueError::Full));
    never_early(longer, &|| queue.put_deadline(&me, 6, Instant::now() + longer) == Err(QueueError::Full));
    assert_eq!(queue.len(), 6);

    // A bad item is an error of its put and takes up no room.
    assert_eq!(queue.try_get(&me), Ok(0));
    for _ in 0..10 {
        assert_eq!(queue.put_with(&me, |_| Err::<(), _>("bad item")), Ok(Err("bad item")));
    }
    assert_eq!(queue.len(), 5);
    queue.try_put(&me, 6).unwrap();

    queue.close();
    assert_eq!(queue.put(&me, 7), Err(QueueError::Closed));
    for item in 1..=6 {
        assert_eq!(queue.get(&me), Ok(item));
    }
    assert_eq!(queue.get(&me), Err(QueueError::Closed));
    assert_eq!(queue.len(), 0);
}

#[test]
fn c40b_lists() {
    let _watchdog = Watchdog::new("c40b_lists");
    let me = me();
    let values: Vec<ListValue> = vec![
        "some".into(),
        1.5.into(),
        (-100).into(),
        true.into(),
        ListValue::None,
        (&[1_u8, 2, 0, 0]).into(),
        "neighbour".into(),
    ];
    let (list, memory, cells) = place_at(ShareableList::of(values.clone()));
    assert_eq!(list.to_vec(), Ok(values.clone()));
    assert_eq!(list.get(7), Err(ListError::Index { index: 7, len: 7 }));
    assert_eq!(list.set(&me, 7, 1), Err(ListError::Index { index: 7, len: 7 }));

    assert_eq!(list.set(&me, 0, "far too many"), Err(ListError::TooLong { index: 0, needed: 12, room: 8 }));
    assert_eq!(list.to_vec(), Ok(values.clone()), "the old value is kept");
    assert_eq!("encodés".len(), 8);
    list.set(&me, 0, "encodés").unwrap();
    assert_eq!(list.set(&me, 0, "encodés!"), Err(ListError::TooLong { index: 0, needed: 9, room: 8 }));
    assert_eq!(
        (list.get(0), list.get(1)),
        (Ok("encodés".into()), Ok(1.5.into())),
        "the neighbour is untouched"
    );
    assert_eq!(list.get(5), Ok((&[1_u8, 2, 0, 0]).into()), "zeros at the end are kept");

    // SAFETY: as the first one.
    let second: &ShareableList = unsafe { ShareableList::at(memory, cells) };
    second.set(&me, 6, "second").unwrap();
    assert_eq!(list.get(6), Ok("second".into()));
    fork(Life::Watched, |party| second.set(party, 6, "child").unwrap()).join();
    assert_eq!((list.get(6), list.count("child"), list.index_of("child")), (Ok("child".into()), 1, Some(6)));
}

/// Pushes are all or nothing, what was in a dead popper's hands is delivered to exactly one. (At every instruction:
/// `swath-torture steps --op queue-put`, `queue-get`, `ring-push`, `ring-pop`.)
#[test]
fn a10_killed_in_the_middle_of_push_and_pop() {
    let _watchdog = Watchdog::new("a10_killed_in_the_middle_of_push_and_pop");
    const ITEMS: usize = 3000;
    let queue: &JoinableQueue<u64> = place(JoinableQueue::with_capacity(16));
    let ring: &SpscRing<u64> = place(SpscRing::with_capacity(16));
    let me = me();
    // Done, by number. Who dies between its effect and its `done` has it done twice, in a row.
    let done: &[AtomicU32; ITEMS] = words();
    let mut kills = 0;
    let worker = || {
        fork(Life::Unwatched, |party| {
            while let Ok(delivery) = queue.get(party) {
                let number = *delivery as usize;
                delivery.done();
                raise(&done[number]);
            }
        })
    };
    let mut victims = vec![worker(), worker()];
    for number in 0..ITEMS {
        queue.put(&me, number as u64).unwrap();
        if number % 50 == 49 {
            kill(victims.remove(0));
            kills += 1;
            victims.push(worker());
        }
    }
    queue.join(&me);
    queue.queue().close();
    Child::join_all(victims);
    let twice = done.iter().filter(|done| done.load(Ordering::SeqCst) > 1).count();
    let missing = done.iter().filter(|done| done.load(Ordering::SeqCst) == 0).count();
    assert_eq!(twice, 0, "delivered to two");
    assert!(
        missing <= kills,
        "{missing} lost by {kills} deaths: at most the one whose done was not noted any more"
    );

    // The same through a ring: what the one end pushed whole arrives, in order.
    for _ in 0..30 {
        let [pushed]: &[AtomicU32; 1] = words();
        let mut end = ring.consumer(&me).unwrap();
        let child = fork(Life::Unwatched, |party| {
            let mut end = ring.producer(party).unwrap();
            for item in 0.. {
                end.push(item).unwrap();
                raise(pushed);
            }
        });
        // The one who died before has an heir by and by.
        let first = loop {
            match end.pop() {
                Err(swath_sync::RingError::PeerDied { .. }) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        let mut next = first;
        while next < first + 40 {
            next += 1;
            assert_eq!(end.pop(), Ok(next));
        }
        kill(child);
        while let Ok(item) = end.pop() {
            next += 1;
            assert_eq!(item, next);
        }
        let noted = u64::from(pushed.load(Ordering::SeqCst));
        assert!(next + 1 == noted || next == noted, "{next} arrived, {noted} were noted");
    }
}
