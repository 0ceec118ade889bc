//! A plain value in shared memory that is copied word by word, so that a racing writer makes it wrong and nothing worse.

pub(crate) use self::inner::PodCell;

#[cfg(not(loom))]
mod inner {
    use std::mem::MaybeUninit;
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

    use bytemuck::Pod;

    use crate::atomics::UnsafeCell;

    /// A value behind copies by relaxed atomic accesses of the widest unit that its alignment allows.
    ///
    /// Whether a copy is whole is decided by the word that guards it (a position, a cell's state): who reads beside a
    /// writer gets a torn value, looks at that word, and throws the value away.
    #[repr(transparent)]
    pub(crate) struct PodCell<T>(UnsafeCell<T>);

    // SAFETY: shared accesses are atomic, except under `as_mut` and `as_ref`, whose callers answer for them.
    unsafe impl<T: Pod> Sync for PodCell<T> {}
    // SAFETY: it is its value.
    unsafe impl<T: Pod> Send for PodCell<T> {}

    macro_rules! copy_by {
        ($atomic:ty, $unit:ty, $from:expr, $to:expr, $bytes:expr, load) => {
            for at in 0..$bytes / size_of::<$unit>() {
                // SAFETY: in bounds and aligned for the unit; the source is valid for atomic reads, the target is ours.
                unsafe {
                    let unit = (*$from.cast::<$atomic>().add(at)).load(Ordering::Relaxed);
                    $to.cast::<$unit>().add(at).write(unit);
                }
            }
        };
        ($atomic:ty, $unit:ty, $from:expr, $to:expr, $bytes:expr, store) => {
            for at in 0..$bytes / size_of::<$unit>() {
                // SAFETY: in bounds and aligned for the unit; the source is ours, the target valid for atomic writes.
                unsafe {
                    let unit = $from.cast::<$unit>().add(at).read();
                    (*$to.cast::<$atomic>().add(at)).store(unit, Ordering::Relaxed);
                }
            }
        };
    }

    macro_rules! copy {
        ($from:expr, $to:expr, $t:ty, $how:tt) => {
            match align_of::<$t>() {
                1 => copy_by!(AtomicU8, u8, $from, $to, size_of::<$t>(), $how),
                2 => copy_by!(AtomicU16, u16, $from, $to, size_of::<$t>(), $how),
                4 => copy_by!(AtomicU32, u32, $from, $to, size_of::<$t>(), $how),
                _ => copy_by!(AtomicU64, u64, $from, $to, size_of::<$t>(), $how),
            }
        };
    }

    impl<T: Pod> PodCell<T> {
        /// A cell with this value.
        pub(crate) fn of(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }

        /// A copy of the value, torn if somebody writes meanwhile.
        #[inline(always)]
        pub(crate) fn load(&self) -> T {
            let mut value = MaybeUninit::<T>::uninit();
            let to = value.as_mut_ptr();
            self.0.with(|from| copy!(from, to, T, load));
            // SAFETY: all bytes are written, and any bytes are a `T`: Pod.
            unsafe { value.assume_init() }
        }

        /// Copies the value in.
        #[inline(always)]
        pub(crate) fn store(&self, value: &T) {
            let from = std::ptr::from_ref(value);
            self.0.with_mut(|to| copy!(from, to, T, store));
        }

        /// The value in its place, for who owns the cell.
        ///
        /// # Safety
        /// The word that guards the cell says that it is the caller's alone to write and nobody reads it, during `'_`.
        #[inline(always)]
        #[allow(clippy::mut_from_ref)]
        pub(crate) unsafe fn as_mut(&self) -> &mut T {
            // SAFETY: by the contract.
            self.0.with_mut(|value| unsafe { &mut *value })
        }

        /// The value in its place, for who owns the cell.
        ///
        /// # Safety
        /// The word that guards the cell says that nobody writes it during `'_`.
        #[inline(always)]
        pub(crate) unsafe fn as_ref(&self) -> &T {
            // SAFETY: by the contract.
            self.0.with(|value| unsafe { &*value })
        }
    }
}

#[cfg(loom)]
mod inner {
    use std::marker::PhantomData;

    use bytemuck::Pod;

    use crate::atomics::{AtomicU64, Ordering};

    /// The same for models: each word is an atomic of loom, so a read that is not ordered after its write finds old
    /// words, and a thread can die between two of them.
    #[derive(Debug)]
    pub(crate) struct PodCell<T> {
        words: Vec<AtomicU64>,
        _value: PhantomData<T>,
    }

    impl<T: Pod> PodCell<T> {
        pub(crate) fn new() -> Self {
            let words = (0..size_of::<T>().div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
            Self { words, _value: PhantomData }
        }

        pub(crate) fn of(value: T) -> Self {
            let cell = Self::new();
            cell.store(&value);
            cell
        }

        pub(crate) fn load(&self) -> T {
            let words: Vec<u64> = self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
            bytemuck::pod_read_unaligned(&bytemuck::cast_slice(&words)[..size_of::<T>()])
        }

        pub(crate) fn store(&self, value: &T) {
            let mut words = vec![0_u64; self.words.len()];
            bytemuck::cast_slice_mut(&mut words)[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(value));
            for (cell, word) in self.words.iter().zip(words) {
                cell.store(word, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn comes_back<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(value: T) {
        let mut bytes = vec![0_u64; size_of::<T>().div_ceil(8) + 1];
        // SAFETY: zeroed, aligned to 8, large enough, `PodCell` is transparent.
        let cell = unsafe { &*bytes.as_mut_ptr().cast::<PodCell<T>>() };
        cell.store(&value);
        assert_eq!(cell.load(), value);
    }

    #[test]
    fn values_of_every_alignment_come_back() {
        comes_back(7_u8);
        comes_back([1_u8, 2, 3, 4, 5]);
        comes_back([1_u16, 2, 3]);
        comes_back([1_u32, 2, 3]);
        comes_back(u64::MAX);
        comes_back([1_u64, 2, 3, 4]);
        comes_back([0_u8; 0]);
        comes_back(1.5_f64);
    }
}
