//! A toy robust lock: its owner's death is marked in the word by the kernel, which the harness plays; nobody sleeps in slices.
//!
//! word: 0 free, else WAITERS | DIED | party. At a death the kernel puts DIED in the place of the party, keeps WAITERS, and
//! wakes one. It does so for the lock that the dead one was about to take or to give back, too. Sound is: who takes over keeps
//! WAITERS; nothing of the lock is touched after it was given back; its memory never becomes anything else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::roster::{CHECKER, VICTIM, companion};
use super::{Seed, Sign};
use crate::scenario::{Case, Entrance, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;
use crate::word;

const WAITERS: u32 = 1 << 31;
const DIED: u32 = 1 << 30;
const PARTY: u32 = 0xff;
const AT: usize = 4096;
/// What the memory holds when it is no lock any more.
const OTHER_USE: u32 = 0x5a5a_5a5a;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    DropsWaiters,
    LooksForTheOwner,
    NoWakeForPending,
    TouchedAfterUnlock,
    MemoryReused,
}

struct Robust {
    word: &'static AtomicU32,
    /// How many are in lock or unlock: part of the lock's memory.
    users: &'static AtomicU32,
    /// The dying party's registered operation: 1 while it takes or gives back the lock.
    pending: &'static AtomicU32,
    left: &'static AtomicU32,
    right: &'static AtomicU32,
    /// 1 when the lock is gone and its memory belongs to somebody else.
    reused: &'static AtomicU32,
    /// How many of those who slept have come through.
    through: &'static AtomicU32,
    flaw: Flaw,
}

impl Robust {
    fn of(stage: &Stage, flaw: Flaw) -> Robust {
        let words: &'static [AtomicU32; 7] = stage.part(AT);
        let [word, users, pending, left, right, reused, through] = words.each_ref();
        Robust { word, users, pending, left, right, reused, through, flaw }
    }

    /// `Some(recovered)`; `None` after `limit`.
    fn lock(&self, me: u32, limit: Option<Duration>) -> Option<bool> {
        let mut bits = 0;
        loop {
            let seen = self.word.load(Ordering::SeqCst);
            let died = match self.flaw {
                Flaw::LooksForTheOwner => seen & DIED != 0 && seen & PARTY != 0,
                _ => seen & DIED != 0,
            };
            let kept = if self.flaw == Flaw::DropsWaiters { 0 } else { seen & WAITERS };
            if seen == 0 || died {
                let mine = if died { me | kept } else { me | bits };
                if self.word.compare_exchange(seen, mine, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return Some(died);
                }
                continue;
            }
            let marked = seen | WAITERS;
            if self.word.compare_exchange(seen, marked, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                word::wait(self.word, marked, limit);
            }
            if limit.is_some() && self.word.load(Ordering::SeqCst) == marked {
                return None;
            }
            bits = WAITERS;
        }
    }

    fn unlock(&self) {
        self.pending.store(1, Ordering::SeqCst);
        if self.flaw != Flaw::TouchedAfterUnlock {
            self.users.fetch_add(1, Ordering::SeqCst);
        }
        let seen = self.word.swap(0, Ordering::SeqCst);
        if self.flaw == Flaw::TouchedAfterUnlock {
            self.users.fetch_add(1, Ordering::SeqCst);
        }
        if seen & WAITERS != 0 {
            word::wake(self.word, 1);
        }
        self.pending.store(0, Ordering::SeqCst);
    }

    fn update(&self) {
        self.left.fetch_add(1, Ordering::SeqCst);
        self.right.fetch_add(1, Ordering::SeqCst);
    }

    /// Lock, look, repair if told so, unlock.
    fn check(&self, me: u32, limit: Option<Duration>) -> Finding {
        let Some(recovered) = self.lock(me, limit) else { return Ok(Verdict::Clean) };
        let (left, right) = (self.left.load(Ordering::SeqCst), self.right.load(Ordering::SeqCst));
        expect(recovered || left == right, || {
            format!("acquired as if free, but the counters are {left} and {right}")
        })?;
        self.right.store(left, Ordering::SeqCst);
        self.unlock();
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }

    /// The lock is not needed any more and its memory is used for something else.
    fn reuse(&self, content: u32) {
        self.word.store(content, Ordering::SeqCst);
        self.users.store(content, Ordering::SeqCst);
        self.reused.store(1, Ordering::SeqCst);
    }

    /// What the kernel does for a dead party.
    fn exit_of_the_victim(&self) {
        let seen = self.word.load(Ordering::SeqCst);
        let pending = self.pending.load(Ordering::SeqCst) == 1;
        let owned = seen & PARTY == VICTIM && (pending || self.reused.load(Ordering::SeqCst) == 0);
        if owned {
            self.word.store(seen & WAITERS | DIED, Ordering::SeqCst);
        }
        if owned || (pending && self.flaw != Flaw::NoWakeForPending) {
            word::wake(self.word, 1);
        }
    }
}

/// The victim updates and unlocks; two sleep already.
struct Update {
    flaw: Flaw,
}

impl Scenario for Update {
    fn set(&self, _stage: &Stage) {}

    fn companions(&self) -> &[Entrance] {
        match self.flaw {
            // Who destroys the lock is the last to need it.
            Flaw::MemoryReused => &[],
            _ => &[Entrance::AfterVictim, Entrance::AfterVictim],
        }
    }

    fn companion(&self, n: usize, stage: &Stage) -> Finding {
        stage.arrive(n + 1);
        let lock = Robust::of(stage, self.flaw);
        let finding = lock.check(companion(n), None);
        lock.through.fetch_add(1, Ordering::SeqCst);
        finding
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let lock = Robust::of(stage, self.flaw);
        lock.lock(VICTIM, None);
        Box::new(move || {
            lock.update();
            lock.unlock();
        })
    }

    fn confirmed(&self, stage: &Stage) {
        let lock = Robust::of(stage, self.flaw);
        let given_back = lock.word.load(Ordering::SeqCst) == 0 && lock.right.load(Ordering::SeqCst) == 1;
        if self.flaw == Flaw::MemoryReused && given_back {
            // On another processor, before the kernel comes: data that happens to look like the victim's number.
            lock.reuse(VICTIM);
        }
        lock.exit_of_the_victim();
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let lock = Robust::of(stage, self.flaw);
        if lock.reused.load(Ordering::SeqCst) == 1 {
            let found = lock.word.load(Ordering::SeqCst);
            expect(found == VICTIM, || format!("the kernel wrote {found:#x} over somebody else's data"))?;
            return Ok(Verdict::Clean);
        }
        // A newcomer's own mark would wake whom the flaw has forgotten: it comes when the others are through.
        while (lock.through.load(Ordering::SeqCst) as usize) < self.companions().len() {
            std::thread::sleep(Duration::from_micros(100));
        }
        lock.check(CHECKER, None)
    }
}

/// The victim stands still; the other destroys the lock when it is the last to need it, and uses the memory otherwise.
struct Destroyed {
    flaw: Flaw,
}

impl Scenario for Destroyed {
    fn set(&self, _stage: &Stage) {}

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let lock = Robust::of(stage, self.flaw);
        Box::new(move || {
            lock.lock(VICTIM, None);
            lock.update();
            lock.unlock();
        })
    }

    fn fault(&self) -> Fault {
        Fault::Pause
    }

    fn meanwhile(&self, stage: &Stage) -> Finding {
        let lock = Robust::of(stage, self.flaw);
        if lock.lock(CHECKER, Some(Duration::from_millis(2))).is_some() {
            if lock.left.load(Ordering::SeqCst) == 1 {
                lock.reuse(OTHER_USE);
            } else {
                lock.unlock();
            }
        }
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        let lock = Robust::of(stage, self.flaw);
        let reused = lock.reused.load(Ordering::SeqCst) == 1;
        let (word, users) = (lock.word.load(Ordering::SeqCst), lock.users.load(Ordering::SeqCst));
        expect(!reused || (word, users) == (OTHER_USE, OTHER_USE), || {
            format!("memory that was no lock any more was changed: {word:#x}, {users:#x}")
        })?;
        Ok(Verdict::Clean)
    }
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    let flaw = Flaw::None;
    vec![
        case("toy robust lock", "two waiters", Update { flaw }),
        case("toy robust lock", "destroyed meanwhile", Destroyed { flaw }),
    ]
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let update = |bug, sign, flaw| Seed {
        bug,
        sign,
        cases: vec![case("toy robust lock", "two waiters", Update { flaw })],
    };
    let flaw = Flaw::TouchedAfterUnlock;
    let destroyed = vec![case("toy robust lock", "destroyed meanwhile", Destroyed { flaw })];
    vec![
        update(
            "robust lock: WAITERS lost in the taking over (glibc BZ 20973)",
            Sign::Hung,
            Flaw::DropsWaiters,
        ),
        update(
            "robust lock: looks for the owner beside the mark (musl 384d103d)",
            Sign::Hung,
            Flaw::LooksForTheOwner,
        ),
        update(
            "robust lock: no wake for a death between unlock and wake (Linux once)",
            Sign::Hung,
            Flaw::NoWakeForPending,
        ),
        update(
            "robust lock: memory used otherwise before the kernel comes (musl da8d0fc4)",
            Sign::Wrong,
            Flaw::MemoryReused,
        ),
        Seed {
            bug: "robust lock: unlock touches what it has given back (glibc BZ 13690)",
            sign: Sign::Wrong,
            cases: destroyed,
        },
    ]
}
