//! A toy chunk: claim, copy to the undo slot, arm, add one to every cell in place, done; and its recovery.
//!
//! The entry is FREE, CLAIMED, ARMED or DONE. A dead worker's CLAIMED goes back to FREE; of its ARMED the cells are
//! first copied back from the undo slot. Whatever happened, in the end every cell has been raised exactly once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::roster::{Roster, VICTIM};
use super::{Seed, Sign};
use crate::scenario::{Case, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const CELLS: usize = 6;
const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const ARMED: u32 = 2;
const DONE: u32 = 3;
const AT: usize = 4096;

#[derive(Copy, Clone, PartialEq, Eq)]
enum Flaw {
    None,
    DoneBeforeRun,
    ArmedAfterRun,
    FreedBeforeRestored,
    ReclaimBySilence,
}

struct ToyChunk {
    entry: &'static AtomicU32,
    cells: &'static [AtomicU64; CELLS],
    undo: &'static [AtomicU64; CELLS],
    flaw: Flaw,
}

impl ToyChunk {
    fn of(stage: &Stage, flaw: Flaw) -> ToyChunk {
        ToyChunk { entry: stage.part(AT), cells: stage.part(AT + 64), undo: stage.part(AT + 256), flaw }
    }

    /// One worker's turn; false if the chunk was not to be had.
    fn work(&self) -> bool {
        if self.entry.compare_exchange(FREE, CLAIMED, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return false;
        }
        copy(self.undo, self.cells);
        match self.flaw {
            Flaw::ArmedAfterRun => {
                self.raise();
                self.entry.store(ARMED, Ordering::SeqCst);
            }
            Flaw::DoneBeforeRun => {
                self.entry.store(DONE, Ordering::SeqCst);
                self.raise();
            }
            _ => {
                self.entry.store(ARMED, Ordering::SeqCst);
                self.raise();
            }
        }
        self.entry.store(DONE, Ordering::SeqCst);
        true
    }

    fn raise(&self) {
        for cell in self.cells {
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Gives back what a dead worker had; true if there was something.
    fn recover(&self) -> bool {
        let state = self.entry.load(Ordering::SeqCst);
        if state != CLAIMED && state != ARMED {
            return false;
        }
        if self.flaw == Flaw::FreedBeforeRestored {
            self.entry.store(FREE, Ordering::SeqCst);
        }
        if state == ARMED {
            copy(self.cells, self.undo);
        }
        self.entry.store(FREE, Ordering::SeqCst);
        true
    }

    /// The survivors: recover, work, and look.
    fn check(&self) -> Finding {
        let recovered = self.recover();
        self.work();
        let found: Vec<u64> = self.cells.iter().map(|cell| cell.load(Ordering::SeqCst)).collect();
        let expected: Vec<u64> = (0..CELLS as u64).map(|n| 100 * n + 1).collect();
        expect(found == expected, || format!("cells {found:?} instead of {expected:?}"))?;
        expect(self.entry.load(Ordering::SeqCst) == DONE, || "not done".to_owned())?;
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }

    fn fill(&self) {
        for (n, cell) in self.cells.iter().enumerate() {
            cell.store(100 * n as u64, Ordering::SeqCst);
        }
    }
}

fn copy(to: &[AtomicU64; CELLS], from: &[AtomicU64; CELLS]) {
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The victim works on the chunk.
struct Work {
    flaw: Flaw,
    fault: Fault,
}

impl Scenario for Work {
    fn set(&self, stage: &Stage) {
        ToyChunk::of(stage, self.flaw).fill();
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let chunk = ToyChunk::of(stage, self.flaw);
        Box::new(move || {
            chunk.work();
        })
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    fn meanwhile(&self, stage: &Stage) -> Finding {
        let chunk = ToyChunk::of(stage, self.flaw);
        if self.flaw == Flaw::ReclaimBySilence {
            std::thread::sleep(Duration::from_millis(2));
            chunk.recover();
        }
        chunk.work();
        Ok(Verdict::Clean)
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        Roster::of(stage).mark_dead(VICTIM);
        ToyChunk::of(stage, self.flaw).check()
    }
}

/// The victim is the recoverer of a worker that died when half of the cells were raised.
struct Recover {
    flaw: Flaw,
}

impl Scenario for Recover {
    fn set(&self, stage: &Stage) {
        let chunk = ToyChunk::of(stage, self.flaw);
        chunk.fill();
        copy(chunk.undo, chunk.cells);
        chunk.cells.iter().take(CELLS / 2).for_each(|cell| {
            cell.fetch_add(1, Ordering::SeqCst);
        });
        chunk.entry.store(ARMED, Ordering::SeqCst);
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let chunk = ToyChunk::of(stage, self.flaw);
        Box::new(move || {
            chunk.recover();
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        ToyChunk::of(stage, self.flaw).check()
    }
}

fn cases(flaw: Flaw) -> Vec<Case> {
    vec![
        case("toy chunk", "work", Work { flaw, fault: Fault::Kill }),
        case("toy chunk", "paused", Work { flaw, fault: Fault::Pause }),
        case("toy chunk", "recovery", Recover { flaw }),
    ]
}

/// See the module.
pub(super) fn sound() -> Vec<Case> {
    cases(Flaw::None)
}

/// See the module.
pub(super) fn bugs() -> Vec<Seed> {
    let seed = |bug, flaw| Seed { bug, sign: Sign::Wrong, cases: cases(flaw) };
    vec![
        seed("commit: DONE is stored before the effect", Flaw::DoneBeforeRun),
        seed("undo: ARMED is stored after the run", Flaw::ArmedAfterRun),
        seed("recovery: the chunk is freed before it is restored", Flaw::FreedBeforeRestored),
        seed("recovery: a chunk is taken from a slow worker by silence (Aeron #377)", Flaw::ReclaimBySilence),
    ]
}
