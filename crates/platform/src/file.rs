//! Files: the calls behind segments, lock files and reports, each retried on EINTR.

use std::ffi::CString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Who and what a file is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The device.
    pub dev: u64,
    /// The inode: with the device, the file's identity while somebody holds it open.
    pub ino: u64,
    /// Logical size in bytes.
    pub size: u64,
    /// The owner.
    pub uid: u32,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Number of names.
    pub nlink: u64,
}

impl Stat {
    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// Whether it is among the mappings that a process's `maps` lists: proc_pid_maps(5). By number: a file that was made without
    /// a name goes without one there.
    pub fn is_in_maps(&self, maps: &str) -> bool {
        let (major, minor) = (libc::major(self.dev), libc::minor(self.dev));
        maps.contains(&format!(" {major:02x}:{minor:02x} {} ", self.ino))
    }

    /// (device, inode).
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }
}

/// Room on a mount, in bytes; [`u64::MAX`] where the mount has no limit of its own.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    /// The whole size.
    pub total: u64,
}

/// How to open a file.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

// The width of the fields differs between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn convert(stat: rustix::fs::Stat) -> Stat {
    Stat {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        size: stat.st_size as u64,
        uid: stat.st_uid as u32,
        mode: stat.st_mode as u32,
        nlink: stat.st_nlink as u64,
    }
}

/// Opens without ever following a symbolic link in the last component; close-on-exec; a FIFO does not block.
pub fn open(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let flags = match access {
        Access::Read => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    retry(|| rustix::fs::open(path, flags, Mode::empty()))
}

/// A new file in `directory` that has no name yet, mode 0600: open(2), `O_TMPFILE`. Close-on-exec.
pub fn unnamed_in(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    retry(|| rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR))
}

/// Gives a name to a file of [`unnamed_in`]; one that is taken is an error.
pub fn link(fd: &impl AsFd, path: &Path) -> io::Result<()> {
    let file = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    retry(|| rustix::fs::linkat(CWD, file.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW))
}

/// Opens what process `pid` has open under the number `fd`, as a new open file description.
pub fn open_fd_of(pid: u32, fd: i32, write: bool) -> io::Result<OwnedFd> {
    let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let path = format!("/proc/{pid}/fd/{fd}");
    retry(|| rustix::fs::open(path.as_str(), flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()))
}

/// A second open file description of the same file: locks held through the first are not held through it.
pub fn reopen(fd: &impl AsFd, write: bool) -> io::Result<OwnedFd> {
    open_fd_of(crate::process::getpid(), fd.as_fd().as_raw_fd(), write)
}

/// Anonymous memory with a descriptor; `label` is what `/proc` shows.
pub fn memfd(label: &str) -> io::Result<OwnedFd> {
    let kept: Vec<u8> = label.bytes().filter(|&byte| byte != 0).take(200).collect();
    let label = CString::new(kept).unwrap_or_default();
    let base = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match retry(|| rustix::fs::memfd_create(&label, base | MemfdFlags::NOEXEC_SEAL)) {
        // Before 6.3 the kernel does not know NOEXEC_SEAL.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            retry(|| rustix::fs::memfd_create(&label, base))
        }
        other => other,
    }
}

/// Reserves room for the first `len` bytes, so that no later store can fail for want of it. Signals are blocked
/// meanwhile: an interrupted reservation would start again from the beginning.
pub fn fallocate(fd: &impl AsFd, len: u64) -> io::Result<()> {
    fallocate_range(fd, 0..len)
}

/// The same for some bytes; the file is as long as the last of them at least.
pub fn fallocate_range(fd: &impl AsFd, bytes: Range<u64>) -> io::Result<()> {
    let _blocked = crate::process::SignalsBlocked::new();
    let (start, len) = (bytes.start, bytes.end - bytes.start);
    retry(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), start, len))
}

/// Sets the logical size; reserves nothing.
pub fn set_len(fd: &impl AsFd, len: u64) -> io::Result<()> {
    retry(|| rustix::fs::ftruncate(fd, len))
}

/// Who and what the open file is.
pub fn stat(fd: &impl AsFd) -> io::Result<Stat> {
    Ok(convert(rustix::fs::fstat(fd)?))
}

/// Who and what the name stands for; a symbolic link is reported as itself.
pub fn stat_path(path: &Path) -> io::Result<Stat> {
    Ok(convert(rustix::fs::lstat(path)?))
}

/// Whether the open file lives on tmpfs (or hugetlbfs): memory, not a disk.
pub fn is_memory(fd: &impl AsFd) -> io::Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const HUGETLBFS: u64 = 0x9584_58f6;
    let kind = rustix::fs::fstatfs(fd)?.f_type as u64;
    Ok(kind == TMPFS || kind == HUGETLBFS)
}

/// Where [`ofd_try_lock`]'s range ends and the bytes of [`ofd_try_lock_byte`] begin: beyond any file's end.
const BYTES_FROM: i64 = 1 << 62;

/// A lock on `len` bytes from `start`.
fn range_lock(kind: libc::c_int, start: i64, len: i64) -> libc::flock {
    // SAFETY: `flock` is plain data, for which zero is valid; OFD locks demand l_pid = 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = len;
    lock
}

fn try_lock(fd: &impl AsFd, lock: libc::flock) -> io::Result<bool> {
    // SAFETY: the descriptor is borrowed for the call; the structure is a live local that the kernel only reads.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if done == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

fn is_locked(fd: &impl AsFd, mut lock: libc::flock) -> io::Result<bool> {
    // SAFETY: the descriptor is borrowed for the call; the structure is a live local that the kernel fills.
    let done = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if done == 0 { Ok(i32::from(lock.l_type) != libc::F_UNLCK) } else { Err(io::Error::last_os_error()) }
}

/// Takes the exclusive lock of this open file description, without waiting; false when another one holds it. It is
/// released when the last duplicate of the descriptor is closed, in whatever process.
pub fn ofd_try_lock(fd: &impl AsFd) -> io::Result<bool> {
    try_lock(fd, range_lock(libc::F_WRLCK, 0, BYTES_FROM))
}

/// Whether *another* open file description holds a lock; works on a read-only descriptor.
pub fn ofd_is_locked(fd: &impl AsFd) -> io::Result<bool> {
    is_locked(fd, range_lock(libc::F_WRLCK, 0, BYTES_FROM))
}

/// As [`ofd_try_lock`], one of as many locks as wanted: they are in nobody's way but that of the same `number`.
pub fn ofd_try_lock_byte(fd: &impl AsFd, number: u32) -> io::Result<bool> {
    try_lock(fd, range_lock(libc::F_WRLCK, BYTES_FROM + i64::from(number), 1))
}

/// Gives that lock back.
pub fn ofd_unlock_byte(fd: &impl AsFd, number: u32) -> io::Result<()> {
    try_lock(fd, range_lock(libc::F_UNLCK, BYTES_FROM + i64::from(number), 1)).map(|_| ())
}

/// Whether *another* open file description holds that lock.
pub fn ofd_byte_is_locked(fd: &impl AsFd, number: u32) -> io::Result<bool> {
    is_locked(fd, range_lock(libc::F_WRLCK, BYTES_FROM + i64::from(number), 1))
}

/// Where the byte of readers is: beyond those of [`ofd_try_lock_byte`].
const READERS_AT: i64 = BYTES_FROM + (1 << 32);

/// Marks the file as being read through this open file description; false while another one keeps readers out. A mapping keeps the
/// open file description, and so the mark, after the descriptor is closed: it goes with the mapping, or with its process.
pub fn ofd_try_read(fd: &impl AsFd) -> io::Result<bool> {
    try_lock(fd, range_lock(libc::F_RDLCK, READERS_AT, 1))
}

/// Keeps readers out for as long as this open file description is there; false while another one is marked as reading. The
/// descriptor must be open for writing.
pub fn ofd_try_keep_readers_out(fd: &impl AsFd) -> io::Result<bool> {
    try_lock(fd, range_lock(libc::F_WRLCK, READERS_AT, 1))
}

/// Lets readers in again.
pub fn ofd_let_readers_in(fd: &impl AsFd) -> io::Result<()> {
    try_lock(fd, range_lock(libc::F_UNLCK, READERS_AT, 1)).map(|_| ())
}

/// Room on the mount that `path` lies on.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    if stat.f_blocks == 0 {
        return Ok(Space { free: u64::MAX, total: u64::MAX });
    }
    Ok(Space {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

/// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
pub fn read_at(fd: &impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let part = &mut buffer[done..];
        let count = retry(|| rustix::io::pread(fd, &mut *part, offset + done as u64))?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`.
pub fn write_at(fd: &impl AsFd, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let count = retry(|| rustix::io::pwrite(fd, &bytes[done..], offset + done as u64))?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        done += count;
    }
    Ok(())
}

/// Gives the pages inside the range back; they read as zeros afterwards, and the file keeps its length.
pub fn punch_hole(fd: &impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry(|| rustix::fs::fallocate(fd, how, offset, len))
}

/// Waits until the file's content and size are on the disk.
pub fn sync(fd: &impl AsFd) -> io::Result<()> {
    retry(|| rustix::fs::fsync(fd))
}

/// Waits until the directory's names are on the disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let fd = retry(|| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    })?;
    sync(&fd)
}

/// Renames; the target is replaced at one stroke.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::rename(from, to)?)
}

/// Renames only if the target does not exist (EEXIST otherwise), at one stroke where the file system can.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE) {
        // No renameat2 here (old kernel, some sandboxes): a second name, then without the first.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::link(from, to)?;
            Ok(rustix::fs::unlink(from)?)
        }
        other => Ok(other?),
    }
}

/// Removes a name.
pub fn unlink(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::unlink(path)?)
}

/// Removes the name only if it still stands for this file; whether it did.
pub fn unlink_if(path: &Path, identity: (u64, u64)) -> io::Result<bool> {
    match stat_path(path) {
        Ok(found) if found.identity() == identity => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    match unlink(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the number stands for an open descriptor in this process.
pub fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD takes no pointer; a closed number gives EBADF.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Keeps a descriptor out of programs that this process starts.
pub fn set_close_on_exec(fd: &impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?)
}

/// Random bytes from the kernel.
pub fn random(buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let part = &mut buffer[done..];
        done += retry(|| rustix::rand::getrandom(&mut *part, rustix::rand::GetRandomFlags::empty()))?;
    }
    Ok(())
}

/// Something that can be waited on and rung from any thread.
pub fn eventfd() -> io::Result<OwnedFd> {
    let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
    Ok(rustix::event::eventfd(0, flags)?)
}

/// Rings an [`eventfd`].
pub fn ring(eventfd: &impl AsFd) {
    // A full counter is rung already.
    let _ = retry(|| rustix::io::write(eventfd, &1u64.to_ne_bytes()));
}

/// Makes an [`eventfd`] silent again.
pub fn unring(eventfd: &impl AsFd) {
    let _ = retry(|| rustix::io::read(eventfd, &mut [0u8; 8]));
}

/// What [`poll_readable`] found out about one descriptor.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Nothing.
    Silent,
    /// Readable, hung up or in error: whoever looks will not wait.
    Ready,
    /// Not an open descriptor.
    Closed,
}

/// Waits until one of the descriptors is ready, or the timeout is over, or a signal came.
pub fn poll_readable(fds: &[RawFd], timeout: Option<Duration>) -> io::Result<Vec<Readiness>> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // Rounded up: a timer that wakes too early would spin.
    let millis =
        timeout.map_or(-1, |t| t.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int);
    // SAFETY: the array is live and exclusively ours for the call, its length is passed; a number that is not open is
    // reported in `revents`.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    if count < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let judge = |fd: &libc::pollfd| match fd.revents {
        0 => Readiness::Silent,
        events if events & libc::POLLNVAL != 0 => Readiness::Closed,
        _ => Readiness::Ready,
    };
    Ok(polled.iter().map(judge).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_belongs_to_the_description() {
        let file = memfd("lock-test").unwrap();
        let second = reopen(&file, true).unwrap();
        assert!(ofd_try_lock(&file).unwrap());
        assert!(!ofd_is_locked(&file).unwrap(), "one's own lock is not in one's way");
        assert!(ofd_is_locked(&second).unwrap());
        assert!(!ofd_try_lock(&second).unwrap());
        let duplicate = file.try_clone().unwrap();
        drop(file);
        assert!(!ofd_try_lock(&second).unwrap(), "held by the duplicate");
        drop(duplicate);
        assert!(ofd_try_lock(&second).unwrap());
        let third = reopen(&second, true).unwrap();
        assert!(ofd_try_lock_byte(&third, 7).unwrap(), "beside the lock of the file");
        assert!(ofd_byte_is_locked(&second, 7).unwrap() && !ofd_byte_is_locked(&second, 8).unwrap());
        assert!(!ofd_try_lock_byte(&second, 7).unwrap() && ofd_try_lock_byte(&second, 8).unwrap());
        ofd_unlock_byte(&third, 7).unwrap();
        assert!(ofd_try_lock_byte(&second, 7).unwrap());
    }

    #[test]
    fn readers_and_who_keeps_them_out_exclude_each_other() {
        let file = memfd("readers").unwrap();
        set_len(&file, 4096).unwrap();
        let reader = reopen(&file, false).unwrap();
        assert!(ofd_try_read(&reader).unwrap());
        assert!(!ofd_try_keep_readers_out(&file).unwrap());
        assert!(ofd_try_lock(&file).unwrap(), "not in the way of the lock of the file");
        let map = crate::memory::AlignedMap::new(&reader, 4096, false).unwrap();
        drop(reader);
        assert!(!ofd_try_keep_readers_out(&file).unwrap(), "the mapping alone keeps the mark");
        drop(map);
        for _ in 0..2 {
            assert!(ofd_try_keep_readers_out(&file).unwrap());
        }
        let reader = reopen(&file, false).unwrap();
        assert!(!ofd_try_read(&reader).unwrap());
        ofd_let_readers_in(&file).unwrap();
        assert!(ofd_try_read(&reader).unwrap());
    }

    #[test]
    fn bytes_come_back() {
        let file = memfd("bytes\0with a nul").unwrap();
        fallocate(&file, 8192).unwrap();
        assert_eq!(stat(&file).unwrap().size, 8192);
        assert!(is_memory(&file).unwrap());
        write_at(&file, b"swath", 8190).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read_at(&file, &mut buffer, 8188).unwrap(), 7);
        assert_eq!(&buffer[..7], b"\0\0swath");
    }

    #[test]
    fn names_are_given_once_links_not_followed_and_nothing_replaced() {
        let dir = std::env::temp_dir().join(format!("swath-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (target, link) = (dir.join("target"), dir.join("link"));
        let file = unnamed_in(&dir).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        super::link(&file, &target).unwrap();
        assert_eq!(super::link(&file, &target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let found = open(&target, Access::Read).unwrap();
        assert_eq!(stat(&found).unwrap(), stat(&file).unwrap());
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(open(&link, Access::Read).is_err());
        assert_eq!(rename_new(&target, &link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!unlink_if(&link, stat(&file).unwrap().identity()).unwrap(), "a link is another file");
        assert!(unlink_if(&target, stat(&file).unwrap().identity()).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
