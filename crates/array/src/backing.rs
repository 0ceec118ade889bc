//! Where the bytes of an array are. (Stand-in until the segment crate has `Segment`: private memory.)

use std::path::{Path, PathBuf};

use memmap2::{MmapMut, MmapRaw};

use crate::Error;
use crate::limits::DATA_OFFSET_BYTES;
use crate::npy::NpyFile;
use crate::segment_ref::SegmentRef;

#[allow(dead_code)]
pub(crate) enum Place {
    Automatic,
    Named(String),
    Unnamed,
    File(PathBuf),
}

pub(crate) struct Backing {
    map: MmapRaw,
}

impl Backing {
    pub(crate) fn create(place: &Place, len: usize) -> Result<Backing, Error> {
        let _ = place;
        let failed = |source| Error::Io { operation: "map", object: "memory".into(), source };
        Ok(Backing { map: MmapMut::map_anon(len).map_err(failed)?.into() })
    }

    pub(crate) fn open(_source: NpyFile, _writable: bool) -> Result<Backing, Error> {
        let source = std::io::ErrorKind::Unsupported.into();
        Err(Error::Io { operation: "map", object: "a file (not built yet)".into(), source })
    }

    pub(crate) fn write_header(&mut self, header: &[u8; DATA_OFFSET_BYTES]) {
        // SAFETY: the mapping has at least a header's bytes.
        unsafe { self.as_ptr().copy_from_nonoverlapping(header.as_ptr(), header.len()) }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    pub(crate) fn reference(&self) -> SegmentRef {
        SegmentRef { id: 0, ino: 0, dev: 0, len: self.map.len() as u64, fd: -1, named: 0, name: [0; 64] }
    }

    pub(crate) fn is_writable(&self) -> bool {
        true
    }

    pub(crate) fn name(&self) -> Option<&str> {
        None
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::new()
    }

    pub(crate) fn file_path(&self) -> Option<&Path> {
        None
    }

    pub(crate) fn collapse(&self) {}

    pub(crate) fn populate(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn leak(&mut self) {}
}
