//! What a segment is made of: an open file and a mapping of it. Three kinds: a name in `/dev/shm`, a memfd, a file on disk.
//!
//! The only place that knows the crate `shared_memory`. It makes the named segments and attaches to them for writing; its
//! known defects are met here:
//!
//! * it only truncates (a full mount would be SIGBUS later): we `fallocate` through a descriptor of our own, before
//!   anybody can attach;
//! * between its `shm_open` and the last store a stranger could attach to half a segment: it creates an unfinished,
//!   unguessable name, which is renamed when all is done;
//! * it takes descriptor 0 for "none", so never closes or unlinks it: 0 is occupied while it opens anything;
//! * it unlinks in `Drop`, also in forked children: its object lives only inside `create_shm`, and owns nothing after;
//! * no read-only attach: `memmap2` does that;
//! * no choice of the address, without which there are no huge pages: from [`ALIGN_FROM_BYTES`] on we map what it made;
//! * an attach by name says not which file it got: identity is compared before and after.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use shared_memory::{Shmem, ShmemConf, ShmemError};
use swath_platform::memory::AlignedMap;
use swath_platform::{file, memory, process};

use crate::error::{EOPNOTSUPP, Error, Result};
use crate::limits::{ALIGN_FROM_BYTES, CLAIM_ATTEMPTS};
use crate::name::shm_path;
use crate::room::{self, Place};

/// A mapping of memory that other processes may change.
#[derive(Debug)]
pub(crate) enum Mapping {
    /// Of no bytes: nothing is mapped.
    Empty,
    /// By `memmap2`.
    Raw(MmapRaw),
    /// Large: at an address that may have huge pages.
    Aligned(AlignedMap),
    /// By `shared_memory`.
    Crate(Attached),
}

/// A segment that `shared_memory` has attached to; it does not own the name.
pub(crate) struct Attached(Shmem);

// SAFETY: `Shmem` is !Send only for its raw pointer. The mapping belongs to the process, not to a thread; unmapping and
// closing are possible from any thread; we only ever ask it for its address and length.
unsafe impl Send for Attached {}
// SAFETY: shared access is `as_ptr` and `len`, which read fields that nothing changes.
unsafe impl Sync for Attached {}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attached({} bytes)", self.0.len())
    }
}

impl Mapping {
    /// Maps the first `len` bytes of a file, for this process alone.
    pub(crate) fn of(file: &OwnedFd, len: usize, write: bool, what: &str) -> Result<Mapping> {
        let mapping = Mapping::for_copies(file, len, write, what)?;
        mapping.keep_private();
        Ok(mapping)
    }

    /// The same, but forked copies of this process have it too.
    pub(crate) fn for_copies(file: &OwnedFd, len: usize, write: bool, what: &str) -> Result<Mapping> {
        if len == 0 {
            return Ok(Mapping::Empty);
        }
        let mapped = if len >= ALIGN_FROM_BYTES {
            AlignedMap::new(file, len, write).map(Mapping::Aligned)
        } else if write {
            MmapOptions::new().len(len).map_raw(file.as_raw_fd()).map(Mapping::Raw)
        } else {
            MmapOptions::new().len(len).map_raw_read_only(file.as_raw_fd()).map(Mapping::Raw)
        };
        mapped.map_err(|e| Error::system("mmap", what, e))
    }

    /// Not for forked children, not for core dumps. Hints: a kernel that refuses changes nothing for correctness.
    fn keep_private(&self) {
        let _ = memory::dont_fork_dump(self.as_ptr(), self.len());
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match self {
            // Aligned for any element, as a mapping would be.
            Mapping::Empty => std::ptr::without_provenance_mut(memory::page_size()),
            Mapping::Raw(map) => map.as_mut_ptr(),
            Mapping::Aligned(map) => map.as_ptr(),
            Mapping::Crate(attached) => attached.0.as_ptr(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Mapping::Empty => 0,
            Mapping::Raw(map) => map.len(),
            Mapping::Aligned(map) => map.len(),
            Mapping::Crate(attached) => attached.0.len(),
        }
    }

    /// Waits until the bytes are on the disk.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Mapping::Raw(map) => map.flush(),
            Mapping::Aligned(map) => map.flush(),
            _ => Ok(()),
        }
    }
}

/// An owned segment's file and mapping.
#[derive(Debug)]
pub(crate) struct Backing {
    file: OwnedFd,
    mapping: Mapping,
    identity: (u64, u64),
}

impl Backing {
    fn new(file: OwnedFd, len: usize, write: bool, what: &str) -> Result<Backing> {
        let identity = file::stat(&file).map_err(|e| Error::system("fstat", what, e))?.identity();
        let mapping = Mapping::of(&file, len, write, what)?;
        Ok(Backing { file, mapping, identity })
    }

    pub(crate) fn as_ptr(&self) -> NonNull<u8> {
        NonNull::new(self.mapping.as_ptr()).expect("a mapping is never at address 0")
    }

    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// G5–G7 for a name: made under its unfinished name, reserved to the last page, mapped. Nothing stays on error.
    pub(crate) fn create_shm(unfinished: &str, len: usize, pinned: u64) -> Result<Backing> {
        let made = with_fd_0_occupied(|| ShmemConf::new().os_id(format!("/{unfinished}")).size(len).create());
        // Owns the name until the end of this function: an early return unlinks it.
        let mut made = made.map_err(|e| crate_error("shm_open", unfinished, e))?;
        let path = shm_path(unfinished);
        let failed = |operation, error| Error::system(operation, path.display(), error);
        let file = file::open(&path, file::Access::ReadWrite).map_err(|e| failed("open", e))?;
        let stat = file::stat(&file).map_err(|e| failed("fstat", e))?;
        let ours =
            stat.is_regular() && stat.uid == process::geteuid() && stat.mode & 0o077 == 0 && stat.nlink == 1;
        if !ours || stat.size != len as u64 {
            let why = format!("a regular file of ours of {len} bytes was expected, found {stat:?}");
            return Err(Error::NotOurs { object: path.display().to_string(), why });
        }
        reserve(&file, len, &Place::Shm, pinned, unfinished)?;
        let backing = Backing::new(file, len, true, unfinished)?;
        made.set_owner(false);
        Ok(backing)
    }

    /// G5–G7 for a memfd.
    pub(crate) fn create_anonymous(label: &str, len: usize, pinned: u64) -> Result<Backing> {
        let file = file::memfd(label).map_err(|e| Error::system("memfd_create", label, e))?;
        reserve(&file, len, &Place::Anonymous, pinned, label)?;
        Backing::new(file, len, true, label)
    }

    /// The whole of a memory file that somebody else made.
    pub(crate) fn adopt(file: OwnedFd, what: &str) -> Result<Backing> {
        let stat = file::stat(&file).map_err(|e| Error::system("fstat", what, e))?;
        let memory = file::is_memory(&file).map_err(|e| Error::system("statfs", what, e))?;
        let len = usize::try_from(stat.size).unwrap_or(usize::MAX);
        if !memory || !stat.is_regular() || len == 0 || len > isize::MAX as usize {
            let why = format!("memory was expected, found {stat:?}");
            return Err(Error::NotOurs { object: what.to_owned(), why });
        }
        Backing::new(file, len, true, what)
    }

    /// G5–G7 for a file on disk, which belongs to us until its lock is given up.
    pub(crate) fn create_file(path: &Path, len: usize) -> Result<Backing> {
        let what = path.display().to_string();
        let failed = |operation, error| Error::system(operation, &what, error);
        let file = claim(path, &what)?;
        let identity = file::stat(&file).map_err(|e| failed("fstat", e))?.identity();
        // What a killed process left unfinished is of no use.
        file::set_len(&file, 0).map_err(|e| failed("truncate", e))?;
        let reserved = reserve(&file, len, &Place::Disk(path.to_path_buf()), 0, &what);
        let backing = reserved.and_then(|()| Backing::new(file, len, true, &what));
        backing.inspect_err(|_| drop(file::unlink_if(path, identity)))
    }

    /// An existing file.
    pub(crate) fn open_file(path: &Path, write: bool) -> Result<Backing> {
        let what = path.display().to_string();
        let file =
            File::options().read(true).write(write).open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::NotFound { name: what.clone() },
                _ => Error::system("open", &what, error),
            })?;
        let stat = file::stat(&file).map_err(|e| Error::system("fstat", &what, e))?;
        if !stat.is_regular() {
            return Err(Error::NotOurs { object: what, why: "it is not a regular file".to_owned() });
        }
        let len = usize::try_from(stat.size).map_err(|_| Error::InvalidSize {
            len: usize::MAX,
            why: "the file is larger than the address space",
        })?;
        Backing::new(file.into(), len, write, &what)
    }

    /// A larger mapping of the same memory, in place of the old one.
    pub(crate) fn grow(&mut self, len: usize, place: &Place, pinned: u64, what: &str) -> Result<()> {
        reserve(&self.file, len, place, pinned, what)?;
        self.mapping = Mapping::of(&self.file, len, true, what)?;
        Ok(())
    }

    /// The bytes and the file's size are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.mapping.flush()?;
        file::sync(&self.file)
    }

    /// Never unmapped, never closed.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

/// Opens or creates the unfinished file, and locks it.
fn claim(path: &Path, what: &str) -> Result<OwnedFd> {
    let failed = |operation, error| Error::system(operation, what, error);
    for _ in 0..CLAIM_ATTEMPTS {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        if let Some(file) = lock_in_place(file.map_err(|e| failed("create", e))?.into(), path, what)? {
            return Ok(file);
        }
    }
    Err(Error::Exists { name: what.to_owned() })
}

/// Locks the file that was opened under `path`, and then asks whether it still is the one of that name: its former owner
/// may have finished it meanwhile, and what we have locked is a result under its final name. `None`: so it was.
///
/// Who holds the lock of the file under the name keeps it, for an owner renames or removes it before unlocking.
fn lock_in_place(file: OwnedFd, path: &Path, what: &str) -> Result<Option<OwnedFd>> {
    let failed = |operation, error| Error::system(operation, what, error);
    let locked = file::ofd_try_lock(&file).map_err(|e| failed("lock", e))?;
    let identity = file::stat(&file).map_err(|e| failed("fstat", e))?.identity();
    if !path.metadata().is_ok_and(|found| (found.dev(), found.ino()) == identity) {
        return Ok(None);
    }
    if locked { Ok(Some(file)) } else { Err(Error::Exists { name: what.to_owned() }) }
}

/// G6: room for all bytes, or an error now.
fn reserve(fd: &OwnedFd, len: usize, place: &Place, pinned: u64, what: &str) -> Result<()> {
    match file::fallocate(fd, len as u64) {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => write_zeros(fd, len, what),
        Err(error) => {
            let error = Error::system("fallocate", what, error);
            Err(if error.is_out_of_space() { room::out_of_space(place, len as u64, pinned) } else { error })
        }
    }
}

/// For file systems without fallocate; a mere truncation would reserve nothing.
fn write_zeros(fd: &OwnedFd, len: usize, what: &str) -> Result<()> {
    let zeros = vec![0; 1 << 20];
    let begin = file::stat(fd).map_err(|e| Error::system("fstat", what, e))?.size;
    let mut at = begin;
    while at < len as u64 {
        let part = (len as u64 - at).min(zeros.len() as u64);
        file::write_at(fd, &zeros[..part as usize], at).map_err(|e| Error::system("write", what, e))?;
        at += part;
    }
    Ok(())
}

/// Attaches for writing by name, and says no when the name does not stand for the file that was meant.
pub(crate) fn attach_shm(name: &str, identity: Option<(u64, u64)>) -> Result<(Mapping, (u64, u64))> {
    let path = shm_path(name);
    let identify = || match file::stat_path(&path) {
        Ok(stat) if stat.is_regular() => Ok(stat.identity()),
        Ok(_) => Err(Error::NotOurs { object: name.to_owned(), why: "it is not a regular file".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound { name: name.to_owned() })
        }
        Err(error) => Err(Error::system("stat", path.display(), error)),
    };
    let expected = identity.unwrap_or(identify()?);
    let attached = with_fd_0_occupied(|| ShmemConf::new().os_id(format!("/{name}")).open());
    let attached = attached.map_err(|e| crate_error("shm_open", name, e))?;
    if identify()? != expected {
        let why = "its name stands for another file now".to_owned();
        return Err(Error::NotOurs { object: name.to_owned(), why });
    }
    let mapping = Mapping::Crate(Attached(attached));
    mapping.keep_private();
    Ok((mapping, expected))
}

/// With standard input closed, the next descriptor is 0, which the crate takes for "none".
fn with_fd_0_occupied<R>(f: impl FnOnce() -> R) -> R {
    let occupied = if file::is_open(0) { None } else { File::open("/dev/null").ok() };
    let value = f();
    drop(occupied);
    value
}

fn crate_error(operation: &'static str, name: &str, error: ShmemError) -> Error {
    match error {
        ShmemError::MappingIdExists => Error::Exists { name: name.to_owned() },
        ShmemError::MapSizeZero => Error::InvalidSize { len: 0, why: "it would be empty" },
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => match io::Error::from_raw_os_error(errno as i32) {
            error if error.kind() == io::ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
            error => Error::system(operation, name, error),
        },
        other => Error::system(operation, name, io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_finished_between_open_and_lock_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (partial, finished) = (directory.path().join("a.partial"), directory.path().join("a"));
        std::fs::write(&partial, b"result").unwrap();
        let open = || OwnedFd::from(File::options().read(true).write(true).open(&partial).unwrap());
        let (late, later) = (open(), open());
        std::fs::rename(&partial, &finished).unwrap();
        assert!(lock_in_place(late, &partial, "late").unwrap().is_none(), "nothing has the name");
        std::fs::write(&partial, b"next").unwrap();
        assert!(lock_in_place(later, &partial, "later").unwrap().is_none(), "another has the name");
        let ours = lock_in_place(open(), &partial, "ours").unwrap().expect("still in place");
        assert!(matches!(lock_in_place(open(), &partial, "second"), Err(Error::Exists { .. })));
        drop(ours);
        assert_eq!(std::fs::read(&finished).unwrap(), b"result");
    }
}
