//! A toy lock that survives its owner, and six ways to get it wrong.
//!
//! word: 0 free, else WAITERS | generation << 8 | party. Lock: CAS 0 → me; else set WAITERS, look whether the owner is
//! dead (then CAS to me: *recovered*), sleep at most a slice, again. Unlock: swap 0, wake one if WAITERS was set. Who has
//! slept acquires with WAITERS, because others may sleep still. It guards two counters that are equal when it is free.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::roster::{CHECKER, Roster, VICTIM, companion};
use super::{Seed, Sign};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;
use crate::word;

const WAITERS: u32 = 1 << 31;
const SLICE: Duration = Duration::from_millis(10);
/// What two of the flaws write to say "taken" without saying by whom.
const ANONYMOUS: u32 = 1 << 30;
const AT: usize = 4096;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    NoOwner,
    OwnerAfter,
    LateWakeWithoutSlices,
    SilentHandover,
    ReclaimBySilence,
    IgnoresGeneration,
}

struct ToyLock {
    word: &'static AtomicU32,
    left: &'static AtomicU32,
    right: &'static AtomicU32,
    roster: Roster,
    flaw: Flaw,
}

impl ToyLock {
    fn of(stage: &Stage, flaw: Flaw) -> ToyLock {
        let (word, left, right) = (stage.part(AT), stage.part(AT + 64), stage.part(AT + 68));
        ToyLock { word, left, right, roster: Roster::of(stage), flaw }
    }

    /// `Some(recovered)`, or `None` after `limit`.
    fn lock(&self, me: u32, limit: Option<Duration>) -> Option<bool> {
        let me = me | 1 << 8;
        let start = Instant::now();
        let mut bits = 0;
        loop {
            let taken = match self.flaw {
                Flaw::OwnerAfter => ANONYMOUS,
                Flaw::NoOwner => ANONYMOUS | bits,
                _ => me | bits,
            };
            let Err(seen) = self.word.compare_exchange(0, taken, Ordering::SeqCst, Ordering::SeqCst) else {
                if self.flaw == Flaw::OwnerAfter {
                    self.word.fetch_or(me | bits, Ordering::SeqCst);
                }
                return Some(false);
            };
            if let Some(recovered) = self.take_over(me, seen, start) {
                return Some(recovered);
            }
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                return None;
            }
            bits = WAITERS;
            self.sleep(seen);
        }
    }

    fn take_over(&self, me: u32, seen: u32, start: Instant) -> Option<bool> {
        let (party, generation) = (seen & 0xff, seen >> 8 & 0xff);
        let dead = match self.flaw {
            Flaw::OwnerAfter | Flaw::NoOwner if party == 0 => false,
            Flaw::IgnoresGeneration => self.roster.is_place_dead(party),
            Flaw::ReclaimBySilence => start.elapsed() > 3 * SLICE,
            _ => self.roster.is_dead(party, generation),
        };
        let taken = dead
            && self.word.compare_exchange(seen, me | WAITERS, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        taken.then_some(self.flaw != Flaw::SilentHandover)
    }

    fn sleep(&self, seen: u32) {
        let waited = seen | WAITERS;
        if seen == waited
            || self.word.compare_exchange(seen, waited, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            let slice = (self.flaw != Flaw::LateWakeWithoutSlices).then_some(SLICE);
            word::wait(self.word, waited, slice);
        }
    }

    fn unlock(&self) {
        if self.word.swap(0, Ordering::SeqCst) & WAITERS != 0 {
            word::wake(self.word, 1);
        }
    }

    /// Not crash-safe, on purpose: the lock has to say that somebody died in between.
    fn update(&self) {
        self.left.fetch_add(1, Ordering::SeqCst);
        self.right.fetch_add(1, Ordering::SeqCst);
    }

    /// Lock, check, repair if told so, unlock.
    fn check(&self, me: u32, limit: Option<Duration>) -> Finding {
        let Some(recovered) = self.lock(me, limit) else { return Ok(Verdict::Clean) };
        let (left, right) = (self.left.load(Ordering::SeqCst), self.right.load(Ordering::SeqCst));
        if recovered {
            self.right.store(left, Ordering::SeqCst);
        } else {
            expect(left == right, || {
                format!("acquired as if free, but the counters are {left} and {right}")
            })?;
        }
        self.unlock();
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// Who else is there.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Company {
    Nobody,
    Holder,
    Waiter,
}

/// The victim locks, updates, unlocks.
struct Update {
    flaw: Flaw,
    company: Company,
    fault: Fault,
}

impl Scenario for Update {
    fn set(&self, _stage: &Stage) {}

    fn companions(&self) -> &[Entrance] {
        match self.company {
            Company::Nobody => &[],
            Company::Holder => &[Entrance::BeforeVictim],
            Company::Waiter => &[Entrance::AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        let lock = ToyLock::of(stage, self.flaw);
        if self.company == Company::Waiter {
            stage.arrive(n + 1);
            return lock.check(companion(n), None);
        }
        lock.lock(companion(n), None);
        stage.arrive(n + 1);
        stage.await_cue(1);
        lock.update();
        lock.unlock();
        Ok(Verdict::Clean)
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let lock = ToyLock::of(stage, self.flaw);
        if self.company == Company::Waiter {
            // Somebody sleeps on it already when the victim is about to unlock.
            lock.lock(VICTIM, None);
        }
        Box::new(move || {
            if self.company != Company::Waiter {
                lock.lock(VICTIM, None);
            }
            lock.update();
            lock.unlock();
        })
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    fn meanwhile(&self, stage: &Stage) -> Finding {
        ToyLock::of(stage, self.flaw).check(CHECKER, Some(8 * SLICE))
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let lock = ToyLock::of(stage, self.flaw);
        lock.roster.mark_dead(VICTIM);
        if self.flaw == Flaw::IgnoresGeneration {
            lock.roster.newcomer(VICTIM);
        }
        lock.check(CHECKER, None)
    }
}

fn cases(flaw: Flaw) -> Vec<Case> {
    let kill = Fault::Kill;
    vec![
        case("toy lock", "free", Update { flaw, company: Company::Nobody, fault: kill }),
        case("toy lock", "contended", Update { flaw, company: Company::Holder, fault: kill }),
        case("toy lock", "waiter", Update { flaw, company: Company::Waiter, fault: kill }),
        case("toy lock", "paused", Update { flaw, company: Company::Nobody, fault: Fault::Pause }),
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
        seed("lock: nobody knows who holds it (raw_sync; pthread_mutex_t)", Sign::Hung, Flaw::NoOwner),
        seed("lock: the owner is stored after the acquisition", Sign::Hung, Flaw::OwnerAfter),
        seed(
            "unlock: WAITERS dropped, wake late, waits without slices",
            Sign::Hung,
            Flaw::LateWakeWithoutSlices,
        ),
        seed("lock: a dead owner's lock is handed over silently", Sign::Wrong, Flaw::SilentHandover),
        seed("lock: reclaimed by silence from a slow owner", Sign::Wrong, Flaw::ReclaimBySilence),
        seed("lock: the owner's generation is not compared", Sign::Hung, Flaw::IgnoresGeneration),
    ]
}
