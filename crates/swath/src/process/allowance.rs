//! What a process may use, and how it shows in its end that it wanted more.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use swath_platform::process::{Limited, limit};

/// What a process, and whatever it starts, may use. Set in the new process before any code of yours runs.
///
/// ```
/// use swath::process::Limits;
///
/// let limits = Limits::new().memory(512 << 20).cpu_seconds(60).open_files(100);
/// assert_eq!(limits.to_string(), "536870912 bytes of memory, 60 s of processor time, 100 open files");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub(crate) memory: Option<u64>,
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) open_files: Option<u64>,
}

impl Limits {
    /// No limits but those that this process has itself.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// Bytes of memory of its own (`RLIMIT_DATA`): heap and stacks. What it shares with others does not count. More is refused,
    /// and a Rust program that is refused memory usually aborts.
    pub fn memory(mut self, bytes: u64) -> Limits {
        self.memory = Some(bytes);
        self
    }

    /// Seconds of processor time (`RLIMIT_CPU`), all threads together. Then comes SIGXCPU, and a second later SIGKILL.
    pub fn cpu_seconds(mut self, seconds: u64) -> Limits {
        self.cpu_seconds = Some(seconds);
        self
    }

    /// Open descriptors (`RLIMIT_NOFILE`).
    pub fn open_files(mut self, files: u64) -> Limits {
        self.open_files = Some(files);
        self
    }

    /// Sets them for this process.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let wanted = [
            (Limited::Data, self.memory),
            (Limited::CpuSeconds, self.cpu_seconds),
            (Limited::Files, self.open_files),
        ];
        wanted.into_iter().try_for_each(|(what, to)| to.map_or(Ok(()), |to| limit(what, to)))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            self.memory.map(|bytes| format!("{bytes} bytes of memory")),
            self.cpu_seconds.map(|seconds| format!("{seconds} s of processor time")),
            self.open_files.map(|files| format!("{files} open files")),
        ];
        let said: Vec<String> = texts.into_iter().flatten().collect();
        f.write_str(if said.is_empty() { "no limits" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}
