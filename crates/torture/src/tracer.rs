//! Stepping a process instruction by instruction, and killing it there.
//!
//! The tracer and the tracee share one processor (the harness pins itself, children inherit it): a step is then a plain
//! switch, 54,000 of them a second, where two processors exchange interrupts.
//!
//! To reach step 20,000 of an operation again and again without 20,000 steps each time, [`Tracee::run_to`] puts a
//! *hardware* breakpoint (debug register, this thread only, no byte of text changed) on an instruction whose place in the
//! reference trace is known.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::mem::offset_of;
use std::time::{Duration, Instant};

use crate::watchdog::{self, Ending, state_of};

/// A tracee that sleeps this long in a system call is reported as asleep.
const ASLEEP_AFTER: Duration = Duration::from_micros(400);
/// After a cue it may sleep through one slice before it is reported again.
const ASLEEP_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A single instruction that takes longer than this has hung the victim.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// What became of a request to go on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// It stands at the next instruction (or at the breakpoint asked for).
    Here,
    /// It sleeps in a system call; the request is still under way.
    Asleep,
    /// It stands at the closing breakpoint: the operation has returned.
    Ended,
    /// It died by itself.
    Died(Ending),
    /// It neither sleeps nor comes back.
    Stuck,
}

/// Kinds of instructions that the tracer cares about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Instruction {
    Plain,
    SystemCall,
    Breakpoint,
}

/// What is known of the text, shared by all victims: forks of one process have the same text at the same place.
#[derive(Default)]
pub(crate) struct Text {
    seen: RefCell<HashMap<u64, Instruction>>,
}

/// A stopped (or stepping) child of the harness.
pub(crate) struct Tracee<'t> {
    pid: i32,
    text: &'t Text,
    /// A signal that came in between and is passed on with the next request.
    signal: i32,
    /// The request under way, to be repeated after a signal.
    request: libc::c_uint,
    /// What the debug register holds.
    breakpoint: Option<u64>,
}

impl<'t> Tracee<'t> {
    /// Takes over a forked victim that is on its way to its first breakpoint.
    pub(crate) fn adopt(pid: i32, text: &'t Text) -> Result<Tracee<'t>, Stop> {
        let mut tracee = Tracee { pid, text, signal: 0, request: libc::PTRACE_CONT, breakpoint: None };
        let deadline = Instant::now() + watchdog::DEADLINE;
        loop {
            match tracee.poll_stop() {
                Some(Stop::Here) => break,
                Some(stop) => return Err(stop),
                None if Instant::now() > deadline => {
                    watchdog::kill(pid);
                    watchdog::reap(pid, true);
                    return Err(Stop::Stuck);
                }
                None => std::thread::yield_now(),
            }
        }
        tracee.ask(libc::PTRACE_SETOPTIONS, 0, libc::PTRACE_O_EXITKILL as u64);
        Ok(tracee)
    }

    /// The address of the next instruction.
    pub(crate) fn pc(&self) -> u64 {
        self.peek_user(offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rip))
    }

    /// Is the next instruction a system call?
    pub(crate) fn at_system_call(&self) -> bool {
        let pc = self.pc();
        self.instruction(pc) == Instruction::SystemCall
    }

    /// Is the next instruction the closing breakpoint? Then the operation has returned.
    pub(crate) fn has_returned(&self) -> bool {
        let pc = self.pc();
        self.instruction(pc) == Instruction::Breakpoint
    }

    /// One instruction. [`Stop::Ended`] if the next one is the closing breakpoint (nothing is executed then).
    pub(crate) fn step(&mut self) -> Stop {
        let pc = self.pc();
        match self.instruction(pc) {
            Instruction::Breakpoint => Stop::Ended,
            Instruction::SystemCall => {
                self.go(libc::PTRACE_SINGLESTEP);
                self.wait(ASLEEP_AFTER)
            }
            Instruction::Plain => {
                self.go(libc::PTRACE_SINGLESTEP);
                self.wait_briefly()
            }
        }
    }

    /// Waits on for a request that was reported as asleep.
    pub(crate) fn keep_waiting(&mut self) -> Stop {
        self.wait(ASLEEP_AGAIN_AFTER)
    }

    /// Lets it run until it stands at `pc`, before executing it. Asleep and Ended as for [`Tracee::step`].
    pub(crate) fn run_to(&mut self, pc: u64) -> Stop {
        if self.breakpoint != Some(pc) {
            if !self.set_breakpoint(Some(pc)) {
                return Stop::Stuck;
            }
            self.breakpoint = Some(pc);
        }
        self.go(libc::PTRACE_CONT);
        self.wait(ASLEEP_AFTER)
    }

    /// Removes the breakpoint of [`Tracee::run_to`]; call it when that has arrived.
    pub(crate) fn clear_breakpoint(&mut self) {
        self.set_breakpoint(None);
        self.breakpoint = None;
    }

    /// Lets it run to its end (the closing breakpoint).
    pub(crate) fn run_out(&mut self) -> Stop {
        self.go(libc::PTRACE_CONT);
        self.wait(ASLEEP_AFTER)
    }

    /// SIGKILL, and its exit confirmed: all threads of the process are gone when this returns.
    pub(crate) fn kill(self) -> Ending {
        watchdog::kill(self.pid);
        watchdog::reap(self.pid, true).unwrap_or(Ending::Hung)
    }

    fn go(&mut self, request: libc::c_uint) {
        self.request = request;
        let signal = std::mem::take(&mut self.signal);
        self.ask(request, 0, signal as u64);
    }

    /// For instructions that cannot sleep: a blocking wait costs one system call.
    fn wait_briefly(&mut self) -> Stop {
        loop {
            match self.take_stop(true) {
                Some(stop) => return stop,
                None => continue,
            }
        }
    }

    fn wait(&mut self, asleep_after: Duration) -> Stop {
        let start = Instant::now();
        let mut asleep = 0;
        loop {
            if let Some(stop) = self.poll_stop() {
                return stop;
            }
            std::thread::yield_now();
            let waited = start.elapsed();
            if waited > asleep_after {
                asleep = if state_of(self.pid) == Some('S') { asleep + 1 } else { 0 };
                if asleep >= 3 {
                    // It may have come out between the two looks.
                    return self.poll_stop().unwrap_or(Stop::Asleep);
                }
                std::thread::sleep(Duration::from_micros(20));
            }
            if waited > STUCK_AFTER {
                return Stop::Stuck;
            }
        }
    }

    fn poll_stop(&mut self) -> Option<Stop> {
        self.take_stop(false)
    }

    /// One wait; passes signals on. `None`: nothing yet.
    fn take_stop(&mut self, block: bool) -> Option<Stop> {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let got = unsafe { libc::waitpid(self.pid, &mut status, if block { 0 } else { libc::WNOHANG }) };
        if got == 0 {
            return None;
        }
        if got < 0 || libc::WIFEXITED(status) {
            return Some(Stop::Died(Ending::Exited(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some(Stop::Died(Ending::Signalled(libc::WTERMSIG(status))));
        }
        match libc::WSTOPSIG(status) {
            libc::SIGTRAP if self.request == libc::PTRACE_CONT => Some(self.name_trap()),
            libc::SIGTRAP => Some(Stop::Here),
            signal => {
                // Not ours: deliver it and repeat the request.
                self.signal = signal;
                self.go(self.request);
                None
            }
        }
    }

    /// After a free run: the hardware breakpoint, or the closing one (whose `int3` has been executed)?
    fn name_trap(&self) -> Stop {
        let pc = self.pc();
        if self.instruction(pc - 1) == Instruction::Breakpoint && pc - 1 == closing_breakpoint() {
            Stop::Ended
        } else {
            Stop::Here
        }
    }

    fn instruction(&self, pc: u64) -> Instruction {
        if let Some(known) = self.text.seen.borrow().get(&pc) {
            return *known;
        }
        let bytes = self.ask(libc::PTRACE_PEEKTEXT, pc, 0) as u64;
        let instruction = match bytes.to_le_bytes() {
            [0xcc, ..] => Instruction::Breakpoint,
            [0x0f, 0x05, ..] => Instruction::SystemCall,
            _ => Instruction::Plain,
        };
        self.text.seen.borrow_mut().insert(pc, instruction);
        instruction
    }

    /// DR0 = address, DR7 = enabled for this thread, on execution.
    fn set_breakpoint(&self, pc: Option<u64>) -> bool {
        let register = |n: usize| (offset_of!(libc::user, u_debugreg) + n * size_of::<u64>()) as u64;
        let off = self.ask(libc::PTRACE_POKEUSER, register(7), 0);
        let Some(pc) = pc else { return off == 0 };
        self.ask(libc::PTRACE_POKEUSER, register(0), pc) == 0
            && self.ask(libc::PTRACE_POKEUSER, register(7), 1) == 0
    }

    fn peek_user(&self, offset: usize) -> u64 {
        self.ask(libc::PTRACE_PEEKUSER, offset as u64, 0) as u64
    }

    fn ask(&self, request: libc::c_uint, addr: u64, data: u64) -> i64 {
        // SAFETY: the requests used here take numbers, or addresses in the *tracee*; none makes the kernel touch the
        // harness's memory (glibc's wrapper returns PEEK's word itself).
        unsafe { libc::ptrace(request, self.pid, addr, data) }
    }
}

/// Where the closing `int3` stands.
fn closing_breakpoint() -> u64 {
    use std::sync::OnceLock;
    static AT: OnceLock<u64> = OnceLock::new();
    *AT.get_or_init(|| {
        let start = crate::victim::bracket_end as *const () as u64;
        // The function is `int3; nop; ret`, possibly after a short prologue.
        // SAFETY: reads the text of a function of this executable; its first bytes are mapped, and the search stops at the
        // breakpoint that is known to be there.
        (start..).find(|at| unsafe { *(*at as *const u8) } == 0xcc).unwrap_or(start)
    })
}

/// Pins the harness (and by inheritance all its children) to one of its processors; gives its number.
pub(crate) fn pin() -> io::Result<usize> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a cpu_set_t of the size given.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The last one: number 0 serves most interrupts.
    // SAFETY: the index is below CPU_SETSIZE.
    let cpu = (0..libc::CPU_SETSIZE as usize).rev().find(|n| unsafe { libc::CPU_ISSET(*n, &set) });
    let cpu = cpu.ok_or_else(|| io::Error::other("no processor to run on"))?;
    // SAFETY: `cpu` is below CPU_SETSIZE; `set` is ours.
    unsafe {
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(cpu, &mut set);
    }
    // SAFETY: `set` is a cpu_set_t of the size given.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cpu)
}
