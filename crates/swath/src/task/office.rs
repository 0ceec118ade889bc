//! The office: where the tasks of one pool are looked after, whatever kind of pool it is.
//!
//! It joins desk and crew: the desk knows tasks, the crew kills workers. Handles keep it, not the pool.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use super::desk::{Desk, Kill};
use super::ticket::{Callback, Stage, Ticket};
use super::{steward, watch};
use crate::cause::What;
use crate::crew::Crew;

/// A pool's tasks.
pub(crate) struct Office {
    /// `None` in an inline pool, whose tasks are over when they are submitted.
    desk: Option<Arc<Desk>>,
    crew: Weak<Crew>,
    steward: Mutex<Option<JoinHandle<()>>>,
    watched: AtomicBool,
}

impl Office {
    pub(crate) fn new(desk: Option<Arc<Desk>>, crew: Weak<Crew>) -> Office {
        Office { desk, crew, steward: Mutex::default(), watched: AtomicBool::new(false) }
    }

    pub(crate) fn desk(&self) -> Option<&Arc<Desk>> {
        self.desk.as_ref()
    }

    /// Waits until the task is over; false when `deadline` has passed first.
    pub(crate) fn wait(&self, ticket: &Ticket, deadline: Option<Instant>) -> bool {
        self.desk.as_ref().is_none_or(|desk| desk.wait(ticket, deadline))
    }

    pub(crate) fn cancel(&self, ticket: &Arc<Ticket>) -> bool {
        let Some(desk) = &self.desk else { return false };
        let (in_time, kill) = desk.cancel(ticket);
        if let Some(kill) = kill {
            self.kill(&kill, What::Cancelled);
        }
        in_time
    }

    fn kill(&self, kill: &Kill, why: What) {
        if let Some(crew) = self.crew.upgrade() {
            crew.kill(&[(kill.worker, kill.generation)], kill.rung(), &why);
        }
    }

    /// There is work: workers that have left for want of it come back.
    pub(crate) fn rouse(&self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.rouse();
        }
    }

    /// Calls `callback` when the task is over.
    pub(crate) fn tell(&self, ticket: &Ticket, callback: Callback) {
        let Some(desk) = &self.desk else { return steward::call(callback) };
        match desk.tell(ticket, callback) {
            Some(callback) => steward::call(callback),
            None => self.need_steward(),
        }
    }

    /// There is something that nobody who waits will do.
    pub(crate) fn need_steward(&self) {
        let Some(desk) = &self.desk else { return };
        let mut thread = self.steward.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = steward::start(desk.clone());
        }
    }

    /// There are tasks with a time-out: the watch is kept from now on.
    pub(crate) fn need_watch(&self) {
        if let (Some(desk), false) = (&self.desk, self.watched.swap(true, Ordering::Relaxed)) {
            watch::start(Arc::downgrade(desk), self.crew.clone());
        }
    }

    /// Whether `ticket` still waits for a place in the table.
    pub(crate) fn is_waiting(ticket: &Ticket) -> bool {
        matches!(ticket.lock().stage, Stage::Waiting(_))
    }

    /// The workers are gone: the steward makes the last calls, and ends.
    pub(crate) fn shut(&self) {
        if let Some(desk) = &self.desk {
            desk.abandon();
        }
        let thread = self.steward.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A callback that drops the pool cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
