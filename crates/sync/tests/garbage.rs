//! What lies in shared memory may be anything, and change while it is used: an error or a wrong value, never a panic, an
//! access beyond the object, or a wait beyond the deadline.
//!
//! Each object lies between two pages that nobody may touch, begins as garbage, and has a thread that flips its bits. Short by
//! default; `SWATH_FULL=1` for minutes.

#![cfg(not(loom))]

#[path = "support/extents.rs"]
mod extents;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use extents::FileExtents;
use support::*;
use swath_sync::{
    BoundedSemaphore, Event, InPlace, JoinableQueue, MessageQueue, Mutex, Once, Party, Pipe, PipeSide, Plan,
    Queue, RecursiveMutex, RwLock, Semaphore, ShareableList, SimpleQueue, SpscRing, Waitable,
    wait_any_timeout,
};

const PAGE: usize = 4096;
/// How long each call may wait.
const PATIENCE: Duration = Duration::from_micros(300);
/// No call is so slow that it takes longer, unless it waits on and on.
const FAR_BEYOND: Duration = Duration::from_secs(20);

/// xorshift: good enough to make garbage, and repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Memory for an object that ends where a forbidden page begins, as far as its alignment allows.
fn fenced(size: usize, align: usize) -> *mut u8 {
    let room = size.next_multiple_of(PAGE);
    let memory = shared_memory(room + 2 * PAGE);
    // SAFETY: the first and the last page of our own mapping.
    unsafe {
        assert_eq!(libc::mprotect(memory.cast(), PAGE, libc::PROT_NONE), 0);
        assert_eq!(libc::mprotect(memory.add(PAGE + room).cast(), PAGE, libc::PROT_NONE), 0);
        memory.add(PAGE + (room - size) / align * align)
    }
}

/// Uses an object again and again: whole at first, then garbage from the beginning, always with bits that flip.
fn torment<P: Plan>(name: &'static str, plan: impl Fn() -> P, usage: impl Fn(&P::Object, &Party, &mut Dice))
where
    P::Object: InPlace + Sync,
{
    let _watchdog = Watchdog::new(name);
    let full = std::env::var_os("SWATH_FULL").is_some();
    let (rounds, uses) = if full { (400, 400) } else { (24, 40) };
    let me = me();
    let mut dice = Dice(0x5EED ^ ((name.len() as u64) << 32));
    let cells = plan().cells();
    let layout = P::Object::layout(cells).unwrap();
    let memory = fenced(layout.size(), layout.align());
    // SAFETY: the object's own bytes, as atomics.
    let bytes = unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU8>(), layout.size()) };
    let begun = Instant::now();
    for round in 0..rounds {
        if full && begun.elapsed() > Duration::from_secs(25) {
            break;
        }
        bytes.iter().for_each(|byte| byte.store(0, Ordering::Relaxed));
        // SAFETY: zero, aligned, large enough; nobody else looks yet.
        unsafe { plan().place(memory) };
        // Few bytes of it, or all; near the beginning are the words that matter most.
        let wrong = [0, 1, 4, 64, layout.size()][round % 5];
        for _ in 0..wrong {
            let span = if dice.roll().is_multiple_of(2) { layout.size() } else { layout.size().min(512) };
            bytes[dice.roll() as usize % span].store(dice.roll() as u8, Ordering::Relaxed);
        }
        // SAFETY: placed above; whatever is written there since is what this test is about.
        let object: &P::Object = unsafe { P::Object::at(memory, cells) };
        let stop = AtomicBool::new(false);
        let seed = dice.roll();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice(seed);
                while !stop.load(Ordering::Relaxed) {
                    let span = if dice.roll().is_multiple_of(4) { bytes.len() } else { bytes.len().min(512) };
                    let bit = 1 << (dice.roll() % 8);
                    bytes[dice.roll() as usize % span].fetch_xor(bit, Ordering::Relaxed);
                    for _ in 0..dice.roll() % 2000 {
                        std::hint::spin_loop();
                    }
                }
            });
            for _ in 0..uses {
                let start = Instant::now();
                usage(object, &me, &mut dice);
                assert!(start.elapsed() < FAR_BEYOND, "{name}: a call waited beyond its deadline");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// A garbage end of a lane may stay taken by somebody who is alive: then there is nothing to try.
macro_rules! or_return {
    ($end:expr) => {
        match $end {
            Ok(end) => end,
            Err(_) => return,
        }
    };
}

#[test]
fn queues() {
    torment(
        "garbage: queue",
        || Queue::<[u64; 3]>::with_capacity(5),
        |queue, me, dice| match dice.roll() % 6 {
            0 => drop(queue.put_timeout(me, [1; 3], PATIENCE)),
            1 => drop(queue.try_put(me, [2; 3])),
            2 => drop(queue.try_get(me)),
            3 => drop(queue.get_timeout(me, PATIENCE)),
            4 => drop((queue.len(), queue.is_empty(), queue.capacity(), format!("{queue:?}"))),
            _ => {
                let things: [&dyn Waitable; 1] = [&queue];
                let _ = wait_any_timeout(me, &things, PATIENCE);
            }
        },
    );
    torment(
        "garbage: joinable queue",
        || JoinableQueue::<u32>::with_capacity(3),
        |queue, me, dice| match dice.roll() % 5 {
            0 => drop(queue.put_timeout(me, 1, PATIENCE)),
            1 => drop(queue.try_put(me, 2)),
            2 => drop(queue.get_timeout(me, PATIENCE)),
            3 => drop(queue.try_get(me).map(|delivery| delivery.done())),
            _ => drop(queue.join_timeout(me, PATIENCE)),
        },
    );
    torment("garbage: simple queue", SimpleQueue::<u64>::new, |queue, me, _| {
        let _ = queue.queue().put_timeout(me, 1, PATIENCE);
        let _ = queue.queue().get_timeout(me, PATIENCE);
        let _ = queue.empty();
    });
}

#[test]
fn messages() {
    let extents = FileExtents::new();
    torment(
        "garbage: message queue",
        || MessageQueue::with_capacity(4),
        |queue, me, dice| {
            let message = vec![7; [0, 50, 96, 97, 5000][dice.roll() as usize % 5]];
            match dice.roll() % 4 {
                0 => drop(queue.try_put(me, &extents, &message)),
                1 => drop(queue.put_timeout(me, &extents, &message, PATIENCE)),
                2 => drop(queue.try_get(me, &extents)),
                _ => drop(queue.get_timeout(me, &extents, PATIENCE)),
            }
        },
    );
    torment(
        "garbage: pipe",
        || Pipe::with_capacity(4),
        |pipe, me, dice| {
            let side = if dice.roll().is_multiple_of(2) { PipeSide::A } else { PipeSide::B };
            let mut end = or_return!(pipe.end(me, &extents, side));
            for _ in 0..4 {
                let message = vec![7; [0, 50, 96, 97, 5000][dice.roll() as usize % 5]];
                let _ = end.try_send_bytes(&message);
                let _ = end.send_bytes_timeout(&message, PATIENCE);
                let _ = end.try_recv_bytes();
                let _ = end.recv_bytes_timeout(PATIENCE);
                let _ = end.poll(PATIENCE);
            }
        },
    );
}

#[test]
fn rings_and_lists() {
    torment(
        "garbage: ring",
        || SpscRing::<[u16; 5]>::with_capacity(4),
        |ring, me, _| {
            let mut producer = or_return!(ring.producer(me));
            let mut consumer = or_return!(ring.consumer(me));
            for _ in 0..4 {
                let _ = producer.push_timeout([1; 5], PATIENCE);
                let _ = producer.try_push([2; 5]);
                let _ = consumer.pop_timeout(PATIENCE);
                let _ = consumer.try_pop();
                let _ = (ring.len(), ring.is_empty(), ring.capacity(), format!("{ring:?}"));
            }
        },
    );
    let values = || ShareableList::with_room([("text", 40), ("", 0), ("another", 1)]);
    torment("garbage: list", values, |list, me, dice| {
        let index = dice.roll() as usize % 5;
        match dice.roll() % 4 {
            0 => drop(list.set_timeout(me, index, "other", PATIENCE)),
            1 => drop(list.try_set(me, index, "longer than eight bytes")),
            2 => drop(list.get(index)),
            _ => drop((list.to_vec(), list.count("text"), list.index_of(5), list.len(), format!("{list:?}"))),
        }
    });
}

#[test]
fn locks() {
    torment(
        "garbage: mutex",
        || Mutex::new(5_u64),
        |mutex, me, _| {
            drop(mutex.lock_timeout(me, PATIENCE));
            drop(mutex.try_lock(me));
            mutex.clear();
        },
    );
    torment(
        "garbage: recursive mutex",
        || RecursiveMutex::new(5_u64),
        |mutex, me, _| {
            drop(mutex.lock_timeout(me, PATIENCE));
            drop(mutex.try_lock(me));
            mutex.clear();
        },
    );
    torment(
        "garbage: readers-writer lock",
        || RwLock::new(5_u64),
        |lock, me, _| {
            drop(lock.read_timeout(me, PATIENCE));
            drop(lock.write_timeout(me, PATIENCE));
            drop(lock.try_read(me));
            lock.clear();
        },
    );
    torment(
        "garbage: semaphore",
        || Semaphore::new(3),
        |semaphore, me, _| {
            drop(semaphore.acquire_timeout(me, PATIENCE));
            drop(semaphore.try_acquire(me));
            let _ = semaphore.available(me);
        },
    );
    torment(
        "garbage: bounded semaphore",
        || BoundedSemaphore::new(3),
        |semaphore, me, _| {
            drop(semaphore.acquire_timeout(me, PATIENCE));
            let _ = semaphore.release(me);
        },
    );
    torment("garbage: event", Event::new, |event, _, dice| match dice.roll() % 3 {
        0 => event.set(),
        1 => event.clear(),
        _ => drop(event.wait_timeout(PATIENCE)),
    });
    torment("garbage: once", Once::new, |once, me, _| {
        let _ = once.call_once_timeout(me, PATIENCE, |_| {});
        once.clear();
    });
}
