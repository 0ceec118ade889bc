//! glibc's process-shared barrier, for two.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use super::glibc::object;
use crate::battery::{Form, Point};
use crate::scenario::{Case, Entrance, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

/// Set when the victim's death is confirmed.
const DEAD_AT: usize = 128 * 1024;

/// See the module.
pub(super) fn cases() -> Vec<(&'static str, Form, Case)> {
    let dies = |arrives| case("rival", "barrier", Dies { arrives });
    vec![
        ("before it arrives", Form::Only(Point::at(0)), dies(false)),
        ("waiting in it", Form::Asleep, dies(true)),
    ]
}

struct Dies {
    arrives: bool,
}

fn wait(stage: &Stage) {
    // SAFETY: `set` made it there, and the stage stays mapped.
    unsafe { libc::pthread_barrier_wait(object(stage, 0)) };
}

fn dead(stage: &Stage) -> &'static AtomicU32 {
    stage.part(DEAD_AT)
}

/// The other party.
fn come(stage: &Stage) -> Finding {
    let was_dead = dead(stage).load(Ordering::SeqCst) == 1;
    wait(stage);
    expect(!was_dead, || "the survivor passes a barrier of two alone".to_owned())?;
    Ok(Verdict::Clean)
}

impl Scenario for Dies {
    fn set(&self, stage: &Stage) {
        // SAFETY: an attribute object of our own; zeroed memory of the stage that nobody uses yet.
        unsafe {
            let mut attributes: libc::pthread_barrierattr_t = std::mem::zeroed();
            libc::pthread_barrierattr_init(&mut attributes);
            libc::pthread_barrierattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_barrier_init(object(stage, 0), &attributes, 2);
        }
    }

    fn companions(&self) -> &[Entrance] {
        &[Entrance::BeforeVictim]
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        stage.await_cue(1);
        come(stage)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        if self.arrives { Box::new(|| wait(stage)) } else { Box::new(|| ()) }
    }

    fn confirmed(&self, stage: &Stage) {
        dead(stage).store(1, Ordering::SeqCst);
    }

    fn aftermath(&self, _stage: &Stage, _moment: Moment) -> Finding {
        Ok(Verdict::Clean)
    }
}
