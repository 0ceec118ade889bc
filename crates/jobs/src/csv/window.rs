//! The part of a file that is in memory: a private buffer that moves along.

use super::error::Error;
use super::input::Inputs;
use super::plan::Source;
use super::{keys, number, structure};

/// Bytes that are read at a time: few enough to be still in the cache when they are scanned and parsed.
const STEP: usize = 128 << 10;
/// Bytes behind the end of a chunk that are read at once, in the hope that they finish its last record.
const BEHIND: u64 = 4 << 10;
/// The longest record. Its positions take half a word each.
pub(crate) const RECORD_MAX: usize = 1 << 30;
/// Readable bytes behind the text, for those who read a little too far on purpose; one for a line feed.
const PADDING: usize = structure::PADDING + number::PADDING + keys::READ_AHEAD + 1;

/// Bytes of a file, from `base` on.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    base: u64,
    filled: usize,
    last: bool,
}

impl Window {
    /// Empties the window and moves it to an offset of a file.
    pub(crate) fn restart(&mut self, base: u64) {
        (self.base, self.filled, self.last) = (base, 0, false);
    }

    /// The text, and at least [`PADDING`] bytes behind it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the text has, with the line feed that a last line without one is given.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Whether the file ends where the text ends.
    pub(crate) fn is_last(&self) -> bool {
        self.last
    }

    /// The offset in the file of a place in the text.
    pub(crate) fn offset(&self, at: usize) -> u64 {
        self.base + at as u64
    }

    /// Forgets everything before `keep`, and reads on.
    ///
    /// Not far past `wanted`, the end of the chunk, at first; once the text has got there, in full steps.
    pub(crate) fn advance(
        &mut self,
        inputs: &mut Inputs,
        sources: &[Source],
        file: usize,
        keep: usize,
        wanted: u64,
    ) -> Result<(), Error> {
        let source = &sources[file];
        self.bytes.copy_within(keep..self.filled, 0);
        self.base += keep as u64;
        self.filled -= keep;
        if self.filled > RECORD_MAX {
            let (path, offset) = (source.name.clone(), self.base);
            return Err(Error::RecordTooLong { path, offset, limit: RECORD_MAX });
        }
        let from = self.base + self.filled as u64;
        let near = (wanted + BEHIND).saturating_sub(from).min(STEP as u64) as usize;
        // A record that is longer than a step: twice as much every time.
        let step = if near > 0 { near } else { STEP.max(self.filled) };
        let length = (source.len - from).min(step as u64) as usize;
        self.make_room(length);
        inputs.read(sources, file, from, &mut self.bytes[self.filled..self.filled + length])?;
        self.filled += length;
        if from + length as u64 == source.len {
            self.close();
        }
        Ok(())
    }

    fn make_room(&mut self, length: usize) {
        let needed = self.filled + length + PADDING;
        if self.bytes.len() < needed {
            self.bytes.resize(needed.max(STEP + PADDING), 0);
        }
    }

    /// At the end of the file: gives the last line its line feed, and puts zeros behind it.
    fn close(&mut self) {
        self.last = true;
        if self.filled > 0 && self.bytes[self.filled - 1] != b'\n' {
            self.bytes[self.filled] = b'\n';
            self.filled += 1;
        }
        self.bytes[self.filled..self.filled + structure::PADDING].fill(0);
    }
}
