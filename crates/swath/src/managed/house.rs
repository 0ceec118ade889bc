//! The server's objects, and turns on them.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

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
    state: Mutex<State>,
}

struct State {
    value: Box<dyn Any + Send>,
    /// A panic in the middle of a change.
    poisoned_by: Option<String>,
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
        let state = Mutex::new(State { value, poisoned_by: None });
        let type_id = (*state.lock().unwrap_or_else(PoisonError::into_inner).value).type_id();
        let object = Arc::new(Object { type_id, type_name, state });
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(number, object);
        Ok(number)
    }

    /// Forgets an object. Who is at work on it ends that; then it is dropped.
    pub(crate) fn remove(&self, number: u64) -> Result<(), ManagedError> {
        let removed = self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        removed.map(drop).ok_or(ManagedError::Removed { object: number })
    }

    /// Forgets them all.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.objects.write().unwrap_or_else(PoisonError::into_inner));
        drop(all);
    }

    /// All steps of a message in one turn; their answers. `None`: the turn came too late, nobody wants it any more.
    ///
    /// Everything that can be refused is refused before the first step begins.
    pub(crate) fn call(
        &self,
        number: u64,
        message: &[u8],
        repairing: bool,
        is_wanted: impl FnOnce() -> bool,
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
        is_wanted: impl FnOnce() -> bool,
    ) -> Option<Result<Vec<Answer>, ManagedError>> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            // Whoever panicked was caught, but for a value that panics when it is dropped.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if !is_wanted() {
                    return None;
                }
                state
            }
        };
        if let Some(by) = state.poisoned_by.clone().filter(|_| !repairing) {
            return Some(Err(ManagedError::Poisoned { by }));
        }
        let outer = AT_WORK_ON.replace(number);
        let value = &mut *state.value;
        let done = panic_note::catching(|| Ok(steps.into_iter().map(|step| (step.run)(value)).collect()));
        AT_WORK_ON.set(outer);
        state.poisoned_by = done.as_ref().err().map(|what| what.to_string());
        Some(done.map_err(|what| ManagedError::panicked(&what)))
    }
}
