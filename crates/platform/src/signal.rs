//! Signals: numbers and names, handlers that do nothing or set a flag, and a clean slate for a worker.

use std::sync::atomic::{AtomicI32, Ordering};

/// Names of the signals that end or stop processes, by number (x86-64 and aarch64 agree on these).
const NAMES: [(i32, &str); 20] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGSTOP, "SIGSTOP"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGSYS, "SIGSYS"),
];

/// SIGTERM, as a number.
pub const TERM: i32 = libc::SIGTERM;
/// SIGKILL, as a number.
pub const KILL: i32 = libc::SIGKILL;
/// SIGINT, as a number.
pub const INT: i32 = libc::SIGINT;
/// SIGSTOP, as a number.
pub const STOP: i32 = libc::SIGSTOP;
/// SIGCONT, as a number.
pub const CONT: i32 = libc::SIGCONT;
/// SIGBUS, as a number.
pub const BUS: i32 = libc::SIGBUS;
/// SIGSEGV, as a number.
pub const SEGV: i32 = libc::SIGSEGV;
/// SIGABRT, as a number.
pub const ABRT: i32 = libc::SIGABRT;
/// SIGXCPU, as a number.
pub const XCPU: i32 = libc::SIGXCPU;

/// `SIGSEGV` for 11, and so on; `signal 40` for one without a name.
pub fn name(number: i32) -> String {
    NAMES
        .iter()
        .find(|(n, _)| *n == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned())
}

/// The signal that [`catch`] saw last; 0 while none came.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

extern "C" fn nothing(_signal: i32) {}

extern "C" fn remember(signal: i32) {
    // A second one means that the user does not want to wait for us to tidy up.
    if CAUGHT.swap(signal, Ordering::SeqCst) != 0 {
        // SAFETY: `_exit` is async-signal-safe; the guardian removes what is left.
        unsafe { libc::_exit(128 + signal) };
    }
}

/// Installs a handler that remembers `signal` (see [`caught`]); a second signal ends the process at once with 128 + number.
pub fn catch(signal: i32) {
    install(signal, remember);
}

/// Installs a handler that does nothing. Unlike an ignored signal it is not inherited by programs that we start.
pub fn handle_by_nothing(signal: i32) {
    install(signal, nothing);
}

/// Takes a signal's handler away.
pub fn handle_by_default(signal: i32) {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// The signal that a handler of [`catch`] saw, if any came.
pub fn caught() -> Option<i32> {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(signal),
    }
}

fn install(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: an all-zero sigaction is valid; the handlers above only touch an atomic and call `_exit`, both
    // async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(11), "SIGSEGV");
        assert_eq!(name(40), "signal 40");
    }
}
