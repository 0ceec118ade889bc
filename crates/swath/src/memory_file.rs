//! Unnamed files in memory, and how another process of ours finds them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};
use swath_platform::file;
use swath_segment::SegmentRef;

/// Where another process finds a file of ours: a descriptor, and what must be behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) fd: i32,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Place {
    /// Opens it, in another process than the one whose descriptor it is.
    pub(crate) fn open(&self, owner: u32) -> Result<File, String> {
        let path = format!("/proc/{owner}/fd/{}", self.fd);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(|e| format!("{path}: {e}"))?;
        let meta = file.metadata().map_err(|e| format!("{path}: {e}"))?;
        if (meta.dev(), meta.ino()) != (self.dev, self.ino) {
            return Err(format!("{path} is not the file that was meant"));
        }
        Ok(file)
    }
}

/// As it stands in shared memory.
impl From<Place> for SegmentRef {
    fn from(place: Place) -> SegmentRef {
        SegmentRef { dev: place.dev, ino: place.ino, fd: place.fd, ..Zeroable::zeroed() }
    }
}

impl From<SegmentRef> for Place {
    fn from(reference: SegmentRef) -> Place {
        Place { fd: reference.fd, dev: reference.dev, ino: reference.ino }
    }
}

/// An empty file in memory, and where others find it for as long as it is open here.
pub(crate) fn new(label: &str) -> io::Result<(File, Place)> {
    let file = File::from(file::memfd(label)?);
    let stat = file::stat(&file)?;
    let place = Place { fd: file.as_raw_fd(), dev: stat.dev, ino: stat.ino };
    Ok((file, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_under_the_number_is_not_taken_for_it() {
        let (_file, place) = new("swath-test").expect("a file");
        assert!(place.open(std::process::id()).is_ok());
        let other = Place { ino: place.ino + 1, ..place };
        assert!(other.open(std::process::id()).is_err());
    }
}
