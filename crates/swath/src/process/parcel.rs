//! A parcel: what one process hands another before it begins, or when it is done: two runs of bytes in an unnamed file in memory.
//!
//! 1. The author writes both runs, then lengths and checksums, by `pwrite`.
//! 2. The author commits: one write of the eight bytes of the first word.
//! 3. The reader copies it by `pread`, through `/proc/PID/fd` if the file is another process's.
//!
//! Killed before 2: there is no parcel. The reader reads only when the author is done, or dead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytemuck::{Pod, Zeroable};
use swath_platform::file;

use crate::checksum::checksum;

const COMMITTED: u64 = u64::from_le_bytes(*b"swathpcl");

/// What stands at the beginning.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    committed: u64,
    lengths: [u64; 2],
    checksums: [u64; 2],
}

const HEADER_BYTES: u64 = size_of::<Header>() as u64;

/// Steps 1 and 2.
pub(crate) fn write(file: &File, runs: [&[u8]; 2]) -> io::Result<()> {
    file.write_all_at(runs[0], HEADER_BYTES)?;
    file.write_all_at(runs[1], HEADER_BYTES + runs[0].len() as u64)?;
    let lengths = runs.map(|run| run.len() as u64);
    let header = Header { committed: 0, lengths, checksums: runs.map(checksum) };
    file.write_all_at(bytemuck::bytes_of(&header), 0)?;
    file.write_all_at(&COMMITTED.to_ne_bytes(), 0)
}

/// Step 3. `None`: nothing was committed.
pub(crate) fn read(file: &File) -> io::Result<Option<[Vec<u8>; 2]>> {
    let mut header = Header::zeroed();
    if file::read_at(file, bytemuck::bytes_of_mut(&mut header), 0)? < size_of::<Header>()
        || header.committed != COMMITTED
    {
        return Ok(None);
    }
    let invalid =
        |what| io::Error::new(io::ErrorKind::InvalidData, format!("what a process handed over: {what}"));
    let room = file.metadata()?.len() - HEADER_BYTES;
    let [first, second] = header.lengths;
    if first.checked_add(second).is_none_or(|sum| sum > room) {
        return Err(invalid("longer than its file"));
    }
    let mut runs = [vec![0; first as usize], vec![0; second as usize]];
    file.read_exact_at(&mut runs[0], HEADER_BYTES)?;
    file.read_exact_at(&mut runs[1], HEADER_BYTES + first)?;
    let same = runs.iter().zip(header.checksums).all(|(run, sum)| checksum(run) == sum);
    if same { Ok(Some(runs)) } else { Err(invalid("checksum differs")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_file;

    #[test]
    fn a_parcel_comes_whole_or_not_at_all() {
        let (file, place) = memory_file::new("swath-test").expect("a file");
        assert!(read(&file).expect("readable").is_none(), "nothing yet");
        write(&file, [b"head", &[7; 5000]]).expect("room");
        let there = place.open(std::process::id()).expect("found");
        assert_eq!(read(&there).expect("whole"), Some([b"head".to_vec(), vec![7; 5000]]));
        file.write_all_at(&[8], HEADER_BYTES + 100).expect("writable");
        assert!(read(&there).is_err(), "changed");
        file.set_len(HEADER_BYTES + 100).expect("shorter");
        assert!(read(&there).is_err(), "cut");
        file.write_all_at(&[0; 8], 0).expect("writable");
        assert!(read(&there).expect("readable").is_none(), "all but committed");
    }
}
