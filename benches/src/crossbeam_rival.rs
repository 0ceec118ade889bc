//! crossbeam's bounded channel between two threads: the same stream, without processes and without deaths.

use std::thread;
use std::time::{Duration, Instant};

/// Sends `n` numbers from one thread to another through a channel of so much room; how long that takes.
pub fn stream(n: u64, room: usize) -> Duration {
    let (send, receive) = crossbeam_channel::bounded::<u64>(room);
    let began = Instant::now();
    let sum: u64 = thread::scope(|scope| {
        scope.spawn(move || (0..n).for_each(|i| send.send(i).expect("somebody receives")));
        receive.iter().sum()
    });
    assert_eq!(sum, n * (n - 1) / 2, "equal work");
    began.elapsed()
}
