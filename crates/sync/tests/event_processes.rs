//! The event and the parked wait between real processes and threads.

#![cfg(not(loom))]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use support::*;
use swath_sync::{Event, SLICE, spin_then_park, wake_parked};

fn event() -> &'static Event {
    // SAFETY: zeroed, aligned, never unmapped.
    unsafe { Event::at(shared_memory(size_of::<Event>())) }
}

#[test]
fn set_wakes_all_and_stays() {
    let _watchdog = Watchdog::new("set_wakes_all_and_stays");
    let event = event();
    let children = [(); 3].map(|()| fork(Life::Unwatched, |_| event.wait()));
    until(|| children.iter().all(|child| child.state() == 'S'));
    event.set();
    Child::join_all(children);
    assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    event.set();
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(Duration::from_millis(5)));
}

#[test]
fn a_pulse_is_not_missed_by_who_was_waiting() {
    let _watchdog = Watchdog::new("a_pulse_is_not_missed_by_who_was_waiting");
    let event = event();
    let child = fork(Life::Unwatched, |_| event.wait());
    until(|| child.state() == 'S');
    child.signal(libc::SIGSTOP);
    until(|| child.state() == 'T');
    event.set();
    event.clear();
    child.signal(libc::SIGCONT);
    child.join();
}

#[test]
fn a_parked_thread_is_woken_every_time() {
    let _watchdog = Watchdog::new("a_parked_thread_is_woken_every_time");
    const ROUNDS: u32 = 20_000;
    let [ping, ping_parked, pong, pong_parked]: &[AtomicU32; 4] = words();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                let ready = || ping.load(Ordering::Acquire) == round;
                assert!(spin_then_park(ping, ping_parked, ready, None));
                pong.store(round, Ordering::Release);
                wake_parked(pong, pong_parked);
            }
        });
        for round in 1..=ROUNDS {
            if round % 1000 == 0 {
                // Sometimes late enough for the other side to sleep.
                until(|| ping_parked.load(Ordering::SeqCst) & 1 == 1);
            }
            ping.store(round, Ordering::Release);
            wake_parked(ping, ping_parked);
            let ready = || pong.load(Ordering::Acquire) == round;
            assert!(spin_then_park(pong, pong_parked, ready, None));
        }
    });
}

#[test]
fn a_slice_ends_without_a_wake() {
    let _watchdog = Watchdog::new("a_slice_ends_without_a_wake");
    let [word, parked]: &[AtomicU32; 2] = words();
    assert!(!spin_then_park(word, parked, || false, Some(SLICE)));
    assert!(spin_then_park(word, parked, || true, Some(SLICE)));
}
