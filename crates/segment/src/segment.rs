//! A segment owned by the coordinator. Steps G1–G9 (its making) and R1–R4 (its end) of `README.md`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swath_platform::{file, process};

use crate::backing::Backing;
use crate::error::{Error, Result};
use crate::layout::{EntryImage, EntryState, FLAG_ENGINE, FLAG_FILE, FLAG_NAMED};
use crate::limits::RETIRE_RING_BYTES;
use crate::name::{shm_path, validate};
use crate::reference::SegmentRef;
use crate::room::{self, Place};
use crate::session::Session;

/// What a segment is for; shown by `swath ls`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// A `.npy` image.
    #[default]
    Array,
    /// The engine's own: ledgers, arenas, undo slots.
    Engine,
}

#[derive(Clone, Debug)]
enum Naming {
    Auto,
    Name(String),
    Unnamed(String),
    File(PathBuf),
}

/// How a segment is to be made. One builder, several verbs.
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    naming: Naming,
    kind: Kind,
    session: Option<Arc<Session>>,
}

/// Shared memory owned by this process, mapped for reading and writing. Dropping it removes its name and puts it on the
/// retire list; workers unmap it before their next phase.
#[derive(Debug)]
pub struct Segment {
    session: Arc<Session>,
    /// `None` only while it is being dropped.
    backing: Option<Backing>,
    entry: EntryImage,
    naming: Naming,
    unlinked: bool,
    pid: u32,
}

impl SegmentOptions {
    /// With a name of the user's choice in `/dev/shm`.
    pub fn name(mut self, name: impl Into<String>) -> SegmentOptions {
        self.naming = Naming::Name(name.into());
        self
    }

    /// Without a name: a memfd, reached by workers through the coordinator. The label is for humans.
    pub fn unnamed(mut self, label: impl Into<String>) -> SegmentOptions {
        self.naming = Naming::Unnamed(label.into());
        self
    }

    /// In a file on disk. Until [`Segment::finish`] its name is `PATH.partial`.
    pub fn file(mut self, path: impl Into<PathBuf>) -> SegmentOptions {
        self.naming = Naming::File(path.into());
        self
    }

    /// What it is for.
    pub fn kind(mut self, kind: Kind) -> SegmentOptions {
        self.kind = kind;
        self
    }

    /// In this session of the process, not in [`Session::current`], which is guarded.
    pub fn session(mut self, session: &Arc<Session>) -> SegmentOptions {
        self.session = Some(session.clone());
        self
    }

    /// Makes a segment of `len` zero bytes.
    ///
    /// # Errors
    ///
    /// See [`SegmentOptions::create_with`].
    pub fn create(self, len: usize) -> Result<Segment> {
        self.create_with(len, |_| ())
    }

    /// Makes a segment of `len` zero bytes, has `init` write what belongs at its beginning, and only then gives it its
    /// public name: nobody can attach to half a segment.
    ///
    /// # Errors
    ///
    /// A name or length that is not possible (before any system call), a name that is taken, no room (after waiting up
    /// to `RETIRE_MS` for workers to unmap what was dropped), no session.
    pub fn create_with(self, len: usize, init: impl FnOnce(*mut u8)) -> Result<Segment> {
        check_len(len)?;
        if let Naming::Name(name) = &self.naming {
            validate(name)?;
        }
        let session = self.session.clone().map_or_else(Session::current, Ok)?;
        if !matches!(self.naming, Naming::Unnamed(_)) {
            // L4: no name without a guardian.
            session.await_name()?;
        }
        let (place, flags) = self.place();
        let attempt = || {
            session.with_room(|pinned| {
                room::check(&place, len as u64, pinned)?;
                self.make(&session, flags, len, pinned)
            })
        };
        let (entry, backing) = match attempt() {
            // The limit has been raised by now.
            Err(Error::TooManyFiles { .. }) => attempt()?,
            other => other?,
        };
        let naming = self.naming;
        let (backing, pid) = (Some(backing), process::getpid());
        let mut segment = Segment { session, backing, entry, naming, unlinked: false, pid };
        init(segment.as_ptr());
        segment.publish()?;
        Ok(segment)
    }

    /// Attaches to an existing file on disk. Its length is that of the file; an empty file is a segment of no bytes.
    ///
    /// # Errors
    ///
    /// No such file, no permission, not a regular file.
    pub fn open_file(self, path: impl AsRef<Path>, writable: bool) -> Result<Segment> {
        let path = path.as_ref();
        let backing = Backing::open_file(path, writable)?;
        let session = Session::current()?;
        let flags = FLAG_FILE | self.kind_flag();
        let entry = session.table().enter(|_| label_of(path), flags)?;
        let naming = Naming::File(path.to_path_buf());
        let (backing, pid) = (Some(backing), process::getpid());
        let mut segment = Segment { session, backing, entry, naming, unlinked: true, pid };
        segment.complete_entry();
        Ok(segment)
    }

    /// Takes over what another process has made and handed over: an unnamed segment of the file's length. Its memory is reserved already.
    ///
    /// # Errors
    ///
    /// It is not memory, or empty; no session, no place in its table, no room in the address space.
    pub fn adopt(self, file: OwnedFd) -> Result<Segment> {
        let label = match &self.naming {
            Naming::Unnamed(label) => label.clone(),
            _ => "adopted".to_owned(),
        };
        let backing = Backing::adopt(file, &label)?;
        let session = Session::current()?;
        let entry = session.table().enter(|_| clipped(&label), self.kind_flag())?;
        let (backing, pid) = (Some(backing), process::getpid());
        let mut segment =
            Segment { session, backing, entry, naming: Naming::Unnamed(label), unlinked: true, pid };
        segment.complete_entry();
        Ok(segment)
    }

    fn kind_flag(&self) -> u32 {
        if self.kind == Kind::Engine { FLAG_ENGINE } else { 0 }
    }

    fn place(&self) -> (Place, u32) {
        let (place, flags) = match &self.naming {
            Naming::Auto | Naming::Name(_) => (Place::Shm, FLAG_NAMED),
            Naming::Unnamed(_) => (Place::Anonymous, 0),
            Naming::File(path) => (Place::Disk(path.clone()), FLAG_FILE),
        };
        (place, flags | self.kind_flag())
    }

    /// G3–G7: intent, file, room, mapping. The intent is withdrawn when the rest fails.
    fn make(&self, session: &Session, flags: u32, len: usize, pinned: u64) -> Result<(EntryImage, Backing)> {
        if let Naming::Name(name) = &self.naming
            && file::stat_path(&shm_path(name)).is_ok()
        {
            return Err(Error::Exists { name: name.clone() });
        }
        let label = |sequence| match &self.naming {
            Naming::Auto => {
                let (id, uid) = session.names();
                id.segment_name(uid, sequence)
            }
            Naming::Name(name) => name.clone(),
            Naming::Unnamed(label) => clipped(label),
            Naming::File(path) => label_of(path),
        };
        let entry = session.table().enter(label, flags)?;
        let backing = self.make_backing(session, &entry, len, pinned);
        backing.map(|backing| (entry, backing)).inspect_err(|_| session.table().forget(entry.id))
    }

    fn make_backing(
        &self,
        session: &Session,
        entry: &EntryImage,
        len: usize,
        pinned: u64,
    ) -> Result<Backing> {
        match &self.naming {
            Naming::Auto | Naming::Name(_) => {
                let (id, uid) = session.names();
                Backing::create_shm(&id.unfinished_name(uid, entry.sequence()), len, pinned)
            }
            Naming::Unnamed(label) => Backing::create_anonymous(&format!("swath:{label}"), len, pinned),
            Naming::File(path) => Backing::create_file(&partial(path), len),
        }
    }
}

/// G1.
fn check_len(len: usize) -> Result<()> {
    let why = match len {
        0 => "it would be empty",
        len if len > isize::MAX as usize => "it is more than half of the address space",
        _ => return Ok(()),
    };
    Err(Error::InvalidSize { len, why })
}

/// A label that fits into the table, cut at a character.
fn clipped(label: &str) -> String {
    let end = (0..=label.len().min(crate::limits::NAME_MAX)).rev().find(|&end| label.is_char_boundary(end));
    label[..end.unwrap_or(0)].replace('\0', "?")
}

fn label_of(path: &Path) -> String {
    clipped(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

impl Segment {
    /// Starts a builder: an automatic name, for an array.
    pub fn options() -> SegmentOptions {
        SegmentOptions { naming: Naming::Auto, kind: Kind::Array, session: None }
    }

    fn backing(&self) -> &Backing {
        self.backing.as_ref().expect("present until drop")
    }

    /// The first byte, aligned to a page. Other processes may change what is there.
    pub fn as_ptr(&self) -> *mut u8 {
        self.backing().as_ptr().as_ptr()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.backing().len()
    }

    /// Whether it has no bytes, which only an empty file can be.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file that it is made of.
    pub(crate) fn file(&self) -> &OwnedFd {
        self.backing().file()
    }

    /// Whether nobody has it mapped by a [`Reader`](crate::Reader) now; then nobody can until
    /// [`let_readers_in`](Segment::let_readers_in), not even with a reference that was kept. Asked again, it is true again.
    ///
    /// # Errors
    ///
    /// The file was opened for reading only, or its file system has no locks.
    pub fn try_keep_readers_out(&self) -> Result<bool> {
        let what = || self.entry.name().unwrap_or("a segment").to_owned();
        file::ofd_try_keep_readers_out(self.file())
            .map_err(|e| Error::system("keep readers out of", what(), e))
    }

    /// Readers may come.
    ///
    /// # Errors
    ///
    /// The kernel refuses, for want of memory.
    pub fn let_readers_in(&self) -> Result<()> {
        let what = || self.entry.name().unwrap_or("a segment").to_owned();
        file::ofd_let_readers_in(self.file()).map_err(|e| Error::system("let readers into", what(), e))
    }

    /// Its identity in the session; never reused.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// Its session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What workers need to attach.
    pub fn reference(&self) -> SegmentRef {
        let (dev, ino) = self.backing().identity();
        SegmentRef {
            id: self.entry.id,
            ino,
            dev,
            len: self.len() as u64,
            fd: self.backing().raw_fd(),
            named: u32::from(self.name().is_some()),
            name: if self.name().is_some() { self.entry.name } else { [0; 64] },
        }
    }

    /// Its name in `/dev/shm`, unless it has none (any more).
    pub fn name(&self) -> Option<&str> {
        (self.entry.is_named() && !self.unlinked).then(|| self.entry.name()).flatten()
    }

    /// G8, G9: identity into the table, then the public name. Before, a file by that name can only be somebody else's.
    fn publish(&mut self) -> Result<()> {
        self.complete_entry();
        if !self.entry.is_named() {
            return Ok(());
        }
        let (id, uid) = self.session.names();
        let unfinished = id.unfinished_name(uid, self.entry.sequence());
        let public = self.entry.name().unwrap_or_default().to_owned();
        file::rename_new(&shm_path(&unfinished), &shm_path(&public)).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists { name: public },
            _ => Error::system("rename", shm_path(&unfinished).display(), error),
        })
    }

    fn complete_entry(&mut self) {
        let (dev, ino) = self.backing().identity();
        self.entry.state = EntryState::Live.word();
        (self.entry.dev, self.entry.ino) = (dev, ino);
        self.entry.len = self.len() as u64;
        self.entry.fd = self.backing().raw_fd();
        self.session.table().update(&self.entry);
    }

    /// Makes an unnamed segment longer. The address changes; workers see the new length in the next reference.
    ///
    /// # Errors
    ///
    /// It has a name or is a file; no room. Then the segment is as before.
    pub fn grow(&mut self, len: usize) -> Result<()> {
        let Naming::Unnamed(label) = &self.naming else {
            let object = self.entry.name().unwrap_or("a segment").to_owned();
            return Err(Error::Unsupported {
                operation: "grow",
                object,
                why: "only unnamed segments can grow",
            });
        };
        if len <= self.len() {
            return Ok(());
        }
        check_len(len)?;
        let label = label.clone();
        let more = (len - self.len()) as u64;
        let session = self.session.clone();
        session.with_room(|pinned| {
            room::check(&Place::Anonymous, more, pinned)?;
            let backing = self.backing.as_mut().expect("present until drop");
            backing.grow(len, &Place::Anonymous, pinned, &label)
        })?;
        self.complete_entry();
        Ok(())
    }

    /// Removes the name now; mappings stay valid, nobody attaches by name any more.
    ///
    /// # Errors
    ///
    /// `NotFound` when it has no name (any more).
    pub fn unlink(&mut self) -> Result<()> {
        let Some(name) = self.name().map(str::to_owned) else {
            let name = self.entry.name().unwrap_or_default().to_owned();
            return Err(Error::NotFound { name });
        };
        self.unlinked = true;
        match self.remove_names() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotFound { name }),
            Err(error) => Err(Error::system("unlink", shm_path(&name).display(), error)),
        }
    }

    /// R1: the public name if it still is ours, and the unfinished one in case it never became public.
    fn remove_names(&self) -> std::io::Result<bool> {
        let (id, uid) = self.session.names();
        let identity = self.backing().identity();
        let unfinished = id.unfinished_name(uid, self.entry.sequence());
        let unpublished = file::unlink_if(&shm_path(&unfinished), identity)?;
        let Some(public) = self.entry.name() else { return Ok(unpublished) };
        Ok(file::unlink_if(&shm_path(public), identity)? || unpublished)
    }

    /// A file-backed segment becomes what its path says: content and size on the disk, then the name at one stroke.
    ///
    /// # Errors
    ///
    /// It is not a new file-backed segment; a write error that the kernel kept until now.
    pub fn finish(&mut self) -> Result<()> {
        let Naming::File(path) = &self.naming else {
            let object = self.entry.name().unwrap_or("a segment").to_owned();
            return Err(Error::Unsupported { operation: "finish", object, why: "it is not a file" });
        };
        let failed = |operation, error| Error::system(operation, path.display(), error);
        self.backing().sync().map_err(|e| failed("write to disk", e))?;
        if self.unlinked {
            // An existing file, or finished before.
            return Ok(());
        }
        file::rename(&partial(path), path).map_err(|e| failed("rename to", e))?;
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        file::sync_dir(directory).map_err(|e| failed("write to disk the directory of", e))?;
        self.unlinked = true;
        Ok(())
    }

    /// Gives the segment up without ever unmapping or reusing its memory: a writer's death could not be confirmed. The
    /// name goes.
    pub fn leak(mut self) {
        self.remove();
        if let Some(backing) = self.backing.take() {
            backing.leak();
        }
        self.session.table().retire(self.entry.id, true);
    }

    fn remove(&mut self) {
        if self.unlinked {
            return;
        }
        self.unlinked = true;
        let removed = match &self.naming {
            Naming::Auto | Naming::Name(_) => self.remove_names().map(drop),
            Naming::Unnamed(_) => Ok(()),
            // Never finished: of no use to anybody.
            Naming::File(path) => file::unlink_if(&partial(path), self.backing().identity()).map(drop),
        };
        if let Err(error) = removed {
            tracing::warn!("the name of segment {:?} stays: {error}", self.entry.name());
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Leaked already, or a forked child's copy: names and table are the parent's.
        if self.backing.is_none() || self.pid != process::getpid() {
            return;
        }
        self.remove();
        let len = self.len();
        self.backing = None;
        self.session.table().retire(self.entry.id, false);
        if len >= RETIRE_RING_BYTES {
            let pinned = self.session.pinned();
            if pinned > 0 {
                self.session.ring_hooks(pinned);
            }
        }
    }
}
