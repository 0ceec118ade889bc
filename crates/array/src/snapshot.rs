//! Copying memory that another process may be writing at the same moment.
//!
//! An ordinary copy of such memory is a data race, which Rust gives no meaning at all. Here every load is atomic and
//! relaxed, so each number is one that somebody stored; the whole may mix older and newer ones.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::Element;

/// Copies `elements` elements from `source`.
///
/// # Safety
///
/// 1. `source` is aligned for `T`, and the elements lie in one mapping that stays during the call.
/// 2. Whoever writes them meanwhile is another process (or does so atomically).
pub(crate) unsafe fn snapshot<T: Element>(source: *const T, elements: usize) -> Vec<T> {
    let mut copy = vec![T::zeroed(); elements];
    let bytes = bytemuck::cast_slice_mut::<T, u8>(&mut copy);
    // Whole words where the address allows it, though numbers may be smaller: a load of eight bytes never tears a number
    // that lies in it, for its address is a multiple of its size.
    let unit = if source.addr().is_multiple_of(8) { 8 } else { align_of::<T>() };
    let source = source.cast::<u8>();
    let tail = bytes.len() % unit;
    let (body, rest) = bytes.split_at_mut(bytes.len() - tail);
    // SAFETY: 1 and 2 are the caller's; `body` is a multiple of `unit`, and `source` aligned for it.
    unsafe { copy_units(source, body, unit) };
    // SAFETY: as before; what is left begins at a multiple of 8 and is a number of elements, each aligned.
    unsafe { copy_units(source.add(body.len()), rest, align_of::<T>()) };
    copy
}

/// # Safety
///
/// As [`snapshot`]; `source` is aligned to `unit` (1, 2, 4 or 8), and `into` a multiple of it long.
unsafe fn copy_units(source: *const u8, into: &mut [u8], unit: usize) {
    macro_rules! each {
        ($atomic:ty) => {
            for (i, to) in into.chunks_exact_mut(size_of::<$atomic>()).enumerate() {
                // SAFETY: inside the source and aligned, by the caller; read-only memory is fine for a relaxed load of at
                // most a word, which is an ordinary load instruction on x86-64 and aarch64.
                let number = unsafe { &*source.cast::<$atomic>().add(i) }.load(Ordering::Relaxed);
                to.copy_from_slice(&number.to_ne_bytes());
            }
        };
    }
    match unit {
        8 => each!(AtomicU64),
        4 => each!(AtomicU32),
        2 => each!(AtomicU16),
        _ => each!(AtomicU8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Element>(make: impl Fn(usize) -> T) {
        let memory: Vec<T> = (0..67).map(make).collect();
        for start in 0..9 {
            for len in 0..memory.len() - start {
                let part = &memory[start..][..len];
                // SAFETY: a live slice that nobody writes.
                assert_eq!(unsafe { snapshot(part.as_ptr(), len) }, part);
            }
        }
    }

    #[test]
    fn every_alignment_and_length() {
        round_trip(|i| i as u8);
        round_trip(|i| i as i16 * 300);
        round_trip(|i| i as f32 / 3.0);
        round_trip(|i| i as f64 / 3.0);
        round_trip(|i| crate::c32::new(i as f32, -(i as f32)));
        round_trip(|i| crate::c64::new(i as f64, -(i as f64)));
    }
}
