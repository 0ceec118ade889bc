//! Admission: tasks that say how much memory they need ([`Submission::memory`](super::Submission::memory)) are begun only while the sum
//! of those that are begun fits the pool's budget.
//!
//! 1. The budget is what the pool was told, or what can be had when no such task is begun: of the tightest cgroup or of the machine, less
//!    a reserve. Measured while none is begun, since those that run have taken a part of theirs already, and nobody knows which.
//! 2. A task that needs more than the pool was told, or than the cgroup or the machine has when all of it is free, less the reserve, is
//!    refused when it is submitted: no waiting would help. What workers hold at the moment does not count for that.
//! 3. The others wait in the order of priority and submission. The first of them is begun when it fits; until then none behind it is,
//!    however small: a large one waits for those before it, and not for those after it. Tasks that say nothing overtake it.
//! 4. When none is begun the first one fits, though less memory be there than when it was submitted: nothing would ever change that.
//! 5. What a task needs is given back when no worker has it any more, whatever its caller was told: a killed one at its confirmed exit, one
//!    that is tried again at its last end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use swath_platform::memory;

use super::table::Priority;
use super::ticket::{Stage, Ticket};
use crate::error::{Error, ErrorKind};
use crate::limits::MEMORY_RESERVE_PARTS;

/// Tasks in the order in which they are to be begun.
pub(super) type Line = BTreeMap<(Priority, u64), Arc<Ticket>>;

/// A task's part of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    begun: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.begun.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What may be used, and why so much.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// Now.
    bytes: u64,
    /// Ever.
    most: u64,
    why: String,
}

impl Budget {
    /// Step 1. Of a machine that does not say, everything.
    pub(crate) fn find(told: Option<u64>) -> Budget {
        if let Some(bytes) = told {
            return Budget { bytes, most: bytes, why: "the pool's memory_budget".to_owned() };
        }
        let Some(headroom) = memory::memory_headroom() else {
            return Budget { bytes: u64::MAX, most: u64::MAX, why: "the system does not say".to_owned() };
        };
        let whose = headroom.cgroup.map_or("the machine".to_owned(), |dir| dir.display().to_string());
        let (limit, reserve) = (headroom.limit, headroom.limit / MEMORY_RESERVE_PARTS);
        let why = format!("the limit of {limit} bytes set by {whose}, less {reserve} in reserve");
        let bytes = headroom.available.saturating_sub(reserve);
        Budget { bytes, most: bytes.max(limit - reserve), why }
    }

    /// Step 2.
    pub(crate) fn check(&self, needed: u64) -> Result<(), Error> {
        if needed <= self.most {
            return Ok(());
        }
        let Budget { most, why, .. } = self;
        Err(ErrorKind::Memory.with(format!(
            "a task that needs {needed} bytes of memory can never run: there are {most} at most ({why})"
        )))
    }
}

/// The tasks that wait for memory.
pub(super) struct Admission {
    told: Option<u64>,
    budget: Option<Budget>,
    /// Sum over those that are begun.
    begun: Arc<AtomicU64>,
    line: Line,
}

impl Admission {
    pub(super) fn new(told: Option<u64>) -> Admission {
        Admission { told, budget: None, begun: Arc::default(), line: Line::new() }
    }

    /// Steps 1 and 2.
    pub(super) fn check(&mut self, needed: u64) -> Result<(), Error> {
        self.measure().check(needed)
    }

    fn measure(&mut self) -> &Budget {
        if self.begun.load(Ordering::Relaxed) == 0 {
            self.budget = None;
        }
        self.budget.get_or_insert_with(|| Budget::find(self.told))
    }

    /// Step 3: at its place in the line.
    pub(super) fn wait(&mut self, ticket: &Arc<Ticket>) {
        self.line.insert(ticket.place(), ticket.clone());
    }

    /// Steps 3 and 4: moves those to `ready` that may begin.
    pub(super) fn admit(&mut self, ready: &mut Line) {
        while let Some(first) = self.line.first_entry() {
            let needed = first.get().wishes.memory;
            let begun = self.begun.load(Ordering::Relaxed);
            // Measured when it was submitted at the latest, and not since: see step 1.
            let budget = self.budget.as_ref().map_or(0, |budget| budget.bytes);
            if begun > 0 && begun.checked_add(needed).is_none_or(|sum| sum > budget) {
                return;
            }
            let (place, ticket) = first.remove_entry();
            if let Stage::Waiting(request) = &mut ticket.lock().stage {
                self.begun.fetch_add(needed, Ordering::Relaxed);
                request.share = Some(Arc::new(Share { begun: self.begun.clone(), bytes: needed }));
            }
            ready.insert(place, ticket);
            if begun == 0 {
                self.budget = Some(Budget::find(self.told));
            }
        }
    }

    /// Those that wait for memory.
    pub(super) fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::ticket::{Request, Wishes};

    fn ticket(id: u64, memory: u64, priority: Priority) -> Arc<Ticket> {
        Arc::new(Ticket::new(id, Wishes { memory, priority, ..Wishes::default() }, Request::default()))
    }

    fn ids(line: &Line) -> Vec<u64> {
        line.values().map(|ticket| ticket.id).collect()
    }

    #[test]
    fn a_large_one_waits_for_those_before_it_and_not_for_those_behind() {
        let mut admission = Admission::new(Some(100));
        let mut ready = Line::new();
        for (id, memory) in [(1, 40), (2, 50), (3, 90), (4, 5)] {
            admission.check(memory).expect("possible");
            admission.wait(&ticket(id, memory, Priority::Normal));
        }
        admission.admit(&mut ready);
        assert_eq!(ids(&ready), [1, 2], "the third does not fit, and the fourth is behind it");
        ready.remove(&(Priority::Normal, 1));
        admission.admit(&mut ready);
        assert_eq!(ids(&ready), [2]);
        ready.clear();
        admission.admit(&mut ready);
        assert_eq!(ids(&ready), [3, 4]);
        assert!(admission.is_empty());
        let error = admission.check(101).expect_err("too much");
        assert!(
            error.to_string().contains("needs 101 bytes of memory can never run: there are 100 at most"),
            "{error}"
        );
    }

    #[test]
    fn priorities_come_first_and_nothing_is_lost_by_a_smaller_budget() {
        let mut admission = Admission::new(Some(10));
        let mut ready = Line::new();
        admission.check(10).expect("possible");
        admission.wait(&ticket(1, 10, Priority::Low));
        admission.wait(&ticket(2, 10, Priority::High));
        admission.admit(&mut ready);
        assert_eq!(ids(&ready), [2]);
        ready.clear();
        // Less is there than when it was submitted.
        admission.told = Some(1);
        admission.admit(&mut ready);
        assert_eq!(ids(&ready), [1]);
    }

    #[test]
    fn the_measured_budget_leaves_a_reserve() {
        let budget = Budget::find(None);
        assert!(budget.bytes > 0);
        let error = budget.check(u64::MAX).map_err(|error| error.to_string());
        assert!(budget.bytes == u64::MAX || error.is_err_and(|e| e.contains("in reserve")));
    }
}
