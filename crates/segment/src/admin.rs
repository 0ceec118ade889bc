//! What is there, and what dead sessions left: behind `swath ls` and `swath clean`.
//!
//! Sessions of other builds are listed too, and say so: the first 4 KiB of a control segment and the form of its name
//! table are frozen.

use std::os::fd::OwnedFd;

use swath_platform::file::{self, Access};
use swath_sync::slots::{SLOTS_MAX, SlotState, SlotTable};

use crate::error::Result;
use crate::layout::{EntryImage, EntryState, FLAG_ENGINE, FLAG_FILE, FLAG_TAINTED, HeaderImage};
use crate::limits::NPY_HEADER_MAX;
use crate::name::shm_path;
use crate::npy;
use crate::object::ObjectImage;
use crate::snapshot::{LockFile, session_ids};

pub use crate::reclaim::{CleanReport, Cleaned};

/// One session of this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: String,
    /// Its coordinator; 0 when it died before writing its pid.
    pub owner_pid: u32,
    /// Its guardian; 0 when it has none.
    pub guardian_pid: u32,
    /// Whether its lock is held: by the coordinator or a guardian still at work.
    pub alive: bool,
    /// Whether the pids mean something here (its pid namespace is ours).
    pub same_pid_namespace: bool,
    /// When it began, in seconds since 1970.
    pub created: u64,
    /// Set when another build made it: that build's layout. Then only what is frozen is shown.
    pub other_layout: Option<String>,
    /// Its segments.
    pub segments: Vec<SegmentInfo>,
}

/// What a segment is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SegmentPlace {
    /// A name in `/dev/shm`.
    Named,
    /// A memfd.
    Unnamed,
    /// A file on disk.
    File,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its name, or what it is for when it has none.
    pub name: String,
    /// Where it is.
    pub place: SegmentPlace,
    /// Whether it is one of the engine's own.
    pub engine: bool,
    /// Bytes.
    pub size: u64,
    /// The array's shape, as its header says.
    pub shape: Option<Vec<u64>>,
    /// The array's element type, or what kind of object it is, as its header says.
    pub dtype: Option<String>,
    /// Still being made.
    pub unfinished: bool,
    /// Its name has been removed, by its owner or somebody else.
    pub name_gone: bool,
    /// Dropped by its owner, but these slots may still have it mapped.
    pub retired_pinned_by: Option<Vec<u16>>,
    /// Never to be freed while the session lasts: a writer's death could not be confirmed.
    pub tainted: bool,
}

/// All sessions of this user, alive and abandoned.
///
/// # Errors
///
/// `/dev/shm` cannot be read.
pub fn list() -> Result<Vec<SessionInfo>> {
    let names = session_ids()?;
    Ok(names.iter().filter_map(|(_, name)| describe(&LockFile::open(name, Access::Read)?)).collect())
}

/// Removes what dead sessions of this user left; with `dry_run` only says what it would remove.
///
/// # Errors
///
/// `/dev/shm` cannot be read. What cannot be removed is in the report.
pub fn clean(dry_run: bool) -> Result<CleanReport> {
    crate::reclaim::reclaim(dry_run)
}

fn describe(lock: &LockFile) -> Option<SessionInfo> {
    let alive = file::ofd_is_locked(&lock.fd).ok()?;
    let mut info = SessionInfo {
        id: lock.id.as_str().to_owned(),
        owner_pid: 0,
        guardian_pid: 0,
        alive,
        same_pid_namespace: false,
        created: 0,
        other_layout: None,
        segments: Vec::new(),
    };
    let Some(snapshot) = lock.snapshot() else { return Some(info) };
    let header = &snapshot.header;
    info.owner_pid = header.coordinator_pid;
    info.guardian_pid = u32::try_from(header.guardian_pid).unwrap_or(0);
    info.same_pid_namespace = header.pid_namespace == swath_platform::process::pid_namespace();
    info.created = header.created;
    info.other_layout = (!header.same_layout()).then(|| header.layout());
    let owner_pid = (alive && info.same_pid_namespace).then_some(header.coordinator_pid);
    let parties = Parties::read(lock, header);
    let segments = snapshot.in_use().map(|entry| describe_segment(entry, owner_pid, parties.as_ref()));
    info.segments = segments.collect();
    Some(info)
}

fn describe_segment(entry: &EntryImage, owner_pid: Option<u32>, parties: Option<&Parties>) -> SegmentInfo {
    let place = match entry.flags {
        flags if flags & FLAG_FILE != 0 => SegmentPlace::File,
        _ if entry.is_named() => SegmentPlace::Named,
        _ => SegmentPlace::Unnamed,
    };
    let engine = entry.flags & FLAG_ENGINE != 0;
    let retired = entry.state() == EntryState::Retired;
    let opened = if retired { None } else { open(entry, owner_pid) };
    let array = if engine { None } else { opened.as_ref().and_then(read_npy) };
    let object = opened.as_ref().and_then(ObjectImage::read);
    let in_place = |name: &str| {
        file::stat_path(&shm_path(name)).is_ok_and(|found| Some(found.identity()) == entry.identity())
    };
    SegmentInfo {
        name: entry.name().unwrap_or("?").chars().filter(|c| !c.is_control()).collect(),
        place,
        engine,
        size: entry.len,
        shape: array.as_ref().map(|array| array.shape.clone()),
        dtype: array.map(|array| array.dtype).or(object.map(|object| object.kind().to_owned())),
        unfinished: entry.state() == EntryState::Entered,
        name_gone: entry.state() == EntryState::Live
            && entry.is_named()
            && !entry.name().is_some_and(in_place),
        retired_pinned_by: retired.then(|| parties.map_or(Vec::new(), |p| p.pinning(entry.retired_at))),
        tainted: entry.flags & FLAG_TAINTED != 0,
    }
}

/// The segment's file: by name, or through its owner; only if it is the very file of the entry.
fn open(entry: &EntryImage, owner_pid: Option<u32>) -> Option<OwnedFd> {
    let matches = |fd: &OwnedFd| {
        file::stat(fd).is_ok_and(|stat| stat.is_regular() && Some(stat.identity()) == entry.identity())
    };
    let by_name = || file::open(&shm_path(entry.name()?), Access::Read).ok().filter(matches);
    let by_owner = || file::open_fd_of(owner_pid?, entry.fd, false).ok().filter(matches);
    entry.is_named().then(by_name).flatten().or_else(by_owner)
}

fn read_npy(fd: &OwnedFd) -> Option<npy::Npy> {
    let mut bytes = [0; NPY_HEADER_MAX];
    let count = file::read_at(fd, &mut bytes, 0).ok()?;
    npy::parse(&bytes[..count])
}

/// A private copy of who is live and what they have acknowledged.
struct Parties {
    /// For each live slot: up to which retirement number it has unmapped.
    acknowledged: Vec<(u16, u64)>,
}

impl Parties {
    fn read(lock: &LockFile, header: &HeaderImage) -> Option<Parties> {
        if !header.same_layout() {
            return None;
        }
        let words = |offset: usize, count: usize| -> Option<Vec<u64>> {
            let mut words = vec![0u64; count];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            (file::read_at(&lock.fd, bytes, offset as u64).ok()? == count * 8).then_some(words)
        };
        let acknowledged = words(crate::control::Control::BOARD_OFFSET, SLOTS_MAX)?;
        let slots = words(crate::control::Control::SLOTS_OFFSET, size_of::<SlotTable>() / 8)?;
        let stride = slots.len() / SLOTS_MAX;
        let is_live = |slot: usize| slots[slot * stride] as u32 & 3 == SlotState::Live as u32;
        let live = (1..SLOTS_MAX).filter(|&slot| is_live(slot));
        Some(Parties { acknowledged: live.map(|slot| (slot as u16, acknowledged[slot])).collect() })
    }

    fn pinning(&self, number: u64) -> Vec<u16> {
        self.acknowledged.iter().filter(|party| party.1 < number).map(|party| party.0).collect()
    }
}
