//! How a task ended, as the coordinator keeps it until nobody asks any more.

use crate::cause::{Cause, What};
use crate::error::{Error, ErrorKind};

use swath_array::travel::Incoming;

use super::letter::Bytes;

/// The end of a task.
pub(crate) enum Outcome {
    /// Its encoded value, and the arrays in it that nobody has taken yet.
    Value(Bytes, Incoming),
    /// It has none.
    Failure(TaskFailure),
}

/// A task without a value.
#[derive(Clone, Debug)]
pub(crate) struct TaskFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) task: u64,
    pub(crate) name: String,
    /// How each attempt ended, in order.
    pub(crate) causes: Vec<Cause>,
    /// Why, if that is nothing that happened to an attempt.
    pub(crate) why: String,
}

impl TaskFailure {
    /// As the caller gets it; each caller one of its own.
    pub(crate) fn to_error(&self) -> Error {
        let mut text = match self.name.is_empty() {
            true => format!("task {}", self.task),
            false => format!("task {} (`{}`)", self.task, self.name),
        };
        if !self.why.is_empty() {
            text.push_str(&format!(" {}", self.why));
        }
        if let Some(last) = self.causes.last() {
            let times = match self.causes.len() {
                1 => String::new(),
                n => format!(" {n} times"),
            };
            text.push_str(&format!("{} failed{times}; {last}", if self.why.is_empty() { "" } else { ":" }));
        }
        self.kind.with(text).with_causes(self.causes.clone())
    }
}

/// What kind of error a task's last cause makes.
pub(crate) fn kind_of(what: &What) -> ErrorKind {
    match what {
        What::Exited { .. } | What::Killed { .. } => ErrorKind::Died,
        What::TimedOut { .. } => ErrorKind::TimedOut,
        What::Cancelled => ErrorKind::Cancelled,
        What::Setup { .. } | What::Codec { .. } => ErrorKind::Codec,
        What::Failed { .. } | What::Panicked { .. } => ErrorKind::Failed,
    }
}
