//! Whether there is room, asked before anything is made: a full mount must be an error, never a SIGBUS later, and a full
//! cgroup an error, never a kill.

use std::path::{Path, PathBuf};

use swath_platform::{file, memory, process};

use crate::error::{Error, Result};
use crate::limits::HEADROOM_ASK_BYTES;
use crate::name::SHM_DIR;

/// Where the bytes are to be.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// `/dev/shm`.
    Shm,
    /// A memfd: no mount, only memory.
    Anonymous,
    /// This file on a disk.
    Disk(PathBuf),
}

/// Checks the memory (cgroups from ours to the root, then the machine) and the free space of the mount.
pub(crate) fn check(place: &Place, needed: u64, pinned: u64) -> Result<()> {
    check_file_size(needed)?;
    match place {
        Place::Shm => {
            check_memory(needed, pinned)?;
            check_space(Path::new(SHM_DIR), needed, place, pinned)
        }
        Place::Anonymous => check_memory(needed, pinned),
        Place::Disk(path) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            check_space(directory.unwrap_or(Path::new(".")), needed, place, pinned)
        }
    }
}

/// What it means that a reservation ended with ENOSPC although the check had passed: somebody was faster.
pub(crate) fn out_of_space(place: &Place, needed: u64, pinned: u64) -> Error {
    let directory = match place {
        Place::Disk(path) => path.parent().unwrap_or(Path::new(".")),
        _ => Path::new(SHM_DIR),
    };
    no_room(place, needed, file::space(directory).map_or(0, |space| space.free), pinned)
}

fn no_room(place: &Place, needed: u64, free: u64, pinned: u64) -> Error {
    match place {
        Place::Shm => Error::NoRoom { needed, free, mount: SHM_DIR.into(), pinned },
        Place::Anonymous => {
            Error::NoMemory { needed, available: free, limit: free, whose: "the kernel".to_owned(), pinned }
        }
        Place::Disk(path) => Error::DiskFull { needed, free, path: path.clone() },
    }
}

fn check_space(directory: &Path, needed: u64, place: &Place, pinned: u64) -> Result<()> {
    let space = file::space(directory).map_err(|e| Error::system("statvfs", directory.display(), e))?;
    // Whole pages are taken.
    let page = memory::page_size() as u64;
    if needed.div_ceil(page).saturating_mul(page) <= space.free {
        return Ok(());
    }
    Err(no_room(place, needed, space.free, pinned))
}

fn check_memory(needed: u64, pinned: u64) -> Result<()> {
    if needed < HEADROOM_ASK_BYTES {
        return Ok(());
    }
    let Some(headroom) = memory::memory_headroom() else { return Ok(()) };
    if needed <= headroom.available {
        return Ok(());
    }
    let whose = headroom.cgroup.map_or("the machine".to_owned(), |dir| dir.display().to_string());
    Err(Error::NoMemory { needed, available: headroom.available, limit: headroom.limit, whose, pinned })
}

/// Beyond RLIMIT_FSIZE the kernel would send SIGXFSZ.
pub(crate) fn check_file_size(needed: u64) -> Result<()> {
    match process::file_size_limit() {
        Some(limit) if needed > limit => Err(Error::FileTooLarge { needed, limit }),
        _ => Ok(()),
    }
}
