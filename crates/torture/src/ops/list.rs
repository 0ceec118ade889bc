//! `list-set`, `list-get` of `swath_sync::ShareableList`.
//!
//! What must hold: nobody waits for a dead setter; a slot has the old value or the new one, whole.

use swath_sync::{ListValue, ShareableList};

use super::props::{self, CHECKER, VICTIM};
use crate::room::{item, message};
use crate::scenario::{Case, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const LIST_AT: usize = 0x9_0000;
const ROOM: usize = 400;
const SLOT: usize = 1;
const OLD: u64 = 1;
const NEW: u64 = 2;

struct Set {
    long: bool,
    /// Sets nothing, looks only.
    looks: bool,
    fault: Fault,
}

impl Set {
    fn list(&self, stage: &Stage) -> &'static ShareableList {
        props::object(stage, LIST_AT, props::read(stage, 0) as usize)
    }

    fn number(&self, stage: &Stage) -> Result<u64, String> {
        match self.list(stage).get(SLOT).map_err(|error| error.to_string())? {
            ListValue::Bytes(bytes) => item(&bytes),
            other => Err(format!("another kind of value: {other:?}")),
        }
    }

    fn check(&self, stage: &Stage) -> Result<u64, String> {
        let found = self.number(stage)?;
        expect(found == OLD || found == NEW, || format!("slot {SLOT} says {found}"))?;
        Ok(found)
    }
}

impl Scenario for Set {
    fn set(&self, stage: &Stage) {
        props::reserve_all(stage);
        let plan = || ShareableList::with_room((0..3).map(|_| (message(OLD, !self.long), ROOM)));
        props::count(stage, 0)
            .store(swath_sync::Plan::cells(&plan()) as u32, std::sync::atomic::Ordering::SeqCst);
        props::place(stage, LIST_AT, plan());
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let me = props::become_party(stage, VICTIM, true);
        let (list, value) = (self.list(stage), message(NEW, self.long));
        Box::new(move || {
            if self.looks {
                let _ = std::hint::black_box(list.get(SLOT));
            } else {
                let _ = std::hint::black_box(list.set(&me, SLOT, value));
            }
        })
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// A look waits for nobody.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        self.check(stage).map(|_| Verdict::Clean)
    }

    fn confirmed(&self, stage: &Stage) {
        props::confirm_death(stage, VICTIM);
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let found = self.check(stage)?;
        let must = match moment {
            Moment::After if !self.looks => Some(NEW),
            Moment::Before => Some(OLD),
            _ => self.looks.then_some(OLD),
        };
        expect(must.is_none_or(|must| found == must), || format!("slot {SLOT} says {found}"))?;
        let me = props::become_party(stage, CHECKER, true);
        self.list(stage).set(&me, SLOT, message(NEW, !self.long)).map_err(|error| error.to_string())?;
        expect(self.number(stage)? == NEW, || "not what was set".to_owned())?;
        Ok(Verdict::Clean)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let set = |long, looks, fault| Set { long, looks, fault };
    vec![
        case("list-set", "short", set(false, false, Fault::Kill)),
        case("list-set", "long", set(true, false, Fault::Kill)),
        case("list-set", "paused", set(true, false, Fault::Pause)),
        case("list-get", "long", set(true, true, Fault::Kill)),
    ]
}
