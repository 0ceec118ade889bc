//! Finding the number that belongs to a key, thirty million times.
//!
//! Open addressing over flat slots. A key of up to sixteen bytes lives in its slot, as two words with zeros behind its
//! end, so that finding it is one hash, one slot and two comparisons, and nothing branches on its length. A longer key
//! is in the slot by its hash, and its bytes are in an arena behind.

/// Bytes that must be readable from the start of a key that is given to [`Keys::find`], whatever its length.
pub(crate) const READ_AHEAD: usize = 16;
/// Slots of a new index; a power of two.
const FIRST_SLOTS: usize = 64;
/// Up to this many slots, only one in eight is used: then nearly every key is in the first slot that is looked at, and
/// nothing is more costly to this loop than a second look that comes as a surprise. Only used slots take room in the
/// cache, so the others cost nothing; beyond, one in two is used.
const ROOMY_SLOTS: usize = 1 << 15;
const SHORT: usize = 16;

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
    /// The first eight bytes; of a long key, its hash.
    low: u64,
    /// The next eight bytes; of a long key, where it begins in the arena.
    high: u64,
    /// The length of the key; [`FREE`] in a free slot.
    length: u32,
    number: u32,
}

/// No key is that long.
const FREE: u32 = u32::MAX;

impl Slot {
    const EMPTY: Slot = Slot { low: 0, high: 0, length: FREE, number: 0 };

    #[inline(always)]
    fn is_free(&self) -> bool {
        self.length == FREE
    }
}

/// For each length up to sixteen, the bits of the two words that belong to the key.
const LOW_BITS: [u64; SHORT + 1] = bits(0);
const HIGH_BITS: [u64; SHORT + 1] = bits(8);

const fn bits(first: usize) -> [u64; SHORT + 1] {
    let mut table = [0; SHORT + 1];
    let mut length = 0;
    while length <= SHORT {
        table[length] = match length.saturating_sub(first) {
            0 => 0,
            n if n >= 8 => u64::MAX,
            n => (1 << (8 * n)) - 1,
        };
        length += 1;
    }
    table
}

/// Two odd constants without pattern (from the digits of π).
const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345];

#[inline(always)]
fn mix(low: u64, high: u64) -> u64 {
    let product = u128::from(low ^ SEED[0]) * u128::from(high ^ SEED[1]);
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
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
        let window = &text[start..start + READ_AHEAD];
        let low = word(&window[..8]) & LOW_BITS[length];
        let high = word(&window[8..]) & HIGH_BITS[length];
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = mix(low, high) as usize & mask;
        // An index without slots has no slot 0 either.
        while let Some(slot) = self.slots.get(at) {
            let differs = (slot.low ^ low) | (slot.high ^ high) | u64::from(slot.length ^ length as u32);
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
            if slot.low == hash && slot.length as usize == key.len() && self.long_key(slot) == key {
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
            let high = self.arena.len() as u64;
            self.arena.extend_from_slice(key);
            Slot { low: hash_long(key), high, length, number }
        } else {
            let mut text = [0; SHORT];
            text[..key.len()].copy_from_slice(key);
            Slot { low: word(&text[..8]), high: word(&text[8..]), length, number }
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
        let hash = if slot.length as usize > SHORT { slot.low } else { mix(slot.low, slot.high) };
        let mut at = hash as usize & mask;
        while !self.slots[at].is_free() {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn long_key(&self, slot: &Slot) -> &[u8] {
        &self.arena[slot.high as usize..][..slot.length as usize]
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
        let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"a", b"a\0", &[0; 16], &[0; 17]];
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
        fn it_is_a_map(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 0..400)) {
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
