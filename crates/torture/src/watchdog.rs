//! Waiting for the processes of a run, never longer than a deadline.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// How long the survivors of one strike may take, all waits included. Every wait of swath is cut into slices of at most
/// 50 ms, so forty of them fit: who is not through by then will never be.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// How a process ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Not at all: killed by the watchdog. The state letter and the wait channel it had.
    Hung,
}

/// Waits for all of `pids` until `deadline`; kills and reaps those that are left.
pub(crate) fn await_all(pids: &[i32], deadline: Instant) -> Vec<Ending> {
    let mut endings = vec![None; pids.len()];
    let start = Instant::now();
    loop {
        for (pid, ending) in pids.iter().zip(&mut endings) {
            if ending.is_none() {
                *ending = reap(*pid, false);
            }
        }
        if endings.iter().all(Option::is_some) {
            break;
        }
        let now = Instant::now();
        if now >= deadline {
            break;
        }
        // Most finish within microseconds of each other; the rest sleep through slices.
        if now - start < Duration::from_micros(100) {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let close = |(pid, ending): (&i32, Option<Ending>)| {
        ending.unwrap_or_else(|| {
            kill(*pid);
            reap(*pid, true);
            Ending::Hung
        })
    };
    pids.iter().zip(endings).map(close).collect()
}

/// SIGKILL.
pub(crate) fn kill(pid: i32) {
    // SAFETY: `pid` is an unreaped child of the harness, so the number cannot have been given to another process.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// SIGKILL to a process and all of its group, which it leads.
pub(crate) fn kill_group(pid: i32) {
    // SAFETY: as for `kill`: the group has the number of its leader.
    unsafe { libc::kill(-pid, libc::SIGKILL) };
}

/// Reaps one child; `None` if it still runs (only without `block`).
pub(crate) fn reap(pid: i32, block: bool) -> Option<Ending> {
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let got = unsafe { libc::waitpid(pid, &mut status, if block { 0 } else { libc::WNOHANG }) };
        if got == 0 {
            return None;
        }
        if got < 0 {
            // Somebody else's child or none: there is nothing to wait for.
            return Some(Ending::Signalled(0));
        }
        if libc::WIFEXITED(status) {
            return Some(Ending::Exited(libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Some(Ending::Signalled(libc::WTERMSIG(status)));
        }
    }
}

/// Reaps one child of any kind, if there is a dead one: `Ok(true)`; `Ok(false)`: all children live; `Err`: there are none.
pub(crate) fn reap_any() -> Result<bool, ()> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        0 => Ok(false),
        -1 => Err(()),
        _ => Ok(true),
    }
}

/// The state letter of a process (`S` sleeps, `R` runs, `t` is stopped by the tracer), from /proc.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
