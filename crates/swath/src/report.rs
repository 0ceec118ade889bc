//! What a phase did: returned by the `_report` forms, written by the command's `--report`.

use std::time::Duration;

use serde::Serialize;

use crate::cause::ChunkFailure;
use crate::geometry::AUTO_VERSION;

/// An account of one phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The name given by `.name("…")`, or empty.
    pub name: String,
    /// Workers of the pool; 0 for an inline pool.
    pub workers: usize,
    /// Chunks of the phase.
    pub chunks: usize,
    /// Rows of a chunk; the last may have fewer.
    pub rows_per_chunk: usize,
    /// Version of the formula that drew the borders when none were given.
    pub geometry_version: u32,
    /// Chunks that took effect, by worker index, as far as each worker had said so when the phase was over: the last one of each may
    /// be missing here.
    pub committed_by_worker: Vec<u64>,
    /// Attempts beyond the first, over all chunks.
    pub retried: u64,
    /// Workers that died with a chunk in hand.
    pub killed_in_chunk: u64,
    /// Workers that died during the phase, with or without a chunk.
    pub workers_lost: u64,
    /// Chunks that were given up.
    pub failed: Vec<ChunkFailure>,
    /// From the call until the last chunk was accounted for.
    #[serde(rename = "wall_seconds", serialize_with = "seconds")]
    pub wall: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Report {
    pub(crate) fn new(name: &str, workers: usize) -> Report {
        Report { name: name.to_owned(), workers, geometry_version: AUTO_VERSION, ..Report::default() }
    }

    /// Adds another phase's figures, for jobs of several phases.
    pub fn absorb(&mut self, other: &Report) {
        self.chunks += other.chunks;
        self.retried += other.retried;
        self.killed_in_chunk += other.killed_in_chunk;
        self.workers_lost += other.workers_lost;
        self.wall += other.wall;
        self.failed.extend(other.failed.iter().cloned());
        self.committed_by_worker
            .resize(self.committed_by_worker.len().max(other.committed_by_worker.len()), 0);
        for (mine, theirs) in self.committed_by_worker.iter_mut().zip(&other.committed_by_worker) {
            *mine += theirs;
        }
    }
}
