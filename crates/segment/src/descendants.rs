//! Programs that the kernels of a session have started, and their children: known by a variable in their environment
//! that holds the session's random id. Step D4 of `README.md`.
//!
//! Workers die with their coordinator, by PDEATHSIG, but what they started does not. A process group's number may be somebody
//! else's by the time that a cleaner comes; 128 random bits are not. A program that clears its environment is not found.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use swath_platform::{process, signal};

use crate::name::SessionId;

/// The variable that every worker has, and hands on.
pub const SESSION_VARIABLE: &str = "SWATH_SESSION";

/// The environment of now, for a process of that session: with its mark, and no other session's. Without a session: without
/// a mark.
pub fn environment(session: Option<&str>) -> Vec<CString> {
    let entry =
        |name: &OsStr, value: &OsStr| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat());
    let others = std::env::vars_os().filter(|(name, _)| name != SESSION_VARIABLE);
    let own = session.map(|id| (SESSION_VARIABLE.into(), id.into()));
    others.chain(own).filter_map(|(name, value)| entry(&name, &value).ok()).collect()
}

/// Whether a process has the session's mark; none has it if we have it ourselves, for then they are our family.
pub(crate) fn marked_by(id: &SessionId) -> impl Fn(u32) -> bool {
    let mark = format!("{SESSION_VARIABLE}={}", id.as_str());
    let family = has_mark(process::getpid(), &mark);
    move |pid| !family && has_mark(pid, &mark)
}

/// A zombie has no environment any more.
fn has_mark(pid: u32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// The processes that `is_one` of those that a session has left behind.
pub(crate) fn all(is_one: impl Fn(u32) -> bool) -> Vec<u32> {
    process::all_pids().unwrap_or_default().into_iter().filter(|&pid| is_one(pid)).collect()
}

/// Kills them, again until none is left that has not begun to exit (one may start another meanwhile) or the deadline has passed.
/// Returns all that there were.
pub(crate) fn kill_all(deadline: Instant, is_one: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut killed = BTreeSet::new();
    loop {
        let found = all(|pid| kill(pid, &is_one));
        killed.extend(&found);
        if found.is_empty() || Instant::now() >= deadline {
            return killed.into_iter().collect();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether it was one. It is looked at through an open pidfd: the number is this process's then.
fn kill(pid: u32, is_one: impl Fn(u32) -> bool) -> bool {
    let Ok(pidfd) = process::pidfd_open(pid) else { return false };
    is_one(pid) && process::pidfd_signal(&pidfd, signal::KILL).is_ok()
}
