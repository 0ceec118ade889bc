//! Where fields and records end: the places of all delimiters and line feeds that are not inside quotes.
//!
//! The text is looked at in 64-byte blocks. The masks of a block are turned into positions by jumping from set bit to set
//! bit. Only blocks that have a quote, or lie inside a quoted field, pay for quoting: the state behind every byte is the
//! parity of the quotes up to it, which is a prefix sum in one bit, and hides what is inside.
//!
//! A quote that opens a field must stand at its beginning, or right behind the quote that it doubles; a quote that closes
//! one must stand at its end, or right in front of the quote that doubles it. Two shifts find the blocks in which that
//! may not be so; only those are looked at byte by byte. The first quote in a wrong place stops everything: it is noted,
//! and there are no positions behind it.

use swath_platform::simd::{Masks, compiled_for_this_cpu, structural_masks};

/// Bytes that must be readable, with whatever contents, behind the text that is scanned to its end.
pub(crate) const PADDING: usize = 64;
/// Bytes behind a block that decide whether a quote at its end is in its place: `\r\n`.
const LOOK_AHEAD: usize = 2;
/// Blocks that are scanned with one call.
const BATCH: usize = 32;

/// The end of a field, as the place behind it, where the next one begins. In the lowest bit: whether a record ends there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End(u32);

impl End {
    /// Where the next field begins.
    #[inline(always)]
    pub(crate) fn next(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// 1 if this is the end of a record, else 0.
    #[inline(always)]
    pub(crate) fn of_record(self) -> u32 {
        self.0 & 1
    }
}

/// The ends that were found in a window and not used yet, and the state of the scan.
#[derive(Debug, Default)]
pub(crate) struct Structure {
    ends: Vec<End>,
    count: usize,
    /// Up to where the text has been scanned.
    scanned: usize,
    /// Whether `scanned` is inside a quoted field.
    inside: bool,
    stray: Option<usize>,
}

impl Structure {
    /// Starts over, at a place in a window whose state is known.
    pub(crate) fn restart(&mut self, at: usize, inside: bool) {
        self.make_room();
        self.ends[0] = End((at as u32) << 1);
        (self.count, self.scanned, self.inside, self.stray) = (1, at, inside, None);
    }

    /// The ends that are known: first the one before the first field that is not done, then those of the fields.
    #[inline(always)]
    pub(crate) fn ends(&self) -> &[End] {
        &self.ends[..self.count]
    }

    /// Up to where the text has been scanned.
    pub(crate) fn scanned(&self) -> usize {
        self.scanned
    }

    /// Whether the place up to which the text has been scanned is inside a quoted field.
    pub(crate) fn inside(&self) -> bool {
        self.inside
    }

    /// The first quote in a wrong place.
    pub(crate) fn stray(&self) -> Option<usize> {
        self.stray
    }

    /// Forgets the first `taken` ends and moves the others by `bytes` to the left, as the text has been.
    pub(crate) fn shift(&mut self, taken: usize, bytes: usize) {
        self.ends.copy_within(taken..self.count, 0);
        self.count -= taken;
        for end in &mut self.ends[..self.count] {
            end.0 = end.0.saturating_sub((bytes as u32) << 1);
        }
        self.scanned -= bytes;
        self.stray = self.stray.map(|at| at - bytes);
    }

    /// Scans `text[..filled]` from where the last scan ended: all of it if it is the last of the file, else as many whole
    /// blocks as can be judged without what comes next.
    ///
    /// Behind `filled`, [`PADDING`] bytes must be zero if it is the last of the file.
    pub(crate) fn scan(&mut self, text: &[u8], filled: usize, last: bool, delimiter: u8) {
        let available = filled - self.scanned.min(filled);
        let mut blocks =
            if last { available.div_ceil(64) } else { available.saturating_sub(LOOK_AHEAD) / 64 };
        while blocks > 0 && self.stray.is_none() {
            let batch = blocks.min(BATCH);
            self.batch(text, batch, delimiter);
            blocks -= batch;
        }
        self.scanned = self.scanned.min(filled);
    }

    fn batch(&mut self, text: &[u8], blocks: usize, delimiter: u8) {
        let (blocks, _) = text[self.scanned..self.scanned + 64 * blocks].as_chunks::<64>();
        let mut masks = [Masks::default(); BATCH];
        let masks = &mut masks[..blocks.len()];
        structural_masks(blocks, delimiter, masks);
        self.make_room();
        compiled_for_this_cpu(
            #[inline(always)]
            || self.blocks(text, masks, delimiter),
        );
    }

    #[inline(always)]
    fn blocks(&mut self, text: &[u8], masks: &[Masks], delimiter: u8) {
        for masks in masks {
            let mut structural = masks.delim | masks.newline;
            if masks.quote != 0 || self.inside {
                structural = self.outside(text, masks, structural, delimiter);
            }
            self.emit(structural, masks.newline);
            if self.stray.is_some() {
                return;
            }
            self.scanned += 64;
        }
    }

    fn make_room(&mut self) {
        if self.ends.len() < self.count + 64 * BATCH {
            self.ends.resize(2 * self.ends.len() + 64 * BATCH + 1, End::default());
        }
    }

    /// Writes down the end that every set bit is.
    #[inline(always)]
    fn emit(&mut self, mut structural: u64, newline: u64) {
        let behind = self.scanned as u32 + 1;
        let ends: &mut [End; 64] =
            (&mut self.ends[self.count..self.count + 64]).try_into().expect("sixty-four places");
        let mut count = 0;
        while structural != 0 {
            let bit = structural.trailing_zeros();
            ends[count & 63] = End((behind + bit) << 1 | (newline >> bit) as u32 & 1);
            count += 1;
            structural &= structural - 1;
        }
        self.count += count;
    }

    /// The structural bytes of a block that are outside quotes; looks for quotes in wrong places on the way.
    #[inline(never)]
    fn outside(&mut self, text: &[u8], masks: &Masks, structural: u64, delimiter: u8) -> u64 {
        let inside = parity_up_to(masks.quote) ^ if self.inside { u64::MAX } else { 0 };
        let structural = structural & !inside;
        let (opening, closing) = (masks.quote & inside, masks.quote & !inside);
        let misplaced =
            (opening & !((structural | closing) << 1)) | (closing & !((structural | opening) >> 1));
        self.inside = inside >> 63 == 1;
        match self.first_stray(text, misplaced, opening, delimiter) {
            None => structural,
            Some(bit) => {
                self.stray = Some(self.scanned + bit as usize);
                structural & ((1 << bit) - 1)
            }
        }
    }

    /// Looks closely at quotes whose neighbours are in other blocks, or are carriage returns.
    fn first_stray(&self, text: &[u8], mut suspects: u64, opening: u64, delimiter: u8) -> Option<u32> {
        while suspects != 0 {
            let bit = suspects.trailing_zeros();
            let at = self.scanned + bit as usize;
            let in_place = match opening >> bit & 1 {
                1 => may_open(text, at, bit, delimiter),
                _ => may_close(text, at, delimiter),
            };
            if !in_place {
                return Some(bit);
            }
            suspects &= suspects - 1;
        }
        None
    }
}

/// In front of an opening quote ends the field before, or stands the quote that it doubles. The masks know all neighbours
/// but the one in the block before.
fn may_open(text: &[u8], at: usize, bit: u32, delimiter: u8) -> bool {
    match at.checked_sub(1) {
        _ if bit > 0 => false,
        None => true,
        Some(before) => matches!(text[before], b'\n' | b'"') || text[before] == delimiter,
    }
}

/// Behind a closing quote ends the field, or stands the quote that doubles it. The masks know all neighbours but the one
/// in the next block, and nothing of carriage returns.
fn may_close(text: &[u8], at: usize, delimiter: u8) -> bool {
    match text[at + 1] {
        b'\r' => text[at + 2] == b'\n',
        byte => matches!(byte, b'\n' | b'"') || byte == delimiter,
    }
}

/// Bit *i* is the parity of the bits 0 to *i*.
fn parity_up_to(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One byte after the other: ends, and the first quote in a wrong place.
    fn naive(text: &[u8]) -> (Vec<(usize, bool)>, Option<usize>) {
        let (mut ends, mut inside) = (Vec::new(), false);
        for (at, &byte) in text.iter().enumerate() {
            let before = at.checked_sub(1).map(|i| text[i]);
            let after = text.get(at + 1);
            match byte {
                b'"' if inside => {
                    let line_end = after == Some(&b'\r') && text.get(at + 2) == Some(&b'\n');
                    if !matches!(after, Some(b',' | b'\n' | b'"')) && !line_end {
                        return (ends, Some(at));
                    }
                    inside = false;
                }
                b'"' => {
                    if !matches!(before, None | Some(b',' | b'\n' | b'"')) {
                        return (ends, Some(at));
                    }
                    inside = true;
                }
                b',' | b'\n' if !inside => ends.push((at, byte == b'\n')),
                _ => {}
            }
        }
        (ends, None)
    }

    fn scanned(text: &[u8], steps: &[usize]) -> (Vec<(usize, bool)>, Option<usize>) {
        let mut padded = text.to_vec();
        padded.extend([0; PADDING]);
        let mut structure = Structure::default();
        structure.restart(0, false);
        for step in steps {
            let filled = step % (text.len() + 1);
            structure.scan(&padded, filled.max(structure.scanned()), false, b',');
        }
        structure.scan(&padded, text.len(), true, b',');
        let ends = structure.ends()[1..].iter().map(|e| (e.next() - 1, e.of_record() == 1)).collect();
        (ends, structure.stray())
    }

    #[test]
    fn neighbours_in_other_blocks() {
        for fill in 58..70 {
            for tail in ["\"\"\n", ",\"a\"\r\n", ",\"\"\"\",\n", "\",\n", ",\"a\"b\n", ",\"a\"\rb\n"] {
                let text = [&vec![b'x'; fill][..], tail.as_bytes(), &[b'y'; 80], b"\n"].concat();
                assert_eq!(scanned(&text, &[]), naive(&text), "{fill} {tail:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_scan(
            text in prop::collection::vec(prop::sample::select(b"aaaa,,\n\"\"\r".to_vec()), 0..400),
            steps in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            let text = [&text[..], b"\n"].concat();
            prop_assert_eq!(scanned(&text, &steps), naive(&text));
        }

        #[test]
        fn agrees_where_quotes_are_in_place(
            fields in prop::collection::vec(("[a,\n\"]{0,70}", any::<bool>(), "(,|\n|\r\n)"), 0..30),
            steps in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            let text: String = fields.iter().map(|(field, quote, end)| match quote {
                true => format!("\"{}\"{end}", field.replace('"', "\"\"")),
                false => format!("{}{end}", field.replace(['"', ',', '\n'], "")),
            }).collect();
            let text = format!("{text}\n");
            let (ends, stray) = scanned(text.as_bytes(), &steps);
            prop_assert_eq!(stray, None);
            prop_assert_eq!((ends, stray), naive(text.as_bytes()));
        }
    }
}
