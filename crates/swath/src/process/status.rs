//! How a process ended.

use std::fmt;

use swath_platform::{process, signal};
use swath_sync::DeathCause;

/// How a process ended: by an exit code, or by a signal.
///
/// ```
/// use swath::process::ExitStatus;
///
/// let (three, segv) = (ExitStatus::exited(3), ExitStatus::killed_by(11));
/// assert_eq!((three.code(), three.to_string().as_str()), (Some(3), "exit code 3"));
/// assert_eq!(format!("{segv:?}"), "ExitStatus(SIGSEGV)");
/// assert_eq!((segv.signal(), segv.to_string().as_str()), (Some(11), "SIGSEGV"));
/// assert_eq!((three.number(), segv.number()), (Some(3), Some(-11))); // Python's `exitcode`
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStatus(Option<u32>);

impl ExitStatus {
    /// That of a process that ended by itself.
    pub fn exited(code: u8) -> ExitStatus {
        ExitStatus(Some(u32::from(code) << 8))
    }

    /// That of a process that a signal ended.
    pub fn killed_by(signal: i32) -> ExitStatus {
        ExitStatus(Some(signal as u32 & 0x7f))
    }

    /// What the kernel said; `None` when somebody else in this program has taken it (`waitpid(-1)`).
    pub(crate) fn of(status: Option<process::ExitStatus>) -> ExitStatus {
        ExitStatus(status.map(|s| s.raw() & !0x80))
    }

    /// As a slot of a session notes it.
    pub(crate) fn cause(self) -> DeathCause {
        self.0.map_or(DeathCause::UNKNOWN, DeathCause)
    }

    fn status(self) -> Option<process::ExitStatus> {
        self.0.map(process::ExitStatus::from_raw)
    }

    /// Exit code 0.
    pub fn success(self) -> bool {
        self.code() == Some(0)
    }

    /// The exit code, if the process ended by itself.
    pub fn code(self) -> Option<i32> {
        self.status()?.code()
    }

    /// The signal's number, if one ended it; [`ExitStatus`]'s `Display` has its name.
    pub fn signal(self) -> Option<i32> {
        self.status()?.signal()
    }

    /// As Python's `exitcode`: the exit code, or the signal's number, negative. `None` when the host program has taken the status
    /// from us.
    pub fn number(self) -> Option<i32> {
        self.code().or(self.signal().map(|signal| -signal))
    }
}

impl fmt::Debug for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExitStatus({self})")
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(number)) => f.write_str(&signal::name(number)),
            (None, None) => f.write_str("an exit status that somebody else in this program has taken"),
        }
    }
}
