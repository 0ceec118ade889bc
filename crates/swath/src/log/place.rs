//! Where a ring lies, and the descriptors of a ring and of its reader's bell: what is taken on trust from whoever passed them.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use swath_platform::file;
use swath_platform::memory::AlignedMap;

use super::ring::{RING_BYTES, Ring};
use crate::memory_file::{self, Place};

/// The descriptor under which the bell of whoever reads its log is passed to a process …
pub(crate) const BELL_FD: i32 = 4;
/// … and the one of the ring, unless it is a worker's, which finds its own by its cell.
pub(crate) const RING_FD: i32 = 5;

/// The memory of a ring.
#[derive(Debug)]
pub(super) struct Sheet(AlignedMap);

impl Sheet {
    /// Zeroed memory; also the file in memory that it is, for the writer, and where other processes find that.
    pub(super) fn new() -> io::Result<(Sheet, File, Place)> {
        let (file, place) = memory_file::new("swath-log")?;
        // Every page now: no store fails later.
        file::fallocate(&file, RING_BYTES as u64)?;
        Ok((Sheet::over(&file)?, file, place))
    }

    fn over(file: &File) -> io::Result<Sheet> {
        if file.metadata()?.len() < RING_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too short for a ring"));
        }
        AlignedMap::new(file, RING_BYTES, true).map(Sheet)
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped writable and page-aligned as long as it is borrowed; only ever accessed as atomics, in every process, and
        // whoever has the file is of ours, and cuts nothing off.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<AtomicU64>(), RING_BYTES / 8) }
    }
}

/// The ring in a file of [`Sheet::new`]'s, for the writer: mapped until the process ends.
pub(crate) fn attached(file: &File) -> Result<Ring<'static>, String> {
    let sheet = Sheet::over(file).map_err(|e| format!("its log: {e}"))?;
    Ring::over(Box::leak(Box::new(sheet)).words()).ok_or_else(|| "its log is not a ring".to_owned())
}

/// The ring that this process was started with.
///
/// # Safety
/// 1. If [`RING_FD`] is open, nobody owns it: it was passed to this process, and this is called once.
pub(crate) unsafe fn inherited() -> Result<Ring<'static>, String> {
    if !file::is_open(RING_FD) {
        return Err("it has no log".to_owned());
    }
    // SAFETY: by 1.
    attached(&unsafe { File::from_raw_fd(RING_FD) })
}

/// The bell that this process was started with, and which programs that it starts have no use for.
///
/// # Safety
/// 1. If [`BELL_FD`] is open, nobody owns it but this function, which was called before.
pub(crate) unsafe fn bell() -> Result<&'static OwnedFd, String> {
    static BELL: OnceLock<OwnedFd> = OnceLock::new();
    if BELL.get().is_none() && !file::is_open(BELL_FD) {
        return Err("it has no bell".to_owned());
    }
    // SAFETY: by 1.
    let bell = BELL.get_or_init(|| unsafe { OwnedFd::from_raw_fd(BELL_FD) });
    file::set_close_on_exec(bell).map_err(|e| format!("its bell: {e}"))?;
    Ok(bell)
}
