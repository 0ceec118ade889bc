//! One phase from the coordinator's side: publish, wait, take stock, and never return while anybody may still write.

mod fence;
mod memory;
mod plan;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::board::Board;
use crate::crew::Crew;
use crate::descriptor::Descriptor;
use crate::error::Result;
use crate::gather::Gather;
use crate::recovery::Recovery;
use crate::report::Report;
use crate::watch::Watch;

pub(crate) use fence::End;
use fence::Fence;
pub(crate) use memory::Memory;
use plan::bound_of;
pub(crate) use plan::{Plan, check, share, undo_bytes};
pub(crate) use verdict::{conclude, report};

/// Runs `plan` on `crew`; `finish` takes the values while nothing of the phase has been reused.
pub(crate) fn run<T>(
    crew: &Arc<Crew>,
    memory: &mut Memory,
    mut plan: Plan<'_>,
    options: Options,
    finish: impl FnOnce(&Gather<'_>) -> Result<T>,
) -> Result<(T, Report)> {
    let began = Instant::now();
    crew.journals.follow_level();
    let mut progress = plan.settings.progress.take();
    let descriptor = memory.describe(&plan, options.strict_inputs)?;
    let chunks = plan.geometry.chunks();
    {
        let mut state = crew.lock();
        crew.prepare_undo(&mut state, undo_bytes(&plan))?;
        // SAFETY: the fence below takes the recovery out before `memory` or the plan can go.
        state.phase = Some(unsafe { open(memory, &plan, descriptor.epoch) });
    }
    crew.rouse();
    let fence = Fence { crew, plan: &plan, epoch: descriptor.epoch, over: false };
    let published = publish(&crew.board, descriptor, chunks, plan.team.is_some());
    let watch = plan.settings.chunk_timeout.map(|limit| Watch::start(crew, fence.epoch, limit));
    let end = fence.wait(began, options.interrupts, &mut progress);
    drop(watch);
    if end != End::Complete {
        fence.drain(end);
    }
    let (recovery, arenas) = fence.lift();
    let report = report(&plan, &recovery, &crew.board, began);
    let gather =
        Gather { epoch: published, ledger: recovery.ledger(), partials: memory.partials(), arenas: &arenas };
    conclude(&plan, end, &recovery, &report)?;
    let value = finish(&gather)?;
    Ok((value, report))
}

/// A new phase in the ledger (its step 1), and what is to be known for taking chunks back.
///
/// # Safety
/// 1. The result is dropped before `memory`'s ledger is replaced and before the plan's operands are.
pub(crate) unsafe fn open(memory: &Memory, plan: &Plan<'_>, epoch: u32) -> Recovery {
    // SAFETY: `describe` gave the ledger a word per chunk; it and the borrowed operands outlive the result by 1.
    let mut recovery =
        unsafe { Recovery::new(memory.entries(), epoch, plan.geometry, bound_of(&plan.operands)) };
    recovery.retries = plan.settings.retries;
    recovery.retry_if = plan.settings.retry_if;
    recovery.team = plan.team.is_some();
    recovery.ledger().open();
    recovery
}

/// What the pool wants of every phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) strict_inputs: bool,
    pub(crate) interrupts: bool,
    pub(crate) memory_budget: Option<u64>,
}

/// Step 1 of the board's protocol.
pub(crate) fn publish(board: &Board, mut descriptor: Box<Descriptor>, chunks: usize, team: bool) -> u32 {
    let workers = board.wanted();
    for (index, cell) in board.cells().enumerate() {
        let (lo, hi) = if team || index >= workers { (0, 0) } else { share(chunks, workers, index) };
        cell.range.set(lo, hi);
        cell.failures.store(0, Ordering::Relaxed);
        cell.flush.store(0, Ordering::Relaxed);
    }
    descriptor.sweeps = board.sweeps();
    board.publish(&descriptor);
    descriptor.epoch
}
