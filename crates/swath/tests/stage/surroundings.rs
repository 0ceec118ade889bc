//! What is there: names in `/dev/shm`, processes by their mark, open files. Nothing here kills by name.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use swath_platform::process;

/// Names in `/dev/shm` at one moment.
pub(crate) struct Shm(BTreeSet<String>);

impl Shm {
    pub(crate) fn now() -> Shm {
        let entries = std::fs::read_dir("/dev/shm").expect("/dev/shm");
        Shm(entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect())
    }

    /// Names that have come since.
    pub(crate) fn new_names(&self) -> Vec<String> {
        Shm::now().0.difference(&self.0).cloned().collect()
    }

    pub(crate) fn is_as_before(&self) -> bool {
        Shm::now().0 == self.0
    }

    /// Names that contain `part`, now.
    pub(crate) fn names_with(part: &str) -> Vec<String> {
        Shm::now().0.into_iter().filter(|name| name.contains(part)).collect()
    }
}

/// Living processes whose environment says `variable=value`: whoever set it, and all that it started, whatever became of
/// those in between. Zombies have no environment.
pub(crate) fn marked(variable: &str, value: &str) -> Vec<u32> {
    let entry = format!("{variable}={value}");
    let has = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|e| e == entry.as_bytes())
    };
    process::all_pids().expect("/proc").into_iter().filter(has).collect()
}

/// What these processes are, for a message.
pub(crate) fn describe(mark: &str) -> String {
    let tell = |pid: u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = process::stat(pid).map(|s| (s.parent, s.state));
        format!("{pid} `{}` (parent, state) {stat:?} in {}", read("comm").trim(), read("wchan"))
    };
    marked(super::TEST_MARK, mark).into_iter().map(tell).collect::<Vec<_>>().join("; ")
}

/// Open descriptors of this process, without the one that the listing itself needs.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// What the open descriptors are.
pub(crate) fn files() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    entries.filter_map(|e| Some(std::fs::read_link(e.path()).ok()?.display().to_string())).collect()
}

/// Looks until it is so, or the time is over.
pub(crate) fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A signal to a process that may be gone.
pub(crate) fn signal_pid(pid: u32, number: i32) {
    if let Ok(pidfd) = process::pidfd_open(pid) {
        let _ = process::pidfd_signal(&pidfd, number);
    }
}
