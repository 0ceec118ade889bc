//! What a task does, and what a serial call of the same gives.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use swath::ErrorKind;
use swath::managed::Counter;
use swath_platform::{process, signal};

use super::acts::SUM;

/// What a task is told to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Deed {
    /// Squares a number.
    Square(u64),
    /// Gives the bytes back, in reverse.
    Reverse(Vec<u8>),
    /// Makes so many bytes of one number.
    Make(usize, u8),
    /// Sleeps so long, and gives the number back.
    Nap(Duration, u64),
    /// Says which worker it runs in, after a moment.
    Where(Duration),
    /// Counts in a manager: under this number, and in the sum of all, by one batch.
    Count(Counter<u64>, u64),
    /// Ends its process by `abort`.
    Abort,
    /// … after so long.
    AbortAfter(Duration),
    /// … by `exit(0)`.
    Exit,
    /// … by SIGSEGV.
    Segfault,
    /// Panics.
    Panic,
    /// Sleeps for ever.
    Sleep,
    /// Sleeps for ever and takes no notice of SIGTERM.
    Stubborn,
    /// Looks again and again whether it is wanted.
    Listen,
}

/// What a task gives.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A number.
    Number(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// The index of a worker.
    Worker(usize),
    /// Whether it could be counted: the manager lived.
    Counted(bool),
    /// It was not wanted any more.
    Unwanted,
}

const A_MOMENT: Duration = Duration::from_millis(1);

/// The function of all tasks.
pub(crate) fn perform(deed: Deed) -> Reply {
    match deed {
        Deed::Square(n) => Reply::Number(n.wrapping_mul(n)),
        Deed::Reverse(bytes) => Reply::Bytes(bytes.into_iter().rev().collect()),
        Deed::Make(len, byte) => Reply::Bytes(vec![byte; len]),
        Deed::Nap(time, n) => {
            std::thread::sleep(time);
            Reply::Number(n)
        }
        Deed::Where(time) => {
            std::thread::sleep(time);
            Reply::Worker(swath::current_task().map_or(usize::MAX, |task| task.worker()))
        }
        Deed::Count(counter, number) => count(&counter, number),
        Deed::Abort => std::process::abort(),
        Deed::AbortAfter(time) => {
            std::thread::sleep(time);
            std::process::abort()
        }
        Deed::Exit => std::process::exit(0),
        Deed::Segfault => die_of(libc::SIGSEGV),
        Deed::Panic => panic!("told to"),
        Deed::Sleep => sleep(),
        Deed::Stubborn => {
            signal::handle_by_nothing(signal::TERM);
            sleep()
        }
        Deed::Listen => {
            while !swath::current_task().is_some_and(|task| task.cancelled()) {
                std::thread::sleep(A_MOMENT);
            }
            Reply::Unwanted
        }
    }
}

fn count(counter: &Counter<u64>, number: u64) -> Reply {
    let mut batch = counter.batch();
    batch.add(SUM, 1);
    batch.add(number, 1);
    match batch.run() {
        Ok(_) => Reply::Counted(true),
        Err(error) if error.kind() == ErrorKind::ManagerGone => Reply::Counted(false),
        Err(error) => panic!("{error}"),
    }
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// The runtime takes the first one for a stack that may have overflowed; the second one is the end.
fn die_of(number: i32) -> ! {
    loop {
        let _ = process::pidfd_open(process::getpid()).and_then(|me| process::pidfd_signal(&me, number));
    }
}

impl Deed {
    /// Whether it never ends by itself.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self, Deed::Sleep | Deed::Stubborn | Deed::Listen)
    }

    /// Whether this is what a serial call gives; `worker` is the one that was asked for.
    pub(crate) fn gives(&self, reply: &Reply, worker: Option<usize>) -> bool {
        match (self, reply) {
            (Deed::Square(n), Reply::Number(square)) => n.wrapping_mul(*n) == *square,
            (Deed::Reverse(bytes), Reply::Bytes(back)) => bytes.iter().rev().eq(back),
            (Deed::Make(len, byte), Reply::Bytes(made)) => {
                made.len() == *len && made.iter().all(|b| b == byte)
            }
            (Deed::Nap(_, n), Reply::Number(back)) => n == back,
            (Deed::Where(_), Reply::Worker(index)) => worker.is_none_or(|worker| worker == *index),
            // What was counted, the act looks at.
            (Deed::Count(..), Reply::Counted(_)) => true,
            // Its time was up, and it has noticed.
            (Deed::Listen, Reply::Unwanted) => true,
            _ => false,
        }
    }

    /// In a word.
    pub(crate) fn name(&self) -> String {
        match self {
            Deed::Square(n) => format!("square of {n}"),
            Deed::Reverse(bytes) => format!("reverse of {} bytes", bytes.len()),
            Deed::Make(len, _) => format!("{len} bytes to make"),
            Deed::Nap(time, _) => format!("nap of {time:?}"),
            Deed::Where(time) => format!("where, after {time:?}"),
            Deed::Count(_, number) => format!("count as {number}"),
            Deed::Abort => "abort".into(),
            Deed::AbortAfter(time) => format!("abort after {time:?}"),
            Deed::Exit => "exit(0)".into(),
            Deed::Segfault => "segfault".into(),
            Deed::Panic => "panic".into(),
            Deed::Sleep => "endless sleep".into(),
            Deed::Stubborn => "endless sleep without SIGTERM".into(),
            Deed::Listen => "listen".into(),
        }
    }
}
