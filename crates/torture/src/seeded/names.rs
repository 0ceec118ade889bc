//! A toy name table: a name is entered before the file is made, and the cleaner unlinks what is entered.

use std::fs::{self, OpenOptions};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case};
use crate::stage::Stage;

const NAME: &str = "/dev/shm/swath-torture-toy";
const AT: usize = 4096;

/// The victim creates the one name there is.
struct Create {
    entered_late: bool,
}

impl Scenario for Create {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let entered: &AtomicU32 = stage.part(AT);
        Box::new(move || {
            if !self.entered_late {
                entered.store(1, Ordering::SeqCst);
            }
            let file = OpenOptions::new().write(true).create_new(true).open(NAME);
            entered.store(1, Ordering::SeqCst);
            // The descriptor is the process's; closing it is not what is looked at here.
            std::mem::forget(file);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let entered: &AtomicU32 = stage.part(AT);
        if entered.load(Ordering::SeqCst) == 0 {
            return Ok(Verdict::Clean);
        }
        Ok(if fs::remove_file(NAME).is_ok() { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    vec![case("toy name", "create", Create { entered_late: false })]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let cases = vec![case("toy name", "create", Create { entered_late: true })];
    vec![Seed { bug: "create: the name is entered after the file was made", sign: Sign::Wrong, cases }]
}
