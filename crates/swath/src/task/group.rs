//! Waiting for several tasks: the first, the first that fails, all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::Task;
use super::office::Office;
use crate::limits::SLICE_MIN;

/// What [`wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// One task is over.
    FirstCompleted,
    /// One task is over without a value, or all are over.
    FirstError,
    /// All are over.
    AllCompleted,
}

/// The tasks that [`wait`] was given, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Over, in the order in which they were given.
    pub done: Vec<usize>,
    /// Not over.
    pub not_done: Vec<usize>,
}

/// Waits for some of `tasks`, at most `patience` if there is one.
pub fn wait<R>(tasks: &[Task<R>], until: Until, patience: Option<Duration>) -> Waited {
    let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
    let mut waited = Waited::default();
    wait_until(&offices(tasks.iter()), deadline, || {
        let (done, not_done) = (0..tasks.len()).partition(|n| tasks[*n].done());
        waited = Waited { done, not_done };
        waited.not_done.is_empty()
            || match until {
                Until::FirstCompleted => !waited.done.is_empty(),
                Until::FirstError => waited.done.iter().any(|n| !tasks[*n].successful()),
                Until::AllCompleted => false,
            }
    });
    waited
}

/// The index of one that is over; waits for it. `None` when there are none.
pub(crate) fn first_done<'t, R: 't>(tasks: impl Iterator<Item = &'t Task<R>> + Clone) -> Option<usize> {
    let mut found = None;
    tasks.clone().next()?;
    wait_until(&offices(tasks.clone()), None, || {
        found = tasks.clone().position(Task::done);
        found.is_some()
    });
    found
}

/// Tasks, each as soon as it is over.
pub struct AsCompleted<R> {
    tasks: VecDeque<Task<R>>,
    pools: Vec<Arc<Office>>,
    deadline: Option<Instant>,
}

/// Tasks, each as soon as it is over. They may be of several pools.
pub fn as_completed<R>(tasks: impl IntoIterator<Item = Task<R>>) -> AsCompleted<R> {
    let tasks: VecDeque<Task<R>> = tasks.into_iter().collect();
    AsCompleted { pools: offices(tasks.iter()), tasks, deadline: None }
}

impl<R> AsCompleted<R> {
    /// Ends after so long, whatever is not over then.
    pub fn timeout(mut self, patience: Duration) -> Self {
        self.deadline = Instant::now().checked_add(patience);
        self
    }

    /// Those that are not over, or were not taken.
    pub fn into_rest(self) -> Vec<Task<R>> {
        self.tasks.into()
    }
}

impl<R> Iterator for AsCompleted<R> {
    type Item = Task<R>;

    fn next(&mut self) -> Option<Task<R>> {
        let mut found = None;
        if self.tasks.is_empty() {
            return None;
        }
        wait_until(&self.pools, self.deadline, || {
            found = self.tasks.iter().position(Task::done);
            found.is_some()
        });
        found.and_then(|n| self.tasks.remove(n))
    }
}

/// The pools of `tasks`, each once.
fn offices<'t, R: 't>(tasks: impl Iterator<Item = &'t Task<R>>) -> Vec<Arc<Office>> {
    let mut pools: Vec<Arc<Office>> = Vec::new();
    for task in tasks {
        if !pools.iter().any(|pool| Arc::ptr_eq(pool, &task.office)) {
            pools.push(task.office.clone());
        }
    }
    pools
}

/// Waits until `holds`, which is asked again whenever a task of these pools has ended; or until `deadline`.
fn wait_until(pools: &[Arc<Office>], deadline: Option<Instant>, mut holds: impl FnMut() -> bool) {
    let desks: Vec<_> = pools.iter().filter_map(|pool| pool.desk()).collect();
    loop {
        let seen: Vec<u32> = desks.iter().map(|desk| desk.table.completions()).collect();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if holds() || left.is_some_and(|left| left.is_zero()) {
            return;
        }
        // One word can be waited for at a time; of several pools, each gets a short turn.
        let turn = if desks.len() > 1 { Some(left.unwrap_or(SLICE_MIN).min(SLICE_MIN)) } else { left };
        for (desk, seen) in desks.iter().zip(seen) {
            desk.table.wait_completion(seen, turn);
        }
    }
}
