//! The ring: words in shared memory, one worker that writes records and never waits, one reader that may be too slow.
//!
//! Steps 1 to 5 and 7 of [`crate::log`]'s protocol, and nothing about what a record says but its length: the low 16 bits of its
//! first word, in words.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::limits::{LOG_RECORD_BYTES, LOG_RING_BYTES};

/// Tells a ring from other segments; the last byte is the layout's version.
const MAGIC: u64 = u64::from_be_bytes(*b"swlogrg\x01");

const HEAD_WORDS: usize = 512;
const DATA_WORDS: usize = LOG_RING_BYTES / 8;
/// Longest record.
pub(crate) const RECORD_WORDS: usize = LOG_RECORD_BYTES / 8;
/// All bytes of a ring's segment.
pub(crate) const RING_BYTES: usize = (HEAD_WORDS + DATA_WORDS) * 8;

// Words of the head. What one side writes shares no cache line with what the other does.
const AT_MAGIC: usize = 0;
const AT_LEVEL: usize = 1;
const AT_TAIL: usize = 8;
const AT_OLDEST: usize = 9;
const AT_READ: usize = 16;
const AT_SLEEP: usize = 24;
const AT_PATH_BYTES: usize = 32;
const AT_PATH: usize = 33;
/// Longest directory that fits into the head.
pub(crate) const PATH_BYTES_MAX: usize = (HEAD_WORDS - AT_PATH) * 8;

const _: () =
    assert!(DATA_WORDS.is_power_of_two() && RECORD_WORDS * 2 <= DATA_WORDS && RECORD_WORDS <= 0xffff);

/// What the reader does while it does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Sleep {
    /// It will look by itself.
    Awake = 0,
    /// It will look soon; wake it only when half of the ring is unread.
    Napping = 1,
    /// It looks when the bell rings.
    Asleep = 2,
}

/// A ring's words.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// Over zeroed words, or words that were a ring: an empty one, before its writer is started.
    pub(crate) fn reset(words: &'a [AtomicU64], level: u64, directory: &OsStr) -> Ring<'a> {
        let ring = Ring { words: &words[..HEAD_WORDS + DATA_WORDS] };
        for at in [AT_TAIL, AT_OLDEST, AT_READ, AT_SLEEP] {
            ring.words[at].store(0, Ordering::Relaxed);
        }
        ring.set_level(level);
        let bytes = directory.as_bytes();
        ring.words[AT_PATH_BYTES].store(bytes.len() as u64, Ordering::Relaxed);
        for (word, part) in ring.words[AT_PATH..HEAD_WORDS].iter().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..part.len()].copy_from_slice(part);
            word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
        }
        ring.words[AT_MAGIC].store(MAGIC, Ordering::Release);
        ring
    }

    /// Over words that [`Ring::reset`] has prepared; `None` when they are something else.
    pub(crate) fn over(words: &'a [AtomicU64]) -> Option<Ring<'a>> {
        let words = words.get(..HEAD_WORDS + DATA_WORDS)?;
        (words[AT_MAGIC].load(Ordering::Acquire) == MAGIC).then_some(Ring { words })
    }

    /// Up to which level the worker writes.
    #[inline]
    pub(crate) fn level(self) -> u64 {
        self.words[AT_LEVEL].load(Ordering::Relaxed)
    }

    /// The coordinator wants another level from the next turn on.
    pub(crate) fn set_level(self, level: u64) {
        self.words[AT_LEVEL].store(level, Ordering::Relaxed);
    }

    /// Where the worker is to write its file; empty: nowhere.
    pub(crate) fn directory(self) -> OsString {
        let len = (self.words[AT_PATH_BYTES].load(Ordering::Relaxed) as usize).min(PATH_BYTES_MAX);
        let words = self.words[AT_PATH..HEAD_WORDS].iter().take(len.div_ceil(8));
        let mut bytes: Vec<u8> = words.flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(len);
        OsString::from_vec(bytes)
    }

    #[inline]
    fn word(self, position: u64) -> &'a AtomicU64 {
        &self.words[HEAD_WORDS + position as usize % DATA_WORDS]
    }

    /// Step 7: the reader says what it is about to do; true when there is something to read all the same.
    pub(crate) fn doze(self, sleep: Sleep, reader: &Reader) -> bool {
        self.words[AT_SLEEP].store(sleep as u64, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let unread = self.words[AT_TAIL].load(Ordering::Relaxed).saturating_sub(reader.at);
        unread > if sleep == Sleep::Napping { DATA_WORDS as u64 / 2 } else { 0 }
    }

    /// The reader is awake.
    pub(crate) fn wake(self) {
        self.words[AT_SLEEP].store(Sleep::Awake as u64, Ordering::Relaxed);
    }
}

/// The worker's end. Its positions are its own: a stray write into the ring does not lead it astray.
pub(crate) struct Writer<'a> {
    ring: Ring<'a>,
    tail: u64,
    oldest: u64,
}

impl<'a> Writer<'a> {
    /// The one writer of a ring that was just reset.
    pub(crate) fn new(ring: Ring<'a>) -> Writer<'a> {
        Writer { ring, tail: 0, oldest: 0 }
    }

    /// Steps 1 to 3. The record's length is in its first word.
    ///
    /// # Panics
    /// When a record is longer than [`RECORD_WORDS`].
    pub(crate) fn append(&mut self, record: &[u64]) {
        assert!(record.len() <= RECORD_WORDS, "a record of {} words", record.len());
        let end = self.tail + record.len() as u64;
        if end - self.oldest > DATA_WORDS as u64 {
            while end - self.oldest > DATA_WORDS as u64 {
                self.oldest = self.next_after(self.oldest);
            }
            // Release by itself too: who sees it sees a `tail` that is not below it.
            self.ring.words[AT_OLDEST].store(self.oldest, Ordering::Release);
            fence(Ordering::Release);
        }
        for (position, word) in (self.tail..).zip(record) {
            self.ring.word(position).store(*word, Ordering::Relaxed);
        }
        self.tail = end;
        self.ring.words[AT_TAIL].store(end, Ordering::Release);
    }

    /// Where the record behind the one at `position` begins; the end of all if somebody has written over its length.
    fn next_after(&self, position: u64) -> u64 {
        let len = length(self.ring.word(position).load(Ordering::Relaxed));
        if (1..=self.tail - position).contains(&len) { position + len } else { self.tail }
    }

    /// Step 4: whether the bell is to be rung.
    #[inline]
    pub(crate) fn wants_bell(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleep = &self.ring.words[AT_SLEEP];
        let seen = sleep.load(Ordering::Relaxed);
        if seen == Sleep::Awake as u64 {
            return false;
        }
        let unread = self.tail.saturating_sub(self.ring.words[AT_READ].load(Ordering::Relaxed));
        if seen == Sleep::Napping as u64 && unread <= DATA_WORDS as u64 / 2 {
            return false;
        }
        let awake = Sleep::Awake as u64;
        sleep.compare_exchange(seen, awake, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn length(first: u64) -> u64 {
    first & 0xffff
}

/// How far somebody has read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    at: u64,
}

impl Reader {
    /// Step 5: the next record, whole, into `record`; false when there is none.
    pub(crate) fn next(&mut self, ring: Ring<'_>, record: &mut Vec<u64>) -> bool {
        loop {
            let tail = ring.words[AT_TAIL].load(Ordering::Acquire);
            let oldest = ring.words[AT_OLDEST].load(Ordering::Acquire);
            // Positions never go back, and `oldest` was loaded later: anything else is a stray write's.
            let sound = self.at <= tail && tail.saturating_sub(oldest) <= DATA_WORDS as u64;
            self.at = if sound { self.at.max(oldest) } else { tail };
            if self.at >= tail {
                return false;
            }
            let len = length(ring.word(self.at).load(Ordering::Relaxed));
            let bounded = (1..=(tail - self.at).min(RECORD_WORDS as u64)).contains(&len);
            record.clear();
            if bounded {
                let positions = self.at..self.at + len;
                record.extend(positions.map(|position| ring.word(position).load(Ordering::Relaxed)));
            }
            fence(Ordering::Acquire);
            if ring.words[AT_OLDEST].load(Ordering::Relaxed) > self.at {
                continue;
            }
            // Nobody overwrote it, so a length that cannot be is a stray write's: where the next record begins is not known.
            self.at = if bounded { self.at + len } else { tail };
            if bounded && length(record[0]) == len {
                return true;
            }
        }
    }

    /// Tells the writer how far it is: a hint for its bell.
    pub(crate) fn show(&self, ring: Ring<'_>) {
        ring.words[AT_READ].store(self.at, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..RING_BYTES / 8).map(|_| AtomicU64::new(0)).collect()
    }

    /// A record whose every word is a function of its number.
    fn record(number: u64, len: usize) -> Vec<u64> {
        let mut words: Vec<u64> =
            (0..len as u64).map(|i| number.wrapping_mul(0x9e37_79b9) ^ i << 48).collect();
        words[0] = number << 16 | len as u64;
        words
    }

    /// Its number, if it is whole.
    fn number(words: &[u64]) -> Option<u64> {
        let number = words[0] >> 16;
        (words == record(number, words.len())).then_some(number)
    }

    fn len_of(number: u64) -> usize {
        1 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % RECORD_WORDS
    }

    #[test]
    fn the_newest_are_kept_and_come_in_order() {
        let words = words();
        let ring = Ring::reset(&words, 3, OsStr::new("/a/directory"));
        assert_eq!((ring.level(), ring.directory()), (3, OsString::from("/a/directory")));
        let (mut writer, mut reader, mut got) = (Writer::new(ring), Reader::default(), Vec::new());
        assert!(!reader.next(ring, &mut got));
        for n in 0..1000 {
            writer.append(&record(n, len_of(n)));
            if n % 100 == 0 {
                let mut last = None;
                while reader.next(ring, &mut got) {
                    let found = number(&got).expect("whole");
                    assert!(last.is_none_or(|last| found == last + 1), "{last:?} {found}");
                    last = Some(found);
                }
                assert_eq!(last, Some(n), "the newest is there");
            }
        }
    }

    /// The writer laps the reader all the time; every record that the reader takes is whole, and later than the one before.
    #[test]
    fn a_racing_reader_takes_no_torn_record() {
        const RECORDS: u64 = if cfg!(miri) { 3_000 } else { 1_000_000 };
        let (words, over) = (words(), AtomicBool::new(false));
        let ring = Ring::reset(&words, 5, OsStr::new(""));
        let (taken, laps) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut reader, mut got) = (Reader::default(), Vec::new());
                let (mut taken, mut laps, mut next) = (0u64, 0u64, 0);
                loop {
                    let last_look = over.load(Ordering::Acquire);
                    while reader.next(ring, &mut got) {
                        let found = number(&got).expect("a torn record");
                        assert!(found >= next, "{found} after {next}");
                        (taken, laps) = (taken + 1, laps + u64::from(found > next));
                        next = found + 1;
                    }
                    if last_look {
                        assert_eq!(next, RECORDS, "the last one is there");
                        return (taken, laps);
                    }
                }
            });
            let mut writer = Writer::new(ring);
            for n in 0..RECORDS {
                writer.append(&record(n, len_of(n) % 24 + 1));
            }
            over.store(true, Ordering::Release);
            reader.join().expect("no torn record")
        });
        assert!(taken > 0 && taken <= RECORDS, "{taken}");
        println!("{taken} of {RECORDS} taken, lapped {laps} times");
    }

    /// As in a crash: at every store of an append the ring stays readable, and what was published before it is whole.
    #[test]
    fn a_writer_that_stops_between_any_two_stores_leaves_a_ring() {
        for stop in 0..40 {
            let words = words();
            let ring = Ring::reset(&words, 5, OsStr::new(""));
            let mut writer = Writer::new(ring);
            (0..300).for_each(|n| writer.append(&record(n, 32)));
            // Steps 1 and 2, as far as they come.
            let next = record(300, 32);
            let oldest = writer.next_after(writer.oldest);
            let stores = [(&ring.words[AT_OLDEST], oldest)].into_iter();
            let stores = stores.chain((writer.tail..).zip(&next).map(|(at, word)| (ring.word(at), *word)));
            stores.take(stop).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
            let (mut reader, mut got, mut found) = (Reader::default(), Vec::new(), Vec::new());
            while reader.next(ring, &mut got) {
                found.push(number(&got).expect("whole"));
            }
            let kept = if stop == 0 { 64 } else { 63 };
            assert_eq!(found, (300 - kept..300).collect::<Vec<_>>(), "stopped after {stop} stores");
        }
    }

    #[test]
    fn who_sleeps_is_rung_once_and_who_naps_when_half_is_unread() {
        let words = words();
        let ring = Ring::reset(&words, 5, OsStr::new(""));
        let (mut writer, mut reader, mut got) = (Writer::new(ring), Reader::default(), Vec::new());
        writer.append(&record(0, 8));
        assert!(!writer.wants_bell(), "awake");
        assert!(ring.doze(Sleep::Asleep, &reader), "it must not sleep: there is one");
        while reader.next(ring, &mut got) {}
        reader.show(ring);
        assert!(!ring.doze(Sleep::Asleep, &reader));
        writer.append(&record(1, 8));
        assert!(writer.wants_bell() && !writer.wants_bell(), "once");
        assert!(!ring.doze(Sleep::Napping, &reader), "one record is no reason to stay up");
        let rung = (2..).take_while(|n| {
            writer.append(&record(*n, 8));
            !writer.wants_bell()
        });
        assert_eq!(rung.count(), DATA_WORDS / 2 / 8 - 1);
    }

    #[test]
    fn stray_writes_cost_records_and_nothing_else() {
        let words = words();
        let ring = Ring::reset(&words, 5, OsStr::new(""));
        let (mut writer, mut reader, mut got) = (Writer::new(ring), Reader::default(), Vec::new());
        (0..10).for_each(|n| writer.append(&record(n, 8)));
        ring.word(16).store(u64::MAX, Ordering::Relaxed);
        let mut seen = 0;
        while reader.next(ring, &mut got) {
            seen += 1;
        }
        assert_eq!(seen, 2, "those before it");
        (10..1000).for_each(|n| writer.append(&record(n, 8)));
        assert!(reader.next(ring, &mut got), "it goes on");
        words[AT_MAGIC].store(0, Ordering::Relaxed);
        assert!(Ring::over(&words).is_none() && Ring::over(&words[..10]).is_none());
    }
}
