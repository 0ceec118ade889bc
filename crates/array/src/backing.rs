//! Where the bytes of an array are: the segment behind it, in memory or in a file.

use std::path::{Path, PathBuf};

use swath_platform::{file, memory, process};
use swath_segment::{Kind, Segment, SegmentOptions, SegmentRef};

use crate::limits::DATA_OFFSET_BYTES;
use crate::npy::{NpyFile, image_header};
use crate::usage::Usage;
use crate::{Error, Extent};

/// Where an array is to be made.
pub(crate) enum Place {
    /// Under a name that nobody chose.
    Automatic,
    Named(String),
    Unnamed,
    /// `PATH.partial`, which becomes `PATH`.
    File(PathBuf),
}

/// A segment, and what only its maker knows about it.
pub(crate) struct Backing {
    /// `None` only when given up for ever: a file that is still mapped somewhere stays in use. Dropped before the segment,
    /// with which the inode's number becomes free for another file.
    usage: Option<Usage>,
    /// `None` only when given up for ever.
    segment: Option<Segment>,
    reference: SegmentRef,
    writable: bool,
    /// The file's path as it is now.
    file: Option<PathBuf>,
    /// Of a new file: what `file` becomes.
    target: Option<PathBuf>,
}

impl Backing {
    /// Makes a segment of zeros for `extent`, with its header; nobody can attach before the header is there.
    pub(crate) fn create(place: &Place, extent: &Extent, len: usize) -> Result<Backing, Error> {
        let header = image_header(extent);
        let segment = options(place, extent).kind(Kind::Array).create_with(len, |first| {
            // SAFETY: `len` counts the header; the segment has no name yet and no other mapping.
            unsafe { first.copy_from_nonoverlapping(header.as_ptr(), DATA_OFFSET_BYTES) }
        })?;
        let target = match place {
            Place::File(path) => Some(path.clone()),
            _ => None,
        };
        let file = target.as_ref().map(|path| {
            let mut partial = path.as_os_str().to_owned();
            partial.push(".partial");
            PathBuf::from(partial)
        });
        Backing::new(segment, true, file, target)
    }

    /// Maps a file whose header was checked.
    pub(crate) fn open(path: &Path, source: &NpyFile, writable: bool) -> Result<Backing, Error> {
        let segment = Segment::options().kind(Kind::Array).open_file(path, writable)?;
        let backing = Backing::new(segment, writable, Some(path.to_path_buf()), None)?;
        let failed = |source| Error::Io { operation: "look at", object: path.display().to_string(), source };
        let checked = file::stat(&source.file).map_err(failed)?;
        if checked.identity() != (backing.reference.dev, backing.reference.ino) {
            return Err(failed(std::io::Error::other("it was replaced by another file a moment ago")));
        }
        Ok(backing)
    }

    fn new(
        segment: Segment,
        writable: bool,
        file: Option<PathBuf>,
        target: Option<PathBuf>,
    ) -> Result<Backing, Error> {
        let reference = segment.reference();
        let usage = Usage::claim((reference.dev, reference.ino), writable);
        if usage.is_none() {
            let object = file.unwrap_or_default().display().to_string();
            return Err(Error::InUse { object });
        }
        Ok(Backing { usage, segment: Some(segment), reference, writable, file, target })
    }

    fn segment(&self) -> &Segment {
        self.segment.as_ref().expect("given up only when it is dropped")
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.segment().as_ptr()
    }

    pub(crate) fn reference(&self) -> SegmentRef {
        self.reference
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.segment().name()
    }

    /// Where other programs find it.
    pub(crate) fn path(&self) -> PathBuf {
        match (&self.file, self.name()) {
            (Some(path), _) => path.clone(),
            (None, Some(name)) => swath_segment::shm_path(name),
            (None, None) => PathBuf::from(format!("/proc/{}/fd/{}", process::getpid(), self.reference.fd)),
        }
    }

    pub(crate) fn file_path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Asks for huge pages; refused, ordinary ones stay.
    pub(crate) fn collapse(&self) {
        let _ = memory::collapse(self.as_ptr(), self.segment().len());
    }

    /// Faults all pages in.
    pub(crate) fn populate(&self) -> Result<(), Error> {
        let object = || self.path().display().to_string();
        memory::populate_write(self.as_ptr(), self.segment().len()).map_err(|source| Error::Io {
            operation: "populate",
            object: object(),
            source,
        })
    }

    /// All bytes on disk, under the final name.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.segment.as_mut().expect("given up only when it is dropped").finish()?;
        if let Some(target) = self.target.take() {
            self.file = Some(target);
        }
        Ok(())
    }

    /// Gives the memory up: it stays mapped for ever, without a name.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(self.usage.take());
        if let Some(segment) = self.segment.take() {
            segment.leak();
        }
    }
}

fn options(place: &Place, extent: &Extent) -> SegmentOptions {
    let options = Segment::options();
    match place {
        Place::Automatic => options,
        Place::Named(name) => options.name(name),
        Place::Unnamed => options.unnamed(format!("{extent:?}")),
        Place::File(path) => options.file(path),
    }
}
