//! Memory: advice on mappings, one mapping that keeps its address for life, and how much may still be allocated.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The size of a page.
pub fn page_size() -> usize {
    // SAFETY: sysconf takes no pointer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// The page-aligned part that covers `[ptr, ptr + len)`.
fn pages(ptr: *const u8, len: usize) -> (*mut libc::c_void, usize) {
    let offset = ptr.addr() & (page_size() - 1);
    (ptr.wrapping_sub(offset).cast_mut().cast(), len + offset)
}

fn advise(ptr: *const u8, len: usize, advice: Advice) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let (ptr, len) = pages(ptr, len);
    // SAFETY: none of the advices passed by this file changes what a load or store of this process sees or frees
    // memory; a range that is not mapped is an error (ENOMEM), not a fault.
    Ok(unsafe { rustix::mm::madvise(ptr, len, advice) }?)
}

/// Faults all pages in for writing, without changing them. Where no page can be had: EFAULT or ENOMEM, never a signal.
pub fn populate_write(ptr: *const u8, len: usize) -> io::Result<()> {
    advise(ptr, len, Advice::LinuxPopulateWrite)
}

/// Faults all pages in for reading.
pub fn populate_read(ptr: *const u8, len: usize) -> io::Result<()> {
    advise(ptr, len, Advice::LinuxPopulateRead)
}

/// Keeps the mapping out of forked children and out of core dumps.
pub fn dont_fork_dump(ptr: *const u8, len: usize) -> io::Result<()> {
    advise(ptr, len, Advice::LinuxDontFork)?;
    advise(ptr, len, Advice::LinuxDontDump)
}

/// Takes the half of [`dont_fork_dump`] back that concerns forks.
pub fn do_fork(ptr: *const u8, len: usize) -> io::Result<()> {
    advise(ptr, len, Advice::LinuxDoFork)
}

/// Asks for huge pages now (works on shared memory even where they are off by default). Best effort.
pub fn collapse(ptr: *const u8, len: usize) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let (ptr, len) = pages(ptr, len);
    // SAFETY: collapsing moves content to other physical pages; what this process sees at its addresses stays the same.
    let done = unsafe { libc::madvise(ptr, len, libc::MADV_COLLAPSE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reserves an address range: anonymous zeros, taken only when touched. Never unmapped.
pub fn reserve(len: usize) -> io::Result<*mut u8> {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a null address lets the kernel choose a free range, so no existing mapping is touched.
    let ptr = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)
    }?;
    Ok(ptr.cast())
}

/// Maps the file, shared and writable, over a range from [`reserve`], at one stroke.
///
/// # Safety
///
/// 1. `[ptr, ptr + len)` came from [`reserve`] with the same `len` and is page-aligned.
/// 2. References into the range are only to types for which every bit pattern is valid and that allow concurrent change
///    (atomics), for their values may change here.
/// 3. The file has at least `len` bytes and nobody truncates it.
pub unsafe fn map_over(ptr: *mut u8, len: usize, fd: &impl AsFd) -> io::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: replaces only our own reservation (1); what that means for references is the caller's 2.
    unsafe { rustix::mm::mmap(ptr.cast(), len, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0) }?;
    Ok(())
}

/// Puts private zeros in the place of what [`map_over`] mapped: stragglers that still look see nothing and hurt nobody.
///
/// # Safety
///
/// 1 and 2 of [`map_over`].
pub unsafe fn map_zeros_over(ptr: *mut u8, len: usize) -> io::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: as in `map_over`.
    unsafe { rustix::mm::mmap_anonymous(ptr.cast(), len, protection, flags) }?;
    Ok(())
}

/// Bytes of a huge page, and what a mapping's address must be a multiple of to have any.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A shared mapping of a file that begins at a multiple of [`HUGE_PAGE_BYTES`]. Other processes may change what is there;
/// unmapped on drop.
#[derive(Debug)]
pub struct AlignedMap {
    ptr: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; this type hands out its address and never looks inside.
unsafe impl Send for AlignedMap {}
// SAFETY: as above; no method changes anything through `&self` but what is on the disk.
unsafe impl Sync for AlignedMap {}

impl AlignedMap {
    /// Maps the first `len` bytes of the file, for reading or for both.
    pub fn new(fd: &impl AsFd, len: usize, write: bool) -> io::Result<AlignedMap> {
        let pages = len.max(1).checked_next_multiple_of(page_size());
        let span =
            pages.and_then(|pages| pages.checked_add(HUGE_PAGE_BYTES)).ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a null address lets the kernel choose a free range, so no existing mapping is touched.
        let range =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), span, ProtFlags::empty(), flags) }?;
        let range: *mut u8 = range.cast();
        let before = range.addr().next_multiple_of(HUGE_PAGE_BYTES) - range.addr();
        let (ptr, used) = (range.wrapping_add(before), span - HUGE_PAGE_BYTES);
        let protection = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: replaces part of the range that was just reserved, which nobody else knows.
        let mapped = unsafe {
            rustix::mm::mmap(ptr.cast(), len, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0)
        };
        if let Err(error) = mapped {
            unreserve(range, span);
            return Err(error.into());
        }
        unreserve(range, before);
        unreserve(ptr.wrapping_add(used), HUGE_PAGE_BYTES - before);
        Ok(AlignedMap { ptr, len })
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes: never, the kernel refuses to map none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Waits until the bytes are on the disk.
    pub fn flush(&self) -> io::Result<()> {
        // SAFETY: the range is mapped as long as `self` lives; writing it back changes nothing in it.
        Ok(unsafe { rustix::mm::msync(self.ptr.cast(), self.len, rustix::mm::MsyncFlags::SYNC) }?)
    }
}

impl Drop for AlignedMap {
    fn drop(&mut self) {
        unreserve(self.ptr, self.len);
    }
}

/// Gives back a range that [`AlignedMap`] owns or has just reserved. It cannot fail for such a range but for want of
/// kernel memory; then it stays mapped.
fn unreserve(ptr: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: only called in this file, with ranges that belong to one `AlignedMap` alone.
        let _ = unsafe { rustix::mm::munmap(ptr.cast(), len) };
    }
}

/// How much more memory this process may use before somebody is killed for it, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Headroom {
    /// Bytes that can still be had: the limit, less what is used, plus file cache that the kernel would give up first.
    pub available: u64,
    /// The limit in bytes.
    pub limit: u64,
    /// The cgroup whose limit is the tightest; `None` when it is the machine's memory itself.
    pub cgroup: Option<PathBuf>,
}

/// The tightest of: every memory cgroup (version 1 and 2) from ours up to the root, and the machine's available memory
/// and swap. `None` when nothing of it can be read.
pub fn memory_headroom() -> Option<Headroom> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_headroom(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let chain = cgroup_directories(&groups, &mounts()).into_iter().filter_map(|dir| cgroup_headroom(&dir));
    machine.into_iter().chain(chain).min_by_key(|headroom| headroom.available)
}

/// `MemAvailable + SwapFree`, in bytes.
fn machine_headroom(meminfo: &str) -> Option<Headroom> {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let available = field("MemAvailable")?.saturating_add(field("SwapFree").unwrap_or(0));
    Some(Headroom { available, limit: field("MemTotal").unwrap_or(available), cgroup: None })
}

/// Where a cgroup hierarchy is mounted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    v2: bool,
    /// Which part of the hierarchy the mount shows.
    root: String,
    point: String,
}

fn mounts() -> Vec<Mount> {
    fs::read_to_string("/proc/self/mountinfo").map(|text| parse_mounts(&text)).unwrap_or_default()
}

/// The memory hierarchies of `/proc/self/mountinfo`.
fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let parse = |line: &str| -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?.to_owned(), left.next()?.to_owned());
        let mut right = right.split(' ');
        let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
        match kind {
            "cgroup2" => Some(Mount { v2: true, root, point }),
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Mount { v2: false, root, point })
            }
            _ => None,
        }
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// Our memory cgroups' directories, from our own up to the mount point.
fn cgroup_directories(groups: &str, mounts: &[Mount]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let v2 = controllers.is_empty();
        if !v2 && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        for mount in mounts.iter().filter(|mount| mount.v2 == v2) {
            // In a container the mount often shows only our part: then its point stands for our own group.
            let below = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or("");
            let point = Path::new(&mount.point);
            let own = point.join(below.trim_start_matches('/'));
            found.extend(own.ancestors().take_while(|dir| dir.starts_with(point)).map(Path::to_path_buf));
        }
    }
    found
}

fn cgroup_headroom(dir: &Path) -> Option<Headroom> {
    let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max" does not parse as a number: no limit here.
    let (limit, usage) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?),
    };
    if limit >= i64::MAX as u64 / 2 {
        return None;
    }
    let cache = fs::read_to_string(dir.join("memory.stat")).map_or(0, |text| file_cache(&text));
    let available = limit.saturating_sub(usage.saturating_sub(cache));
    Some(Headroom { available, limit, cgroup: Some(dir.to_path_buf()) })
}

/// File pages in a `memory.stat`, which are given up before anything is killed. (Shared memory is not among them.)
fn file_cache(stat: &str) -> u64 {
    let field = |name: &str| {
        stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    let sum = |prefix: &str| {
        Some(field(&format!("{prefix}active_file"))? + field(&format!("{prefix}inactive_file"))?)
    };
    sum("total_").or_else(|| sum("")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_a_v1_group() {
        let mounts = parse_mounts(
            "30 25 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n\
             31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(mounts.len(), 2);
        let found = cgroup_directories("4:memory:/a/b\n1:cpu:/\n", &mounts);
        let expected = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_mount_point() {
        let mounts = parse_mounts("30 25 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
        let found = cgroup_directories("0::/docker/abc\n", &mounts);
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup")]);
        // With a cgroup namespace the path is relative to a root that the mount does not show.
        assert_eq!(cgroup_directories("0::/\n", &mounts), [PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn cache_counts_as_free() {
        assert_eq!(file_cache("inactive_file 10\nactive_file 5\n"), 15);
        assert_eq!(
            file_cache("inactive_file 1\nactive_file 1\ntotal_inactive_file 30\ntotal_active_file 4\n"),
            34
        );
        assert_eq!(file_cache(""), 0);
    }

    #[test]
    fn the_machine_has_memory() {
        let headroom = memory_headroom().unwrap();
        assert!(headroom.available > 0 && headroom.available <= headroom.limit.max(headroom.available));
        let text = "MemTotal: 100 kB\nMemAvailable:   60 kB\nSwapFree: 4 kB\n";
        assert_eq!(machine_headroom(text).unwrap().available, 64 * 1024);
    }

    #[test]
    fn an_aligned_map_is_the_file_and_nothing_else() {
        let file = crate::file::memfd("aligned").unwrap();
        for len in [1, 4096, HUGE_PAGE_BYTES, 2 * HUGE_PAGE_BYTES + 5] {
            crate::file::fallocate(&file, len as u64).unwrap();
            crate::file::write_at(&file, b"x", len as u64 - 1).unwrap();
            for write in [false, true] {
                let map = AlignedMap::new(&file, len, write).unwrap();
                assert!(map.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES) && map.len() == len);
                // SAFETY: mapped for `len` bytes, read as a plain byte.
                assert_eq!(unsafe { map.as_ptr().add(len - 1).read_volatile() }, b'x');
                let beyond = map.as_ptr().wrapping_add(len.next_multiple_of(page_size()));
                let maps = fs::read_to_string("/proc/self/maps").unwrap();
                let line = maps.lines().find(|line| line.starts_with(&format!("{:x}-", map.as_ptr().addr())));
                assert!(line.is_some_and(|line| line.contains(&format!("-{:x} ", beyond.addr()))), "{maps}");
                map.flush().unwrap();
            }
        }
    }

    #[test]
    fn a_reservation_keeps_its_address() {
        let len = page_size();
        let at = reserve(len).unwrap();
        let file = crate::file::memfd("fixed").unwrap();
        crate::file::fallocate(&file, len as u64).unwrap();
        crate::file::write_at(&file, b"x", 0).unwrap();
        // SAFETY: `at` came from `reserve(len)`; no references into it exist; the file has `len` bytes.
        unsafe { map_over(at, len, &file) }.unwrap();
        populate_write(at, len).unwrap();
        dont_fork_dump(at, len).unwrap();
        // SAFETY: mapped above, read as a plain byte.
        assert_eq!(unsafe { at.read_volatile() }, b'x');
        // SAFETY: as above.
        unsafe { map_zeros_over(at, len) }.unwrap();
        // SAFETY: mapped above.
        assert_eq!(unsafe { at.read_volatile() }, 0);
    }
}
