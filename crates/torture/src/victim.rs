//! Processes of a run: forked from the harness while it has one thread, so any code may run in them.
//!
//! A child ends by `_exit` with a code that says its finding; what is wrong stands on the board. Every child dies with the
//! harness. The victim brackets its operation by two breakpoint instructions.
#![allow(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::scenario::{Finding, Verdict};
use crate::stage::{Stage, VICTIM};

/// Exit code of a child that found nothing to repair.
pub(crate) const EXIT_CLEAN: i32 = 0;
/// Exit code of a child that repaired.
pub(crate) const EXIT_RECOVERED: i32 = 10;
/// Exit code of a child that found something wrong (text on the board).
pub(crate) const EXIT_WRONG: i32 = 11;

/// Forks a companion or checker that runs `life`.
pub(crate) fn fork_role(stage: &Stage, role: usize, life: impl FnOnce() -> Finding) -> io::Result<i32> {
    fork(|| match catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(Verdict::Clean)) => EXIT_CLEAN,
        Ok(Ok(Verdict::Recovered)) => EXIT_RECOVERED,
        Ok(Err(text)) => {
            stage.say(role, &text);
            EXIT_WRONG
        }
        Err(panic) => {
            stage.say(role, &panic_text(panic.as_ref()));
            EXIT_WRONG
        }
    })
}

/// Forks the victim: it asks to be traced, prepares, and stops at the first breakpoint.
pub(crate) fn fork_victim<'s>(
    stage: &Stage,
    prepare: impl FnOnce() -> Box<dyn FnOnce() + 's>,
) -> io::Result<i32> {
    fork(|| {
        let life = AssertUnwindSafe(|| {
            let operation = prepare();
            // SAFETY: PTRACE_TRACEME takes no pointers.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            bracket_begin();
            operation();
            bracket_end();
        });
        if let Err(panic) = catch_unwind(life) {
            stage.say(VICTIM, &panic_text(panic.as_ref()));
            return EXIT_WRONG;
        }
        // A victim that was let go after the bracket (it was paused, not killed) ends here.
        EXIT_CLEAN
    })
}

/// Stops for the tracer before the operation: kill point 0 is the instruction after it.
#[inline(never)]
pub(crate) fn bracket_begin() {
    // SAFETY: a breakpoint; the tracer is there (a child without one dies of SIGTRAP, which the harness reports).
    unsafe { std::arch::asm!("int3", options(nostack)) };
}

/// Stops for the tracer after the operation.
#[inline(never)]
pub(crate) fn bracket_end() {
    // SAFETY: as `bracket_begin`; the nop keeps the two functions from being merged into one.
    unsafe { std::arch::asm!("int3", "nop", options(nostack)) };
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panicked: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)"))
}

fn fork(life: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: the harness has one thread, so the child may run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: plain prctl; the harness's only thread is its main thread, so the signal means what it says.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            // What is wrong goes to the board; a panic that a seeded bug provokes must not fill the screen.
            std::panic::set_hook(Box::new(|_| {}));
            let code = life();
            // SAFETY: ends the process without the harness's atexit handlers, and without flushing its buffers twice.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(pid),
    }
}
