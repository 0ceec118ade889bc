//! A number that processes share.

mod number;

use std::fmt;
use std::marker::PhantomData;

pub use self::number::{Arithmetic, Number};
use crate::atomics::{AtomicU64, Ordering};

/// A number that is read and changed in one step, by any process that can see it: no lock, no owner, so no death can leave
/// it half changed or hold anybody up. All zero bytes are zero, or `false`.
///
/// Every access is ordered like one of a lock: who reads what another one wrote sees all that it did before.
#[repr(C)]
pub struct Value<T> {
    /// The number's bits, in the low bytes.
    bits: AtomicU64,
    _number: PhantomData<T>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Value<f32>>() == 8 && align_of::<Value<u8>>() == 8);

#[cfg(not(loom))]
// SAFETY: 1: one word. 2: an atomic, read as a number whatever its bits are. 3: it is all there is.
unsafe impl<T: Number> crate::place::InPlace for Value<T> {
    const KIND: &'static str = T::KIND;
    const ELEMENT: (usize, usize) = (size_of::<T>(), align_of::<T>());

    fn layout(cells: usize) -> Option<std::alloc::Layout> {
        (cells == 1).then(std::alloc::Layout::new::<Self>)
    }

    unsafe fn at<'a>(memory: *mut u8, _cells: usize) -> &'a Self {
        debug_assert!(memory.cast::<Self>().is_aligned());
        // SAFETY: by the caller's 1 and 2; any bits are valid.
        unsafe { &*memory.cast::<Self>() }
    }
}

#[cfg(not(loom))]
// SAFETY: the value is the object.
unsafe impl<T: Number> crate::place::Plan for Value<T> {
    type Object = Self;

    unsafe fn place(self, memory: *mut u8) {
        // SAFETY: by the caller's 1 and 2.
        unsafe { memory.cast::<Self>().write(self) }
    }
}

impl<T: Number> Value<T> {
    /// This number.
    pub fn new(value: T) -> Self {
        Self { bits: AtomicU64::new(value.to_bits64()), _number: PhantomData }
    }

    /// The number as it is now.
    #[inline]
    pub fn load(&self) -> T {
        T::from_bits64(self.bits.load(Ordering::Acquire))
    }

    /// Makes it this number.
    #[inline]
    pub fn store(&self, value: T) {
        self.bits.store(value.to_bits64(), Ordering::Release);
    }

    /// Makes it this number and returns what it was.
    #[inline]
    pub fn swap(&self, value: T) -> T {
        T::from_bits64(self.bits.swap(value.to_bits64(), Ordering::AcqRel))
    }

    /// Makes it `new` if it is `old`, bit for bit.
    ///
    /// # Errors
    /// What it is instead.
    #[inline]
    pub fn compare_exchange(&self, old: T, new: T) -> Result<T, T> {
        let found =
            self.bits.compare_exchange(old.to_bits64(), new.to_bits64(), Ordering::AcqRel, Ordering::Acquire);
        found.map(T::from_bits64).map_err(T::from_bits64)
    }

    /// Makes it `change` of what it is, in one step, and returns what it was. `change` is called again when somebody was
    /// faster, so it should do nothing else.
    #[inline]
    pub fn update(&self, mut change: impl FnMut(T) -> T) -> T {
        let mut seen = self.bits.load(Ordering::Relaxed);
        loop {
            let old = T::from_bits64(seen);
            let new = change(old).to_bits64();
            match self.bits.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return old,
                Err(changed) => seen = changed,
            }
        }
    }
}

impl<T: Arithmetic> Value<T> {
    /// Adds, around the end of the range for integers, and returns what it was.
    #[inline]
    pub fn fetch_add(&self, value: T) -> T {
        if T::IS_WORD {
            return T::from_bits64(self.bits.fetch_add(value.to_bits64(), Ordering::AcqRel));
        }
        self.update(|old| old.plus(value))
    }

    /// Subtracts, around the end of the range for integers, and returns what it was.
    #[inline]
    pub fn fetch_sub(&self, value: T) -> T {
        self.update(|old| old.minus(value))
    }

    /// Makes it the smaller one of it and `value`, and returns what it was.
    #[inline]
    pub fn fetch_min(&self, value: T) -> T {
        self.update(|old| if value < old { value } else { old })
    }

    /// Makes it the larger one of it and `value`, and returns what it was.
    #[inline]
    pub fn fetch_max(&self, value: T) -> T {
        self.update(|old| if value > old { value } else { old })
    }
}

impl<T: Number + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.load()).finish()
    }
}
