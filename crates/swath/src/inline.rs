//! A pool without processes: the caller runs the chunks itself, with the same code, borders and bits.
//!
//! For debuggers, for small jobs, for machines that forbid processes. A kernel that crashes takes the program with it, and
//! nobody enforces time-outs.

use std::fs::File;
use std::time::Instant;

use bytemuck::Zeroable;
use swath_platform::{exe, file, process};
use swath_segment::{Segment, SegmentRef};

use crate::arena::{Arena, At};
use crate::attach::Attach;
use crate::board::Board;
use crate::drive::Driver;
use crate::error::{ErrorKind, Result};
use crate::gather::{ArenaOf, Gather};
use crate::kernel;
use crate::ledger::Owner;
use crate::panic_note;
use crate::recovery::{Recovery, read_failures};
use crate::report::Report;
use crate::run::{self, Memory, Plan};
use crate::settings::Progress;
use crate::turn::{Hand, Turn};

/// The one worker of an inline pool.
pub(crate) struct Inline {
    hand: Hand,
    board_segment: Segment,
    arena: File,
    undo: Option<Segment>,
}

/// Its slot and generation; no slot table knows it.
const OWNER: Owner = Owner { slot: 0, generation: 0 };

impl Inline {
    /// A board of one cell, and an arena.
    pub(crate) fn new() -> Result<Inline> {
        let board_segment = Segment::options().unnamed("board").create(Board::bytes(1))?;
        let system =
            |what: &str, e: std::io::Error| ErrorKind::Memory.with(format!("{what}: {e}")).caused_by(e);
        let identity = exe::identity().map_err(|e| system("/proc/self/exe", e))?;
        // SAFETY: a new segment is zeroed, page-aligned and writable, and is kept beside the board.
        let board = unsafe { Board::create(board_segment.as_ptr(), 1, identity, SegmentRef::zeroed()) };
        let arena = File::from(file::memfd("swath-arena").map_err(|e| system("memory for results", e))?);
        let writer = arena.try_clone().map_err(|e| system("memory for results", e))?;
        let hand = Hand {
            board,
            index: 0,
            owner: OWNER,
            pid: process::getpid(),
            attach: Attach::Inline(Vec::new()),
            arena: Arena::new(writer),
            arena_epoch: 0,
            claims: 0,
            left: u64::MAX,
            inline: true,
        };
        Ok(Inline { hand, board_segment, arena, undo: None })
    }

    /// Runs `plan` here and now.
    pub(crate) fn run<T>(
        &mut self,
        memory: &mut Memory,
        mut plan: Plan<'_>,
        finish: impl FnOnce(&Gather<'_>) -> Result<T>,
    ) -> Result<(T, Report)> {
        let began = Instant::now();
        let mut progress = plan.settings.progress.take();
        let descriptor = memory.describe(&plan, false)?;
        self.prepare(memory, &plan)?;
        // SAFETY: `memory` and the plan outlive this call, and the recovery does not.
        let mut recovery = unsafe { run::open(memory, &plan, descriptor.epoch) };
        let board = self.hand.board;
        let epoch = descriptor.epoch;
        run::publish(&board, descriptor, plan.geometry.chunks(), plan.team.is_some());
        self.take_turns(&mut recovery)?;
        recovery.name_the_unexplained();
        let flush = board.cell(0).flush.load(std::sync::atomic::Ordering::Acquire);
        let file =
            self.arena.try_clone().map_err(|e| ErrorKind::Memory.with(format!("memory for results: {e}")))?;
        let arenas = [ArenaOf { cell: 0, generation: OWNER.generation, file, flush }];
        let mut report = run::report(&plan, &recovery, &board, began);
        report.workers = 0;
        if let Some(show) = &mut progress {
            let done = report.committed_by_worker.iter().sum::<u64>() as usize;
            let elapsed = began.elapsed();
            show(Progress { done, chunks: report.chunks, workers: 0, retried: report.retried, elapsed });
        }
        run::conclude(&plan, run::End::Complete, &recovery, &report)?;
        let ledger = recovery.ledger();
        let value = finish(&Gather { epoch, ledger, partials: memory.partials(), arenas: &arenas })?;
        Ok((value, report))
    }

    /// Undo slot, and where everything is mapped.
    fn prepare(&mut self, memory: &Memory, plan: &Plan<'_>) -> Result<()> {
        let bytes = run::undo_bytes(plan);
        if bytes > 0 && self.undo.as_ref().is_none_or(|slot| slot.len() < bytes) {
            self.undo = None;
            self.undo = Some(Segment::options().unnamed("undo").create(bytes.next_multiple_of(4096))?);
        }
        let undo = self.undo.as_ref();
        self.hand.board.cell(0).set_undo(undo.map_or_else(SegmentRef::zeroed, Segment::reference));
        let mut known = memory.known();
        known.push((self.board_segment.reference().id, self.board_segment.as_ptr()));
        known.extend(undo.map(|slot| (slot.reference().id, slot.as_ptr())));
        known.extend(plan.operands.iter().map(|o| (o.array.segment.id, o.base)));
        known.extend(plan.team_base());
        self.hand.attach = Attach::Inline(known);
        Ok(())
    }

    /// Turns, until no failed chunk is tried again.
    fn take_turns(&mut self, recovery: &mut Recovery) -> Result<()> {
        let mut descriptor = crate::board::blank();
        self.hand.board.copy_phase(&mut descriptor);
        let mut seen = At::NONE;
        loop {
            let driver = kernel::address_of(descriptor.driver).expect("we named it ourselves");
            // SAFETY: the address of a function of type `Driver`, named in this process.
            let driver = unsafe { std::mem::transmute::<*const (), Driver>(driver) };
            let mut turn =
                Turn::new(&mut self.hand, &descriptor).map_err(|why| ErrorKind::Memory.with(why))?;
            panic_note::in_this_process(|| driver(&mut turn));
            let last =
                At::from_word(self.hand.board.cell(0).failures.load(std::sync::atomic::Ordering::Acquire));
            let failures = read_failures(&self.arena, descriptor.epoch, last, seen);
            seen = last;
            let retried = failures
                .into_iter()
                .filter(|(chunk, cause)| recovery.reported(*chunk, cause.clone()))
                .count();
            if retried == 0 {
                return Ok(());
            }
            self.hand.board.stop(0);
            self.hand.board.announce_sweep();
        }
    }
}
