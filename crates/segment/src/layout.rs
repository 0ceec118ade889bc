//! The control segment's layout. In shared memory the layout is the interface: every offset is asserted.
//!
//! | offset | bytes | what |
//! |--|--|--|
//! | 0 | 4096 | header; the first 4 KiB are frozen for all versions |
//! | 4096 | 256 KiB | slot table (swath-sync) |
//! | 266240 | 512 KiB | segment table: names and identities; its entry is frozen by `names_version` |
//! | 790528 | 12 KiB | board: acknowledgements of retirement, counters |
//! | 802816 | 64 KiB | the engine's own |
//!
//! The plain structures here are *images*: what one snapshot of the shared words says. The shared words themselves are
//! atomics (see `control`), so a writer in another process is never a data race.

use bytemuck::{Pod, Zeroable};

use crate::limits::{CONTROL_MAX_BYTES, NAME_MAX, SEGMENTS_MAX};
use crate::reference::text_of;

/// "swathctl", published last.
pub const MAGIC: u64 = u64::from_le_bytes(*b"swathctl");

/// Changes with anything that another build would misread.
pub const LAYOUT_VERSION: u32 = 2;

/// Changes with the meaning of a segment table entry; programs that agree on it can clean up after each other.
pub const NAMES_VERSION: u32 = 1;

/// 64-bit words of the header.
pub const HEADER_WORDS: usize = 512;
/// 64-bit words of a segment table entry.
pub const ENTRY_WORDS: usize = 16;
/// 64-bit words left to the engine.
pub const ENGINE_WORDS: usize = 8192;
/// Counters in the board.
pub const COUNTERS: usize = 504;

/// What the header's used part says.
#[repr(C)]
#[derive(Pod, Zeroable, Copy, Clone, PartialEq, Eq, Debug)]
pub struct HeaderImage {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`].
    pub layout_version: u32,
    /// [`NAMES_VERSION`].
    pub names_version: u32,
    /// [`LAYOUT_HASH`].
    pub layout_hash: u64,
    /// The session's id, padded with zeros.
    pub id: [u8; 32],
    /// The coordinator …
    pub coordinator_pid: u32,
    /// … its user …
    pub uid: u32,
    /// … when it started, in clock ticks since boot …
    pub coordinator_start: u64,
    /// … and the pid namespace in which its pid means something.
    pub pid_namespace: u64,
    /// The guardian, 0 when there is none.
    pub guardian_pid: u64,
    /// Where the segment table begins.
    pub names_offset: u64,
    /// How many entries it has.
    pub names_count: u32,
    /// How many bytes an entry has.
    pub names_stride: u32,
    /// Where the slot table begins.
    pub slots_offset: u64,
    /// Bytes of the whole control segment.
    pub total: u64,
    /// When the session began, in seconds since 1970, for humans.
    pub created: u64,
}

/// Where `guardian_pid` stands, in words: the one header field that changes after publication.
pub const GUARDIAN_WORD: usize = std::mem::offset_of!(HeaderImage, guardian_pid) / 8;

const _: () = {
    assert!(size_of::<HeaderImage>() == 128);
    assert!(std::mem::offset_of!(HeaderImage, magic) == 0);
    assert!(std::mem::offset_of!(HeaderImage, id) == 24);
    assert!(std::mem::offset_of!(HeaderImage, coordinator_pid) == 56);
    assert!(std::mem::offset_of!(HeaderImage, guardian_pid) == 80);
    assert!(std::mem::offset_of!(HeaderImage, names_offset) == 88);
    assert!(std::mem::offset_of!(HeaderImage, created) == 120);
};

impl HeaderImage {
    /// The session's id, if it is text.
    pub fn id(&self) -> Option<&str> {
        let end = self.id.iter().position(|&byte| byte == 0).unwrap_or(self.id.len());
        std::str::from_utf8(&self.id[..end]).ok()
    }

    /// Whether this build can read all of the session.
    pub fn same_layout(&self) -> bool {
        (self.layout_version, self.layout_hash) == (LAYOUT_VERSION, LAYOUT_HASH)
    }

    /// "2/89abcdef01234567": version and hash.
    pub fn layout(&self) -> String {
        format!("{}/{:016x}", self.layout_version, self.layout_hash)
    }
}

/// A segment's state in the table.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EntryState {
    /// Unused.
    Free,
    /// The intent to create: the names are written, no system call was made yet or none has finished.
    Entered,
    /// Exists: device, inode and length are valid.
    Live,
    /// Dropped by its owner; workers may still have it mapped.
    Retired,
    /// No state of ours.
    Corrupt,
}

impl EntryState {
    pub(crate) const fn word(self) -> u64 {
        match self {
            EntryState::Free => 0,
            EntryState::Entered => 1,
            EntryState::Live => 2,
            EntryState::Retired => 3,
            EntryState::Corrupt => u64::MAX,
        }
    }

    pub(crate) fn of(word: u64) -> EntryState {
        match word {
            0 => EntryState::Free,
            1 => EntryState::Entered,
            2 => EntryState::Live,
            3 => EntryState::Retired,
            _ => EntryState::Corrupt,
        }
    }
}

/// The segment has a name in `/dev/shm`.
pub const FLAG_NAMED: u32 = 1;
/// One of the engine's own segments, not an array.
pub const FLAG_ENGINE: u32 = 2;
/// A file on disk.
pub const FLAG_FILE: u32 = 4;
/// Never to be unmapped: a writer's death could not be confirmed.
pub const FLAG_TAINTED: u32 = 8;

/// What an entry of the segment table says.
#[repr(C)]
#[derive(Pod, Zeroable, Copy, Clone, PartialEq, Eq, Debug)]
pub struct EntryImage {
    /// An [`EntryState`].
    pub state: u64,
    /// The segment's id: sequence × table size + index in the table.
    pub id: u64,
    /// Device, 0 until known.
    pub dev: u64,
    /// Inode, 0 until known.
    pub ino: u64,
    /// Length in bytes.
    pub len: u64,
    /// The retirement number, when retired.
    pub retired_at: u64,
    /// `FLAG_…`.
    pub flags: u32,
    /// The coordinator's descriptor, -1 until known.
    pub fd: i32,
    /// Zero.
    pub reserved: u64,
    /// Its name, or what it is for when it has none.
    pub name: [u8; NAME_MAX],
}

const _: () = {
    assert!(size_of::<EntryImage>() == ENTRY_WORDS * 8);
    assert!(std::mem::offset_of!(EntryImage, state) == 0);
    assert!(std::mem::offset_of!(EntryImage, flags) == 48);
    assert!(std::mem::offset_of!(EntryImage, name) == 64);
};

impl EntryImage {
    /// The state.
    pub fn state(&self) -> EntryState {
        EntryState::of(self.state)
    }

    /// The name or label, if it is text.
    pub fn name(&self) -> Option<&str> {
        text_of(&self.name)
    }

    /// Whether it has a name in `/dev/shm`.
    pub fn is_named(&self) -> bool {
        self.flags & FLAG_NAMED != 0
    }

    /// (device, inode), once known. They are written while the entry is ENTERED, so until it is LIVE they may be half
    /// of the truth.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let written = matches!(self.state(), EntryState::Live | EntryState::Retired);
        (written && self.ino != 0).then_some((self.dev, self.ino))
    }

    /// The number that makes its unfinished name.
    pub fn sequence(&self) -> u64 {
        sequence_of(self.id)
    }
}

/// The id of the `sequence`-th segment, when it stands at `index` of the table.
pub(crate) fn id_of(sequence: u64, index: usize) -> u64 {
    sequence * SEGMENTS_MAX as u64 + index as u64
}

pub(crate) fn index_of(id: u64) -> usize {
    (id % SEGMENTS_MAX as u64) as usize
}

pub(crate) fn sequence_of(id: u64) -> u64 {
    id / SEGMENTS_MAX as u64
}

/// Bytes of the header.
pub const HEADER_BYTES: usize = HEADER_WORDS * 8;

/// A number that differs when any size or place differs.
pub const LAYOUT_HASH: u64 = {
    use crate::control::Control;
    let parts = [
        LAYOUT_VERSION as u64,
        NAMES_VERSION as u64,
        size_of::<Control>() as u64,
        Control::SLOTS_OFFSET as u64,
        Control::TABLE_OFFSET as u64,
        Control::BOARD_OFFSET as u64,
        Control::ENGINE_OFFSET as u64,
        swath_sync::slots::SLOTS_MAX as u64,
        swath_sync::slots::GENERATION_BITS as u64,
        SEGMENTS_MAX as u64,
        ENTRY_WORDS as u64,
        size_of::<usize>() as u64,
        cfg!(target_endian = "big") as u64,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < parts.len() {
        hash = (hash ^ parts[i]).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
};

const _: () = {
    use crate::control::Control;
    assert!(size_of::<Control>() == 868_352 && size_of::<Control>() < CONTROL_MAX_BYTES);
    assert!(Control::SLOTS_OFFSET == 4096);
    assert!(Control::TABLE_OFFSET == 266_240);
    assert!(Control::BOARD_OFFSET == 790_528);
    assert!(Control::ENGINE_OFFSET == 802_816);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_an_entry() {
        let entry = EntryImage {
            state: EntryState::Live.word(),
            id: id_of(3, 5),
            dev: 0x11,
            ino: 0x22,
            len: 0x33,
            retired_at: 0,
            flags: FLAG_NAMED,
            fd: 7,
            reserved: 0,
            name: crate::reference::padded("field"),
        };
        let bytes = bytemuck::bytes_of(&entry);
        let words: Vec<u64> =
            bytes[..64].chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
        assert_eq!(words, [2, 3 * 4096 + 5, 0x11, 0x22, 0x33, 0, 7 << 32 | 1, 0]);
        assert_eq!(&bytes[64..70], b"field\0");
        assert_eq!((index_of(entry.id), entry.sequence()), (5, 3));
        assert_eq!(entry.identity(), Some((0x11, 0x22)));
    }

    #[test]
    fn an_identity_half_written_is_none() {
        let mut entry = EntryImage { state: EntryState::Entered.word(), ino: 0x22, ..EntryImage::zeroed() };
        assert_eq!(entry.identity(), None);
        entry.state = EntryState::Live.word();
        assert_eq!(entry.identity(), Some((0, 0x22)));
    }

    #[test]
    fn the_magic_reads_as_text() {
        assert_eq!(&MAGIC.to_le_bytes(), b"swathctl");
    }
}
