//! glibc's process-shared condition, with a robust mutex beside it, so that the condition alone can be to blame.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use super::glibc::{give_mutex, make_mutex, object, take_mutex};
use crate::battery::Form;
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;

const CONDITION: usize = 256;
/// What is waited for.
const FLAG_AT: usize = 128 * 1024;

/// See the module.
pub(super) fn cases() -> Vec<(&'static str, Form, Case)> {
    let dies = |deed, then| case("rival", "condition", Dies { deed, then });
    vec![
        ("waiting; then a broadcast to another", Form::Asleep, dies(Deed::Wait, Then::Broadcast)),
        ("waiting; then it is destroyed", Form::Asleep, dies(Deed::Wait, Then::Destroy)),
        ("anywhere in wait", Form::UntilCaught, dies(Deed::Wait, Then::Broadcast)),
        ("anywhere in signal, others wait", Form::UntilCaught, dies(Deed::Signal, Then::Broadcast)),
    ]
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Wait,
    Signal,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Then {
    Broadcast,
    Destroy,
}

struct Dies {
    deed: Deed,
    then: Then,
}

fn flag(stage: &Stage) -> &'static AtomicU32 {
    stage.part(FLAG_AT)
}

/// Lock, wait until the flag is set, unlock; `arrived` is called with the lock held.
fn wait(stage: &Stage, arrived: impl FnOnce()) {
    let _ = take_mutex(object(stage, 0));
    arrived();
    while flag(stage).load(Ordering::SeqCst) == 0 {
        // SAFETY: `set` made both there, and the stage stays mapped; we hold the mutex.
        let code = unsafe { libc::pthread_cond_wait(object(stage, CONDITION), object(stage, 0)) };
        if code == libc::EOWNERDEAD {
            // SAFETY: as above.
            unsafe { libc::pthread_mutex_consistent(object(stage, 0)) };
        }
    }
    give_mutex(object(stage, 0));
}

fn raise(stage: &Stage) {
    let _ = take_mutex(object(stage, 0));
    flag(stage).store(1, Ordering::SeqCst);
    give_mutex(object(stage, 0));
}

fn broadcast(stage: &Stage) {
    raise(stage);
    // SAFETY: `set` made it there, and the stage stays mapped.
    unsafe { libc::pthread_cond_broadcast(object(stage, CONDITION)) };
}

impl Scenario for Dies {
    fn set(&self, stage: &Stage) {
        make_mutex(object(stage, 0), true);
        // SAFETY: an attribute object of our own; zeroed memory of the stage that nobody uses yet.
        unsafe {
            let mut attributes: libc::pthread_condattr_t = std::mem::zeroed();
            libc::pthread_condattr_init(&mut attributes);
            libc::pthread_condattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_cond_init(object(stage, CONDITION), &attributes);
        }
    }

    /// One who waits too, and one who ends all waits on cue.
    fn companions(&self) -> &[Entrance] {
        match self.then {
            Then::Broadcast => &[Entrance::BeforeVictim, Entrance::BeforeVictim],
            Then::Destroy => &[Entrance::BeforeVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        if n == 0 {
            stage.arrive(n + 1);
            stage.await_cue(1);
            broadcast(stage);
        } else {
            wait(stage, || stage.arrive(n + 1));
        }
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        match self.deed {
            Deed::Wait => Box::new(|| wait(stage, || ())),
            // The flag is not raised: who is woken waits on.
            // SAFETY: `set` made it there, and the stage stays mapped.
            Deed::Signal => Box::new(|| unsafe {
                libc::pthread_cond_signal(object(stage, CONDITION));
            }),
        }
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        if self.then == Then::Destroy {
            // SAFETY: `set` made it there; whoever waited is dead, or has been woken.
            unsafe { libc::pthread_cond_destroy(object(stage, CONDITION)) };
        }
        Ok(Verdict::Clean)
    }
}
