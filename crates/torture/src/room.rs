//! Room for long messages: a file in memory that all processes have from the harness.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use swath_platform::file;
use swath_sync::Extents;

/// See the module.
pub(crate) struct Room(File);

impl Room {
    /// An empty one.
    pub(crate) fn new() -> Room {
        Room(file::memfd("messages").expect("a file in memory").into())
    }

    /// Empty again: nobody uses it.
    pub(crate) fn clear(&self) {
        self.0.set_len(0).expect("our own file");
    }

    /// How many bytes of memory messages take up.
    pub(crate) fn taken_up(&self) -> u64 {
        self.0.metadata().map_or(u64::MAX, |data| data.blocks() * 512)
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
pub(crate) fn message(item: u64, long: bool) -> Vec<u8> {
    item.to_le_bytes().repeat(if long { 40 } else { 2 })
}

/// The item that a whole message says.
pub(crate) fn item(message: &[u8]) -> Result<u64, String> {
    let (words, rest) = message.as_chunks::<8>();
    match words.first() {
        Some(first) if rest.is_empty() && words.iter().all(|word| word == first) => {
            Ok(u64::from_le_bytes(*first))
        }
        _ => Err(format!("a torn message: {message:?}")),
    }
}
