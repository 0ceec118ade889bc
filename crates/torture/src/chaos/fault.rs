//! What befalls a party: a signal from outside at any instruction, or a crash of its own between two calls.
#![allow(unsafe_code)]

use std::time::Duration;

use super::dice::Dice;
use super::seat::Seat;
use crate::watchdog;

/// A way to die.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGKILL so much later: slow first, then dead.
    StopThenKill(Duration),
    /// SIGABRT, SIGSEGV from outside: the same ways through the kernel as its own.
    Signal(i32),
    /// Its own `abort`.
    Abort,
    /// Its own write to address 0.
    Segfault,
}

const CRASH_ABORT: u32 = 1;
const CRASH_SEGFAULT: u32 = 2;

impl Fault {
    /// One of them: two thirds are plain kills.
    pub(crate) fn choose(dice: &mut Dice) -> Fault {
        match dice.below(24) {
            0..16 => Fault::Kill,
            16..18 => Fault::StopThenKill(Duration::from_micros(dice.below(1000) as u64)),
            // Longer than a slice: the others look whether it lives, and must see that it does.
            18 if dice.below(16) == 0 => Fault::StopThenKill(Duration::from_millis(60)),
            18 | 19 => Fault::StopThenKill(Duration::ZERO),
            20 => Fault::Signal(libc::SIGABRT),
            21 => Fault::Signal(libc::SIGSEGV),
            22 => Fault::Abort,
            _ => Fault::Segfault,
        }
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "SIGKILL",
            Fault::StopThenKill(_) => "SIGSTOP, then SIGKILL",
            Fault::Signal(libc::SIGABRT) => "SIGABRT from outside",
            Fault::Signal(_) => "SIGSEGV from outside",
            Fault::Abort => "its own abort",
            Fault::Segfault => "its own segfault",
        }
    }

    /// The signal it dies of.
    pub(crate) fn signal(self) -> i32 {
        match self {
            Fault::Kill | Fault::StopThenKill(_) => libc::SIGKILL,
            Fault::Signal(signal) => signal,
            Fault::Abort => libc::SIGABRT,
            Fault::Segfault => libc::SIGSEGV,
        }
    }

    /// Lets it come over the party.
    pub(crate) fn strike(self, pid: i32, seat: Seat) {
        match self {
            Fault::Kill => watchdog::kill(pid),
            Fault::StopThenKill(_) => send(pid, libc::SIGSTOP),
            Fault::Signal(signal) => send(pid, signal),
            Fault::Abort => seat.ask_to_crash(CRASH_ABORT),
            Fault::Segfault => seat.ask_to_crash(CRASH_SEGFAULT),
        }
    }

    /// The second half of a stop.
    pub(crate) fn complete(self, pid: i32) {
        if let Fault::StopThenKill(pause) = self {
            std::thread::sleep(pause);
            watchdog::kill(pid);
        }
    }
}

fn send(pid: i32, signal: i32) {
    // SAFETY: `pid` is an unreaped child of the harness, so the number cannot have been given to another process.
    unsafe { libc::kill(pid, signal) };
}

/// In the party: dies in the way it was asked to, or goes on.
pub(crate) fn crash_as_asked(way: u32) {
    match way {
        CRASH_ABORT => std::process::abort(),
        // SAFETY: a store to an address at which nothing is mapped: the process ends here, which is the point.
        CRASH_SEGFAULT => unsafe { std::arch::asm!("mov byte ptr [{zero}], 0", zero = in(reg) 0_usize) },
        _ => {}
    }
}

/// In the party: what it dies of is not to be handled first (the runtime looks for stack overflows in SIGSEGV), and
/// leaves no core file.
pub(crate) fn be_vulnerable() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: default actions and a limit; `none` outlives the call.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::setrlimit(libc::RLIMIT_CORE, &none);
    }
}
