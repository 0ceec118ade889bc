//! Segments of other programs, by name. Nothing is known about who else writes there.

use swath_platform::file;

use crate::attach::Mode;
use crate::backing::{Mapping, attach_shm};
use crate::error::{Error, Result};
use crate::name::{shm_path, validate};

/// A segment that this program neither made nor owns. Dropping it only unmaps.
#[derive(Debug)]
pub struct Foreign {
    name: String,
    mapping: Mapping,
}

impl Foreign {
    /// Attaches to `/dev/shm/NAME`, whole.
    ///
    /// # Errors
    ///
    /// The name is not possible (before any system call), stands for nothing, or not for a regular file; no permission.
    pub fn attach(name: &str, mode: Mode) -> Result<Foreign> {
        validate(name)?;
        let mapping = match mode {
            Mode::ReadOnly => read_only(name)?,
            Mode::ReadWrite => attach_shm(name, None)?.0,
        };
        Ok(Foreign { name: name.to_owned(), mapping })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first byte. Read-only attached memory must not be written: that ends the process.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr()
    }

    /// Length in bytes when it was attached.
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn read_only(name: &str) -> Result<Mapping> {
    let path = shm_path(name);
    let fd = file::open(&path, file::Access::Read).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
        _ => Error::system("open", path.display(), error),
    })?;
    let stat = file::stat(&fd).map_err(|e| Error::system("fstat", path.display(), e))?;
    if !stat.is_regular() {
        return Err(Error::NotOurs { object: name.to_owned(), why: "it is not a regular file".to_owned() });
    }
    let len = usize::try_from(stat.size)
        .map_err(|_| Error::InvalidSize { len: usize::MAX, why: "it is larger than the address space" })?;
    Mapping::of(&fd, len, false, name)
}
