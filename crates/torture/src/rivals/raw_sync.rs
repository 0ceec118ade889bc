//! The crate raw_sync: its mutex, and its event.
#![allow(unsafe_code)]

use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use raw_sync::locks::{LockImpl, LockInit, Mutex as RawMutex};

use super::lock::{Lock, Who};
use crate::battery::Form;
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;

const AT: usize = 4096;

fn memory(stage: &Stage) -> *mut u8 {
    stage.base().wrapping_add(AT)
}

/// `raw_sync::locks::Mutex`.
#[derive(Copy, Clone)]
pub(super) struct Mutex;

fn mutex(stage: &Stage) -> Box<dyn LockImpl> {
    // SAFETY: `make` was called there, and the stage stays mapped.
    unsafe { RawMutex::from_existing(memory(stage), std::ptr::null_mut()) }.expect("it was made").0
}

impl Lock for Mutex {
    fn make(self, stage: &Stage) {
        // SAFETY: zeroed memory of the stage that nobody uses yet, with room to spare.
        unsafe { RawMutex::new(memory(stage), std::ptr::null_mut()) }.expect("a mutex");
    }

    fn take(self, stage: &Stage, _who: Who) -> Result<bool, String> {
        let lock = mutex(stage);
        let guard = lock.lock().map_err(|error| error.to_string())?;
        // Given back by `give`.
        std::mem::forget(guard);
        Ok(false)
    }

    fn give(self, stage: &Stage) {
        let _ = mutex(stage).release();
    }
}

/// What befalls the event.
pub(super) fn event_cases() -> Vec<(&'static str, Form, Case)> {
    let dies = |waits| case("rival", "event", Dies { waits });
    vec![
        ("waiting for it", Form::Asleep, dies(true)),
        ("anywhere in wait", Form::UntilCaught, dies(true)),
        ("anywhere in set", Form::UntilCaught, dies(false)),
    ]
}

struct Dies {
    waits: bool,
}

fn event(stage: &Stage) -> Box<dyn EventImpl> {
    // SAFETY: `set` made it there, and the stage stays mapped.
    unsafe { Event::from_existing(memory(stage)) }.expect("it was made").0
}

impl Scenario for Dies {
    fn set(&self, stage: &Stage) {
        // SAFETY: zeroed memory of the stage that nobody uses yet, with room to spare.
        unsafe { Event::new(memory(stage), false) }.expect("an event");
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        stage.await_cue(1);
        event(stage).set(EventState::Signaled).map_err(|error| error.to_string())?;
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let event = event(stage);
        Box::new(move || {
            let _ = if self.waits { event.wait(Timeout::Infinite) } else { event.set(EventState::Signaled) };
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        // Longer than the harness waits: who comes through does so because of the event.
        event(stage).wait(Timeout::Val(Duration::from_secs(60))).map_err(|error| error.to_string())?;
        Ok(Verdict::Clean)
    }
}
