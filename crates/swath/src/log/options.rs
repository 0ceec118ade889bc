//! What the builders of pools and processes say about logs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tracing_core::LevelFilter;

use super::ring::PATH_BYTES_MAX;
use crate::error::{ErrorKind, Result};
use crate::pool::PoolBuilder;

/// How a pool's workers log, or a process of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    level: Option<LevelFilter>,
    directory: Option<PathBuf>,
}

impl PoolBuilder {
    /// Up to which level workers write what they say by `tracing`. Without it: as much as the program's subscriber asks for by its
    /// maximum level, also when that changes; nothing without a subscriber, or up to `INFO` for the files of
    /// [`PoolBuilder::log_to_files`]. What is not written costs a worker nothing.
    pub fn log_level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.log.set_level(level.into());
        self
    }

    /// Every worker also appends what it says to a file of its own in `directory`, which is made if need be: `NAME-PID.log`, NAME being
    /// that of the program's file. A line per event, with its time in UTC; nothing is dropped, at the cost of a system call per event.
    /// Without effect in an inline pool, whose kernels speak to the program's subscriber themselves.
    pub fn log_to_files(mut self, directory: impl Into<PathBuf>) -> Self {
        self.log.set_directory(directory.into());
        self
    }
}

impl Options {
    pub(crate) fn set_level(&mut self, level: LevelFilter) {
        self.level = Some(level);
    }

    pub(crate) fn set_directory(&mut self, directory: PathBuf) {
        self.directory = Some(directory);
    }

    /// The level that is wanted now.
    pub(super) fn level(&self) -> LevelFilter {
        self.level.unwrap_or_else(|| match LevelFilter::current() {
            LevelFilter::OFF if self.directory.is_some() => LevelFilter::INFO,
            level => level,
        })
    }

    /// Where the files are to be; empty: nowhere.
    pub(super) fn directory(&self) -> &OsStr {
        self.directory.as_deref().map_or(OsStr::new(""), Path::as_os_str)
    }

    /// Makes the directory, and its path one that does not depend on where a process is.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        let Some(directory) = &mut self.directory else { return Ok(()) };
        let refused =
            |e| ErrorKind::Usage.with(format!("the directory of logs {}: {e}", directory.display()));
        let path =
            std::fs::create_dir_all(&directory).and_then(|()| directory.canonicalize()).map_err(refused)?;
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(ErrorKind::Usage.with(format!("the directory of logs {}: too long", path.display())));
        }
        *directory = path;
        Ok(())
    }
}
