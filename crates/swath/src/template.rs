//! The template of a pool's workers: a process with one thread that has run the preload hook, and copies itself whenever a worker is
//! wanted. What the hook has built is in every worker's memory, at no cost until somebody writes to it.
//!
//! | step | who | what |
//! |---|---|---|
//! | T1 | service thread | starts the template as it starts a worker: a slot, control segment, bell, output; the ring of its log as descriptor 5, and a socket as 6 |
//! | T2 | template | as a worker: SIGKILL at the coordinator's death, is its parent the coordinator?; waits until the slot has its pid, enters |
//! | T3 | template | runs the hook, looks whether it is alone, says so: READY, or FAILED and why |
//! | T4 | service thread | for each worker: arena, slot, pipes; an order over the socket; the copy's pid in its cell is 0 |
//! | T5 | template | opens the pipes' ends through `/proc/COORDINATOR/fd`, copies itself as its own sibling: the kernel writes the pid into the cell, and the copy's parent is the service thread |
//! | T6 | copy | closes the socket, takes its pipes for standard output and error, and begins as a spawned worker does |
//! | T7 | template | says COPIED, or REFUSED and the error's number |
//! | T8 | service thread | reads the pid from the cell, opens a pidfd, closes its ends of the pipes, watches, enters pid and start time |
//!
//! What the hook says by `tracing` goes to a ring of the template's own ([`crate::log`]), under the name `swath-template`; a copy has a ring
//! of its own from T6 on, and never writes to the template's.
//!
//! *The template is killed*: a worker exists if and only if its pid is in the cell, since the kernel writes both in one system call. So
//! whoever buries the template takes over the workers that were made, and orders the others anew from the next one. Workers do not notice. *A
//! copy is killed*: as any worker; its parent has its exact status. *The coordinator is killed*: PDEATHSIG, and the guardian, for which the
//! template is one of the slots. *The template is stopped or hangs*: the order has a deadline, then the template is killed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use swath_platform::sibling::{self, Side};
use swath_platform::{crash, exe, file, fork, process, signal};
use swath_segment::{Attachments, Membership, Mode};
use swath_sync::SlotId;

use crate::board::Board;
use crate::cause::What;
use crate::contract::Contract;
use crate::limits::TERM_GRACE;
use crate::log;
use crate::process::lineage;
use crate::worker::{self, Assignment, Beginning, EXIT_CANNOT_BEGIN, EXIT_INITIALIZER};

/// The descriptor of the socket by which orders come.
pub(crate) const ORDERS_FD: i32 = 6;

/// A worker that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) cell: u32,
    pub(crate) slot: SlotId,
    /// The coordinator's descriptors of the pipes for standard output and error.
    pub(crate) pipes: [i32; 2],
}

const ORDER_BYTES: usize = 16;

impl Order {
    pub(crate) fn to_bytes(self) -> [u8; ORDER_BYTES] {
        let slot = u32::from(self.slot.index) << 16 | u32::from(self.slot.generation);
        let words = [self.cell, slot, self.pipes[0] as u32, self.pipes[1] as u32];
        let mut bytes = [0; ORDER_BYTES];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; ORDER_BYTES]) -> Order {
        let word = |at: usize| u32::from_ne_bytes(bytes[at * 4..][..4].try_into().expect("four bytes"));
        let slot = SlotId { index: (word(1) >> 16) as u16, generation: word(1) as u16 };
        Order { cell: word(0), slot, pipes: [word(2) as i32, word(3) as i32] }
    }
}

/// What the template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The hook has run.
    Ready,
    /// The oldest order is carried out.
    Copied,
    /// The oldest order cannot be.
    Refused(String),
    /// The hook has not; the template ends.
    Failed(What),
}

impl Reply {
    /// A number of bytes, then as many.
    fn to_bytes(&self) -> Vec<u8> {
        let body = match self {
            Reply::Ready => vec![b'r'],
            Reply::Copied => vec![b'c'],
            Reply::Refused(why) => [b"n", why.as_bytes()].concat(),
            Reply::Failed(what) => [vec![b'f'], postcard::to_stdvec(what).unwrap_or_default()].concat(),
        };
        [&(body.len() as u32).to_ne_bytes(), body.as_slice()].concat()
    }

    /// The first one of what has come, taken out; `None` while it is not complete.
    pub(crate) fn take(heard: &mut Vec<u8>) -> Option<Reply> {
        let (head, rest) = heard.split_first_chunk::<4>()?;
        let body = rest.get(..u32::from_ne_bytes(*head) as usize)?;
        let reply =
            match body.split_first()? {
                (b'r', _) => Reply::Ready,
                (b'c', _) => Reply::Copied,
                (b'n', why) => Reply::Refused(String::from_utf8_lossy(why).into_owned()),
                (_, what) => Reply::Failed(postcard::from_bytes(what).unwrap_or(What::Setup {
                    message: "the template says what cannot be decoded".to_owned(),
                })),
            };
        let len = 4 + body.len();
        heard.drain(..len);
        Some(reply)
    }
}

/// Runs a template until its coordinator ends it; a copy goes on as a worker.
pub(crate) fn main(membership: &Membership, args: &[OsString]) -> ! {
    lineage::die_with(membership.coordinator_pid); // T2
    process::set_comm("swath-template");
    signal::handle_by_nothing(signal::INT);
    // When memory runs out, it is not the coordinator that should go.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    match begin(membership, args) {
        Ok(template) => template.serve(),
        Err(why) => {
            eprintln!("swath template {}: {why}", process::getpid());
            std::process::exit(EXIT_CANNOT_BEGIN)
        }
    }
}

struct Template<'m> {
    membership: &'m Membership,
    assignment: Assignment,
    board: Board,
    contract: Contract,
    socket: UnixStream,
}

fn begin<'m>(membership: &'m Membership, args: &[OsString]) -> Result<Template<'m>, String> {
    if !file::is_open(ORDERS_FD) {
        return Err("it has no socket".to_owned());
    }
    // SAFETY: our starter passes its socket under this number, and nobody has looked at it before.
    let socket = unsafe { UnixStream::from_raw_fd(ORDERS_FD) };
    // Programs that the hook starts have no use for it.
    file::set_close_on_exec(&socket).map_err(|e| format!("its socket: {e}"))?;
    // SAFETY: the same of its ring; and of its bell, which every copy has too.
    let (ring, bell) = unsafe { (log::place::inherited()?, log::place::bell()?) };
    log::berth::begin_template(ring, bell);
    let assignment = Assignment::from_args(args).ok_or("its command line is not a template's")?;
    let coordinator = membership.coordinator_pid;
    let mut cache = Attachments::new(membership.control, membership.slot);
    let base = cache.get(&assignment.board, Mode::ReadWrite, coordinator).map_err(|e| e.to_string())?;
    // The board stays mapped: the kernel writes to it.
    std::mem::forget(cache);
    let identity = exe::identity().map_err(|e| format!("/proc/self/exe: {e}"))?;
    // SAFETY: mapped writable with the reference's length, page-aligned, for as long as the process lives.
    let board = unsafe { Board::attach(base, assignment.board.len as usize, identity) };
    let board = board.ok_or("the coordinator runs another executable than this one")?;
    let contract = worker::read_contract(&board.contract(), coordinator)?;
    let (slots, slot) = (membership.control.slots(), membership.slot);
    worker::await_listing(slots, slot)?;
    membership.let_copies_in().map_err(|e| e.to_string())?;
    // It maps nothing that the coordinator could want back.
    membership.control.acknowledge(slot, u64::MAX);
    if !slots.enter(slot) {
        return Err("its place in the session is taken".to_owned());
    }
    Ok(Template { membership, assignment, board, contract, socket })
}

impl Template<'_> {
    /// T3, then T5 to T7 for each order.
    fn serve(mut self) -> ! {
        crash::prepare();
        let outcome = self.contract.run_preload().map_err(|what| *what).and_then(|()| check_alone());
        if let Err(what) = outcome {
            let _ = self.socket.write_all(&Reply::Failed(what).to_bytes());
            std::process::exit(EXIT_INITIALIZER);
        }
        let _ = self.socket.write_all(&Reply::Ready.to_bytes());
        loop {
            let mut bytes = [0; ORDER_BYTES];
            if self.socket.read_exact(&mut bytes).is_err() {
                // Nobody will want a worker any more.
                fork::exit_now(0);
            }
            let order = Order::from_bytes(&bytes);
            let reply = match self.carry_out(&order) {
                Ok((Side::Original, _)) => Reply::Copied,
                Ok((Side::Copy, pipes)) => self.become_worker(&order, pipes),
                Err(error) => Reply::Refused(error.to_string()),
            };
            let _ = self.socket.write_all(&reply.to_bytes());
        }
    }

    /// T5.
    fn carry_out(&self, order: &Order) -> io::Result<(Side, [File; 2])> {
        let coordinator = self.membership.coordinator_pid;
        let open = |fd: i32| File::options().write(true).open(format!("/proc/{coordinator}/fd/{fd}"));
        let pipes = [open(order.pipes[0])?, open(order.pipes[1])?];
        let cell = order.cell as usize;
        if cell >= self.board.workers() {
            return Err(io::Error::other(format!("cell {cell} of {}", self.board.workers())));
        }
        // What is in store would be written by both otherwise.
        let _ = (io::stdout().flush(), io::stderr().flush());
        fork::write_out_streams();
        Ok((sibling::copy(&self.board.cell(cell).copied)?, pipes))
    }

    /// T6.
    fn become_worker(self, order: &Order, pipes: [File; 2]) -> ! {
        lineage::die_with(self.membership.coordinator_pid);
        process::lead_group(process::getpid());
        drop(self.socket);
        let replaced = (1..).zip(pipes).try_for_each(|(number, pipe)| fork::replace_stream(number, pipe));
        let membership = self.membership.of_copy(order.slot);
        let (Ok(()), Some(membership)) = (replaced, membership) else {
            fork::exit_now(EXIT_CANNOT_BEGIN);
        };
        membership.hold();
        let assignment = Assignment { cell: order.cell as usize, ..self.assignment };
        worker::work(&membership, &assignment, Beginning::Copied)
    }
}

/// An error that names the threads that the hook has left behind. One that has been joined may take a moment to go.
fn check_alone() -> Result<(), What> {
    let deadline = Instant::now() + TERM_GRACE;
    let failed = |message: String| What::Failed { message, chain: Vec::new() };
    loop {
        let threads = fork::threads().map_err(|e| failed(format!("/proc/self/task: {e}")))?;
        let others = threads.get(1..).unwrap_or_default();
        if others.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (left, they) = match others.len() {
                1 => ("1 thread".to_owned(), "it holds"),
                n => (format!("{n} threads"), "they hold"),
            };
            return Err(failed(format!(
                "it has left {left} behind: {}. A copy has the calling thread alone, and what {they} (the allocator's lock, \
                 the log's) would stay held in every worker for ever: end them before the hook returns, or use StartMethod::Spawn",
                others.join(", ")
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_replies_arrive_as_they_were() {
        let order = Order { cell: 7, slot: SlotId { index: 1023, generation: 65_535 }, pipes: [12, 1 << 20] };
        assert_eq!(Order::from_bytes(&order.to_bytes()), order);
        let failed = Reply::Failed(What::Setup { message: "told to".repeat(1000) });
        let refused = Reply::Refused("no room".to_owned());
        let replies = [Reply::Ready, Reply::Copied, refused, failed];
        let mut heard = Vec::new();
        let mut found = Vec::new();
        for byte in replies.iter().flat_map(Reply::to_bytes) {
            heard.push(byte);
            found.extend(Reply::take(&mut heard));
        }
        assert_eq!(found, replies);
        assert!(heard.is_empty());
    }
}
