//! One object of the synchronisation or messaging family in a segment of its own: made here, found from a worker by
//! reference, found from an unrelated program of the same user by name. Steps O1–O5 of `README.md`.
//!
//! The segment is a page that says what lies in it, the object from byte 4096 on, and behind it, never mapped,
//! *extents*: room for messages that do not fit into the object, written and read by `pwrite` and `pread`, given back by
//! punching holes.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use swath_platform::{file, process};
use swath_sync::{Extents, NoParty, Party};

use crate::backing::Mapping;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::layout::{LAYOUT_HASH, LAYOUT_VERSION};
use crate::membership::{member, membership};
use crate::name::{SessionId, shm_path, validate};
use crate::reference::SegmentRef;
use crate::room::{self, Place};
use crate::segment::{Segment, SegmentOptions};
use crate::session::Session;

/// Where the object begins.
pub const OBJECT_OFFSET: usize = 4096;
/// From this size on, room for an extent is asked for before it is written: beyond a cgroup's limit the kernel kills.
const ASK_FROM_BYTES: usize = 1 << 20;
const MAGIC: u64 = u64::from_le_bytes(*b"swathobj");

/// What lies in a segment, as its first bytes say. Read once, by `pread`; whoever maps the object uses this copy.
#[repr(C)]
#[derive(Pod, Zeroable, Copy, Clone, PartialEq, Eq, Debug)]
pub struct ObjectImage {
    magic: u64,
    layout_hash: u64,
    session: [u8; 32],
    uid: u32,
    layout_version: u32,
    /// What it is, padded with zeros.
    pub kind: [u8; 24],
    /// Size of its value or element.
    pub element_bytes: u64,
    /// Alignment of its value or element.
    pub element_align: u64,
    /// Number of its cells.
    pub cells: u64,
    /// Bytes of the object.
    pub bytes: u64,
}

const _: () = assert!(size_of::<ObjectImage>() == 112);

/// What is to be made, or what is expected.
#[derive(Copy, Clone, Debug)]
pub struct ObjectForm {
    /// What it is, at most 23 bytes.
    pub kind: &'static str,
    /// Size and alignment of its value or element.
    pub element: (usize, usize),
}

impl ObjectImage {
    fn new(form: ObjectForm, cells: usize, bytes: usize, session: &Session) -> ObjectImage {
        let (id, uid) = session.names();
        ObjectImage {
            magic: MAGIC,
            layout_hash: LAYOUT_HASH,
            session: zero_padded(id.as_str()),
            uid,
            layout_version: LAYOUT_VERSION,
            kind: zero_padded(form.kind),
            element_bytes: form.element.0 as u64,
            element_align: form.element.1 as u64,
            cells: cells as u64,
            bytes: bytes as u64,
        }
    }

    /// Reads what the file says. `None`: no object.
    pub(crate) fn read(fd: &OwnedFd) -> Option<ObjectImage> {
        let mut bytes = [0; size_of::<ObjectImage>()];
        let count = file::read_at(fd, &mut bytes, 0).ok()?;
        let image: ObjectImage = bytemuck::pod_read_unaligned(&bytes);
        (count == bytes.len() && image.magic == MAGIC).then_some(image)
    }

    /// Its kind, as text.
    pub fn kind(&self) -> &str {
        text(&self.kind)
    }

    /// Whether it is what is expected, and fits into its file.
    fn check(&self, form: ObjectForm, file_bytes: u64, what: &str) -> Result<()> {
        let not = |why: String| Err(Error::NotOurs { object: what.to_owned(), why });
        if (self.layout_version, self.layout_hash) != (LAYOUT_VERSION, LAYOUT_HASH) {
            return not("it was made by another build of swath".to_owned());
        }
        let element = (self.element_bytes, self.element_align);
        if self.kind() != form.kind || element != (form.element.0 as u64, form.element.1 as u64) {
            return not(format!(
                "it is a {} of {}-byte elements, not a {} of {}-byte elements",
                self.kind().escape_default(),
                self.element_bytes,
                form.kind,
                form.element.0
            ));
        }
        match self.bytes.checked_add(OBJECT_OFFSET as u64) {
            Some(end) if end <= file_bytes => Ok(()),
            _ => not(format!("it says that it has {} bytes, and its file has {file_bytes}", self.bytes)),
        }
    }
}

fn zero_padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let len = text.len().min(N - 1);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    bytes
}

fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or("?")
}

#[derive(Debug)]
enum Memory {
    Own(Segment),
    Attached { mapping: Mapping, file: OwnedFd },
}

/// As whom this process uses the object.
#[derive(Debug)]
enum Membership {
    /// Coordinator of the object's session, which lives as long.
    Coordinator(Arc<Session>),
    /// Started for the object's session.
    Member,
    /// A program of its own.
    Guest(Arc<Guest>),
}

/// A mapped object. Dropped by its owner, its name goes; others only unmap.
#[derive(Debug)]
pub struct Object {
    memory: Memory,
    image: ObjectImage,
    reference: SegmentRef,
    /// The process whose descriptor the reference names.
    holder: u32,
    membership: Membership,
}

impl Object {
    /// O1: makes an object of `bytes` bytes; `place` writes it, at an address aligned to 4096 and zero, before anybody can
    /// attach.
    ///
    /// # Errors
    ///
    /// As for [`SegmentOptions::create_with`].
    pub fn create(
        options: SegmentOptions,
        form: ObjectForm,
        cells: usize,
        bytes: usize,
        place: impl FnOnce(*mut u8),
    ) -> Result<Object> {
        let session = Session::current()?;
        let image = ObjectImage::new(form, cells, bytes, &session);
        let len = bytes
            .checked_add(OBJECT_OFFSET)
            .ok_or(Error::InvalidSize { len: bytes, why: "it is more than half of the address space" })?;
        let segment = options.create_with(len, |memory| {
            let head: *mut [u8; size_of::<ObjectImage>()] = memory.cast();
            // SAFETY: the segment is longer than a page, aligned to one, and nobody else looks at it yet.
            unsafe { head.write(bytemuck::cast(image)) };
            place(memory.wrapping_add(OBJECT_OFFSET));
        })?;
        let reference = segment.reference();
        Ok(Object {
            memory: Memory::Own(segment),
            image,
            reference,
            membership: Membership::Coordinator(session),
            holder: process::getpid(),
        })
    }

    /// O2–O4: the object of that name, made by this or another program of the same user.
    ///
    /// # Errors
    ///
    /// There is none, or it is something else than `form`; its session has ended or is full.
    pub fn attach(name: &str, form: ObjectForm) -> Result<Object> {
        validate(name)?;
        let path = shm_path(name);
        let fd = file::open(&path, file::Access::ReadWrite).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
            _ => Error::system("open", path.display(), error),
        })?;
        let stat = file::stat(&fd).map_err(|e| Error::system("fstat", path.display(), e))?;
        if !stat.is_regular() || stat.uid != process::geteuid() {
            let why = "it is not a regular file of this user".to_owned();
            return Err(Error::NotOurs { object: name.to_owned(), why });
        }
        let reference = SegmentRef::new(0, stat.identity(), 0, fd.as_raw_fd(), name);
        Object::of_file(fd, reference, process::getpid(), form, name)
    }

    /// O5: the object that a reference means which `holder`, a process that has it, has encoded: in the arguments of whatever it
    /// has started, at any depth, or in what comes back from there.
    ///
    /// # Errors
    ///
    /// The holder does not have it any more; it is something else than `form`; its session has ended or is full.
    pub fn open(reference: &SegmentRef, holder: u32, form: ObjectForm) -> Result<Object> {
        let what = reference.name().unwrap_or("an unnamed object").to_owned();
        let by_fd = file::open_fd_of(holder, reference.fd, true);
        let fd = by_fd.map_err(|e| Error::system("open", &what, e))?;
        let stat = file::stat(&fd).map_err(|e| Error::system("fstat", &what, e))?;
        if stat.identity() != (reference.dev, reference.ino) {
            let why = format!("process {holder} has dropped it");
            return Err(Error::NotOurs { object: what, why });
        }
        Object::of_file(fd, *reference, holder, form, &what)
    }

    fn of_file(
        fd: OwnedFd,
        mut reference: SegmentRef,
        holder: u32,
        form: ObjectForm,
        what: &str,
    ) -> Result<Object> {
        let not = |why: &str| Error::NotOurs { object: what.to_owned(), why: why.to_owned() };
        let image = ObjectImage::read(&fd).ok_or_else(|| not("it is no object, perhaps an array"))?;
        let file_bytes = file::stat(&fd).map_err(|e| Error::system("fstat", what, e))?.size;
        image.check(form, file_bytes, what)?;
        let len = usize::try_from(image.bytes).map_err(|_| not("it is larger than the address space"))?;
        let id = SessionId::parse(text(&image.session)).ok_or_else(|| not("it names no session"))?;
        let membership = Membership::of(&id, image.uid)?;
        let mapping = Mapping::of(&fd, len + OBJECT_OFFSET, true, what)?;
        reference.len = (len + OBJECT_OFFSET) as u64;
        Ok(Object { memory: Memory::Attached { mapping, file: fd }, image, reference, holder, membership })
    }

    /// The object's first byte, aligned to 4096; [`ObjectImage::bytes`] are mapped from here on.
    pub fn as_ptr(&self) -> *mut u8 {
        match &self.memory {
            Memory::Own(segment) => segment.as_ptr(),
            Memory::Attached { mapping, .. } => mapping.as_ptr(),
        }
        .wrapping_add(OBJECT_OFFSET)
    }

    /// What it is.
    pub fn image(&self) -> &ObjectImage {
        &self.image
    }

    /// Its name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.reference.name()
    }

    /// What another process needs to open it: see [`Object::open`].
    pub fn reference(&self) -> SegmentRef {
        self.reference
    }

    /// The process whose descriptor [`Object::reference`] names: the owner, as far as it is known.
    pub fn holder(&self) -> u32 {
        self.holder
    }

    /// The calling thread as a party of the object's session.
    ///
    /// # Errors
    ///
    /// This process was forked from the one that opened the object; too many threads.
    ///
    /// # Safety
    ///
    /// 1. This party is used with this object only, and while this value lives.
    #[inline]
    pub unsafe fn party(&self) -> std::result::Result<Party, NoParty> {
        match &self.membership {
            // SAFETY: the object is its session's, which lives as long.
            Membership::Coordinator(session) => unsafe { session.party() },
            // SAFETY: as above.
            Membership::Member => unsafe { member() },
            // SAFETY: as above.
            Membership::Guest(guest) => unsafe { guest.party() },
        }
    }

    /// Where extent bytes lie in the file: behind the mapped pages.
    fn extent(&self, at: u64) -> io::Result<u64> {
        let begin = (OBJECT_OFFSET as u64 + self.image.bytes).next_multiple_of(4096);
        begin.checked_add(at).filter(|at| *at < 1 << 62).ok_or(io::ErrorKind::InvalidInput.into())
    }

    fn with_file<R>(&self, act: impl FnOnce(&OwnedFd) -> R) -> R {
        match &self.memory {
            Memory::Own(segment) => act(segment.file()),
            Memory::Attached { file, .. } => act(file),
        }
    }
}

/// Behind the mapped pages.
impl Extents for Object {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Beyond RLIMIT_FSIZE a write is a signal, and offsets only grow.
        let end = self.extent(at)?.saturating_add(bytes.len() as u64);
        room::check_file_size(end).map_err(io::Error::other)?;
        if bytes.len() >= ASK_FROM_BYTES {
            let place = if self.name().is_some() { Place::Shm } else { Place::Anonymous };
            room::check(&place, bytes.len() as u64, 0).map_err(io::Error::other)?;
        }
        self.with_file(|fd| file::write_at(fd, bytes, self.extent(at)?))
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let read = self.with_file(|fd| file::read_at(fd, bytes, self.extent(at)?))?;
        if read == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn free(&self, at: u64, len: u64) -> io::Result<()> {
        self.with_file(|fd| file::punch_hole(fd, self.extent(at)?, len))
    }
}

impl Membership {
    /// O4.
    fn of(id: &SessionId, uid: u32) -> Result<Membership> {
        if let Some(member) = membership()
            && member.control.header().id() == Some(id.as_str())
        {
            return Ok(Membership::Member);
        }
        match Session::current_if_any() {
            Some(session) if session.id() == id.as_str() => Ok(Membership::Coordinator(session)),
            _ => Ok(Membership::Guest(Guest::of(id, uid)?)),
        }
    }
}
