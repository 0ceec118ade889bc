//! Two ways in which an array can be damaged by somebody's death, both remembered by the array itself.

use std::fmt;
use std::ops::Range;

/// A party that could not be confirmed dead may still write into the array, now or later.
///
/// For ever: no view of the array is given out any more, and its memory is never unmapped, renamed or reused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taint {
    /// Slot of the worker.
    pub worker: u16,
    /// Its process id.
    pub pid: u32,
    /// The rows it may write, if not all of them.
    pub rows: Option<Range<usize>>,
    /// Why nobody can say that it is dead: "no exit within 5 s of SIGKILL".
    pub why: String,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} (pid {}) may still write ", self.worker, self.pid)?;
        match &self.rows {
            Some(rows) => write!(f, "its rows {}..{}", rows.start, rows.end)?,
            None => f.write_str("any of its rows")?,
        }
        write!(f, ": {}", self.why)
    }
}

/// Rows whose contents are unknown, though nobody writes them any more: what a failed team leaves behind.
///
/// The array stays usable (any bits are a value); whoever fills it anew clears the marks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// The rows.
    pub rows: Range<usize>,
    /// What happened: "rank 2 of team `heat` died (SIGKILL)".
    pub why: String,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the contents of rows {}..{} are unknown: {}", self.rows.start, self.rows.end, self.why)
    }
}
