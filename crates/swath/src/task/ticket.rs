//! A ticket: what the coordinator knows of one task, shared by its handle and the desk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use swath_array::travel::Lent;

use super::admission::Share;
use super::call::Call;
use super::outcome::Outcome;
use super::table::Priority;
use crate::cause::{Cause, What};

/// What was asked for with a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) name: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) retry_if: Option<fn(&What) -> bool>,
    pub(crate) priority: Priority,
    pub(crate) worker: Option<usize>,
    /// Bytes that it is expected to need; 0 if nobody says.
    pub(crate) memory: u64,
    /// Its worker's death is the end of the pool.
    pub(crate) breaks: bool,
}

/// What is asked of a worker.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) call: Call,
    /// Of the handles in its arguments.
    pub(crate) lent: Lent,
    /// Its part of the budget of memory, from its admission on.
    pub(crate) share: Option<Arc<Share>>,
}

/// Where a task is.
pub(crate) enum Stage {
    /// Not in the table yet.
    Waiting(Request),
    /// In this cell, under this serial.
    Seated { cell: usize, serial: u32 },
    /// Over.
    Resolved(Arc<Outcome>),
}

/// Told once, when the task is over.
pub(crate) type Callback = Box<dyn FnOnce() + Send>;

/// What may change.
pub(crate) struct Life {
    pub(crate) stage: Stage,
    pub(crate) causes: Vec<Cause>,
    /// Whatever comes of it now, it was cancelled.
    pub(crate) cancelled: bool,
    pub(crate) callbacks: Vec<Callback>,
}

/// One task.
pub(crate) struct Ticket {
    /// Its number in its pool, from 1.
    pub(crate) id: u64,
    pub(crate) wishes: Wishes,
    life: Mutex<Life>,
    /// Its stage is the last one: for those who wait at its cell.
    over: AtomicBool,
    changed: Condvar,
}

impl Ticket {
    pub(crate) fn new(id: u64, wishes: Wishes, request: Request) -> Ticket {
        let stage = Stage::Waiting(request);
        let life = Life { stage, causes: Vec::new(), cancelled: false, callbacks: Vec::new() };
        Ticket { id, wishes, life: Mutex::new(life), over: AtomicBool::new(false), changed: Condvar::new() }
    }

    /// Its place among those that wait.
    pub(crate) fn place(&self) -> (Priority, u64) {
        (self.wishes.priority, self.id)
    }

    /// Nothing that can panic half-way runs under this lock, so a poisoned one is a sound one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on; who waits looks again.
    pub(crate) fn enter(&self, life: &mut Life, stage: Stage) {
        self.over.store(matches!(stage, Stage::Resolved(_)), Ordering::SeqCst);
        life.stage = stage;
        self.changed.notify_all();
    }

    /// Whether it is over, without the lock.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits for the next move, at most about `patience`.
    pub(crate) fn wait<'l>(&self, life: MutexGuard<'l, Life>, patience: Duration) -> MutexGuard<'l, Life> {
        self.changed.wait_timeout(life, patience).unwrap_or_else(PoisonError::into_inner).0
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Arc<Outcome>> {
        match &self.lock().stage {
            Stage::Resolved(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }
}
