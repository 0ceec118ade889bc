//! What a run may touch besides its stage: /dev/shm, processes, file descriptors. Taken before, compared after.
//!
//! Where the kernel lets it (as root, or in a user namespace) the harness mounts a tmpfs of its own over /dev/shm, so that
//! nobody else's sessions are seen, cleaned or blamed. It is the reaper of orphans: a process that a killed coordinator
//! leaves behind becomes its child and is found.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::watchdog;

const SHM: &str = "/dev/shm";

/// Is /dev/shm ours alone?
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Privacy {
    /// A tmpfs of our own.
    Private,
    /// Shared with the machine: leftovers are looked for among new names only.
    Shared,
}

/// The surroundings as they were.
pub(crate) struct Surroundings {
    names: BTreeSet<String>,
    fds: usize,
}

impl Surroundings {
    /// Takes the picture.
    pub(crate) fn take() -> Surroundings {
        Surroundings { names: names(), fds: fds() }
    }

    /// Waits until all is as it was; `Err` names what is left after `limit`, and removes it.
    pub(crate) fn compare(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = self.left_over();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.remove_left_over();
                return Err(format!("left behind: {}", left.join(", ")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn left_over(&self) -> Vec<String> {
        while let Ok(true) = watchdog::reap_any() {}
        let mut left = Vec::new();
        if watchdog::reap_any().is_ok() {
            left.extend(children().into_iter().map(|pid| format!("process {pid} ({})", comm(pid))));
        }
        left.extend(names().difference(&self.names).map(|name| format!("{SHM}/{name}")));
        let fds = fds();
        if fds != self.fds {
            left.push(format!("{fds} file descriptors instead of {}", self.fds));
        }
        left
    }

    fn remove_left_over(&self) {
        for pid in children() {
            watchdog::kill(pid);
            watchdog::reap(pid, true);
        }
        for name in names().difference(&self.names) {
            let _ = fs::remove_file(format!("{SHM}/{name}"));
        }
    }
}

/// Makes the harness the reaper of orphans and gives it a /dev/shm of its own if it can.
pub(crate) fn enter() -> io::Result<Privacy> {
    // SAFETY: plain prctl.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(if private_mounts() && mount_shm() { Privacy::Private } else { Privacy::Shared })
}

fn private_mounts() -> bool {
    // SAFETY: ids only, and the harness has one thread, which CLONE_NEWUSER demands.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: unshare takes flags only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 {
        return true;
    }
    // SAFETY: as above.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return false;
    }
    fs::write("/proc/self/setgroups", "deny").is_ok()
        && fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).is_ok()
        && fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).is_ok()
}

fn mount_shm() -> bool {
    let text = |s: &str| CString::new(s).unwrap_or_default();
    let (none, root, shm) = (text("none"), text("/"), text(SHM));
    let (tmpfs, options) = (text("tmpfs"), text("size=64m,mode=1777"));
    // SAFETY: all strings are NUL-terminated and outlive the call; null where mount(2) ignores the argument.
    let private = unsafe {
        libc::mount(
            none.as_ptr(),
            root.as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    if private != 0 {
        return false;
    }
    // SAFETY: as above; our mount namespace is private by now, so nobody else sees it.
    let mounted = unsafe {
        libc::mount(
            tmpfs.as_ptr(),
            shm.as_ptr(),
            tmpfs.as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV,
            options.as_ptr().cast(),
        )
    };
    mounted == 0
}

fn names() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(SHM) else { return BTreeSet::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn fds() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}

fn children() -> Vec<i32> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}
