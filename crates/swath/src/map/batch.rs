//! A map in the background: Python's `map_async`.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::pool::Pool;
use crate::task::{Task, Until};

/// A map whose items are tasks.
#[derive(Debug)]
pub struct Batch<R> {
    tasks: Vec<Task<R>>,
}

impl Pool {
    /// As [`Pool::map`], without waiting: every item becomes a task of its own.
    ///
    /// # Errors
    /// As [`Pool::submit`]; items before the one that could not be submitted are cancelled.
    pub fn map_async<A, R>(
        &self,
        function: fn(A) -> R,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Batch<R>>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let mut batch = Batch { tasks: Vec::new() };
        for item in items {
            let task = self.submit(function, item).inspect_err(|_| batch.cancel())?;
            batch.tasks.push(task);
        }
        Ok(batch)
    }
}

impl<R> Batch<R> {
    /// The tasks, in the items' order.
    pub fn tasks(&self) -> &[Task<R>] {
        &self.tasks
    }

    /// Whether all items are over.
    pub fn done(&self) -> bool {
        self.tasks.iter().all(Task::done)
    }

    /// Waits until all items are over.
    pub fn wait(&self) {
        self.tasks.iter().for_each(Task::wait);
    }

    /// As [`Batch::wait`], at most for `patience`; whether all items are over.
    pub fn wait_timeout(&self, patience: Duration) -> bool {
        crate::wait(&self.tasks, Until::AllCompleted, Some(patience)).not_done.is_empty()
    }

    /// Cancels all items that are not over.
    pub fn cancel(&self) {
        for task in &self.tasks {
            task.cancel();
        }
    }
}

impl<R: DeserializeOwned> Batch<R> {
    /// All values, when all items are over.
    ///
    /// # Errors
    /// Of the first item that failed.
    pub fn result(&self) -> Result<Vec<R>> {
        self.wait();
        self.tasks.iter().map(Task::result).collect()
    }

    /// As [`Batch::result`], if all items are over within `patience`; `None` if not.
    ///
    /// # Errors
    /// As there.
    pub fn result_timeout(&self, patience: Duration) -> Result<Option<Vec<R>>> {
        if self.wait_timeout(patience) { self.result().map(Some) } else { Ok(None) }
    }
}
