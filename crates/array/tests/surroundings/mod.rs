//! What a test leaves behind: nothing. One test at a time, compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use swath_array::SharedArray;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Descriptors, child processes, mappings and names of this process when a test began. Dropping it, after everything
/// that the test made, compares.
pub(crate) struct Surroundings {
    before: Things,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Debug, Default, PartialEq)]
struct Things {
    descriptors: BTreeMap<String, usize>,
    children: Vec<String>,
    mappings: usize,
}

impl Surroundings {
    pub(crate) fn new() -> Surroundings {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // What a process keeps for life, the service thread, comes with its first array.
        drop(SharedArray::<u8, _>::zeros(1).expect("room for one byte"));
        // That thread may still be asking the kernel what it does with life words, by a child that it kills.
        swath_platform::life::self_test();
        Surroundings { before: Things::now(), _alone: alone }
    }

    /// From here on only names are compared: of a test that must leave memory behind.
    #[allow(dead_code)]
    pub(crate) fn only_names(&mut self) {
        self.before = Things::default();
    }

    /// A name that no other test and no other process uses.
    #[allow(dead_code)]
    pub(crate) fn name(&self, word: &str) -> String {
        format!("swath-test-{}-{word}", std::process::id())
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let compared = self.before != Things::default();
        assert!(
            !compared || Things::now() == self.before,
            "left {:?}\nfound {:?}",
            Things::now(),
            self.before
        );
        assert_eq!(own_names(), Vec::<PathBuf>::new(), "names were left behind");
    }
}

impl Things {
    fn now() -> Things {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/fd").unwrap() {
            // The directory that is being read is gone by now.
            if let Ok(target) = fs::read_link(entry.unwrap().path()) {
                *descriptors.entry(target.display().to_string()).or_default() += 1;
            }
        }
        descriptors.retain(|target, _| !target.ends_with("/fd"));
        let mut children = Vec::new();
        for task in fs::read_dir("/proc/self/task").unwrap() {
            // A thread that has just ended has no children.
            children.extend(fs::read_to_string(task.unwrap().path().join("children")));
        }
        children.retain(|list| !list.is_empty());
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mappings =
            maps.lines().filter(|line| ["/dev/shm/", "/memfd:", ".npy"].iter().any(|p| line.contains(p)));
        Things { descriptors, children, mappings: mappings.count() }
    }
}

/// Everything in `/dev/shm` that belongs to a session of this process, or that a test of this process has named.
fn own_names() -> Vec<PathBuf> {
    let own = format!("swath-test-{}-", std::process::id());
    let mut names: Vec<PathBuf> =
        fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(&own));
    let sessions = swath_segment::admin::list().unwrap();
    names.extend(sessions.iter().filter(|s| s.owner_pid == std::process::id()).map(|s| PathBuf::from(&s.id)));
    names
}
