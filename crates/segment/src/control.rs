//! The mapped control segment: atomics at fixed places, nothing else.
//!
//! # Safety
//!
//! A `&'static Control` exists only for memory that this file mapped (`map`): at one address for the whole life of the
//! process, never unmapped. When a coordinator's session ends, private zeros take its place at the same address, and
//! the next session's control segment later. All fields are atomics, for which every bit pattern is valid, so neither
//! another process's stores nor such a change can be undefined behaviour. (Unmapping would also be a trap: the kernel
//! writes to the life words in here when a thread dies.)

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use swath_platform::{file, memory};
use swath_sync::slots::{SLOTS_MAX, SlotId, SlotState, SlotTable};

use crate::error::{Error, Result};
use crate::layout::{
    COUNTERS, ENGINE_WORDS, ENTRY_WORDS, EntryImage, EntryState, GUARDIAN_WORD, HEADER_WORDS, HeaderImage,
    MAGIC, index_of,
};
use crate::limits::SEGMENTS_MAX;
use crate::name::SHM_DIR;

/// The session's shared state. See `layout` for the map.
#[repr(C, align(4096))]
pub struct Control {
    header: [AtomicU64; HEADER_WORDS],
    slots: SlotTable,
    table: [Entry; SEGMENTS_MAX],
    board: Board,
    engine: [AtomicU64; ENGINE_WORDS],
}

/// One entry of the segment table. Written by the coordinator only.
#[repr(C, align(128))]
pub struct Entry {
    words: [AtomicU64; ENTRY_WORDS],
}

/// Retirement and counters.
#[repr(C, align(64))]
pub struct Board {
    /// For each slot: the retirement number up to which it has unmapped what was retired.
    acknowledged: [AtomicU64; SLOTS_MAX],
    /// The latest retirement number; 0: nothing was ever retired.
    retired: AtomicU64,
    reserved: [AtomicU64; 7],
    counters: [AtomicU64; COUNTERS],
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("header", &self.header()).finish_non_exhaustive()
    }
}

impl Entry {
    /// A copy of one segment's entry: taken between two looks at state and id that agree. Which fields mean something
    /// depends on the state (see [`EntryImage::identity`]).
    pub fn image(&self) -> EntryImage {
        loop {
            let before = (self.words[0].load(Ordering::Acquire), self.words[1].load(Ordering::Relaxed));
            let words: [u64; ENTRY_WORDS] = std::array::from_fn(|i| self.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            let after = (self.words[0].load(Ordering::Relaxed), self.words[1].load(Ordering::Relaxed));
            if before == after {
                return bytemuck::cast(words);
            }
        }
    }

    /// Fills the entry for a new segment, state last. Until then it is FREE: nothing of it was made yet.
    pub(crate) fn enter(&self, image: &EntryImage) {
        self.words[0].store(EntryState::Free.word(), Ordering::Relaxed);
        fence(Ordering::Release);
        self.rewrite(image);
    }

    /// Writes what has become known of the segment, state last. The entry is never FREE meanwhile: whoever is killed in
    /// here leaves its former state, and with it all that a cleaner needs (id, flags and name do not change).
    pub(crate) fn rewrite(&self, image: &EntryImage) {
        let words: [u64; ENTRY_WORDS] = bytemuck::cast(*image);
        for (shared, word) in self.words.iter().zip(words).skip(1) {
            shared.store(word, Ordering::Relaxed);
        }
        self.words[0].store(words[0], Ordering::Release);
    }

    /// Forgets the entry.
    pub(crate) fn clear(&self) {
        self.words[0].store(EntryState::Free.word(), Ordering::Release);
    }

    fn is_live(&self, id: u64) -> bool {
        let state = EntryState::of(self.words[0].load(Ordering::Acquire));
        state == EntryState::Live && self.words[1].load(Ordering::Relaxed) == id
    }
}

impl Control {
    pub(crate) const SLOTS_OFFSET: usize = std::mem::offset_of!(Control, slots);
    pub(crate) const TABLE_OFFSET: usize = std::mem::offset_of!(Control, table);
    pub(crate) const BOARD_OFFSET: usize = std::mem::offset_of!(Control, board);
    pub(crate) const ENGINE_OFFSET: usize = std::mem::offset_of!(Control, engine);

    /// Where some entries of the segment table are.
    pub(crate) fn entries(which: Range<usize>) -> Range<u64> {
        let at = |index: usize| (Self::TABLE_OFFSET + index * size_of::<Entry>()) as u64;
        at(which.start)..at(which.end)
    }

    /// Where that is which follows them.
    pub(crate) fn behind_entries() -> Range<u64> {
        Self::entries(0..SEGMENTS_MAX).end..size_of::<Control>() as u64
    }

    /// One snapshot of the header; nothing is trusted that was not copied.
    pub fn header(&self) -> HeaderImage {
        let words: [u64; size_of::<HeaderImage>() / 8] =
            std::array::from_fn(|i| self.header[i].load(Ordering::Acquire));
        bytemuck::cast(words)
    }

    /// Fills the header; the magic last, with release, so whoever sees it sees the rest.
    pub(crate) fn publish_header(&self, image: &HeaderImage) {
        let words: [u64; size_of::<HeaderImage>() / 8] = bytemuck::cast(*image);
        for (shared, word) in self.header.iter().zip(words).skip(1) {
            shared.store(word, Ordering::Relaxed);
        }
        self.header[0].store(MAGIC, Ordering::Release);
    }

    pub(crate) fn set_guardian_pid(&self, pid: u32) {
        self.header[GUARDIAN_WORD].store(u64::from(pid), Ordering::Release);
    }

    /// The slot table.
    pub fn slots(&self) -> &SlotTable {
        &self.slots
    }

    /// The segment table: names and identities.
    pub fn names(&self) -> &[Entry; SEGMENTS_MAX] {
        &self.table
    }

    /// Whether the segment still belongs to its owner (neither retired nor gone).
    pub fn is_live(&self, id: u64) -> bool {
        self.table[index_of(id)].is_live(id)
    }

    /// The latest retirement number.
    pub fn retired(&self) -> u64 {
        self.board.retired.load(Ordering::Acquire)
    }

    pub(crate) fn next_retirement(&self) -> u64 {
        self.board.retired.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Says that the party in this slot has unmapped all that was retired up to `number`.
    pub fn acknowledge(&self, slot: SlotId, number: u64) {
        self.board.acknowledged[usize::from(slot.index) % SLOTS_MAX].store(number, Ordering::Release);
    }

    /// Up to which retirement number the slot has unmapped.
    pub fn acknowledged(&self, slot: u16) -> u64 {
        self.board.acknowledged[usize::from(slot) % SLOTS_MAX].load(Ordering::Acquire)
    }

    /// The slots whose live party may still have retirement `number` mapped; the coordinator's own is not among them.
    pub fn pinning(&self, number: u64) -> impl Iterator<Item = u16> + '_ {
        (0..SLOTS_MAX as u16).filter(move |&slot| self.pins(slot, number))
    }

    fn pins(&self, slot: u16, number: u64) -> bool {
        // A STARTING party has mapped nothing yet, a DEAD one (its exit is confirmed) nothing any more.
        slot != 0 && matches!(self.slots.state(slot).0, SlotState::Live) && self.acknowledged(slot) < number
    }

    /// Counters, for whoever looks on.
    pub fn counters(&self) -> &[AtomicU64; COUNTERS] {
        &self.board.counters
    }

    /// 64 KiB that the engine lays out itself, all zero at first.
    pub fn engine(&self) -> &[AtomicU64; ENGINE_WORDS] {
        &self.engine
    }
}

/// The address of the one mapping, reserved at the first use.
fn address() -> Result<*mut u8> {
    static ADDRESS: OnceLock<usize> = OnceLock::new();
    if let Some(&address) = ADDRESS.get() {
        return Ok(std::ptr::with_exposed_provenance_mut(address));
    }
    let fresh = memory::reserve(size_of::<Control>())
        .map_err(|e| Error::system("reserve address space for", "the control segment", e))?;
    // Two threads at once: the loser's reservation stays unused address space.
    let address = *ADDRESS.get_or_init(|| fresh.expose_provenance());
    Ok(std::ptr::with_exposed_provenance_mut(address))
}

/// Reserves these bytes of a control segment's file, so that no store into them can fail for want of room.
pub(crate) fn reserve(file: &OwnedFd, parts: &[Range<u64>]) -> Result<()> {
    let mut reserved = 0;
    for bytes in parts {
        file::fallocate_range(file, bytes.clone()).map_err(|error| no_room(error, parts, reserved))?;
        reserved += bytes.end - bytes.start;
    }
    Ok(())
}

/// Why they could not be reserved, `reserved` bytes of them being so.
fn no_room(error: std::io::Error, parts: &[Range<u64>], reserved: u64) -> Error {
    let error = Error::system("fallocate", "the control segment", error);
    if !error.is_out_of_space() {
        return error;
    }
    let needed = parts.iter().map(|bytes| bytes.end - bytes.start).sum();
    let free = file::space(Path::new(SHM_DIR)).map_or(0, |space| space.free) + reserved;
    Error::NoRoom { needed, free, mount: SHM_DIR.into(), pinned: 0 }
}

/// Maps the control segment. The caller has checked that the file has the whole length.
pub(crate) fn map(fd: &impl AsFd) -> Result<&'static Control> {
    map_at(address()?, fd)
}

fn map_at(at: *mut u8, fd: &impl AsFd) -> Result<&'static Control> {
    // SAFETY: 1. `at` is the reservation of exactly this length; 2. references into it are to `Control`: atomics;
    // 3. checked by the caller, and only the owner of the session may truncate, which it never does.
    unsafe { memory::map_over(at, size_of::<Control>(), fd) }
        .map_err(|e| Error::system("mmap", "the control segment", e))?;
    // A hint: without it a forked child could scribble, and a core dump would be larger.
    let _ = memory::dont_fork_dump(at, size_of::<Control>());
    // SAFETY: page-aligned (≥ 4096), mapped for the whole size and for ever (module doc), atomics only.
    Ok(unsafe { &*at.cast::<Control>() })
}

/// Puts zeros in the place of the control segment: the session is over.
pub(crate) fn unmap() {
    if let Ok(at) = address() {
        put_zeros(at);
    }
}

/// Maps the control segment of a session that is not this process's own, at an address of its own.
pub(crate) fn map_elsewhere(fd: &impl AsFd) -> Result<&'static Control> {
    let at = memory::reserve(size_of::<Control>())
        .map_err(|e| Error::system("reserve address space for", "another session's control segment", e))?;
    map_at(at, fd)
}

/// Whether forked copies of this process have the segment mapped. At first they have not.
pub(crate) fn inherit(control: &'static Control, inherited: bool) -> Result<()> {
    let (at, len) = (std::ptr::from_ref(control).cast(), size_of::<Control>());
    let done = if inherited { memory::do_fork(at, len) } else { memory::dont_fork_dump(at, len) };
    done.map_err(|e| Error::system("madvise", "the control segment", e))
}

/// Puts zeros in the place of what [`map_elsewhere`] mapped.
pub(crate) fn unmap_elsewhere(control: &'static Control) {
    put_zeros(std::ptr::from_ref(control).cast_mut().cast());
}

fn put_zeros(at: *mut u8) {
    // SAFETY: as in `map_at`; a straggler's loads see zeros, its stores go nowhere.
    if let Err(error) = unsafe { memory::map_zeros_over(at, size_of::<Control>()) } {
        tracing::warn!("the memory of an ended session's control segment stays mapped: {error}");
    }
}
