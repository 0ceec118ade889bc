//! What can go wrong between a proxy and its object.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::What;
use crate::error::{Error, ErrorKind};

/// Why a call of a managed object gave no answer: the source of an [`Error`] of kind
/// [`ManagerGone`](ErrorKind::ManagerGone), [`Managed`](ErrorKind::Managed), [`TimedOut`](ErrorKind::TimedOut),
/// [`Codec`](ErrorKind::Codec) or [`WouldDeadlock`](ErrorKind::WouldDeadlock).
///
/// Unless it says otherwise, the call has changed nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ManagedError {
    /// The manager has ended, and all its objects with it. Whether a call that was under way took effect, nobody can know any more.
    Gone {
        /// Its name.
        manager: String,
        /// Its process id.
        pid: u32,
        /// How it ended, where that is known: in the process that started it.
        cause: Option<String>,
    },
    /// There is no such object: it was removed.
    Removed {
        /// The number of the object.
        object: u64,
    },
    /// The object is of another type than the proxy.
    WrongType {
        /// The type of the object.
        is: String,
        /// That of the proxy.
        wanted: String,
    },
    /// The program's own code panicked in the manager. If it was a function at work on the object, what that had changed by then is as it
    /// was left, and the object is [`Poisoned`](ManagedError::Poisoned) from now on. If it was a decoder, or the function that makes an
    /// object, nothing was done; if it was the encoder of the answer, or a destructor, everything was.
    Panicked {
        /// The panic's message and place.
        what: String,
    },
    /// A function panicked in the middle of a change of this object before. [`Proxy::repair`](super::Proxy::repair) makes it usable again.
    Poisoned {
        /// That panic's message and place.
        by: String,
    },
    /// No answer within the time that the call had. It has had no effect if `sent` is false; else it may have, or may still have.
    TimedOut {
        /// That time.
        limit: Duration,
        /// Whether the manager had been told all of it.
        sent: bool,
    },
    /// Arguments, or an answer, that cannot be encoded or decoded. Where it is the answer, the call has had its effect.
    Codec {
        /// What, and why.
        what: String,
    },
    /// A message longer than [`MANAGED_MESSAGE_BYTES`](crate::limits::MANAGED_MESSAGE_BYTES). Where it is the answer, the call has had
    /// its effect.
    TooLong {
        /// Its bytes.
        bytes: u64,
    },
    /// The manager takes no further client now: too many of them, no descriptors, no memory for a thread.
    Full {
        /// What there is not enough of.
        what: String,
    },
    /// The manager is there, but does not take this process for its client.
    Refused {
        /// Why.
        why: String,
    },
    /// The connection could not be made, or not be used. The call has had no effect if `sent` is false; else it may have.
    Connection {
        /// What the system says.
        what: String,
        /// Whether the manager had been told all of it.
        sent: bool,
    },
    /// A call, from within a function that is at work on an object, of that very object: it would wait for itself.
    WouldDeadlock,
}

impl ManagedError {
    /// What is behind an error of a managed object; `None` for others.
    pub fn of(error: &Error) -> Option<&ManagedError> {
        std::error::Error::source(error)?.downcast_ref()
    }

    pub(crate) fn panicked(what: &What) -> ManagedError {
        ManagedError::Panicked { what: what.to_string() }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            ManagedError::Gone { .. } => ErrorKind::ManagerGone,
            ManagedError::TimedOut { .. } => ErrorKind::TimedOut,
            ManagedError::Codec { .. } => ErrorKind::Codec,
            ManagedError::WouldDeadlock => ErrorKind::WouldDeadlock,
            _ => ErrorKind::Managed,
        }
    }
}

impl fmt::Display for ManagedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManagedError::Gone { manager, pid, cause } => {
                write!(f, "{manager} (pid {pid}) is gone, and its objects with it")?;
                cause.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
            ManagedError::Removed { object } => write!(f, "object {object} was removed"),
            ManagedError::WrongType { is, wanted } => write!(f, "the object is a {is}, not a {wanted}"),
            ManagedError::Panicked { what } => write!(f, "the function {what}"),
            ManagedError::Poisoned { by } => {
                write!(f, "the object may be half changed since a function {by}; repair it, or remove it")
            }
            ManagedError::TimedOut { limit, sent: false } => {
                write!(f, "the manager did not take the call within {limit:?}")
            }
            ManagedError::TimedOut { limit, sent: true } => {
                write!(f, "no answer within {limit:?}; whether the call takes effect is not known")
            }
            ManagedError::Codec { what } => f.write_str(what),
            ManagedError::TooLong { bytes } => write!(
                f,
                "a message of {bytes} bytes is longer than limits::MANAGED_MESSAGE_BYTES; send, or ask for, less at a time"
            ),
            ManagedError::Full { what } => write!(f, "the manager takes no further client: {what}"),
            ManagedError::Refused { why } => write!(f, "the manager refuses: {why}"),
            ManagedError::Connection { what, sent: false } => {
                write!(f, "no connection to the manager: {what}")
            }
            ManagedError::Connection { what, sent: true } => {
                write!(f, "the manager's answer: {what}; whether the call takes effect is not known")
            }
            ManagedError::WouldDeadlock => f.write_str(
                "a function that is at work on an object calls that object: it would wait for itself",
            ),
        }
    }
}

impl std::error::Error for ManagedError {}

impl From<ManagedError> for Error {
    fn from(error: ManagedError) -> Error {
        error.kind().with(error.to_string()).caused_by(error)
    }
}
