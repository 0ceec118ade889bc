//! A toy slot whose party is watched through the kernel's robust list: the life word is armed, then the slot says LIVE.
//!
//! Whoever sees LIVE relies on the kernel to set FUTEX_OWNER_DIED in the life word, and waits for that; a slot that is not
//! LIVE yet is the starter's to judge, who confirms exits by other means. The flaw says LIVE first.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;
use crate::word;

const LIVE: u32 = 1;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const AT: usize = 4096;

#[repr(C)]
struct RobustHead {
    list: *const RobustHead,
    offset: isize,
    pending: *const AtomicU32,
}

/// The victim enters the slot.
struct Enter {
    live_first: bool,
}

impl Scenario for Enter {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let (state, life): (&AtomicU32, &AtomicU32) = (stage.part(AT), stage.part(AT + 64));
        let head = Box::leak(Box::new(RobustHead { list: std::ptr::null(), offset: 0, pending: life }));
        head.list = head;
        Box::new(move || {
            if self.live_first {
                state.store(LIVE, Ordering::SeqCst);
            }
            // SAFETY: no arguments.
            let tid = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
            // SAFETY: `head` is leaked, an empty list that points at itself; `pending` is a word of the stage, which stays
            // mapped until the process ends.
            unsafe {
                libc::syscall(
                    libc::SYS_set_robust_list,
                    std::ptr::from_ref::<RobustHead>(head),
                    size_of::<RobustHead>(),
                )
            };
            life.store(tid | WAITERS, Ordering::SeqCst);
            state.store(LIVE, Ordering::SeqCst);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let (state, life): (&AtomicU32, &AtomicU32) = (stage.part(AT), stage.part(AT + 64));
        if state.load(Ordering::SeqCst) != LIVE {
            return Ok(Verdict::Clean);
        }
        loop {
            let seen = life.load(Ordering::SeqCst);
            if seen & OWNER_DIED != 0 {
                return Ok(Verdict::Recovered);
            }
            word::wait(life, seen, Some(Duration::from_millis(10)));
        }
    }
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    vec![case("toy slot", "enter", Enter { live_first: false })]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let cases = vec![case("toy slot", "enter", Enter { live_first: true })];
    vec![Seed { bug: "slot: the life word is armed after LIVE", sign: Sign::Hung, cases }]
}
