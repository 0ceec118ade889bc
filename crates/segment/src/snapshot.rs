//! A control segment seen from outside: read by `pread` into private memory, so a file that is truncated or scribbled
//! upon meanwhile cannot hurt the reader. What it says is an allegation until checked here.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use swath_platform::{file, process};

use crate::error::{Error, Result};
use crate::layout::{ENTRY_WORDS, EntryImage, EntryState, HEADER_BYTES, HeaderImage, MAGIC, NAMES_VERSION};
use crate::name::{SHM_DIR, SessionId, parse_lock_name, shm_path};

/// A lock file of our own user, opened.
#[derive(Debug)]
pub(crate) struct LockFile {
    pub(crate) id: SessionId,
    pub(crate) path: PathBuf,
    pub(crate) fd: OwnedFd,
    pub(crate) stat: file::Stat,
}

/// The ids of all lock files in `/dev/shm`, whoever owns them.
pub(crate) fn session_ids() -> Result<BTreeSet<(String, String)>> {
    let entries = std::fs::read_dir(SHM_DIR).map_err(|e| Error::system("list", SHM_DIR, e))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| Some((parse_lock_name(&name)?.as_str().to_owned(), name))).collect())
}

impl LockFile {
    /// Step D1: opens a lock file if it is a regular file of ours, without following links. `None`: not ours, or gone.
    pub(crate) fn open(name: &str, access: file::Access) -> Option<LockFile> {
        let id = parse_lock_name(name)?;
        let path = shm_path(name);
        let fd = file::open(&path, access).ok()?;
        let stat = file::stat(&fd).ok()?;
        let ours = stat.is_regular() && stat.uid == process::geteuid() && stat.mode & 0o077 == 0;
        ours.then_some(LockFile { id, path, fd, stat })
    }

    /// Whether the name still stands for the file that we have open.
    pub(crate) fn is_in_place(&self) -> bool {
        file::stat_path(&self.path).is_ok_and(|found| found.identity() == self.stat.identity())
    }

    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        Snapshot::read(&self.fd)
    }
}

/// Header and live entries of a control segment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) header: HeaderImage,
    /// Those in use. `None`: its entries have a form that this build does not know.
    pub(crate) entries: Option<Vec<EntryImage>>,
}

impl Snapshot {
    /// `None`: not a finished control segment.
    pub(crate) fn read(fd: &OwnedFd) -> Option<Snapshot> {
        let header = read_header(fd)?;
        let entries = (header.names_version == NAMES_VERSION).then(|| read_entries(fd, &header));
        Some(Snapshot { header, entries })
    }

    /// The entries in use, or none when they cannot be read.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &EntryImage> {
        self.entries.iter().flatten()
    }
}

/// The header, if the file begins with our magic.
pub(crate) fn read_header(fd: &OwnedFd) -> Option<HeaderImage> {
    let mut bytes = [0; HEADER_BYTES];
    let count = file::read_at(fd, &mut bytes, 0).ok()?;
    if count < HEADER_BYTES {
        return None;
    }
    let header: HeaderImage = bytemuck::pod_read_unaligned(&bytes[..size_of::<HeaderImage>()]);
    (header.magic == MAGIC).then_some(header)
}

/// Some at a time: most are free, and whoever tidies up should need little memory for it.
fn read_entries(fd: &OwnedFd, header: &HeaderImage) -> Vec<EntryImage> {
    const STRIDE: usize = ENTRY_WORDS * 8;
    const AT_A_TIME: usize = 128;
    let mut used = Vec::new();
    if header.names_stride as usize != STRIDE {
        // Not version 1.
        return used;
    }
    // Another layout version may have more entries, but not absurdly many.
    let count = (header.names_count as usize).min(1 << 16);
    let mut bytes = [0; AT_A_TIME * STRIDE];
    for first in (0..count).step_by(AT_A_TIME) {
        let wanted = AT_A_TIME.min(count - first) * STRIDE;
        let offset = header.names_offset.saturating_add((first * STRIDE) as u64);
        let read = file::read_at(fd, &mut bytes[..wanted], offset).unwrap_or(0);
        let entries = bytes[..read].chunks_exact(STRIDE).map(bytemuck::pod_read_unaligned::<EntryImage>);
        used.extend(entries.filter(|entry| !matches!(entry.state(), EntryState::Free | EntryState::Corrupt)));
        if read < wanted {
            break;
        }
    }
    used
}
