//! `--report FILE`: an account of a run of `swath csv`, as JSON.

use crate::VERSION;
use crate::exit::Exit;
use crate::output;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use swath_jobs::csv::Finished;

/// What is known about a run, filled in as it goes on.
pub(super) struct Report {
    began: Instant,
    pub(super) workers: usize,
    pub(super) times: Times,
    pub(super) finished: Option<Finished>,
    pub(super) failure: Option<String>,
}

/// How long the parts of a run took.
#[derive(Default)]
pub(super) struct Times {
    /// Copying what is not a file, reading headers.
    pub(super) plan: Duration,
    /// Starting the workers.
    pub(super) start: Duration,
    /// Both phases, merging, sorting.
    pub(super) work: Duration,
    /// Ending the workers.
    pub(super) stop: Duration,
    /// Writing the answer.
    pub(super) write: Duration,
}

impl Report {
    pub(super) fn new() -> Report {
        Report { began: Instant::now(), workers: 0, times: Times::default(), finished: None, failure: None }
    }

    /// Writes the account, if anybody wants it.
    pub(super) fn write(&self, path: Option<&Path>, exit: Exit) -> Result<(), String> {
        let Some(path) = path else { return Ok(()) };
        output::write(Some(path), |out| writeln!(out, "{:#}", self.json(exit)))
    }

    fn json(&self, exit: Exit) -> Value {
        let phases = self.finished.as_ref().map(|finished| &finished.phases[..]).unwrap_or_default();
        // The answer comes from the last phase; what went wrong may have gone wrong in any.
        let records = phases.last();
        let times = &self.times;
        json!({
            "command": "csv",
            "version": VERSION,
            "exit": exit.code(),
            "failure": self.failure,
            "workers": self.workers,
            "chunks": records.map_or(0, |phase| phase.chunks),
            "committed_by_worker": records.map(|phase| &phase.committed_by_worker),
            "retried": phases.iter().map(|phase| phase.retried).sum::<u64>(),
            "killed_in_chunk": phases.iter().map(|phase| phase.killed_in_chunk).sum::<u64>(),
            "workers_lost": phases.iter().map(|phase| phase.workers_lost).sum::<u64>(),
            "groups": self.finished.as_ref().map(|finished| finished.outcome.answer.rows.len()),
            "rejected": self.finished.as_ref().map(|finished| finished.outcome.rejected),
            "left_out": self.finished.as_ref().map(|finished| &finished.left_out),
            "phases": phases,
            "seconds": {
                "plan": times.plan.as_secs_f64(),
                "start": times.start.as_secs_f64(),
                "work": times.work.as_secs_f64(),
                "stop": times.stop.as_secs_f64(),
                "write": times.write.as_secs_f64(),
                "total": self.began.elapsed().as_secs_f64(),
            },
        })
    }
}
