//! What the models share: a table with parties, and a death as a thread that stops at its k-th step.

#![allow(dead_code, unreachable_pub)] // each model uses its part

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use swath_sync::atomics::killed_at_step;
use swath_sync::{DeathCause, Party, SlotId, SlotTable};

/// Steps of one execution, after which loom gives up; waits that look at the slot table take many.
const BRANCHES_MAX: usize = 10_000;

/// A table and its parties, in one execution of a model.
#[derive(Copy, Clone)]
pub struct World {
    pub table: &'static SlotTable,
}

impl World {
    /// With `parties` slots in use. The table is leaked: parties want it for ever, and a model is short.
    pub fn new(parties: usize) -> Self {
        let table: &'static SlotTable = Box::leak(Box::new(SlotTable::new()));
        for _ in 0..parties {
            table.reserve().unwrap();
        }
        Self { table }
    }

    pub fn id(self, index: u16) -> SlotId {
        SlotId { index, generation: 1 }
    }

    pub fn party(self, index: u16) -> Party {
        Party::for_model(self.table, self.id(index))
    }

    /// What the service thread does.
    pub fn declare_dead(self, index: u16, cause: DeathCause) {
        // SAFETY: models say so of threads that have ended.
        unsafe { self.table.mark_dead(self.id(index), cause) };
    }
}

/// Explores a model once for every step at which its mortal thread can die, until it outlives them all.
pub struct Deaths {
    step: u32,
    died: Arc<AtomicBool>,
}

impl Deaths {
    /// Runs `model` with a mortal for each step k = 0, 1, 2, …, all interleavings each.
    pub fn at_every_step(preemptions: usize, model: impl Fn(Mortal) + Send + Sync + Clone + 'static) {
        let mut deaths = Self { step: 0, died: Arc::default() };
        loop {
            deaths.died.store(false, Ordering::Relaxed);
            let mortal = Mortal { step: deaths.step, died: deaths.died.clone() };
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = Some(preemptions);
            builder.max_branches = BRANCHES_MAX;
            let model = model.clone();
            builder.check(move || model(mortal.clone()));
            if !deaths.died.load(Ordering::Relaxed) {
                break;
            }
            deaths.step += 1;
        }
        assert!(deaths.step > 1, "the crash must happen");
    }
}

/// The thread that dies.
#[derive(Clone)]
pub struct Mortal {
    step: u32,
    died: Arc<AtomicBool>,
}

impl Mortal {
    /// Runs `body` until its step; then the service thread confirms the death. Says whether it lived.
    pub fn live(&self, world: World, index: u16, body: impl FnOnce()) -> bool {
        self.live_as(|| _ = world.declare_dead(index, DeathCause::killed_by(9)), body)
    }

    /// The same where `confirm` makes the death known.
    pub fn live_as(&self, confirm: impl FnOnce(), body: impl FnOnce()) -> bool {
        let lived = killed_at_step(Some(self.step), body);
        if !lived {
            self.died.store(true, Ordering::Relaxed);
            confirm();
        }
        lived
    }
}

/// Explores a model in which nobody dies.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = BRANCHES_MAX;
    builder.check(model);
}
