//! Where the bytes of an array are: the segment behind it, in memory or in a file.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use swath_platform::{file, memory, process};
use swath_segment::{Kind, Reader, Segment, SegmentOptions, SegmentRef, Stamp, is_member};

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

/// Whose the segment is.
enum Memory {
    /// Ours.
    Own(Segment),
    /// Another process's, which has lent it.
    Lent(Reader),
}

impl Memory {
    fn as_ptr(&self) -> *mut u8 {
        match self {
            Memory::Own(segment) => segment.as_ptr(),
            Memory::Lent(reader) => reader.as_ptr(),
        }
    }
}

/// A segment, and what only its maker knows about it.
pub(crate) struct Backing {
    /// `None` only when given up for ever: a file that is still mapped somewhere stays in use. Dropped before the segment,
    /// with which the inode's number becomes free for another file.
    usage: Option<Usage>,
    /// `None` only when given up for ever.
    memory: Option<Memory>,
    /// The process whose descriptor the reference names.
    holder: u32,
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

    /// What another process has made for this one.
    pub(crate) fn adopt(file: OwnedFd) -> Result<Backing, Error> {
        let segment = Segment::options().unnamed("result").kind(Kind::Array).adopt(file)?;
        Backing::new(segment, true, None, None)
    }

    /// What `holder`, another process, has lent.
    pub(crate) fn attach(reference: &SegmentRef, holder: u32) -> Result<Backing, Error> {
        let reader = Reader::open(reference, holder)?;
        let usage = Usage::claim((reference.dev, reference.ino), false);
        if usage.is_none() {
            return Err(Error::InUse { object: "an array that was lent".to_owned() });
        }
        let memory = Some(Memory::Lent(reader));
        Ok(Backing {
            usage,
            memory,
            holder,
            reference: *reference,
            writable: false,
            file: None,
            target: None,
        })
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
        let (memory, holder) = (Some(Memory::Own(segment)), process::getpid());
        Ok(Backing { usage, memory, holder, reference, writable, file, target })
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("given up only when it is dropped")
    }

    fn own(&self) -> Option<&Segment> {
        match self.memory() {
            Memory::Own(segment) => Some(segment),
            Memory::Lent(_) => None,
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.memory().as_ptr()
    }

    /// Whether another process has lent it.
    pub(crate) fn is_lent(&self) -> bool {
        self.own().is_none()
    }

    /// The process whose descriptor the reference names.
    pub(crate) fn holder(&self) -> u32 {
        self.holder
    }

    /// Whether no other process reads it, nor can from now on.
    pub(crate) fn try_keep_readers_out(&self) -> Result<bool, Error> {
        Ok(self.own().map_or(Ok(false), Segment::try_keep_readers_out)?)
    }

    /// Other processes may read it.
    pub(crate) fn let_readers_in(&self) -> Result<(), Error> {
        Ok(self.own().map_or(Ok(()), Segment::let_readers_in)?)
    }

    /// Sends it to the inbox of that address.
    pub(crate) fn hand_over(&self, address: &str, stamp: Stamp) -> Result<(), Error> {
        let own = self.own().ok_or(Error::BadReference { what: "lent by another process" })?;
        Ok(own.hand_over(address, stamp)?)
    }

    pub(crate) fn reference(&self) -> SegmentRef {
        self.reference
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn name(&self) -> Option<&str> {
        match self.memory() {
            Memory::Own(segment) => segment.name(),
            Memory::Lent(reader) => reader.reference().name(),
        }
    }

    /// Where other programs find it.
    pub(crate) fn path(&self) -> PathBuf {
        match (&self.file, self.name()) {
            (Some(path), _) => path.clone(),
            (None, Some(name)) => swath_segment::shm_path(name),
            (None, None) => PathBuf::from(format!("/proc/{}/fd/{}", self.holder, self.reference.fd)),
        }
    }

    pub(crate) fn file_path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Asks for huge pages; refused, ordinary ones stay.
    pub(crate) fn collapse(&self) {
        let _ = memory::collapse(self.as_ptr(), self.reference.len as usize);
    }

    /// Faults all pages in.
    pub(crate) fn populate(&self) -> Result<(), Error> {
        let object = || self.path().display().to_string();
        memory::populate_write(self.as_ptr(), self.reference.len as usize).map_err(|source| Error::Io {
            operation: "populate",
            object: object(),
            source,
        })
    }

    /// All bytes on disk, under the final name.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        if let Some(Memory::Own(segment)) = &mut self.memory {
            segment.finish()?;
        }
        if let Some(target) = self.target.take() {
            self.file = Some(target);
        }
        Ok(())
    }

    /// Gives the memory up: it stays mapped for ever, without a name.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(self.usage.take());
        match self.memory.take() {
            Some(Memory::Own(segment)) => segment.leak(),
            reader => std::mem::forget(reader),
        }
    }
}

fn options(place: &Place, extent: &Extent) -> SegmentOptions {
    let options = Segment::options();
    match place {
        // A name is for other programs; what a worker makes, it keeps or gives back.
        Place::Automatic if is_member() => options.unnamed(format!("{extent:?}")),
        Place::Automatic => options,
        Place::Named(name) => options.name(name),
        Place::Unnamed => options.unnamed(format!("{extent:?}")),
        Place::File(path) => options.file(path),
    }
}
