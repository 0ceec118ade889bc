//! A worker's mappings of the coordinator's segments, kept from phase to phase. Steps A1–A4 of `README.md`.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use swath_platform::file;
use swath_sync::slots::SlotId;

use crate::backing::{Mapping, attach_shm};
use crate::control::Control;
use crate::error::{Error, Result};
use crate::limits::ALIGN_FROM_BYTES;
use crate::name::{shm_path, validate};
use crate::reference::SegmentRef;

/// How a segment is attached.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// A stray write is the end of the process that makes it.
    ReadOnly,
    /// For outputs.
    ReadWrite,
}

/// The cache, keyed by segment and mode.
#[derive(Debug)]
pub struct Attachments {
    control: &'static Control,
    slot: SlotId,
    mapped: HashMap<(u64, Mode), Mapping>,
}

impl Attachments {
    /// An empty cache. The slot's party has nothing mapped: all that was retired so far is acknowledged.
    pub fn new(control: &'static Control, slot: SlotId) -> Attachments {
        control.acknowledge(slot, control.retired());
        Attachments { control, slot, mapped: HashMap::new() }
    }

    /// The segment's first byte, mapped now unless it is already. A segment that the worker has mapped for writing is not
    /// mapped a second time for reading.
    ///
    /// # Errors
    ///
    /// Neither the name nor the coordinator's descriptor leads to the very file that the reference means.
    pub fn get(&mut self, r: &SegmentRef, mode: Mode, coordinator_pid: u32) -> Result<*mut u8> {
        let wide_enough = |mapping: &&Mapping| mapping.len() as u64 >= r.len;
        for usable in [mode, Mode::ReadWrite] {
            if let Some(mapping) = self.mapped.get(&(r.id, usable)).filter(wide_enough) {
                return Ok(mapping.as_ptr());
            }
        }
        // Absent, or grown since.
        self.mapped.remove(&(r.id, mode));
        let mapping = attach(r, mode, coordinator_pid)?;
        let pointer = mapping.as_ptr();
        self.mapped.insert((r.id, mode), mapping);
        Ok(pointer)
    }

    /// Step A4: unmaps what its owner has dropped, and says so. Before each phase: no view of an earlier one is left.
    pub fn drop_retired(&mut self) {
        let number = self.control.retired();
        if self.control.acknowledged(self.slot.index) == number {
            return;
        }
        let control = self.control;
        self.mapped.retain(|&(id, _), _| control.is_live(id));
        self.control.acknowledge(self.slot, number);
    }

    /// Unmaps the writable mapping of a segment, so that the next read-only one is all there is (`strict_inputs`).
    pub fn drop_writable_alias(&mut self, id: u64) {
        self.mapped.remove(&(id, Mode::ReadWrite));
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.mapped.clear();
    }
}

/// A1–A3: by name, and if that does not lead to the right file, through the coordinator's descriptor.
fn attach(r: &SegmentRef, mode: Mode, coordinator_pid: u32) -> Result<Mapping> {
    let len = usize::try_from(r.len)
        .map_err(|_| Error::InvalidSize { len: usize::MAX, why: "it is larger than the address space" })?;
    if r.named == 1 {
        match attach_by_name(r, mode, len) {
            Ok(mapping) => return Ok(mapping),
            Err(error @ (Error::NotFound { .. } | Error::NotOurs { .. } | Error::InvalidName { .. })) => {
                log_once(&error);
            }
            Err(error) => return Err(error),
        }
    }
    let what = format!("/proc/{coordinator_pid}/fd/{}", r.fd);
    let fd = file::open_fd_of(coordinator_pid, r.fd, mode == Mode::ReadWrite)
        .map_err(|e| Error::system("open", &what, e))?;
    map_checked(&fd, r, mode, len, &what)
}

fn attach_by_name(r: &SegmentRef, mode: Mode, len: usize) -> Result<Mapping> {
    let name = r.name().unwrap_or_default();
    validate(name)?;
    // The crate maps wherever there is room, which is no place for huge pages.
    if mode == Mode::ReadWrite && len < ALIGN_FROM_BYTES {
        let (mapping, _) = attach_shm(name, Some((r.dev, r.ino)))?;
        return if mapping.len() == len { Ok(mapping) } else { Err(shrunk(name, mapping.len() as u64, len)) };
    }
    let access = if mode == Mode::ReadWrite { file::Access::ReadWrite } else { file::Access::Read };
    let fd = file::open(&shm_path(name), access).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
        _ => Error::system("open", shm_path(name).display(), error),
    })?;
    map_checked(&fd, r, mode, len, name)
}

/// A2: the same file, and long enough: a mapping beyond its end would be SIGBUS.
fn map_checked(fd: &OwnedFd, r: &SegmentRef, mode: Mode, len: usize, what: &str) -> Result<Mapping> {
    let stat = file::stat(fd).map_err(|e| Error::system("fstat", what, e))?;
    if stat.identity() != (r.dev, r.ino) {
        let why = "its name stands for another file now".to_owned();
        return Err(Error::NotOurs { object: what.to_owned(), why });
    }
    if stat.size < r.len {
        return Err(shrunk(what, stat.size, len));
    }
    Mapping::of(fd, len, mode == Mode::ReadWrite, what)
}

fn shrunk(what: &str, found: u64, expected: usize) -> Error {
    let why = format!("it has {found} bytes instead of {expected}: somebody truncated it");
    Error::NotOurs { object: what.to_owned(), why }
}

fn log_once(error: &Error) {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    if !LOGGED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "{error}; the coordinator's descriptor is used instead (Python before 3.13 does this)"
        );
    }
}
