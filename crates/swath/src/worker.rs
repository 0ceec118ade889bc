//! The main function of a worker process: from `exec` to `exit`, it never returns to the program's own `main`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use bytemuck::Zeroable;
use swath_platform::{exe, life, process, signal};
use swath_segment::{Attachments, Membership, Mode, SegmentRef};
use swath_sync::Party;

use crate::arena::Arena;
use crate::attach::Attach;
use crate::board::{self, Board};
use crate::descriptor::Descriptor;
use crate::drive::Driver;
use crate::kernel;
use crate::ledger::Owner;
use crate::task::clerk::Clerk;
use crate::task::table::Table;
use crate::turn::{Hand, Turn};

/// Exit code of a worker that could not begin; the reason is on its standard error.
pub(crate) const EXIT_CANNOT_BEGIN: i32 = 121;
/// Exit code of a worker that lost its way later.
const EXIT_LOST: i32 = 122;

/// What a worker is told on its command line, behind what a membership needs.
pub(crate) struct Assignment {
    /// Index of its cell.
    pub(crate) cell: usize,
    /// Whether the kernel's death mark on the life word works here.
    pub(crate) life_word: bool,
    /// The pool's board.
    pub(crate) board: SegmentRef,
}

impl Assignment {
    /// As arguments.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let b = &self.board;
        let numbers = [self.cell as u64, self.life_word.into(), b.id, b.ino, b.dev, b.len, b.fd as u64];
        numbers.iter().map(u64::to_string).collect()
    }

    /// From the arguments behind the membership's.
    fn from_args(args: &[OsString]) -> Option<Assignment> {
        let numbers: Vec<u64> = args.iter().map(|a| a.to_str()?.parse().ok()).collect::<Option<_>>()?;
        let &[cell, life_word, id, ino, dev, len, fd] = numbers.as_slice() else { return None };
        let board = SegmentRef { id, ino, dev, len, fd: i32::try_from(fd).ok()?, ..Zeroable::zeroed() };
        Some(Assignment { cell: usize::try_from(cell).ok()?, life_word: life_word != 0, board })
    }
}

/// Runs a worker until it is told to leave.
pub(crate) fn main(membership: &Membership, args: &[OsString]) -> ! {
    prepare_process(membership.coordinator_pid);
    match begin(membership, args) {
        Ok(hand) => serve(hand),
        Err(why) => {
            eprintln!("swath worker {}: {why}", process::getpid());
            std::process::exit(EXIT_CANNOT_BEGIN)
        }
    }
}

/// Signals, names and descriptors as a worker needs them, whatever was inherited.
fn prepare_process(coordinator: u32) {
    // In this order: a coordinator that died before the first line is noticed by the second.
    let _ = process::set_parent_death_signal(signal::KILL);
    if process::getppid() != coordinator {
        std::process::exit(EXIT_CANNOT_BEGIN);
    }
    process::set_comm("swath-worker");
    // Ctrl-C reaches the whole foreground group; the coordinator decides what it means.
    signal::handle_by_nothing(signal::INT);
    // When memory runs out, a worker is the one to die: it is replaced.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

fn begin(membership: &Membership, args: &[OsString]) -> Result<Hand, String> {
    let assignment = Assignment::from_args(args).ok_or("its command line is not a worker's")?;
    let mut cache = Attachments::new(membership.control, membership.slot);
    let coordinator = membership.coordinator_pid;
    let base = cache.get(&assignment.board, Mode::ReadWrite, coordinator).map_err(|e| e.to_string())?;
    let identity = exe::identity().map_err(|e| format!("/proc/self/exe: {e}"))?;
    // SAFETY: mapped writable with the reference's length, page-aligned; the cache, and so the mapping, lives as long as the
    // process, since the board is never retired while it has workers.
    let board = unsafe { Board::attach(base, assignment.board.len as usize, identity) };
    let board = board.ok_or("the coordinator runs another executable than this one")?;
    if assignment.cell >= board.workers() {
        return Err(format!("cell {} of {}", assignment.cell, board.workers()));
    }
    let cell = board.cell(assignment.cell);
    let arena = open_arena(&cell.arena(), coordinator)?;
    let slots = membership.control.slots();
    Party::install(slots, membership.slot);
    let hand = Hand {
        board,
        index: assignment.cell,
        owner: Owner { slot: membership.slot.index, generation: membership.slot.generation },
        pid: process::getpid(),
        attach: Attach::Process { cache, coordinator },
        arena: Arena::new(arena),
        arena_epoch: 0,
        claims: cell.claims.load(Ordering::Relaxed),
        inline: false,
    };
    // The coordinator writes our pid once it has us on its list; work that it does not know of, it could not fence.
    while slots.pid(membership.slot.index) != hand.pid {
        std::thread::yield_now();
    }
    slots.enter(membership.slot, assignment.life_word);
    Ok(hand)
}

/// Opens the memory file that the coordinator made for us.
fn open_arena(arena: &SegmentRef, coordinator: u32) -> Result<File, String> {
    let path = format!("/proc/{coordinator}/fd/{}", arena.fd);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| format!("{path}: {e}"))?;
    let meta = file.metadata().map_err(|e| format!("{path}: {e}"))?;
    if (meta.dev(), meta.ino()) != (arena.dev, arena.ino) {
        return Err(format!("{path} is not the arena that was meant"));
    }
    Ok(file)
}

/// Takes its turn at every phase (steps 2 to 5 of the board's protocol).
fn serve(mut hand: Hand) -> ! {
    let mut descriptor = board::blank();
    let (mut last_sequence, mut last_sweeps) = (0, 0);
    let (mut clerk, mut answered) = (None, false);
    loop {
        // Read before the news: what comes later rings again.
        let heard = hand.board.doorbell();
        if hand.board.is_shut_down() {
            leave();
        }
        // Between turns, when no view of an array is left.
        hand.attach.retire();
        if clerk.is_none() {
            clerk = hire_clerk(&mut hand);
        }
        let halted = clerk.as_ref().is_some_and(|clerk| clerk.is_halted(&hand));
        let (sequence, sweeps) = (hand.board.sequence(), hand.board.sweeps());
        if !halted && sequence != 0 && (sequence, sweeps) != (last_sequence, last_sweeps) {
            hand.board.copy_phase(&mut descriptor);
            (last_sequence, last_sweeps) = (descriptor.sequence, sweeps);
            take_turn(&mut hand, &descriptor);
        }
        // One at a time: a phase does not wait for all tasks.
        if clerk.as_mut().is_some_and(|clerk| clerk.run_one(&mut hand)) {
            answered = true;
            continue;
        }
        // Where both share a processor, whoever waits for the answer goes on when we let go of it, and not before.
        if std::mem::take(&mut answered) {
            std::thread::yield_now();
        }
        hand.board.wait_doorbell(heard);
    }
}

/// Attaches the table of tasks, once there is one.
fn hire_clerk(hand: &mut Hand) -> Option<Clerk> {
    let table = hand.board.tasks()?;
    let Attach::Process { coordinator, .. } = hand.attach else { return None };
    let clerk = hand.attach.get(&table, true).and_then(|base| {
        // SAFETY: mapped writable with the reference's length, page-aligned; never retired while the pool has workers.
        let table = unsafe { Table::attach(base, table.len as usize) };
        Clerk::new(table.ok_or("it is not a table of tasks")?, hand.index, coordinator)
    });
    match clerk {
        Ok(clerk) => Some(clerk),
        Err(why) => {
            eprintln!("swath worker {}: the table of tasks: {why}", process::getpid());
            std::process::exit(EXIT_LOST);
        }
    }
}

fn take_turn(hand: &mut Hand, descriptor: &Descriptor) {
    let board = hand.board;
    let driver = kernel::address_of(descriptor.driver);
    let turn = Turn::new(hand, descriptor)
        .and_then(|turn| Ok((turn, driver.ok_or("its driver is not in the executable")?)));
    match turn {
        Ok((mut turn, driver)) => {
            // SAFETY: the coordinator, which runs the same executable, named a function of type `Driver`.
            let driver = unsafe { std::mem::transmute::<*const (), Driver>(driver) };
            driver(&mut turn);
        }
        // The phase is over and its ledger may be gone: nothing to do.
        Err(_) if board.stopped(descriptor.epoch) || board.sequence() != descriptor.sequence => {}
        Err(why) => {
            eprintln!("swath worker {}: {why}", process::getpid());
            std::process::exit(EXIT_LOST);
        }
    }
    board.ring_bell();
}

/// Ends the process in an orderly way. The life word is disarmed first: handlers of `atexit` may unmap what it points to.
fn leave() -> ! {
    life::disarm();
    std::process::exit(0)
}
