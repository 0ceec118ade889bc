//! Extents in a file without a name, as the layer above has them in its segments; and what they take up.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use swath_sync::Extents;

/// A sparse file that all processes of the test have open.
pub struct FileExtents {
    file: File,
    /// No byte at or beyond this one: the room is full.
    pub limit: u64,
}

impl FileExtents {
    pub fn new() -> Self {
        // SAFETY: a fresh descriptor that nobody else owns.
        let file = unsafe {
            let fd = libc::memfd_create(c"extents".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from_raw_fd(fd)
        };
        Self { file, limit: u64::MAX }
    }

    /// How many bytes are taken up at this moment.
    pub fn taken_up(&self) -> u64 {
        self.file.metadata().unwrap().blocks() * 512
    }
}

impl Extents for FileExtents {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if at + bytes.len() as u64 > self.limit {
            // As a full file system does: half of it is there.
            self.file.write_all_at(&bytes[..bytes.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, at)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn free(&self, at: u64, len: u64) -> io::Result<()> {
        let (at, len) = (at as libc::off_t, len as libc::off_t);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: our own descriptor.
        match unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
