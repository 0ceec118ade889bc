//! What can go wrong with sessions and segments: the operation, its object, the cause.

use std::io;
use std::path::PathBuf;

/// Why a session or segment could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The mount has too little free space.
    #[error(
        "no room for {needed} bytes: {mount} has {free} bytes free{}; make the array unnamed (it then lives outside \
         {mount}), or file-backed, or enlarge {mount} (in Docker: --shm-size)",
        pinned_text(*.pinned)
    )]
    NoRoom {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free on the mount.
        free: u64,
        /// The mount.
        mount: PathBuf,
        /// Bytes of dropped segments that workers have not unmapped yet.
        pinned: u64,
    },
    /// A disk has too little free space for a file-backed segment.
    #[error("no room for {needed} bytes: the file system of {path} has {free} bytes free")]
    DiskFull {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free there.
        free: u64,
        /// The file.
        path: PathBuf,
    },
    /// Taking the memory would get somebody killed.
    #[error(
        "no memory for {needed} bytes: {available} bytes available of the limit of {limit} set by {whose}{}; make the \
         array file-backed, or raise the limit",
        pinned_text(*.pinned)
    )]
    NoMemory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes that can still be had.
        available: u64,
        /// The limit.
        limit: u64,
        /// The cgroup, or "the machine".
        whose: String,
        /// Bytes of dropped segments that workers have not unmapped yet.
        pinned: u64,
    },
    /// The name is taken.
    #[error("a segment named {name:?} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// Nothing has this name.
    #[error("there is no segment named {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// Not a possible name.
    #[error("{name:?} cannot name a segment: {why}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a possible size.
    #[error("a segment of {len} bytes is not possible: {why}")]
    InvalidSize {
        /// Bytes asked for.
        len: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name stands for another file than the one that was meant, or for nothing we may use.
    #[error("{object} is not what it should be: {why}")]
    NotOurs {
        /// The file.
        object: String,
        /// What was found instead.
        why: String,
    },
    /// The session's table is full.
    #[error(
        "the session has {limit} segments, and that is the limit ({retired} of them dropped but still mapped)"
    )]
    TooManySegments {
        /// How many there can be.
        limit: usize,
        /// How many of them are retired but pinned.
        retired: usize,
    },
    /// No descriptor left.
    #[error(
        "{operation} {object}: the process may have {limit} files open (RLIMIT_NOFILE, raised to its hard limit \
         already); each live segment needs one"
    )]
    TooManyFiles {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The limit.
        limit: u64,
    },
    /// The file would be larger than this process may make one.
    #[error("a file of {needed} bytes is larger than RLIMIT_FSIZE allows ({limit} bytes)")]
    FileTooLarge {
        /// Bytes asked for.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The process was forked from a coordinator.
    #[error(
        "this process was forked from the coordinator {coordinator}, whose session it cannot use: start it by exec"
    )]
    Forked {
        /// The pid of the process that owns the session.
        coordinator: u32,
    },
    /// The control segment was written by another build.
    #[error(
        "the session has control layout {found}, this program has {expected}: not the same build of swath"
    )]
    OtherLayout {
        /// What the segment says.
        found: String,
        /// What we have.
        expected: String,
    },
    /// The process that started us has gone, or was never the coordinator.
    #[error("the coordinator {coordinator} is not the parent of this worker (that is {parent}): it has died")]
    ParentGone {
        /// Who should be the parent.
        coordinator: u32,
        /// Who is.
        parent: u32,
    },
    /// The slot that we were started for is not waiting for us.
    #[error("slot {slot} does not wait for a worker of generation {generation}: {found}")]
    SlotMismatch {
        /// The slot.
        slot: u16,
        /// The generation in argv.
        generation: u16,
        /// What the slot table says.
        found: String,
    },
    /// The kind of segment has no such operation.
    #[error("{operation} is not possible for {object}: {why}")]
    Unsupported {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        object: String,
        /// Why not.
        why: &'static str,
    },
    /// The kernel refused a call.
    #[error("{operation} {object}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn pinned_text(pinned: u64) -> String {
    match pinned {
        0 => String::new(),
        bytes => format!(" ({bytes} more belong to dropped arrays that workers still have mapped)"),
    }
}

impl Error {
    /// Wraps what the kernel said. Out of descriptors becomes the error that names the limit, which is the hard one from
    /// then on: whoever tries again may succeed.
    pub(crate) fn system(operation: &'static str, object: impl ToString, source: io::Error) -> Error {
        let object = object.to_string();
        match source.raw_os_error() {
            Some(EMFILE) => {
                Error::TooManyFiles { operation, object, limit: swath_platform::process::raise_open_files() }
            }
            _ => Error::System { operation, object, source },
        }
    }

    /// The kernel's error number, when there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::System { source, .. } => source.raw_os_error(),
            Error::TooManyFiles { .. } => Some(EMFILE),
            _ => None,
        }
    }

    pub(crate) fn is_out_of_space(&self) -> bool {
        self.errno() == Some(ENOSPC)
    }
}

/// The same numbers on every Linux architecture.
const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EOPNOTSUPP: i32 = 95;

/// The usual result.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_names_the_remedies_in_order() {
        let error = Error::NoRoom { needed: 100, free: 7, mount: "/dev/shm".into(), pinned: 0 };
        let text = error.to_string();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is missing in {text}"));
        assert!(at("100 bytes") < at("/dev/shm has 7 bytes free"));
        assert!(at("unnamed") < at("file-backed") && at("file-backed") < at("--shm-size"));
        assert!(!text.contains("dropped"));
        let error = Error::NoRoom { needed: 100, free: 7, mount: "/dev/shm".into(), pinned: 50 };
        assert!(error.to_string().contains("50 more belong to dropped arrays"));
    }
}
