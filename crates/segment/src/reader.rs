//! Somebody else's segment, mapped for reading only while something here refers to it: how a handle that travelled is used.
//!
//! The mapping is marked by a shared lock on the file ([`file::ofd_try_read`]), which ends with it, however this process ends. While the
//! owner may write it holds the same lock exclusively ([`Segment::try_keep_readers_out`](crate::Segment::try_keep_readers_out)): no message
//! has to come back, and a reference that somebody has kept leads nowhere.

use swath_platform::file;

use crate::backing::Mapping;
use crate::error::{Error, Result};
use crate::reference::SegmentRef;

/// A mapping for reading of a segment that another process owns.
#[derive(Debug)]
pub struct Reader {
    reference: SegmentRef,
    mapping: Mapping,
}

impl Reader {
    /// Maps the segment that `reference` means, which process `holder` has under the descriptor that the reference names.
    ///
    /// # Errors
    ///
    /// The holder does not have it any more, or the descriptor is another file's; the file is shorter than the reference says; the owner
    /// keeps readers out.
    pub fn open(reference: &SegmentRef, holder: u32) -> Result<Reader> {
        let what = match reference.name() {
            Some(name) => format!("{name:?} of process {holder}"),
            None => format!("an unnamed segment of process {holder}"),
        };
        let not = |why: String| Error::NotOurs { object: what.clone(), why };
        let gone = || not("its owner has dropped it, or has ended".to_owned());
        let fd = file::open_fd_of(holder, reference.fd, false).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => gone(),
            _ => Error::system("open", &what, error),
        })?;
        let stat = file::stat(&fd).map_err(|e| Error::system("fstat", &what, e))?;
        if stat.identity() != (reference.dev, reference.ino) || !stat.is_regular() {
            return Err(gone());
        }
        if stat.size < reference.len {
            return Err(not(format!("it has {} bytes instead of {}", stat.size, reference.len)));
        }
        let len = usize::try_from(reference.len).map_err(|_| Error::InvalidSize {
            len: usize::MAX,
            why: "it is larger than the address space",
        })?;
        // Before it is mapped: who sees no mark may write.
        if !file::ofd_try_read(&fd).map_err(|e| Error::system("mark as read", &what, e))? {
            return Err(not("it is not lent: its owner may be changing it".to_owned()));
        }
        // Copies of a template, or of a program that forks, have the handle, so they need what is behind it. The mark is theirs too: it goes
        // with the last of the mappings.
        let mapping = Mapping::for_copies(&fd, len, false, &what)?;
        Ok(Reader { reference: *reference, mapping })
    }

    /// The first byte. Whoever writes there dies of it.
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr()
    }

    /// What was mapped.
    pub fn reference(&self) -> &SegmentRef {
        &self.reference
    }
}
