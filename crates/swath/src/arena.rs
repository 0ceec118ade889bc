//! An arena: a file in memory to which one worker appends records and from which the coordinator reads them.
//!
//! It has one writer, a (slot, generation), and no allocator: a record is written, then its offset is published in one word
//! of shared memory. A worker killed while it writes leaves a tail that nobody refers to; the whole arena is dropped with
//! its writer. Written and read by `pwrite` and `pread`, so neither side maps anything and nobody can meet SIGBUS here.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytemuck::{Pod, Zeroable};

use crate::checksum::checksum;
use crate::limits::ARENA_KEEP_BYTES;

/// What precedes a record's bytes.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    epoch: u32,
    kind: u32,
    len: u64,
    checksum: u64,
    /// Where the previous record of the same list is, as [`At::word`].
    previous: u64,
}

const HEADER_BYTES: u64 = size_of::<Header>() as u64;

/// The place of a record: its offset plus one, so that zero means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At(u64);

impl At {
    /// No record.
    pub(crate) const NONE: At = At(0);

    /// As it is stored in shared memory.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// From shared memory.
    pub(crate) fn from_word(word: u64) -> At {
        At(word)
    }
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A chunk's encoded value.
    Value = 1,
    /// A worker's encoded accumulator.
    Accumulator = 2,
    /// A failure of a chunk.
    Failure = 3,
    /// A worker's last words.
    Farewell = 4,
}

/// The writing end.
pub(crate) struct Arena {
    file: File,
    tail: u64,
}

/// A record, read and checked.
pub(crate) struct Record {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The previous one of its list.
    pub(crate) previous: At,
}

impl Arena {
    /// An arena over an empty file.
    pub(crate) fn new(file: File) -> Arena {
        Arena { file, tail: 0 }
    }

    /// Forgets all records; the coordinator has read what it wanted before it published another phase.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.tail > ARENA_KEEP_BYTES {
            self.file.set_len(0)?;
        }
        self.tail = 0;
        Ok(())
    }

    /// Appends a record.
    pub(crate) fn append(&mut self, epoch: u32, kind: Kind, bytes: &[u8], previous: At) -> io::Result<At> {
        let at = self.tail;
        let header = Header {
            epoch,
            kind: kind as u32,
            len: bytes.len() as u64,
            checksum: checksum(bytes),
            previous: previous.word(),
        };
        self.file.write_all_at(bytemuck::bytes_of(&header), at)?;
        self.file.write_all_at(bytes, at + HEADER_BYTES)?;
        self.tail = (at + HEADER_BYTES + bytes.len() as u64).next_multiple_of(8);
        Ok(At(at + 1))
    }
}

/// Reads the record at `at`. An error of kind `InvalidData` when it is not a whole record of this epoch and kind.
pub(crate) fn read(file: &File, epoch: u32, kind: Kind, at: At) -> io::Result<Record> {
    let invalid =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("record of a worker: {what}"));
    let offset = at.word().checked_sub(1).ok_or_else(|| invalid("none"))?;
    let mut header = Header::zeroed();
    file.read_exact_at(bytemuck::bytes_of_mut(&mut header), offset)?;
    if header.epoch != epoch || header.kind != kind as u32 {
        return Err(invalid("another phase's or another kind's"));
    }
    let room = file.metadata()?.len().saturating_sub(offset + HEADER_BYTES);
    if header.len > room {
        return Err(invalid("longer than its file"));
    }
    let mut bytes = vec![0; header.len as usize];
    file.read_exact_at(&mut bytes, offset + HEADER_BYTES)?;
    if checksum(&bytes) != header.checksum {
        return Err(invalid("checksum differs"));
    }
    Ok(Record { bytes, previous: At::from_word(header.previous) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        tempfile::tempfile().expect("a temporary file")
    }

    #[test]
    fn records_come_back_and_lists_go_backwards() {
        let file = file();
        let mut arena = Arena::new(file.try_clone().expect("dup"));
        let first = arena.append(7, Kind::Failure, b"one", At::NONE).expect("room");
        arena.append(7, Kind::Value, &[9; 1000], At::NONE).expect("room");
        let second = arena.append(7, Kind::Failure, b"", first).expect("room");
        let last = read(&file, 7, Kind::Failure, second).expect("whole");
        assert_eq!((last.bytes.as_slice(), last.previous), (b"".as_slice(), first));
        let record = read(&file, 7, Kind::Failure, first).expect("whole");
        assert_eq!((record.bytes.as_slice(), record.previous), (b"one".as_slice(), At::NONE));
    }

    #[test]
    fn half_a_record_is_refused() {
        let file = file();
        let mut arena = Arena::new(file.try_clone().expect("dup"));
        let at = arena.append(1, Kind::Value, b"twelve bytes", At::NONE).expect("room");
        assert!(read(&file, 2, Kind::Value, at).is_err(), "another phase");
        assert!(read(&file, 1, Kind::Failure, at).is_err(), "another kind");
        assert!(read(&file, 1, Kind::Value, At::from_word(5)).is_err(), "not a record's place");
        file.write_all_at(b"T", HEADER_BYTES).expect("writable");
        assert!(read(&file, 1, Kind::Value, at).is_err(), "changed");
        file.set_len(HEADER_BYTES + 3).expect("shorter");
        assert!(read(&file, 1, Kind::Value, at).is_err(), "cut");
    }
}
