//! What may have become of a task, by what it does and what was done to it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use swath::{Cause, Error, ErrorKind, Task, What};

use super::deed::{Deed, Reply};

/// What was done to a pool so far.
#[derive(Default)]
pub(crate) struct Facts {
    /// Workers that were killed from outside: noted before the signal.
    killed: Mutex<HashSet<u32>>,
    /// A task was submitted whose death is the end of the pool.
    pub(crate) may_break: AtomicBool,
    /// The pool is being ended, and with it what is not over.
    pub(crate) ended: AtomicBool,
}

impl Facts {
    /// Somebody is about to kill this worker.
    pub(crate) fn will_kill(&self, pid: u32) {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
    }

    pub(crate) fn was_killed(&self, pid: u32) -> bool {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
    }
}

/// What a task was submitted with.
#[derive(Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) retries: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) worker: Option<usize>,
    pub(crate) breaks: bool,
}

/// What was asked for, and what was done to it since.
pub(crate) struct Order {
    pub(crate) deed: Deed,
    pub(crate) wishes: Wishes,
    /// What `cancel` said, each time.
    pub(crate) cancels: Vec<bool>,
    /// How often a callback of it was called, and how many it has.
    pub(crate) told: Arc<AtomicU32>,
    pub(crate) callbacks: u32,
}

/// A task that was submitted.
pub(crate) struct Record {
    pub(crate) order: Order,
    pub(crate) task: Task<Reply>,
}

impl Record {
    /// In a line.
    pub(crate) fn describe(&self) -> String {
        let Wishes { retries, timeout, worker, breaks } = &self.order.wishes;
        let mut text = format!("task {}: {}, {retries} retries", self.task.id(), self.order.deed.name());
        timeout.iter().for_each(|limit| text.push_str(&format!(", at most {limit:?}")));
        worker.iter().for_each(|worker| text.push_str(&format!(", on worker {worker}")));
        text.push_str(if *breaks { ", breaks its pool" } else { "" });
        if !self.order.cancels.is_empty() {
            text.push_str(&format!(", cancel() was {:?}", self.order.cancels));
        }
        text
    }

    /// Asks for its end, and remembers the answer.
    pub(crate) fn cancel(&mut self) {
        self.order.cancels.push(self.task.cancel());
    }

    /// How it ended, in a word; an error says what is wrong. It is over.
    pub(crate) fn judge(&self, facts: &Facts) -> Result<&'static str, String> {
        if !self.task.done() {
            return Err(format!("{}: it is not over after a wait for it", self.describe()));
        }
        let found = match self.task.result() {
            Ok(reply) => self.value(&reply),
            Err(error) => self.failure(&error, facts).map_err(|why| format!("{why}: {error}")),
        };
        found.map_err(|why| format!("{}: {why}", self.describe()))
    }

    fn value(&self, reply: &Reply) -> Result<&'static str, String> {
        let unwanted = matches!(reply, Reply::Unwanted) && self.order.wishes.timeout.is_none();
        if !self.order.deed.gives(reply, self.order.wishes.worker) || unwanted {
            return Err("another value than a serial call's".into());
        }
        match self.order.cancels.contains(&true) {
            true => Err("a value, although it was cancelled in time".into()),
            false => Ok("value"),
        }
    }

    fn failure(&self, error: &Error, facts: &Facts) -> Result<&'static str, String> {
        let (kind, causes) = (error.kind(), error.causes());
        let in_time = self.order.cancels.contains(&true);
        let ended = facts.ended.load(Ordering::SeqCst);
        match kind {
            ErrorKind::Cancelled if in_time || ended => return Ok("cancelled"),
            ErrorKind::Cancelled => return Err("nobody cancelled it".into()),
            _ if in_time => return Err("it was cancelled in time, and says something else".into()),
            ErrorKind::Broken if facts.may_break.load(Ordering::SeqCst) => return Ok("broken"),
            _ => {}
        }
        for cause in causes {
            self.possible(cause, facts)?;
        }
        let Some(last) = causes.last() else { return Err("no cause".into()) };
        if expected_kind(&last.what) != Some(kind) {
            return Err(format!("its kind is {kind:?}, which its last cause is not"));
        }
        // A panic is not tried again, and nothing is when the pool is being ended or broken.
        let all = causes.len() == self.order.wishes.retries as usize + 1;
        let excused = ended || facts.may_break.load(Ordering::SeqCst) || kind == ErrorKind::Failed;
        if !all && !excused {
            return Err(format!("{} attempts of {}", causes.len(), self.order.wishes.retries + 1));
        }
        Ok(match kind {
            ErrorKind::Died => "died",
            ErrorKind::TimedOut => "timed out",
            _ => "failed",
        })
    }

    /// Whether an attempt can have ended so.
    fn possible(&self, cause: &Cause, facts: &Facts) -> Result<(), String> {
        let killed = facts.was_killed(cause.pid);
        let fine = match &cause.what {
            What::Killed { signal: libc::SIGKILL, .. } => killed,
            What::Killed { signal: libc::SIGABRT, .. } => {
                matches!(self.order.deed, Deed::Abort | Deed::AbortAfter(_))
            }
            What::Killed { signal: libc::SIGSEGV, .. } => matches!(self.order.deed, Deed::Segfault),
            What::Exited { code: 0 } => matches!(self.order.deed, Deed::Exit),
            What::Panicked { message, .. } => matches!(self.order.deed, Deed::Panic) && message == "told to",
            // A worker that was stopped from outside is slow, until it is killed.
            What::TimedOut { limit } => {
                self.order.wishes.timeout == Some(*limit) && (self.order.deed.is_endless() || killed)
            }
            _ => false,
        };
        if fine {
            Ok(())
        } else {
            Err(format!("nothing was done that ends it so (pid {} was killed: {killed})", cause.pid))
        }
    }
}

fn expected_kind(what: &What) -> Option<ErrorKind> {
    Some(match what {
        What::Exited { .. } | What::Killed { .. } => ErrorKind::Died,
        What::TimedOut { .. } => ErrorKind::TimedOut,
        What::Panicked { .. } => ErrorKind::Failed,
        _ => return None,
    })
}
