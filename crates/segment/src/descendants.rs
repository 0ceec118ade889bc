//! Programs that the kernels of a session have started, and their children: known by a variable in their environment
//! that holds the session's random id. Step D4 of `README.md`.
//!
//! Workers die with their coordinator, by PDEATHSIG, but what they started does not. A process group's number may be somebody
//! else's by the time that a cleaner comes; 128 random bits are not. A program that clears its environment is not found.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use swath_platform::{process, signal};

use crate::limits::DESCENDANTS_MS;
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

/// `SWATH_SESSION=ID`.
pub(crate) fn mark(id: &SessionId) -> String {
    format!("{SESSION_VARIABLE}={}", id.as_str())
}

/// The processes of this user that have the mark; none if we have it ourselves, for then they are our family.
pub(crate) fn all(id: &SessionId) -> Vec<u32> {
    let (mark, own) = (mark(id), process::getpid());
    if has_mark(own, &mark) {
        return Vec::new();
    }
    process::all_pids().unwrap_or_default().into_iter().filter(|&pid| has_mark(pid, &mark)).collect()
}

/// Kills them, again until none is left that has not begun to exit: one may start another meanwhile. Returns all that there
/// were.
pub(crate) fn kill_all(id: &SessionId) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_millis(DESCENDANTS_MS);
    let mut killed = Vec::new();
    loop {
        let found: Vec<u32> = all(id).into_iter().filter(|&pid| kill(pid, &mark(id))).collect();
        killed.extend(found.iter().filter(|pid| !killed.contains(*pid)).copied().collect::<Vec<_>>());
        if found.is_empty() || Instant::now() >= deadline {
            return killed;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The mark is looked for once more through an open pidfd: the number is this process's then.
fn kill(pid: u32, mark: &str) -> bool {
    let Ok(pidfd) = process::pidfd_open(pid) else { return false };
    has_mark(pid, mark) && process::pidfd_signal(&pidfd, signal::KILL).is_ok()
}

/// A zombie has no environment any more.
fn has_mark(pid: u32, mark: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}
