//! The lock file of this process's own session: steps L1, L2 and L4 of `README.md`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use swath_platform::{file, process};

use crate::control::{self, Control};
use crate::error::{Error, Result};
use crate::limits::ENTRIES_AT_FIRST;
use crate::name::{SHM_DIR, SessionId, shm_path};

/// Locked, with its room reserved, and without a name until it is to have one. Dropping it removes the name.
pub(crate) struct LockedFile {
    pub(crate) id: SessionId,
    path: PathBuf,
    pub(crate) lock: OwnedFd,
    identity: (u64, u64),
    /// Whether it has its name, or the number of the error.
    named: OnceLock<std::result::Result<(), i32>>,
    pid: u32,
}

impl LockedFile {
    /// L1, L2. Nobody else can know of it yet, so nobody takes it for a dead session's.
    pub(crate) fn claim() -> Result<LockedFile> {
        let id = SessionId::random()?;
        let path = shm_path(&id.lock_name(process::geteuid()));
        let failed = |operation, error| Error::system(operation, path.display(), error);
        let lock = file::unnamed_in(Path::new(SHM_DIR)).map_err(|e| failed("create", e))?;
        if !file::is_memory(&lock).map_err(|e| failed("statfs", e))? {
            let why = format!("{SHM_DIR} is not on tmpfs");
            return Err(Error::NotOurs { object: path.display().to_string(), why });
        }
        let identity = file::stat(&lock).map_err(|e| failed("fstat", e))?.identity();
        file::ofd_try_lock(&lock).map_err(|e| failed("lock", e))?;
        // The file has its length at once.
        control::reserve(&lock, &[Control::behind_entries(), 0..Control::entries(0..ENTRIES_AT_FIRST).end])?;
        Ok(LockedFile { id, path, lock, identity, named: OnceLock::new(), pid: process::getpid() })
    }

    /// L4: gives it its name, once.
    pub(crate) fn name(&self) -> Result<()> {
        let link = || file::link(&self.lock, &self.path).map_err(|e| e.raw_os_error().unwrap_or_default());
        let named = *self.named.get_or_init(link);
        named.map_err(|number| {
            Error::system("link", self.path.display(), std::io::Error::from_raw_os_error(number))
        })
    }

    /// Removes the name, if it is still ours.
    pub(crate) fn unlink(&self) {
        if let Err(error) = file::unlink_if(&self.path, self.identity) {
            tracing::warn!("the lock file {} stays: {error}", self.path.display());
        }
    }
}

impl std::fmt::Debug for LockedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.pid == process::getpid() {
            self.unlink();
        }
    }
}
