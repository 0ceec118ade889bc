//! Finding the number that belongs to a key, thirty million times.
//!
//! Open addressing over flat slots. A key of up to 24 bytes lives in its slot, as three words with zeros behind its end,
//! so that finding it is one hash, one slot and one comparison, and nothing branches on its length. A longer key is in
//! the slot by its hash, and its bytes are in an arena behind.

/// Bytes that must be readable from the start of a key that is given to [`Keys::find`], whatever its length.
pub(crate) const READ_AHEAD: usize = SHORT;
/// The longest key that lives in its slot.
const SHORT: usize = 24;
/// Slots of a new index; a power of two.
const FIRST_SLOTS: usize = 64;
/// Up to this many slots, only one in eight is used: then nearly every key is in the first slot that is looked at, and
/// nothing is more costly to this loop than a second look that comes as a surprise. Only used slots take room in the
/// cache, so the others cost nothing; beyond, one in two is used.
const ROOMY_SLOTS: usize = 1 << 15;

/// A map from byte strings to numbers below 2³².
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    slots: Vec<Slot>,
    used: usize,
    arena: Vec<u8>,
}

/// Aligned so that it lies in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Slot {
    /// The bytes of the key; of a long one its hash, where it begins in the arena, and 0.
    words: [u64; 3],
    /// The length of the key; [`FREE`] in a free slot.
    length: u32,
    number: u32,
}

/// No key is that long.
const FREE: u32 = u32::MAX;

impl Slot {
    const EMPTY: Slot = Slot { words: [0; 3], length: FREE, number: 0 };

    #[inline(always)]
    fn is_free(&self) -> bool {
        self.length == FREE
    }
}

/// For each length of a short key, the bits of the three words that belong to it.
const BITS: [[u64; 3]; SHORT + 1] = {
    let mut table = [[0; 3]; SHORT + 1];
    let mut length = 0;
    while length <= SHORT {
        let mut word = 0;
        while word < 3 {
            table[length][word] = match length.saturating_sub(8 * word) {
                0 => 0,
                n if n >= 8 => u64::MAX,
                n => (1 << (8 * n)) - 1,
            };
            word += 1;
        }
        length += 1;
    }
    table
};

/// Odd constants without pattern (from the digits of π).
const SEED: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ SEED[0]) * u128::from(b ^ SEED[1]);
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
fn hash_short(words: [u64; 3]) -> u64 {
    mix(words[0], words[1]) ^ words[2].wrapping_mul(SEED[2]).rotate_left(32)
}

#[inline(always)]
fn words(bytes: &[u8; SHORT]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks::<8>();
    [0, 1, 2].map(|i| u64::from_le_bytes(words[i]))
}

impl Keys {
    /// The number of the key `text[start..end]`.
    ///
    /// `text` must go on for [`READ_AHEAD`] bytes from `start`, with whatever contents.
    #[inline(always)]
    pub(crate) fn find(&self, text: &[u8], start: usize, end: usize) -> Option<u32> {
        let length = end - start;
        if length > SHORT {
            return self.find_long(&text[start..end]);
        }
        let text: &[u8; SHORT] = text[start..].first_chunk().expect("bytes to read ahead");
        let (text, bits) = (words(text), BITS[length]);
        let key = [text[0] & bits[0], text[1] & bits[1], text[2] & bits[2]];
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash_short(key) as usize & mask;
        // An index without slots has no slot 0 either.
        while let Some(slot) = self.slots.get(at) {
            let [a, b, c] = slot.words;
            let differs = (a ^ key[0]) | (b ^ key[1]) | (c ^ key[2]) | u64::from(slot.length ^ length as u32);
            if differs == 0 {
                return Some(slot.number);
            }
            if slot.is_free() {
                return None;
            }
            at = (at + 1) & mask;
        }
        None
    }

    #[inline(never)]
    fn find_long(&self, key: &[u8]) -> Option<u32> {
        let hash = hash_long(key);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at).filter(|slot| !slot.is_free()) {
            if slot.words[0] == hash && slot.length as usize == key.len() && self.long_key(slot) == key {
                return Some(slot.number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The same for a key that has nothing behind its end.
    pub(crate) fn find_bytes(&self, key: &[u8]) -> Option<u32> {
        if key.len() > SHORT {
            return self.find_long(key);
        }
        let mut text = [0; SHORT];
        text[..key.len()].copy_from_slice(key);
        self.find(&text, 0, key.len())
    }

    /// Whether there is no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a key that is not there yet.
    #[cold]
    pub(crate) fn insert(&mut self, key: &[u8], number: u32) {
        let slots_per_key = if self.slots.len() < ROOMY_SLOTS { 8 } else { 2 };
        if slots_per_key * (self.used + 1) > self.slots.len() {
            self.grow();
        }
        let length = key.len() as u32;
        let slot = if key.len() > SHORT {
            let begin = self.arena.len() as u64;
            self.arena.extend_from_slice(key);
            Slot { words: [hash_long(key), begin, 0], length, number }
        } else {
            let mut text = [0; SHORT];
            text[..key.len()].copy_from_slice(key);
            Slot { words: words(&text), length, number }
        };
        self.place(slot);
        self.used += 1;
    }

    fn grow(&mut self) {
        let slots = (2 * self.slots.len()).max(FIRST_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![Slot::EMPTY; slots]);
        old.into_iter().filter(|slot| !slot.is_free()).for_each(|slot| self.place(slot));
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let hash = if slot.length as usize > SHORT { slot.words[0] } else { hash_short(slot.words) };
        let mut at = hash as usize & mask;
        while !self.slots[at].is_free() {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn long_key(&self, slot: &Slot) -> &[u8] {
        &self.arena[slot.words[1] as usize..][..slot.length as usize]
    }
}

fn hash_long(key: &[u8]) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = words.iter().fold(key.len() as u64, |hash, w| mix(hash, u64::from_le_bytes(*w)));
    mix(hash, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn zeros_and_lengths_are_told_apart() {
        let keys: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"a", b"a\0", &[0; 16], &[0; 17], &[0; 24], &[0; 25]];
        let mut index = Keys::default();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(index.find_bytes(key), None);
            index.insert(key, number as u32);
        }
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(index.find_bytes(key), Some(number as u32));
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32), 0..400)) {
            let mut index = Keys::default();
            let mut map = HashMap::new();
            for key in &keys {
                let next = map.len() as u32;
                prop_assert_eq!(index.find_bytes(key), map.get(key).copied());
                let number = *map.entry(key.clone()).or_insert(next);
                if number == next {
                    index.insert(key, number);
                }
            }
            for (key, number) in map {
                let padded = [&key[..], &[0xaa; READ_AHEAD]].concat();
                prop_assert_eq!(index.find(&padded, 0, key.len()), Some(number));
            }
        }
    }
}
