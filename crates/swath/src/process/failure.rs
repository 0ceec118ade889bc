//! Why a process failed, as exactly as it can be known.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swath_platform::signal;

use super::allowance::Limits;
use super::record::End;
use crate::cause::{LastWords, What};
use crate::error::{Error, ErrorKind};
use crate::worker::EXIT_CANNOT_BEGIN;

/// What happened to a process that did not do what it was started for. The source of the errors of
/// [`isolated`](crate::isolated); also [`Process::failure`](crate::Process::failure).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The process's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// What happened.
    pub what: What,
    /// The limit that it ran into.
    pub exceeded: Option<Exceeded>,
    /// Processor time that it used.
    pub cpu: Duration,
    /// The most memory that it had resident at one time, in bytes. `None` when it was less than its starter has: the kernel's count
    /// begins with that.
    pub peak_bytes: Option<u64>,
    /// The last lines of its log if it died, oldest first, at most [`LAST_WORDS`](crate::limits::LAST_WORDS); often there are none.
    pub last_words: Vec<String>,
}

/// A limit of [`Limits`] that a process or a worker ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Exceeded {
    /// Its processor time is used up: the kernel said so, by SIGXCPU.
    CpuSeconds(u64),
    /// Its processor time is used up, likely: SIGKILL came when it was.
    LikelyCpuSeconds(u64),
    /// It was refused memory, likely: it had a limit, and ended as programs do that are refused memory.
    LikelyMemory(u64),
}

impl Failure {
    /// What a process's end says by itself; `None` if it is no failure.
    pub(crate) fn of_end(name: &str, pid: u32, end: &End, limits: &Limits) -> Option<Failure> {
        let what = match (end.status.code(), end.status.signal()) {
            (Some(0), _) => return None,
            (Some(code), _) => What::Exited { code },
            (None, Some(signal)) => What::Killed { signal, likely_out_of_memory: end.likely_out_of_memory() },
            (None, None) => What::Setup { message: end.status.to_string() },
        };
        Some(Failure::new(name, pid, what, end, limits))
    }

    pub(crate) fn new(name: &str, pid: u32, what: What, end: &End, limits: &Limits) -> Failure {
        let exceeded = match what {
            What::Killed { signal, .. } => Exceeded::by(signal, end.cpu, end.killed_by_us, limits),
            _ => None,
        };
        // Whoever says itself what went wrong is not dead.
        let died = matches!(what, What::Exited { .. } | What::Killed { .. } | What::TimedOut { .. });
        let last_words = if died { end.last_words.clone() } else { Vec::new() };
        let (name, End { cpu, peak_bytes, .. }) = (name.to_owned(), end);
        Failure { name, pid, what, exceeded, cpu: *cpu, peak_bytes: *peak_bytes, last_words }
    }

    /// As the engine's error.
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.what {
            What::Failed { .. } | What::Panicked { .. } => ErrorKind::Failed,
            What::TimedOut { .. } => ErrorKind::Deadline,
            What::Setup { .. } => ErrorKind::Spawn,
            What::Codec { .. } => ErrorKind::Codec,
            _ => ErrorKind::Died,
        };
        kind.with(self.to_string()).caused_by(self)
    }
}

impl Exceeded {
    /// What a process ran into that a signal ended.
    pub(crate) fn by(number: i32, cpu: Duration, killed_by_us: bool, limits: &Limits) -> Option<Exceeded> {
        let by_itself = [signal::ABRT, signal::SEGV, signal::BUS].contains(&number);
        let by_kernel = number == signal::KILL && !killed_by_us;
        match limits.cpu_seconds {
            Some(seconds) if number == signal::XCPU => return Some(Exceeded::CpuSeconds(seconds)),
            Some(seconds) if by_kernel && cpu.as_secs() >= seconds => {
                return Some(Exceeded::LikelyCpuSeconds(seconds));
            }
            _ => {}
        }
        limits.memory.filter(|_| by_itself || by_kernel).map(Exceeded::LikelyMemory)
    }

    /// The end of a sentence about who ran into it, with the most memory that it had resident, if that is known.
    pub(crate) fn tell(self, peak_bytes: Option<u64>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {self}")?;
        match (self, peak_bytes) {
            (Exceeded::LikelyMemory(_), Some(bytes)) => {
                write!(f, " (at most {bytes} bytes of it were resident)")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::CpuSeconds(seconds) => write!(f, "its {seconds} s of processor time were used up"),
            Exceeded::LikelyCpuSeconds(seconds) => {
                write!(f, "likely since its {seconds} s of processor time were used up")
            }
            Exceeded::LikelyMemory(bytes) => {
                write!(f, "likely since it wanted more than its {bytes} bytes of memory")
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}): ", self.name, self.pid)?;
        match &self.what {
            What::Exited { code: EXIT_CANNOT_BEGIN } => {
                write!(
                    f,
                    "it could not begin, and says why on its standard error (exit code {EXIT_CANNOT_BEGIN})"
                )?;
            }
            What::Exited { code } => write!(f, "its process exited with code {code}")?,
            what => write!(f, "{what}")?,
        }
        self.exceeded.iter().try_for_each(|exceeded| exceeded.tell(self.peak_bytes, f))?;
        LastWords(&self.last_words).fmt(f)
    }
}

impl std::error::Error for Failure {}
