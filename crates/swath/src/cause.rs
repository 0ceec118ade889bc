//! Errors as data: what went wrong with a chunk, worth printing and worth saving.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swath_platform::{crash, signal};

use crate::limits::ERROR_TEXT_BYTES;
use crate::process::Exceeded;

/// How one attempt at a chunk ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// The kernel returned an error.
    Failed {
        /// Its text.
        message: String,
        /// The texts of its sources, outermost first.
        chain: Vec<String>,
    },
    /// The kernel panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`.
        location: String,
        /// The worker's backtrace, when `RUST_BACKTRACE` asks for one.
        backtrace: String,
    },
    /// The worker's process ended by itself in the middle of the chunk.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// The worker's process was ended by a signal.
    Killed {
        /// The signal.
        signal: i32,
        /// The kernel's counter of out-of-memory kills rose and nobody of us sent the signal.
        likely_out_of_memory: bool,
    },
    /// We killed the worker, since the chunk took longer than it may.
    TimedOut {
        /// How long that was.
        limit: Duration,
    },
    /// We ended the worker, since nobody wants the task any more.
    Cancelled,
    /// The worker could not be told what to do: a segment that does not attach, a function that is not there.
    Setup {
        /// Why.
        message: String,
    },
    /// Arguments that do not decode, a result that cannot be encoded.
    Codec {
        /// Which, and why.
        message: String,
    },
}

impl What {
    /// The worker could not begin, since `message`.
    #[cold]
    pub(crate) fn setup(message: impl Into<String>) -> Fault {
        Box::new(What::Setup { message: shorten(message.into()) })
    }

    /// The worker was given the name of a function that it does not have.
    #[cold]
    pub(crate) fn not_here() -> Fault {
        What::setup("its function is not in this executable")
    }

    /// What came, `what`, is not what was to come.
    #[cold]
    pub(crate) fn undecodable(what: &str, error: impl fmt::Display) -> Fault {
        Box::new(What::Codec { message: shorten(format!("{what} cannot be decoded: {error}")) })
    }

    /// Arrays that are part of a result did not reach the coordinator.
    #[cold]
    pub(crate) fn not_sent(why: impl fmt::Display) -> Fault {
        Box::new(What::Codec { message: shorten(format!("an array of its result cannot be sent: {why}")) })
    }

    /// A value of type `R` cannot travel.
    #[cold]
    pub(crate) fn unencodable<R>(error: impl fmt::Display) -> Fault {
        let name = std::any::type_name::<R>();
        Box::new(What::Codec {
            message: shorten(format!("its result of type {name} cannot be encoded: {error}")),
        })
    }
}

/// [`What`] on its way out of a kernel. Boxed, so that the result of a chunk that went well stays a word or two.
pub(crate) type Fault = Box<What>;

/// How one attempt at a chunk ended, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Index of the worker in its pool.
    pub worker: usize,
    /// Its process id.
    pub pid: u32,
    /// What happened.
    pub what: What,
    /// The limit that a worker ran into, if that is why it died.
    pub exceeded: Option<Exceeded>,
    /// The most memory that a worker that died had resident at one time, in bytes. `None` when that is not known: the kernel's count
    /// begins with what the coordinator has.
    pub peak_bytes: Option<u64>,
    /// The last lines of the log of a worker that died, oldest first, at most [`LAST_WORDS`](crate::limits::LAST_WORDS); often
    /// there are none.
    pub last_words: Vec<String>,
    /// Where its instruction struck, if it crashed; [`Crash`]'s `Display` looks names and lines up.
    pub crash: Option<Box<Crash>>,
}

/// Where a worker crashed: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// The signal.
    pub signal: i32,
    /// The address that could not be used, for SIGSEGV and SIGBUS that nobody sent; else 0.
    pub address: u64,
    /// Return addresses as offsets in this executable, the innermost first; 0 for those in shared libraries.
    pub offsets: Vec<u64>,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Crash { signal, address, offsets } = self.clone();
        crash::Crash { signal, address, offsets }.fmt(f)
    }
}

impl Cause {
    /// Of a worker that lives, or said nothing.
    pub(crate) fn new(worker: usize, pid: u32, what: What) -> Cause {
        Cause { worker, pid, what, exceeded: None, peak_bytes: None, last_words: Vec::new(), crash: None }
    }

    /// With what its handler wrote.
    pub(crate) fn struck(mut self, crash: Option<crash::Crash>) -> Cause {
        let killed = matches!(self.what, What::Killed { .. });
        self.crash = crash.filter(|_| killed).map(|crash| {
            let crash::Crash { signal, address, offsets } = crash;
            Box::new(Crash { signal, address, offsets })
        });
        self
    }
}

/// A chunk that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkFailure {
    /// Its index.
    pub chunk: usize,
    /// Its rows.
    pub rows: Range<usize>,
    /// How often it was tried.
    pub attempts: u32,
    /// How each attempt ended, in order; of very many, the first and the last sixteen.
    pub causes: Vec<Cause>,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Failed { message, chain } => {
                f.write_str(message)?;
                chain.iter().try_for_each(|source| write!(f, ": {source}"))
            }
            What::Panicked { message, location, .. } => write!(f, "panicked at {location}: {message}"),
            What::Exited { code } => {
                write!(f, "its process exited with code {code} in the middle of its work")
            }
            What::Killed { signal, likely_out_of_memory } => {
                write!(f, "its process was killed by {}", signal::name(*signal))?;
                if *likely_out_of_memory {
                    f.write_str(" (likely out of memory)")?;
                }
                Ok(())
            }
            What::TimedOut { limit } => write!(f, "it took longer than {limit:?} and was killed"),
            What::Cancelled => f.write_str("it was cancelled"),
            What::Setup { message } => write!(f, "it could not begin: {message}"),
            What::Codec { message } => f.write_str(message),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cause { worker, pid, what, last_words, .. } = self;
        write!(f, "worker {worker} (pid {pid}): {what}")?;
        self.exceeded.iter().try_for_each(|exceeded| exceeded.tell(self.peak_bytes, f))?;
        LastWords(last_words).fmt(f)?;
        self.crash.iter().try_for_each(|crash| write!(f, "; it crashed{crash}"))
    }
}

/// The end of a sentence about somebody who died.
pub(crate) struct LastWords<'a>(pub(crate) &'a [String]);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "; its last words: ";
        for line in self.0 {
            write!(f, "{before}{line}")?;
            before = " | ";
        }
        Ok(())
    }
}

impl fmt::Display for ChunkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.attempts == 1 { "once".to_owned() } else { format!("{} times", self.attempts) };
        write!(f, "chunk {} (rows {}..{}) failed {times}", self.chunk, self.rows.start, self.rows.end)?;
        let mut last: Option<&Cause> = None;
        for cause in &self.causes {
            // The same words from four workers are one line to a reader.
            if last.is_none_or(|l| l.what != cause.what) {
                write!(f, "; {cause}")?;
            }
            last = Some(cause);
        }
        Ok(())
    }
}

/// `text`, cut with a mark when it is longer than may travel.
pub(crate) fn shorten(mut text: String) -> String {
    if text.len() > ERROR_TEXT_BYTES {
        text.truncate(at_most(&text, ERROR_TEXT_BYTES).len());
        text.push_str(" … (cut)");
    }
    text
}

/// The beginning of `text`, of at most `bytes` bytes.
pub(crate) fn at_most(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_a_sentence_and_repeats_nothing() {
        let died = |worker| Cause::new(worker, 7, What::Killed { signal: 9, likely_out_of_memory: false });
        let failure = ChunkFailure { chunk: 3, rows: 30..40, attempts: 2, causes: vec![died(0), died(1)] };
        assert_eq!(
            failure.to_string(),
            "chunk 3 (rows 30..40) failed 2 times; worker 0 (pid 7): its process was killed by SIGKILL"
        );
        let last_words = vec!["WARN app: one".to_owned(), "ERROR app: two".to_owned()];
        let cause = Cause { last_words, ..died(0) };
        assert_eq!(
            cause.to_string(),
            "worker 0 (pid 7): its process was killed by SIGKILL; its last words: WARN app: one | ERROR app: two"
        );
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let cut = shorten("ä".repeat(ERROR_TEXT_BYTES));
        assert!(cut.ends_with(" … (cut)") && cut.len() < ERROR_TEXT_BYTES + 16);
    }
}
