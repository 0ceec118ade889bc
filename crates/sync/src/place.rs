//! What can lie in shared memory by itself: the contract between the primitives and whoever has a segment for them.
//!
//! An object is a plain layout without pointers. Objects of variable size (queues, semaphores, barriers …) are
//! slices at the end of a head, so `&Queue<T>` carries the number of its cells: it is read once, checked against the
//! segment's size, and never again taken from shared memory.

use std::alloc::Layout;

/// Offsets and lengths that both sides agree on come from here: where an object lies, what it is, how many cells it has.
///
/// # Safety
/// Who implements it promises:
/// 1. [`InPlace::layout`] is what [`InPlace::at`] needs, for every number of cells;
/// 2. all fields are atomics, or values for which every bit pattern is valid and that are touched only under a lock of
///    the object itself (or by copies that tolerate a torn value); no pointers, nothing to drop;
/// 3. whatever other processes write there, also while it is used, no method accesses memory outside the object.
pub unsafe trait InPlace {
    /// What it is, in at most 23 bytes, for people and for the check at attach.
    const KIND: &'static str;

    /// Size and alignment of the value or element it is for; (0, 1) without one. Compared at attach.
    const ELEMENT: (usize, usize) = (0, 1);

    /// Bytes and alignment of an object of so many cells; `None` if there is no such object. `cells` may come from a
    /// stranger: no overflow.
    fn layout(cells: usize) -> Option<Layout>;

    /// The object at `memory`.
    ///
    /// # Safety
    /// 1. `memory` is valid for reads and writes of [`InPlace::layout`]`(cells)` during `'a`, and aligned for it;
    /// 2. a [`Plan`] of this object with as many cells was placed there, and nothing else writes it since.
    unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self;
}

/// An object before it has a place: its value, or its size.
///
/// # Safety
/// [`Plan::place`] makes a whole object of [`Plan::cells`] cells.
pub unsafe trait Plan {
    /// What it becomes.
    type Object: InPlace + ?Sized;

    /// How many cells it will have; 1 for objects of a fixed size.
    fn cells(&self) -> usize {
        1
    }

    /// Makes the object.
    ///
    /// # Safety
    /// 1. `memory` is valid for writes of the object's layout, aligned for it, and zero;
    /// 2. nobody else looks at it before this returns.
    unsafe fn place(self, memory: *mut u8);
}

/// [`InPlace`] and [`Plan`] for a type of fixed size that is its own plan.
///
/// `unsafe` is said in here for the type's file: only for types that keep the promises of [`InPlace`].
macro_rules! in_place {
    ($(#[$why:meta])* impl [$($generics:tt)*] $object:ty, $kind:literal, $element:expr) => {
        $(#[$why])*
        // SAFETY: 1: one object of its own layout. 2, 3: as the type's documentation says: atomics and Pod only.
        unsafe impl<$($generics)*> $crate::place::InPlace for $object {
            const KIND: &'static str = $kind;
            const ELEMENT: (usize, usize) = $element;

            fn layout(cells: usize) -> Option<std::alloc::Layout> {
                (cells == 1).then(std::alloc::Layout::new::<Self>)
            }

            unsafe fn at<'a>(memory: *mut u8, _cells: usize) -> &'a Self {
                debug_assert!(memory.cast::<Self>().is_aligned());
                // SAFETY: by the caller's 1 and 2; any bytes are a valid object.
                unsafe { &*memory.cast::<Self>() }
            }
        }

        // SAFETY: the value is the object.
        unsafe impl<$($generics)*> $crate::place::Plan for $object {
            type Object = Self;

            unsafe fn place(self, memory: *mut u8) {
                // SAFETY: by the caller's 1 and 2.
                unsafe { memory.cast::<Self>().write(self) }
            }
        }
    };
}

/// [`InPlace`] and [`Plan`] for a transparent wrapper of another object, whose plan is a tuple of the other's.
///
/// `unsafe` is said in here for the type's file: only for types that are `repr(transparent)`.
macro_rules! in_place_of_another {
    (impl [$($generics:tt)*] $object:ty, by $plan:ty, as $other:ty, $kind:literal) => {
        // SAFETY: as the object that it is.
        unsafe impl<$($generics)*> $crate::place::InPlace for $object {
            const KIND: &'static str = $kind;
            const ELEMENT: (usize, usize) = <$other as $crate::place::InPlace>::ELEMENT;

            fn layout(cells: usize) -> Option<std::alloc::Layout> {
                <$other as $crate::place::InPlace>::layout(cells)
            }

            unsafe fn at<'a>(memory: *mut u8, cells: usize) -> &'a Self {
                // SAFETY: by the caller's 1 and 2; transparent.
                unsafe {
                    let other: &'a $other = <$other as $crate::place::InPlace>::at(memory, cells);
                    &*(std::ptr::from_ref(other) as *const Self)
                }
            }
        }

        // SAFETY: as the other's plan.
        unsafe impl<$($generics)*> $crate::place::Plan for $plan {
            type Object = $object;

            fn cells(&self) -> usize {
                self.0.cells()
            }

            unsafe fn place(self, memory: *mut u8) {
                // SAFETY: by the caller's 1 and 2.
                unsafe { self.0.place(memory) }
            }
        }
    };
}

pub(crate) use {in_place, in_place_of_another};
