//! The server's objects, and turns on them.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use swath_sync::SLICE;

use super::fault::ManagedError;
use super::frame::put_run;
use super::step::{Answer, Made, Step, take_make, take_steps};
use crate::panic_note;

/// All objects of a manager, by number. A number is never used twice.
#[derive(Default)]
pub(crate) struct House {
    objects: RwLock<HashMap<u64, Arc<Object>>>,
    made: AtomicU64,
    pub(crate) calls: AtomicU64,
}

struct Object {
    type_id: TypeId,
    type_name: &'static str,
    /// Empty while somebody is at work on it.
    place: Mutex<Option<State>>,
    /// It is not empty any more.
    free: Condvar,
}

struct State {
    value: Box<dyn Any + Send>,
    /// A panic in the middle of a change.
    poisoned_by: Option<String>,
}

/// An object, taken to work on it; given back on every way out.
struct Turn<'o> {
    object: &'o Object,
    state: Option<State>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.object.place() = self.state.take();
        self.object.free.notify_one();
    }
}

thread_local! {
    /// The object that this thread is at work on; 0: none.
    static AT_WORK_ON: Cell<u64> = const { Cell::new(0) };
}

/// The object that the calling thread, one of a server's, is at work on.
pub(crate) fn at_work_on() -> u64 {
    AT_WORK_ON.get()
}

impl House {
    pub(crate) fn len(&self) -> usize {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Makes an object; its number.
    pub(crate) fn make(&self, message: &[u8]) -> Result<u64, ManagedError> {
        let Made { value, type_name } = take_make(message)?;
        let type_id = (*value).type_id();
        let place = Mutex::new(Some(State { value, poisoned_by: None }));
        let object = Arc::new(Object { type_id, type_name, place, free: Condvar::new() });
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(number, object);
        Ok(number)
    }

    /// Forgets an object. Who is at work on it ends that; then it is dropped.
    pub(crate) fn remove(&self, number: u64) -> Result<(), ManagedError> {
        let removed = self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        removed.map(drop).ok_or(ManagedError::Removed { object: number })
    }

    /// Drops them all, the oldest first. False: somebody was still at work on one at `deadline`.
    pub(crate) fn clear(&self, deadline: Instant) -> bool {
        let all = std::mem::take(&mut *self.objects.write().unwrap_or_else(PoisonError::into_inner));
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.iter().fold(true, |whole, (_, object)| {
            let state = object.when_free(|| Instant::now() < deadline).take();
            whole & state.is_some()
        })
    }

    /// All steps of a message in one turn; their answers. `None`: the turn came too late, nobody wants it any more.
    ///
    /// Everything that can be refused is refused before the first step begins.
    pub(crate) fn call(
        &self,
        number: u64,
        message: &[u8],
        repairing: bool,
        is_wanted: impl Fn() -> bool,
    ) -> Option<Result<Vec<u8>, ManagedError>> {
        let found = self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        let prepared = found
            .ok_or(ManagedError::Removed { object: number })
            .and_then(|object| Ok((take_steps(message)?, object)))
            .and_then(|(steps, object)| object.check(&steps).map(|()| (steps, object)));
        let (steps, object) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Some(Err(error)),
        };
        let answers = object.turn(number, steps, repairing, is_wanted)?;
        Some(answers.and_then(|answers| {
            let mut out = Vec::new();
            for answer in answers {
                put_run(&mut out, &answer()?);
            }
            Ok(out)
        }))
    }
}

impl Object {
    /// Nothing that panics runs under it.
    fn place(&self) -> MutexGuard<'_, Option<State>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its place, when nobody is at work on it; or as it is when `waits` says no.
    fn when_free(&self, waits: impl Fn() -> bool) -> MutexGuard<'_, Option<State>> {
        let mut place = self.place();
        while place.is_none() && waits() {
            place = self.free.wait_timeout(place, SLICE).unwrap_or_else(PoisonError::into_inner).0;
        }
        place
    }

    /// `None`: nobody wants this turn any more.
    fn take(&self, is_wanted: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut place = self.when_free(&is_wanted);
        if place.is_some() && is_wanted() {
            return Some(Turn { object: self, state: place.take() });
        }
        // Whoever woke us meant one who still wants it.
        self.free.notify_one();
        None
    }

    fn check(&self, steps: &[Step]) -> Result<(), ManagedError> {
        match steps.iter().find(|step| step.type_id != self.type_id) {
            None => Ok(()),
            Some(step) => Err(ManagedError::WrongType {
                is: self.type_name.to_owned(),
                wanted: step.type_name.to_owned(),
            }),
        }
    }

    fn turn(
        &self,
        number: u64,
        steps: Vec<Step>,
        repairing: bool,
        is_wanted: impl Fn() -> bool,
    ) -> Option<Result<Vec<Answer>, ManagedError>> {
        let mut turn = self.take(is_wanted)?;
        let state = turn.state.as_mut()?;
        if let Some(by) = state.poisoned_by.clone().filter(|_| !repairing) {
            return Some(Err(ManagedError::Poisoned { by }));
        }
        let outer = AT_WORK_ON.replace(number);
        // Until it is known better: what panics with its own panic's remains cannot be described.
        state.poisoned_by = Some("panicked".to_owned());
        let value = &mut *state.value;
        let done = panic_note::catching(|| Ok(steps.into_iter().map(|step| (step.run)(value)).collect()));
        AT_WORK_ON.set(outer);
        state.poisoned_by = done.as_ref().err().map(|what| what.to_string());
        Some(done.map_err(|what| ManagedError::panicked(&what)))
    }
}
