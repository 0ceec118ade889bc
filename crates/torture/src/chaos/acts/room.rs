//! Room for long messages: a file in memory that all parties have from the referee.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use swath_platform::file;
use swath_sync::Extents;

pub(super) struct Room(File);

impl Room {
    pub(super) fn new() -> Room {
        Room(file::memfd("messages").expect("a file in memory").into())
    }
}

impl Extents for Room {
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(bytes, at)
    }

    fn free(&self, at: u64, len: u64) -> io::Result<()> {
        file::punch_hole(&self.0, at, len)
    }
}

/// A message that says its item in every word: short, or too long for a cell.
pub(super) fn message(item: u64, long: bool) -> Vec<u8> {
    item.to_le_bytes().repeat(if long { 40 } else { 2 })
}

/// The item that a whole message says.
pub(super) fn item(message: &[u8]) -> Result<u64, String> {
    let (words, rest) = message.as_chunks::<8>();
    match words.first() {
        Some(first) if rest.is_empty() && words.iter().all(|word| word == first) => {
            Ok(u64::from_le_bytes(*first))
        }
        _ => Err(format!("a torn message: {message:?}")),
    }
}
