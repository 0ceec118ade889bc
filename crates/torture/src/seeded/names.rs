//! A toy name table: a name is entered before the file is made, the file is made under a name that nobody attaches to, and
//! gets its public name when it is whole; the cleaner unlinks what is entered.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const UNFINISHED: &str = "/dev/shm/swath-torture-toy.new";
const PUBLIC: &str = "/dev/shm/swath-torture-toy";
const CONTENT: &[u8] = b"whole";
const AT: usize = 4096;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    EnteredLate,
    PublicBeforeWhole,
}

/// The victim creates the one name there is.
struct Create {
    flaw: Flaw,
}

impl Scenario for Create {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let entered: &AtomicU32 = stage.part(AT);
        let begun = if self.flaw == Flaw::PublicBeforeWhole { PUBLIC } else { UNFINISHED };
        Box::new(move || {
            if self.flaw != Flaw::EnteredLate {
                entered.store(1, Ordering::SeqCst);
            }
            let mut file = OpenOptions::new().write(true).create_new(true).open(begun).expect("a new name");
            entered.store(1, Ordering::SeqCst);
            file.write_all(CONTENT).expect("room for a few bytes");
            if begun == UNFINISHED {
                fs::rename(UNFINISHED, PUBLIC).expect("it is there");
            }
            // The descriptor is the process's; closing it is not what is looked at here.
            std::mem::forget(file);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let entered: &AtomicU32 = stage.part(AT);
        if entered.load(Ordering::SeqCst) == 0 {
            return Ok(Verdict::Clean);
        }
        let found = fs::read(PUBLIC).ok();
        let removed = fs::remove_file(UNFINISHED).is_ok() | fs::remove_file(PUBLIC).is_ok();
        expect(found.is_none_or(|content| content == CONTENT), || {
            "who attaches finds half of it".to_owned()
        })?;
        Ok(if removed { Verdict::Recovered } else { Verdict::Clean })
    }
}

fn cases(flaw: Flaw) -> Vec<Case> {
    vec![case("toy name", "create", Create { flaw })]
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    cases(Flaw::None)
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let seed = |bug, flaw| Seed { bug, sign: Sign::Wrong, cases: cases(flaw) };
    vec![
        seed("create: the name is entered after the file was made", Flaw::EnteredLate),
        seed("create: the name is public before it is whole (iceoryx2 #601)", Flaw::PublicBeforeWhole),
    ]
}
