//! The main function of a worker process: from `exec` to `exit`, it never returns to the program's own `main`.

use std::ffi::OsString;
use std::io::Read;
use std::sync::atomic::Ordering;

use bytemuck::Zeroable;
use swath_platform::{cpu, crash, exe, life, process, signal};
use swath_segment::{Attachments, Membership, Mode, SegmentRef};
use swath_sync::{Party, SlotId, SlotState, SlotTable};

use crate::arena::{Arena, At, Kind};
use crate::attach::Attach;
use crate::board::{self, Board};
use crate::cause::What;
use crate::contract::{Contract, Farewell, Growth};
use crate::descriptor::Descriptor;
use crate::drive::Driver;
use crate::freight;
use crate::head_count;
use crate::kernel;
use crate::ledger::Owner;
use crate::log;
use crate::memory_file::Place;
use crate::process::lineage;
use crate::task::clerk::Clerk;
use crate::task::table::Table;
use crate::turn::{Hand, Turn};

/// Exit code of a worker that could not begin; the reason is on its standard error.
pub(crate) const EXIT_CANNOT_BEGIN: i32 = 121;
/// Exit code of a worker whose initializer failed, and of a template whose hook did; it has said why.
pub(crate) const EXIT_INITIALIZER: i32 = 123;
/// Exit code of a worker that lost its way later.
pub(crate) const EXIT_LOST: i32 = 122;

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
    pub(crate) fn from_args(args: &[OsString]) -> Option<Assignment> {
        let numbers: Vec<u64> = args.iter().map(|a| a.to_str()?.parse().ok()).collect::<Option<_>>()?;
        let &[cell, life_word, id, ino, dev, len, fd] = numbers.as_slice() else { return None };
        let board = SegmentRef { id, ino, dev, len, fd: i32::try_from(fd).ok()?, ..Zeroable::zeroed() };
        Some(Assignment { cell: usize::try_from(cell).ok()?, life_word: life_word != 0, board })
    }
}

/// How a worker has come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// As the executable, started again.
    Spawned,
    /// As a copy of the template, which has run the preload hook.
    Copied,
}

/// Runs a spawned worker until it is told to leave.
pub(crate) fn main(membership: &Membership, args: &[OsString]) -> ! {
    lineage::die_with(membership.coordinator_pid);
    match Assignment::from_args(args) {
        Some(assignment) => work(membership, &assignment, Beginning::Spawned),
        None => cannot_begin("its command line is not a worker's"),
    }
}

/// Runs a worker until it is told to leave.
pub(crate) fn work(membership: &Membership, assignment: &Assignment, beginning: Beginning) -> ! {
    prepare_process();
    match begin(membership, assignment) {
        Ok((mut hand, contract)) => {
            initialize(&mut hand, &contract, beginning);
            serve(hand, &contract)
        }
        Err(why) => cannot_begin(&why),
    }
}

fn cannot_begin(why: &str) -> ! {
    eprintln!("swath worker {}: {why}", process::getpid());
    std::process::exit(EXIT_CANNOT_BEGIN)
}

/// Signals, names and descriptors as a worker needs them, whatever was inherited.
fn prepare_process() {
    process::set_comm("swath-worker");
    // Ctrl-C reaches the whole foreground group; the coordinator decides what it means.
    signal::handle_by_nothing(signal::INT);
    // When memory runs out, a worker is the one to die: it is replaced.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

fn begin(membership: &Membership, assignment: &Assignment) -> Result<(Hand, Contract), String> {
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
    let contract = read_contract(&board.contract(), coordinator)?;
    freight::reply_to(contract.inbox.clone());
    let cell = board.cell(assignment.cell);
    let arena = Place::from(cell.arena()).open(coordinator)?;
    begin_log(board, assignment.cell, coordinator)?;
    // SAFETY: the cache, and so the mapping, lives as long as the process.
    crash::write_to(&unsafe { board.cell_for_ever(assignment.cell) }.crash);
    let slots = membership.control.slots();
    // SAFETY: 1. the membership was checked: it is for this process; 2. objects ask the session that they are of for a party;
    // 3. there is no earlier one.
    unsafe { Party::install(slots, membership.slot) };
    let hand = Hand {
        board,
        index: assignment.cell,
        owner: Owner { slot: membership.slot.index, generation: membership.slot.generation },
        pid: process::getpid(),
        attach: Attach::Process { cache, coordinator },
        arena: Arena::new(arena),
        arena_epoch: 0,
        claims: cell.claims.load(Ordering::Relaxed),
        left: contract.max_tasks.unwrap_or(u64::MAX),
        inline: false,
    };
    // The coordinator writes our pid once it has us on its list; work that it does not know of, it could not fence.
    await_listing(slots, membership.slot)?;
    if assignment.life_word {
        life::vouch();
        // SAFETY: the coordinator says that kernels run in this thread alone (`threads_per_worker` is 1).
        unsafe { slots.enter_watched(membership.slot) };
    } else {
        slots.enter(membership.slot);
    }
    Ok((hand, contract))
}

/// Waits until the coordinator has this process on its list. An error: it has given the slot up, as it does when it knows of nobody there.
pub(crate) fn await_listing(slots: &SlotTable, slot: SlotId) -> Result<(), String> {
    while slots.pid(slot.index) != process::getpid() {
        if slots.state(slot.index) != (SlotState::Starting, slot.generation) {
            return Err("the coordinator has given its slot up".to_owned());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// From here on what is said by `tracing` arrives at the coordinator.
fn begin_log(board: Board, index: usize, coordinator: u32) -> Result<(), String> {
    let ring = log::place::attached(&Place::from(board.cell(index).log()).open(coordinator)?)?;
    // SAFETY: the coordinator passes its bell under this number.
    let bell = unsafe { log::place::bell() }?;
    log::berth::begin(ring, bell, Some((board, index)));
    Ok(())
}

/// What the pool tells every worker.
pub(crate) fn read_contract(reference: &SegmentRef, coordinator: u32) -> Result<Contract, String> {
    let mut bytes = Vec::new();
    Place::from(*reference)
        .open(coordinator)?
        .read_to_end(&mut bytes)
        .map_err(|e| format!("its contract: {e}"))?;
    postcard::from_bytes(&bytes).map_err(|e| format!("its contract: {e}"))
}

/// Runs the hook, unless the template has, and the initializer; a worker whose initializer fails says why, and ends.
fn initialize(hand: &mut Hand, contract: &Contract, beginning: Beginning) {
    if contract.pin {
        // The mask may have changed since the pool was made: then it runs where it may.
        let _ = cpu::pin_to(hand.index % cpu::affinity_count().max(1));
    }
    head_count::share(contract.processors, hand.board.wanted());
    if contract.has_hooks() && !hand.board.await_opening() {
        std::process::exit(0);
    }
    let limited =
        contract.limits.apply().map_err(|e| What::setup(format!("its limits ({}): {e}", contract.limits)));
    let preloaded = || if beginning == Beginning::Copied { Ok(()) } else { contract.run_preload() };
    match limited.and_then(|()| preloaded()).and_then(|()| contract.enter()) {
        Ok(()) => {
            hand.board.cell(hand.index).set_ready();
            hand.board.ring_bell();
        }
        Err(what) => {
            say_farewell(hand, &Err(*what));
            std::process::exit(EXIT_INITIALIZER);
        }
    }
}

/// The last words of a worker, for the coordinator to read when it is gone.
fn say_farewell(hand: &mut Hand, words: &Farewell) {
    let record = postcard::to_stdvec(words).unwrap_or_default();
    if let Ok(at) = hand.arena.append(0, Kind::Farewell, &record, At::NONE) {
        hand.board.cell(hand.index).farewell.store(at.word(), Ordering::Release);
    }
}

/// Takes its turn at every phase (steps 2 to 5 of the board's protocol).
fn serve(mut hand: Hand, contract: &Contract) -> ! {
    let mut descriptor = board::blank();
    let (mut last_sequence, mut last_sweeps) = (0, 0);
    let (mut clerk, mut answered) = (None, false);
    let mut grown = Growth::new(contract.max_growth);
    loop {
        // Read before the news: what comes later rings again.
        let heard = hand.board.doorbell();
        if hand.board.is_shut_down() {
            leave(&mut hand, contract);
        }
        let told = hand.board.cell(hand.index).is_told_to_leave(hand.owner.generation);
        if told || hand.left == 0 || hand.index >= hand.board.wanted() || grown.too_much() {
            retire(&mut hand, contract);
        }
        if !hand.board.is_open() {
            hand.board.wait_doorbell(heard, None);
            continue;
        }
        // Between turns, when no view of an array is left.
        hand.attach.retire();
        log::berth::follow();
        // The pool may have been resized.
        head_count::share(contract.processors, hand.board.wanted());
        if clerk.is_none() {
            clerk = hire_clerk(&mut hand);
        }
        let halted = clerk.as_ref().is_some_and(|clerk| clerk.is_halted(&hand));
        let (sequence, sweeps) = (hand.board.sequence(), hand.board.sweeps());
        if !halted && sequence != 0 && (sequence, sweeps) != (last_sequence, last_sweeps) {
            hand.board.copy_phase(&mut descriptor);
            (last_sequence, last_sweeps) = (descriptor.sequence, sweeps);
            take_turn(&mut hand, &descriptor);
            continue;
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
        if !hand.board.wait_doorbell(heard, contract.idle_timeout) {
            retire(&mut hand, contract);
        }
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

/// Leaves before it is told to, if no team counts on it: another one comes when there is work for it.
fn retire(hand: &mut Hand, contract: &Contract) {
    if hand.board.retire(hand.index) {
        leave(hand, contract)
    }
}

/// Ends the process in an orderly way. The life word is disarmed first: handlers of `atexit` may unmap what it points to.
fn leave(hand: &mut Hand, contract: &Contract) -> ! {
    if let Some(finalizer) = &contract.finalizer {
        let words = finalizer.run().map_err(|what| *what);
        say_farewell(hand, &words);
    }
    freight::close();
    life::disarm();
    std::process::exit(0)
}
