//! Who this process is among those that started each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use swath_platform::{fork, process, signal};

use crate::error::{ErrorKind, Result};
use crate::limits::NESTING_MAX;
use crate::worker::EXIT_CANNOT_BEGIN;

/// What a process was told when it was started.
struct Lineage {
    depth: u32,
    name: Option<String>,
    parent_name: Option<String>,
}

static LINEAGE: Mutex<Lineage> = Mutex::new(Lineage { depth: 0, name: None, parent_name: None });

fn lineage() -> MutexGuard<'static, Lineage> {
    LINEAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process, as [`current_process`] and [`parent_process`] tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relative {
    name: String,
    id: u32,
    depth: u32,
}

impl Relative {
    /// Its name: `main` of a process that swath did not start, `swath-worker` of a pool's worker.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many processes started each other to get there: 0 of a process that swath did not start.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

fn name_at(depth: u32, name: Option<String>) -> String {
    name.unwrap_or_else(|| if depth == 0 { "main" } else { "swath-worker" }.to_owned())
}

/// The calling process.
pub fn current_process() -> Relative {
    let lineage = lineage();
    let name = name_at(lineage.depth, lineage.name.clone());
    Relative { name, id: process::getpid(), depth: lineage.depth }
}

/// The process that started this one by swath, if one did. It lives: if it did not, neither would this one.
pub fn parent_process() -> Option<Relative> {
    let lineage = lineage();
    let depth = lineage.depth.checked_sub(1)?;
    let name = name_at(depth, lineage.parent_name.clone());
    Some(Relative { name, id: process::getppid(), depth })
}

/// Notes who this process is.
pub(crate) fn is(depth: u32, name: Option<String>, parent_name: Option<String>) {
    *lineage() = Lineage { depth, name, parent_name };
}

/// The depth of a process that this one starts.
///
/// # Errors
///
/// It would be more than [`NESTING_MAX`].
pub(crate) fn next_depth() -> Result<u32> {
    let depth = lineage().depth;
    if depth < NESTING_MAX {
        return Ok(depth + 1);
    }
    Err(ErrorKind::TooDeep.with(format!(
        "processes may start each other {NESTING_MAX} deep (limits::NESTING_MAX), and this one is at depth {depth}"
    )))
}

/// From now on this process ends with the thread that started it; at once, if that is gone already.
pub(crate) fn die_with(starter: u32) {
    // In this order: a starter that died before the first line is noticed by the second.
    let _ = process::set_parent_death_signal(signal::KILL);
    if process::getppid() != starter {
        // Nothing has begun: nothing to be tidied up either.
        fork::exit_now(EXIT_CANNOT_BEGIN);
    }
}
