//! The caller's handle to a task: what Python calls a future, and an `AsyncResult`.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::office::Office;
use super::outcome::Outcome;
use super::ticket::Ticket;
use crate::error::{Error, ErrorKind, Result};
use crate::freight;

/// A task that was submitted. Dropping the handle lets the task run; its value is then thrown away.
///
/// All methods take `&self`: a handle may be asked many times, from several threads. It is also a `std` future, for any
/// executor: `task.await` gives the result.
pub struct Task<R> {
    pub(crate) office: Arc<Office>,
    pub(crate) ticket: Arc<Ticket>,
    cancel_on_drop: bool,
    waker: Option<Arc<Mutex<Option<Waker>>>>,
    value: PhantomData<fn() -> R>,
}

impl<R> Task<R> {
    pub(crate) fn new(office: Arc<Office>, ticket: Arc<Ticket>) -> Task<R> {
        Task { office, ticket, cancel_on_drop: false, waker: None, value: PhantomData }
    }

    /// Its number in its pool, from 1 in the order of submission.
    pub fn id(&self) -> u64 {
        self.ticket.id
    }

    /// Whether it is over: with a value, an error, or cancelled.
    pub fn done(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether a worker has it in hand.
    pub fn running(&self) -> bool {
        self.office.desk().is_some_and(|desk| desk.is_running(&self.ticket))
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self) -> bool {
        self.failure(|kind| kind == ErrorKind::Cancelled)
    }

    /// Whether it is over and has a value.
    pub fn successful(&self) -> bool {
        matches!(self.outcome().as_deref(), Some(Outcome::Value(..)))
    }

    /// Waits until it is over.
    pub fn wait(&self) {
        self.office.wait(&self.ticket, None);
    }

    /// Waits until it is over, at most `patience`; whether it is.
    pub fn wait_timeout(&self, patience: Duration) -> bool {
        self.office.wait(&self.ticket, Instant::now().checked_add(patience))
    }

    /// What went wrong, when it is over; `None` if it has a value.
    pub fn exception(&self) -> Option<Error> {
        self.wait();
        match self.outcome().as_deref() {
            Some(Outcome::Failure(failure)) => Some(failure.to_error()),
            _ => None,
        }
    }

    /// Nobody wants it any more. True when that was in time: it is then over as cancelled, at once if no worker had it, else as soon
    /// as its worker has ended it or was killed and replaced. False when it was over already.
    pub fn cancel(&self) -> bool {
        self.office.cancel(&self.ticket)
    }

    /// Dropping this handle cancels the task from now on.
    pub fn cancel_on_drop(mut self) -> Task<R> {
        self.cancel_on_drop = true;
        self
    }

    /// Calls `f` when the task is over, once, in the pool's steward thread: in the order of endings, and for one task in the order of
    /// registration; a panic of it is logged. Of a task that is over it is called soon.
    pub fn add_done_callback(&self, f: impl FnOnce(&Task<R>) + Send + 'static)
    where
        R: 'static,
    {
        let (office, ticket) = (self.office.clone(), self.ticket.clone());
        self.office.tell(&self.ticket, Box::new(move || f(&Task::new(office, ticket))));
    }

    pub(crate) fn outcome(&self) -> Option<Arc<Outcome>> {
        if let Some(desk) = self.office.desk() {
            desk.look(&self.ticket);
        }
        self.ticket.outcome()
    }

    fn failure(&self, is: impl FnOnce(ErrorKind) -> bool) -> bool {
        matches!(self.outcome().as_deref(), Some(Outcome::Failure(failure)) if is(failure.kind))
    }
}

impl<R: DeserializeOwned> Task<R> {
    /// Its value, when it is over. A [`SharedArray`](crate::SharedArray) in it changes hands: the first call has it, a later one is an error.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`]: the function returned an error or panicked. [`ErrorKind::Died`]: its worker did, after all
    /// attempts; [`ErrorKind::TimedOut`], [`ErrorKind::Cancelled`], [`ErrorKind::Broken`], [`ErrorKind::Codec`].
    /// [`Error::causes`] has every attempt's end.
    pub fn result(&self) -> Result<R> {
        self.wait();
        self.value().unwrap_or_else(|| Err(ErrorKind::Closed.with("a task was lost")))
    }

    /// As [`Task::result`], if it is over within `patience`; `None` if it is not: it goes on.
    ///
    /// # Errors
    /// As [`Task::result`].
    pub fn result_timeout(&self, patience: Duration) -> Result<Option<R>> {
        match self.wait_timeout(patience) {
            true => self.value().transpose(),
            false => Ok(None),
        }
    }

    fn value(&self) -> Option<Result<R>> {
        Some(match &*self.outcome()? {
            Outcome::Value(bytes, arrays) => arrays.during(|| freight::unpack(bytes)).map_err(|why| {
                let name = std::any::type_name::<R>();
                ErrorKind::Codec
                    .with(format!("task {}: its result of type {name} cannot be decoded: {why}", self.id()))
            }),
            Outcome::Failure(failure) => Err(failure.to_error()),
        })
    }
}

impl<R: DeserializeOwned> Future for Task<R> {
    type Output = Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R>> {
        if self.waker.is_none() {
            let place = Arc::new(Mutex::new(Some(cx.waker().clone())));
            self.waker = Some(place.clone());
            let wake = move || {
                let waker = place.lock().unwrap_or_else(PoisonError::into_inner).take();
                waker.into_iter().for_each(Waker::wake);
            };
            self.office.tell(&self.ticket, Box::new(wake));
        } else if let Some(place) = &self.waker {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        }
        // After the waker is in place: an end that came before is seen here, a later one wakes.
        self.value().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        if self.cancel_on_drop {
            self.cancel();
        }
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.outcome().as_deref() {
            None if self.running() => "running".to_owned(),
            None => "pending".to_owned(),
            Some(Outcome::Value(..)) => "done".to_owned(),
            Some(Outcome::Failure(failure)) => failure.to_error().to_string(),
        };
        write!(f, "Task {} ({state})", self.id())
    }
}
