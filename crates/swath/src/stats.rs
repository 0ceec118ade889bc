//! What a pool has done so far.

use serde::Serialize;

/// What a pool has done so far, and who does it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The workers that are there now.
    pub workers: Vec<WorkerStats>,
    /// Workers that were started, the first ones and all replacements.
    pub started: u64,
    /// Workers that died, or were killed for a time-out or a cancelled task. Those that left by themselves are not counted.
    pub died: u64,
    /// Its tasks.
    pub tasks: TaskCounts,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerStats {
    /// Its index in the pool.
    pub index: usize,
    /// Its process id.
    pub pid: u32,
    /// Which incarnation of its slot it is.
    pub generation: u16,
    /// Chunks and tasks that workers of this index have claimed so far.
    pub claims: u64,
    /// Tasks that workers of this index have finished so far.
    pub tasks: u64,
}

/// Tasks of a pool, by what has become of them. Those of an inline pool are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// All of them.
    pub submitted: u64,
    /// Not over yet, as far as somebody has looked.
    pub unresolved: u64,
    /// In a worker's hands now.
    pub running: u64,
    /// Over, with a value.
    pub successful: u64,
    /// Over, without.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Attempts beyond the first, of all tasks.
    pub retried: u64,
}
