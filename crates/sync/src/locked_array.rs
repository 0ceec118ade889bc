//! Elements under one mutex. The steps are the mutex's, M1–M8 of `README.md`.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use crate::lock_error::LockError;
use crate::lock_word::RawLock;
use crate::mutex::{Locked, Mutex, MutexGuard};
use crate::party::Party;
use crate::place::{InPlace, Plan};
use crate::poison::PoisonedBy;

/// So many elements under one mutex (the `Array` of Python's multiprocessing, for numbers that many processes change a few
/// at a time; for data that is computed on, take a `SharedArray`). All zero bytes are free, whole and zero.
#[repr(transparent)]
pub struct LockedArray<T> {
    mutex: Mutex<[T]>,
}

/// Why an element was not read or written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArrayError {
    /// There is no such element.
    #[error("there is no element {index}: the array has {len}")]
    OutOfBounds {
        /// Which one was asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// The lock was not taken.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// An array before it has a place.
#[derive(Clone, Debug)]
pub struct LockedArrayPlan<T> {
    len: usize,
    /// Empty for zeros.
    values: Vec<T>,
    _element: PhantomData<T>,
}

impl<T: Pod> LockedArray<T> {
    /// An array of `len` zeros.
    ///
    /// # Panics
    /// If it is larger than memory can be.
    pub fn zeros(len: usize) -> LockedArrayPlan<T> {
        assert!(Self::layout(len).is_some(), "an array of {len} elements");
        LockedArrayPlan { len, values: Vec::new(), _element: PhantomData }
    }

    /// An array of these elements.
    pub fn from_slice(values: &[T]) -> LockedArrayPlan<T> {
        LockedArrayPlan { len: values.len(), values: values.to_vec(), _element: PhantomData }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        // Only the length, which is in the reference: no element is looked at.
        (ptr::from_ref(self) as *const [T]).len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of one element.
    ///
    /// If the last holder died, the array is poisoned in its name, as by a guard that is not repaired: see [`Self::lock`].
    ///
    /// # Errors
    /// [`ArrayError::OutOfBounds`], or why the lock was not taken.
    pub fn get(&self, party: &Party, index: usize) -> Result<T, ArrayError> {
        self.check(index)?;
        Ok(self.whole(party)?[index])
    }

    /// Writes one element. If the last holder died, as [`Self::get`].
    ///
    /// # Errors
    /// [`ArrayError::OutOfBounds`], or why the lock was not taken.
    pub fn set(&self, party: &Party, index: usize, value: T) -> Result<(), ArrayError> {
        self.check(index)?;
        self.whole(party)?[index] = value;
        Ok(())
    }

    /// Takes the lock, however long that lasts; the guard is the slice of all elements.
    pub fn lock(&self, party: &Party) -> Result<Locked<'_, [T]>, LockError> {
        self.mutex.lock(party)
    }

    /// Takes the lock if it is free or its holder is dead, without waiting.
    pub fn try_lock(&self, party: &Party) -> Result<Locked<'_, [T]>, LockError> {
        self.mutex.try_lock(party)
    }

    /// Takes the lock, waiting at most for `timeout`.
    pub fn lock_timeout(&self, party: &Party, timeout: Duration) -> Result<Locked<'_, [T]>, LockError> {
        self.mutex.lock_timeout(party, timeout)
    }

    /// Takes the lock, waiting at most until `deadline`.
    pub fn lock_deadline(&self, party: &Party, deadline: Instant) -> Result<Locked<'_, [T]>, LockError> {
        self.mutex.lock_deadline(party, deadline)
    }

    /// Takes the lock; if its holder died, `repair` makes the elements whole first. A panic in `repair` poisons.
    pub fn lock_or_repair(
        &self,
        party: &Party,
        repair: impl FnOnce(&mut [T]),
    ) -> Result<MutexGuard<'_, [T]>, LockError> {
        self.mutex.lock_or_repair(party, repair)
    }

    /// Declares the elements whole again. Who calls it knows why.
    pub fn clear(&self) {
        self.mutex.clear();
    }

    /// Who left the elements in doubt, if somebody did.
    pub fn poisoned(&self) -> Option<PoisonedBy> {
        self.mutex.poisoned()
    }

    fn whole(&self, party: &Party) -> Result<MutexGuard<'_, [T]>, LockError> {
        match self.lock(party)? {
            Locked::Acquired(guard) => Ok(guard),
            Locked::Recovered(guard) => Err(LockError::Poisoned { who: PoisonedBy::Death(guard.dead()) }),
        }
    }

    fn check(&self, index: usize) -> Result<(), ArrayError> {
        let len = self.len();
        if index < len { Ok(()) } else { Err(ArrayError::OutOfBounds { index, len }) }
    }
}

impl<T: Pod> fmt::Debug for LockedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedArray").field("len", &self.len()).field("mutex", &&self.mutex).finish()
    }
}

/// The whole object and where its elements begin.
fn layout<T>(len: usize) -> Option<(Layout, usize)> {
    let (whole, elements) = Layout::new::<RawLock>().extend(Layout::array::<T>(len).ok()?).ok()?;
    Some((whole.pad_to_align(), elements))
}

// SAFETY: 1: as the mutex is laid out, `repr(C)`. 2: a mutex around Pod. 3: elements are reached through the slice alone.
unsafe impl<T: Pod> InPlace for LockedArray<T> {
    const KIND: &'static str = "locked array";
    const ELEMENT: (usize, usize) = (size_of::<T>(), align_of::<T>());

    fn layout(cells: usize) -> Option<Layout> {
        layout::<T>(cells).map(|(whole, _)| whole)
    }

    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
        // SAFETY: by the caller's 1 and 2; the length becomes that of the tail.
        unsafe { &*(ptr::slice_from_raw_parts(memory.cast::<T>(), cells) as *const Self) }
    }
}

// SAFETY: zero bytes are a free mutex around zeros; the elements are written over them.
unsafe impl<T: Pod> Plan for LockedArrayPlan<T> {
    type Object = LockedArray<T>;

    fn cells(&self) -> usize {
        self.len
    }

    unsafe fn place(self, memory: *mut u8) {
        let (_, elements) = layout::<T>(self.len).expect("checked when it was planned");
        // SAFETY: by the caller's 1 there is room for `len` elements, of which `values` has all or none.
        unsafe {
            ptr::copy_nonoverlapping(self.values.as_ptr(), memory.add(elements).cast(), self.values.len());
        }
    }
}
