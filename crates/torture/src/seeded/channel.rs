//! A toy channel with one cell: FREE → WRITING by name → FULL → READING by name → FREE. What a dead writer had begun is
//! dropped, what a dead reader had begun is there for the next.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::roster::{CHECKER, Roster, VICTIM};
use super::{Seed, Sign};
use crate::scenario::{Case, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const AT: usize = 4096;
const PAUSE: Duration = Duration::from_micros(200);
const FREE: u32 = 0;
const WRITING: u32 = 1 << 8;
const FULL: u32 = 2 << 8;
const READING: u32 = 3 << 8;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    LockWithoutOwner,
    ClaimWithoutOwner,
    FullBeforeWritten,
}

struct Channel {
    state: &'static AtomicU32,
    halves: &'static [AtomicU32; 2],
    lock: &'static AtomicU32,
    roster: Roster,
    flaw: Flaw,
}

impl Channel {
    fn of(stage: &Stage, flaw: Flaw) -> Channel {
        let (state, halves, lock) = (stage.part(AT), stage.part(AT + 64), stage.part(AT + 128));
        Channel { state, halves, lock, roster: Roster::of(stage), flaw }
    }

    fn cas(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// With the flaw, nobody can tell who holds it.
    fn enter(&self) {
        while self.flaw == Flaw::LockWithoutOwner && self.lock.swap(1, Ordering::SeqCst) == 1 {
            std::thread::sleep(PAUSE);
        }
    }

    fn leave(&self) {
        self.lock.store(0, Ordering::SeqCst);
    }

    fn send(&self, me: u32, item: u32) {
        self.enter();
        let name = if self.flaw == Flaw::ClaimWithoutOwner { 0 } else { me };
        while !self.cas(FREE, WRITING | name) {
            self.bury();
            std::thread::sleep(PAUSE);
        }
        if self.flaw == Flaw::FullBeforeWritten {
            self.state.store(FULL, Ordering::SeqCst);
        }
        self.halves.iter().for_each(|half| half.store(item, Ordering::SeqCst));
        self.state.store(FULL, Ordering::SeqCst);
        self.leave();
    }

    fn receive(&self, me: u32) -> Result<u32, String> {
        self.enter();
        while !self.cas(FULL, READING | me) {
            self.bury();
            std::thread::sleep(PAUSE);
        }
        let [one, other] = self.halves.each_ref().map(|half| half.load(Ordering::SeqCst));
        self.state.store(FREE, Ordering::SeqCst);
        self.leave();
        expect(one == other, || format!("half an item: {one} and {other}"))?;
        Ok(one)
    }

    /// What a dead party had begun.
    fn bury(&self) -> bool {
        let seen = self.state.load(Ordering::SeqCst);
        if seen & 0xff == 0 || !self.roster.is_dead(seen & 0xff, 1) {
            return false;
        }
        let undone = if seen & !0xff == WRITING { FREE } else { FULL };
        self.cas(seen, undone)
    }

    fn is_full(&self) -> bool {
        self.state.load(Ordering::SeqCst) == FULL
    }
}

/// The victim sends, or receives what lies there; then the survivor takes what there is, sends, and receives.
struct Pass {
    flaw: Flaw,
    sends: bool,
}

impl Scenario for Pass {
    fn set(&self, stage: &Stage) {
        if !self.sends {
            Channel::of(stage, self.flaw).send(CHECKER, 7);
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let channel = Channel::of(stage, self.flaw);
        Box::new(move || {
            if self.sends {
                channel.send(VICTIM, 7);
            } else {
                let _ = std::hint::black_box(channel.receive(VICTIM));
            }
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let channel = Channel::of(stage, self.flaw);
        channel.roster.mark_dead(VICTIM);
        let recovered = channel.bury();
        if channel.is_full() {
            let item = channel.receive(CHECKER)?;
            expect(item == 7, || format!("{item} instead of 7"))?;
        }
        channel.send(CHECKER, 8);
        let item = channel.receive(CHECKER)?;
        expect(item == 8, || format!("{item} instead of 8"))?;
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }
}

fn cases(flaw: Flaw) -> Vec<Case> {
    vec![
        case("toy channel", "send", Pass { flaw, sends: true }),
        case("toy channel", "receive", Pass { flaw, sends: false }),
    ]
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    cases(Flaw::None)
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let seed = |bug, sign, flaw| Seed { bug, sign, cases: cases(flaw) };
    vec![
        seed("channel: its lock has no owner (pebble #163)", Sign::Hung, Flaw::LockWithoutOwner),
        seed(
            "channel: who claimed the cell is not known (rings of DPDK, Disruptor)",
            Sign::Hung,
            Flaw::ClaimWithoutOwner,
        ),
        seed("channel: FULL is stored before the item", Sign::Wrong, Flaw::FullBeforeWritten),
    ]
}
