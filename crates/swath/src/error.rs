//! The engine's error: an opaque struct with a kind to match on, prose to print, and the cause it came from.

use std::fmt;
use std::ops::Range;

use crate::cause::{Cause, ChunkFailure};

/// `Result` with the engine's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// `swath::init()` was not called at the start of `main`.
    NotInitialised,
    /// A kernel that is not part of the main executable.
    KernelNotInExecutable,
    /// Operands with different numbers of rows, too many operands, no axis to cut, a chunk option that makes no sense.
    Shape,
    /// A segment or an array: no room, a bad name, a tainted array.
    Memory,
    /// A worker could not be started.
    Spawn,
    /// A worker's initializer failed.
    Initializer,
    /// All workers are gone and cannot be replaced.
    NoWorkers,
    /// Chunks failed.
    Failed,
    /// The phase's deadline passed.
    Deadline,
    /// A signal asked the program to end.
    Interrupted,
    /// A call that would wait for itself: a phase from within a kernel.
    WouldDeadlock,
    /// A value or arguments that cannot be encoded or decoded.
    Codec,
    /// A member of a team died, or returned an error.
    Team,
    /// A shared lock, queue … refused: see [`Refused`](crate::shared::Refused), which is the error's source.
    Sync,
    /// A task, or a call of a managed object, took longer than it may.
    TimedOut,
    /// A task was cancelled.
    Cancelled,
    /// A task whose worker's death was to be the end of the pool.
    Broken,
    /// The pool takes no more tasks.
    Closed,
    /// An option that makes no sense.
    Usage,
    /// A process died before its function had returned: a task's worker, in every attempt ([`Error::causes`]); that of an isolated call
    /// ([`Failure`](crate::process::Failure), the error's source).
    Died,
    /// Processes that start each other deeper than [`NESTING_MAX`](crate::limits::NESTING_MAX).
    TooDeep,
    /// A manager has ended, and with it its objects: [`ManagedError`](crate::managed::ManagedError), which is the error's source, says how.
    ManagerGone,
    /// A manager refused, or a function in it failed: see [`ManagedError`](crate::managed::ManagedError), which is the error's source.
    Managed,
}

/// Something went wrong in the engine. [`Error::kind`] is for programs, `Display` for people.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    failures: Vec<ChunkFailure>,
    causes: Vec<Cause>,
    rows: RowsLeft,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a failed phase has done to its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsLeft {
    /// Rows of chunks that took effect.
    pub done: Vec<Range<usize>>,
    /// Rows that are as they were before the phase.
    pub untouched: Vec<Range<usize>>,
    /// Rows of operands given as `out`, half written. Rows given as `&mut` are never here.
    pub unknown: Vec<Range<usize>>,
}

impl ErrorKind {
    pub(crate) fn with(self, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind: self,
            message: message.into(),
            failures: Vec::new(),
            causes: Vec::new(),
            rows: RowsLeft::default(),
            source: None,
        }))
    }
}

impl Error {
    /// An error of the caller's own, of kind [`ErrorKind::Failed`]: for kernels of teams, and for a `main` that returns this
    /// crate's `Result`.
    pub fn other(message: impl Into<String>) -> Error {
        ErrorKind::Failed.with(message)
    }

    pub(crate) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_failures(mut self, failures: Vec<ChunkFailure>) -> Error {
        self.0.failures = failures;
        self
    }

    pub(crate) fn with_causes(mut self, causes: Vec<Cause>) -> Error {
        self.0.causes = causes;
        self
    }

    /// The same, as another kind.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_rows(mut self, rows: RowsLeft) -> Error {
        self.0.rows = rows;
        self
    }

    /// Whether it comes from the layer of segments, and is such a one.
    pub(crate) fn is_segment(&self, is: impl FnOnce(&swath_segment::Error) -> bool) -> bool {
        self.0.source.as_ref().and_then(|source| source.downcast_ref()).is_some_and(is)
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The chunks that failed, in the order of their indices, with every attempt's cause.
    pub fn failures(&self) -> &[ChunkFailure] {
        &self.0.failures
    }

    /// How each attempt at a failed task ended, in order; empty for other errors.
    pub fn causes(&self) -> &[Cause] {
        &self.0.causes
    }

    /// What a failed phase has done to its rows; all empty for other errors.
    pub fn rows(&self) -> &RowsLeft {
        &self.0.rows
    }
}

/// At most this many failed chunks are spelled out.
const SPELLED_OUT: usize = 3;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for failure in self.0.failures.iter().take(SPELLED_OUT) {
            write!(f, "\n  {failure}")?;
        }
        match self.0.failures.len().saturating_sub(SPELLED_OUT) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// As `Display`, with the causes: this is what `main` prints when it returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut said = self.0.message.clone();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            // A layer that only passes an error on has the same words.
            let text = cause.to_string();
            if text != said {
                write!(f, "\n  because: {text}")?;
            }
            (said, source) = (text, cause.source());
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

/// Of the caller's own: so that `?` does in functions of tasks and in `main`.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        ErrorKind::Failed.with(error.to_string()).caused_by(error)
    }
}

impl From<swath_segment::Error> for Error {
    fn from(error: swath_segment::Error) -> Error {
        ErrorKind::Memory.with(error.to_string()).caused_by(error)
    }
}

impl From<swath_array::Error> for Error {
    fn from(error: swath_array::Error) -> Error {
        ErrorKind::Memory.with(error.to_string()).caused_by(error)
    }
}

impl From<crate::geometry::GeometryError> for Error {
    fn from(error: crate::geometry::GeometryError) -> Error {
        ErrorKind::Shape.with(error.to_string())
    }
}
