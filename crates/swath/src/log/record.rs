//! One record: what an event was, as words, with a checksum.

use std::fmt::Write;

use bytemuck::{Pod, Zeroable};
use tracing_core::{Level, LevelFilter};

use crate::cause::at_most;
use crate::checksum::checksum;
use crate::limits::LOG_RECORD_BYTES;

/// What precedes a record's texts: target, file, message, spans, fields, one behind the other.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Head {
    /// Of the whole record; where the ring looks for it.
    words: u16,
    level: u8,
    pad: u8,
    pid: u32,
    checksum: u64,
    sequence: u64,
    time_ns: u64,
    task: u64,
    /// The chunk plus one.
    chunk: u64,
    line: u32,
    lengths: [u16; TEXTS],
    pad2: u16,
}

const TEXTS: usize = 5;
const HEAD_WORDS: usize = size_of::<Head>() / 8;
const _: () = assert!(size_of::<Head>() == 64 && LOG_RECORD_BYTES < 0xffff);

/// Longest texts, in the order of the record. Together with the head and a little rest they fill the longest record: whoever
/// says much in one text does not cut the others.
const TEXT_BYTES: [usize; TEXTS] = [200, 200, 1700, 500, 1400];
const MARK: &str = " … (cut)";
const _: () = {
    let [a, b, c, d, e] = TEXT_BYTES;
    assert!(a + b + c + d + e + size_of::<Head>() + 7 <= LOG_RECORD_BYTES);
};

/// An event, as it was or as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) level: Level,
    pub(super) pid: u32,
    /// Counts the worker's records.
    pub(super) sequence: u64,
    /// `CLOCK_REALTIME`.
    pub(super) time_ns: u64,
    pub(super) task: Option<u64>,
    pub(super) chunk: Option<u64>,
    pub(super) target: &'a str,
    pub(super) file: &'a str,
    /// 0: none.
    pub(super) line: u32,
    pub(super) message: &'a str,
    /// The open spans, outermost first.
    pub(super) spans: &'a str,
    pub(super) fields: &'a str,
}

impl<'a> Record<'a> {
    /// Puts the words into `into`; [`seal`] is still to come.
    pub(super) fn encode(&self, into: &mut Vec<u64>) {
        let texts = [self.target, self.file, self.message, self.spans, self.fields];
        let mut head = Head {
            level: rank(self.level.into()) as u8,
            pid: self.pid,
            time_ns: self.time_ns,
            task: self.task.unwrap_or(0),
            chunk: self.chunk.map_or(0, |chunk| chunk + 1),
            line: self.line,
            ..Head::zeroed()
        };
        let mut parts = [("", ""); TEXTS];
        for (((text, max), part), length) in
            texts.into_iter().zip(TEXT_BYTES).zip(&mut parts).zip(&mut head.lengths)
        {
            *part = cut(text, max);
            *length = (part.0.len() + part.1.len()) as u16;
        }
        let bytes: usize = head.lengths.iter().map(|length| usize::from(*length)).sum();
        head.words = (HEAD_WORDS + bytes.div_ceil(8)) as u16;
        into.clear();
        into.resize(head.words.into(), 0);
        into[..HEAD_WORDS].copy_from_slice(bytemuck::cast_slice(&[head]));
        let mut room: &mut [u8] = bytemuck::cast_slice_mut(&mut into[HEAD_WORDS..]);
        for part in parts.iter().flat_map(|(whole, mark)| [*whole, *mark]) {
            let (own, rest) = room.split_at_mut(part.len());
            own.copy_from_slice(part.as_bytes());
            room = rest;
        }
    }

    /// The record in these words, if they are a whole one.
    pub(super) fn decode(words: &'a [u64]) -> Option<Record<'a>> {
        let head: Head = *bytemuck::from_bytes(bytemuck::cast_slice(words.get(..HEAD_WORDS)?));
        if head.checksum != sum(words) {
            return None;
        }
        let mut rest: &[u8] = bytemuck::cast_slice(&words[HEAD_WORDS..]);
        let mut texts = [""; TEXTS];
        for (text, length) in texts.iter_mut().zip(head.lengths) {
            let (own, others) = rest.split_at_checked(length.into())?;
            (*text, rest) = (std::str::from_utf8(own).ok()?, others);
        }
        let [target, file, message, spans, fields] = texts;
        Some(Record {
            level: filter_of(head.level.into()).into_level()?,
            pid: head.pid,
            sequence: head.sequence,
            time_ns: head.time_ns,
            task: (head.task != 0).then_some(head.task),
            chunk: head.chunk.checked_sub(1),
            target,
            file,
            line: head.line,
            message,
            spans,
            fields,
        })
    }

    /// As one line, without its time.
    pub(super) fn to_line(self) -> String {
        let Record { level, target, message, spans, fields, .. } = self;
        let mut line = String::with_capacity(64 + target.len() + message.len() + spans.len() + fields.len());
        let _ = write!(line, "{level} {target}");
        if let Some(task) = self.task {
            let _ = write!(line, " (task {task})");
        }
        if let Some(chunk) = self.chunk {
            let _ = write!(line, " (chunk {chunk})");
        }
        let texts = [spans, message, fields];
        let parts = texts.iter().zip([": ", ": ", " "]).filter(|(text, _)| !text.is_empty());
        for (text, before) in parts {
            line.push_str(before);
            push_printable(&mut line, text);
        }
        line
    }
}

/// A text of several lines must not look like several records.
fn push_printable(line: &mut String, text: &str) {
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
}

/// As much of `text` as there is room for, and the mark if that is not all.
fn cut(text: &str, max: usize) -> (&str, &'static str) {
    if text.len() <= max {
        return (text, "");
    }
    (at_most(text, max - MARK.len()), MARK)
}

/// The last that an encoded record needs: its number and the checksum.
pub(super) fn seal(words: &mut [u64], sequence: u64) {
    let at = std::mem::offset_of!(Head, sequence) / 8;
    words[at] = sequence;
    words[CHECKSUM_AT] = sum(words);
}

const CHECKSUM_AT: usize = std::mem::offset_of!(Head, checksum) / 8;

/// The checksum of all words but its own.
fn sum(words: &[u64]) -> u64 {
    words[0] ^ checksum(bytemuck::cast_slice(&words[CHECKSUM_AT + 1..]))
}

/// A level as a number: 0 is off, 5 is everything.
pub(super) fn rank(filter: LevelFilter) -> u64 {
    LEVELS.iter().position(|level| *level == filter).unwrap_or(0) as u64
}

/// The level of a number.
pub(super) fn filter_of(rank: u64) -> LevelFilter {
    LEVELS[(rank as usize).min(LEVELS.len() - 1)]
}

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(message: &'a str, fields: &'a str) -> Record<'a> {
        Record {
            level: Level::WARN,
            pid: 77,
            sequence: 5,
            time_ns: 123,
            task: Some(9),
            chunk: None,
            target: "app::part",
            file: "src/part.rs",
            line: 12,
            message,
            spans: "outer{n=1}>inner",
            fields,
        }
    }

    fn encoded(record: &Record<'_>) -> Vec<u64> {
        let mut words = Vec::new();
        record.encode(&mut words);
        seal(&mut words, record.sequence);
        words
    }

    #[test]
    fn records_come_back_and_read_as_a_line() {
        let told = Record { chunk: Some(0), ..record("two\nlines", "a=1 b=\"ü\"") };
        let words = encoded(&told);
        assert_eq!(Record::decode(&words), Some(told));
        assert_eq!(words[0] as u16 as usize, words.len());
        assert_eq!(
            record("two\nlines", "a=1").to_line(),
            "WARN app::part (task 9): outer{n=1}>inner: two\\nlines a=1"
        );
    }

    #[test]
    fn any_changed_word_is_noticed() {
        let words = encoded(&record("hello", "x=1"));
        for at in 0..words.len() {
            let mut changed = words.clone();
            changed[at] ^= 1 << 20;
            assert_eq!(Record::decode(&changed), None, "word {at}");
        }
        assert_eq!(Record::decode(&words[..words.len() - 1]), None);
        assert_eq!(Record::decode(&[]), None);
    }

    #[test]
    fn long_texts_are_cut_with_a_mark_and_leave_the_others_their_room() {
        let long = "ä".repeat(10_000);
        let told = record(&long, "a=1");
        let words = encoded(&told);
        assert!(words.len() * 8 <= LOG_RECORD_BYTES);
        let back = Record::decode(&words).expect("whole");
        assert!(back.message.ends_with(MARK) && back.message.len() <= 1700, "{}", back.message.len());
        assert_eq!((back.fields, back.spans), ("a=1", told.spans));
        let all = Record { target: &long, file: &long, spans: &long, ..record(&long, &long) };
        assert!(encoded(&all).len() * 8 <= LOG_RECORD_BYTES);
    }

    #[test]
    fn levels_are_numbers_and_back() {
        for filter in LEVELS {
            assert_eq!(filter_of(rank(filter)), filter);
        }
        assert_eq!(filter_of(99), LevelFilter::TRACE);
    }
}
