//! `claim`, `undo` (copy, arm), `commit`, `fold`, `chunk` (all of a worker's part) and `recovery` on the engine's ledger.
//!
//! The ledger is the engine's own code; the rows and their undo copy are words of the stage. The kernel adds one to every
//! cell in place. Whatever dies, in the end every chunk is DONE and every cell raised exactly once.

use std::sync::atomic::{AtomicU64, Ordering};

use swath::ledger::{Claim, Ledger, Owner, State};

use super::props::{ENGINE_AT, VICTIM};
use crate::scenario::{Case, Fault, Finding, Moment, Scenario, Verdict, case, expect};
use crate::stage::Stage;

const CHUNKS: usize = 3;
const CELLS: usize = 4;
/// The chunk that the victim is after.
const CHUNK: usize = 1;
const EPOCH: u32 = 7;
const ME: Owner = Owner { slot: VICTIM.index, generation: VICTIM.generation };
const SURVIVOR: Owner = Owner { slot: 5, generation: 9 };

/// A phase on the stage.
#[derive(Copy, Clone)]
struct Phase {
    ledger: Ledger<'static>,
    entries: &'static [AtomicU64; CHUNKS],
    cells: &'static [[AtomicU64; CELLS]; CHUNKS],
    undo: &'static [AtomicU64; CELLS],
    /// 1 when the victim's accumulator is published, holding [`CHUNK`].
    published: &'static AtomicU64,
}

impl Phase {
    fn of(stage: &Stage, epoch: u32) -> Phase {
        let entries: &'static [AtomicU64; CHUNKS] = stage.part(ENGINE_AT);
        Phase {
            ledger: Ledger::new(entries, epoch),
            entries,
            cells: stage.part(ENGINE_AT + 1024),
            undo: stage.part(ENGINE_AT + 2048),
            published: stage.part(ENGINE_AT + 3072),
        }
    }

    fn next(self) -> Phase {
        Phase { ledger: Ledger::new(self.entries, EPOCH + 1), ..self }
    }

    fn fill(&self) {
        for (n, cell) in self.cells.iter().flatten().enumerate() {
            cell.store(100 * n as u64, Ordering::SeqCst);
        }
    }

    fn save(&self, chunk: usize) {
        copy(self.undo, &self.cells[chunk]);
    }

    fn kernel(&self, chunk: usize) {
        for cell in &self.cells[chunk] {
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Steps 2–5 of the ledger's protocol.
    fn work(&self, chunk: usize, owner: Owner) -> bool {
        let Some(claim) = self.ledger.claim(chunk, owner) else { return false };
        self.after_claim(claim);
        true
    }

    fn after_claim(&self, mut claim: Claim) {
        self.save(claim.chunk());
        self.ledger.arm(&mut claim);
        self.kernel(claim.chunk());
        self.ledger.commit(claim);
    }

    /// Step 6; true if there was something to take back.
    fn recover(&self, owner: Owner) -> bool {
        let published = self.published.load(Ordering::Acquire) == 1;
        let mut any = false;
        for (chunk, state) in self.ledger.owned_by(owner) {
            any = true;
            match state {
                State::Folded if published => {
                    self.ledger.take_back(chunk, owner, State::Done);
                    continue;
                }
                State::Armed => copy(&self.cells[chunk], self.undo),
                _ => {}
            }
            self.ledger.take_back(chunk, owner, State::Free);
        }
        any
    }

    /// The survivors run what is left; everything has taken effect `times` times.
    fn finish(&self, times: u64) -> Finding {
        let recovered = self.recover(ME);
        while let Some(chunk) = self.ledger.next_free(0) {
            expect(self.work(chunk, SURVIVOR), || format!("chunk {chunk} is free and cannot be claimed"))?;
        }
        self.all_raised(times)?;
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }

    fn all_raised(&self, times: u64) -> Result<(), String> {
        let tally = self.ledger.tally();
        expect(tally.done == CHUNKS, || format!("not all done: {tally:?}"))?;
        for (n, cell) in self.cells.iter().flatten().enumerate() {
            let (found, expected) = (cell.load(Ordering::SeqCst), 100 * n as u64 + times);
            expect(found == expected, || format!("cell {n} is {found} instead of {expected}"))?;
        }
        Ok(())
    }
}

fn copy(to: &[AtomicU64; CELLS], from: &[AtomicU64; CELLS]) {
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Deed {
    Claim,
    Undo,
    Commit,
    Chunk,
    /// Gives an armed chunk up: restores it itself, then FAILED; the coordinator has it tried again.
    Fail,
    /// FOLDED, accumulator published, DONE.
    Fold,
}

/// The victim is a worker.
struct Worker {
    deed: Deed,
    fault: Fault,
}

impl Worker {
    fn claimed(phase: &Phase) -> Claim {
        phase.ledger.claim(CHUNK, ME).expect("a fresh phase")
    }

    fn armed(phase: &Phase) -> Claim {
        let mut claim = Self::claimed(phase);
        phase.save(CHUNK);
        assert!(phase.ledger.arm(&mut claim));
        phase.kernel(CHUNK);
        claim
    }
}

impl Scenario for Worker {
    fn set(&self, stage: &Stage) {
        let phase = Phase::of(stage, EPOCH);
        phase.fill();
        phase.ledger.open();
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let phase = Phase::of(stage, EPOCH);
        match self.deed {
            Deed::Claim => Box::new(move || {
                std::hint::black_box(phase.ledger.claim(CHUNK, ME));
            }),
            Deed::Undo => {
                let mut claim = Self::claimed(&phase);
                Box::new(move || {
                    phase.save(CHUNK);
                    phase.ledger.arm(&mut claim);
                })
            }
            Deed::Commit => {
                let claim = Self::armed(&phase);
                Box::new(move || {
                    phase.ledger.commit(claim);
                })
            }
            Deed::Chunk => Box::new(move || {
                phase.work(CHUNK, ME);
            }),
            Deed::Fail => {
                let claim = Self::armed(&phase);
                Box::new(move || {
                    copy(&phase.cells[CHUNK], phase.undo);
                    phase.ledger.fail(claim);
                })
            }
            Deed::Fold => {
                let claim = Self::claimed(&phase);
                Box::new(move || {
                    phase.ledger.fold(claim);
                    phase.published.store(1, Ordering::Release);
                    phase.ledger.commit_folded(CHUNK, ME);
                })
            }
        }
    }

    fn fault(&self) -> Fault {
        self.fault
    }

    /// Others finish the phase if nobody holds a chunk, and the next one is opened and run: a claim of the old epoch
    /// must not succeed any more.
    fn meanwhile(&self, stage: &Stage) -> Finding {
        let phase = Phase::of(stage, EPOCH);
        while let Some(chunk) = phase.ledger.next_free(0) {
            phase.work(chunk, SURVIVOR);
        }
        if phase.ledger.tally().done < CHUNKS {
            return Ok(Verdict::Clean);
        }
        phase.next().ledger.open();
        Ok(Verdict::Recovered)
    }

    fn aftermath(&self, stage: &Stage, moment: Moment) -> Finding {
        let phase = Phase::of(stage, EPOCH);
        if self.fault == Fault::Pause {
            let turned = phase.ledger.tally().claimed == CHUNKS;
            return if turned { phase.next().finish(2) } else { phase.finish(1) };
        }
        match self.deed {
            Deed::Fold => self.check_fold(&phase),
            Deed::Fail => {
                phase.ledger.retry(CHUNK);
                phase.finish(1)
            }
            Deed::Commit | Deed::Chunk if moment == Moment::After => {
                let verdict = phase.finish(1)?;
                expect(verdict == Verdict::Clean, || "committed, and taken back all the same".to_owned())?;
                Ok(verdict)
            }
            _ => phase.finish(1),
        }
    }
}

impl Worker {
    /// The accumulator stands for the chunk: it counts once, whether published by the dead or run again.
    fn check_fold(&self, phase: &Phase) -> Finding {
        let recovered = phase.recover(ME);
        let from_the_dead = phase.published.load(Ordering::SeqCst);
        let mut again = 0;
        while let Some(chunk) = phase.ledger.next_free(0) {
            let Some(claim) = phase.ledger.claim(chunk, SURVIVOR) else {
                return Err("not to be claimed".to_owned());
            };
            again += u64::from(chunk == CHUNK);
            phase.ledger.commit(claim);
        }
        let tally = phase.ledger.tally();
        expect(tally.done == CHUNKS, || format!("not all done: {tally:?}"))?;
        expect(from_the_dead + again == 1, || format!("accumulated {} times", from_the_dead + again))?;
        Ok(if recovered { Verdict::Recovered } else { Verdict::Clean })
    }
}

/// The victim is who takes back what a dead worker held; a second one does it after it.
struct Recover {
    armed: bool,
}

impl Scenario for Recover {
    fn set(&self, stage: &Stage) {
        let phase = Phase::of(stage, EPOCH);
        phase.fill();
        phase.ledger.open();
        let claim = phase.ledger.claim(CHUNK, ME);
        if let (true, Some(mut claim)) = (self.armed, claim) {
            phase.save(CHUNK);
            phase.ledger.arm(&mut claim);
            // Half of the kernel.
            phase.cells[CHUNK].iter().take(CELLS / 2).for_each(|cell| {
                cell.fetch_add(1, Ordering::SeqCst);
            });
        }
    }

    fn victim<'s>(&'s self, stage: &'s Stage) -> Box<dyn FnOnce() + 's> {
        let phase = Phase::of(stage, EPOCH);
        Box::new(move || {
            phase.recover(ME);
        })
    }

    fn aftermath(&self, stage: &Stage, _moment: Moment) -> Finding {
        Phase::of(stage, EPOCH).finish(1)
    }
}

/// All cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let worker = |deed, fault| Worker { deed, fault };
    vec![
        case("claim", "free", worker(Deed::Claim, Fault::Kill)),
        case("claim", "paused", worker(Deed::Chunk, Fault::Pause)),
        case("undo", "copy-and-arm", worker(Deed::Undo, Fault::Kill)),
        case("undo", "give-up", worker(Deed::Fail, Fault::Kill)),
        case("undo", "taken-back-claimed", Recover { armed: false }),
        case("undo", "taken-back-armed", Recover { armed: true }),
        case("commit", "armed", worker(Deed::Commit, Fault::Kill)),
        case("commit", "folded", worker(Deed::Fold, Fault::Kill)),
        case("chunk", "whole", worker(Deed::Chunk, Fault::Kill)),
    ]
}
