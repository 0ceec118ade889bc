//! The options of a phase.

use std::time::Duration;

use crate::geometry::Chunk;
use crate::limits::RETRIES_DEFAULT;
use crate::recovery::RetryIf;

/// How far a phase is; handed to the callback of `.progress(…)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Chunks that have been finished.
    pub done: usize,
    /// Chunks of the phase.
    pub chunks: usize,
    /// Workers that are there.
    pub workers: usize,
    /// Chunks that had to be tried again so far.
    pub retried: u64,
    /// Since the phase began.
    pub elapsed: Duration,
}

/// Called in the coordinator, about twenty times a second at most, and once at the end.
pub(crate) type ProgressFn<'p> = Box<dyn FnMut(Progress) + 'p>;

/// The options of one phase.
pub(crate) struct Settings<'p> {
    pub(crate) name: String,
    pub(crate) chunk: Chunk,
    pub(crate) chunk_timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) retry_if: Option<RetryIf>,
    pub(crate) keep_going: bool,
    /// The kernel does not write what it is given to write: no check pattern.
    pub(crate) keeping_values: bool,
    pub(crate) seed: u64,
    pub(crate) progress: Option<ProgressFn<'p>>,
}

impl<'p> Settings<'p> {
    /// For a phase of several: the same again later, but for the progress, which goes with the last one.
    pub(crate) fn again(&self) -> Settings<'p> {
        let Settings { name, chunk, .. } = self;
        Settings { name: name.clone(), chunk: *chunk, progress: None, ..*self }
    }

    pub(crate) fn new() -> Self {
        Settings {
            name: String::new(),
            chunk: Chunk::Auto,
            chunk_timeout: None,
            deadline: None,
            retries: RETRIES_DEFAULT,
            retry_if: None,
            keep_going: false,
            keeping_values: false,
            seed: 0,
            progress: None,
        }
    }
}
