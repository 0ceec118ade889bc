//! Operands: the arrays of a phase and what its kernel may do with them.
//!
//! | written | the kernel gets | after a death |
//! |---|---|---|
//! | `&a` | the chunk's rows, read-only | nothing to do |
//! | `&mut a` | the chunk's rows, to read and update | restored from the undo slot, then run again |
//! | `out(&mut a)` | the chunk's rows, to write without reading | overwritten by the next attempt |
//! | `whole(&a)` | all rows, read-only | nothing to do |
//! | `locked(&mut a)` | all rows, to read and update under one lock | restored from the undo slot, then run again |
//!
//! Forgetting a word may cost speed, never the answer: `&mut` is the safe choice, `out` the fast one.

use std::ops::Range;

use ndarray::{ArrayView, ArrayViewMut, Dimension};
use swath_array::{ArrayRef, Element, SharedArray, Taint, Torn, rows_view, rows_view_mut};

use crate::descriptor::Mode;
use crate::locked::Site;

/// One array as the coordinator hands it to a phase.
pub struct Described<'a> {
    pub(crate) array: ArrayRef,
    pub(crate) mode: Mode,
    /// Start of the coordinator's own mapping of the segment.
    pub(crate) base: *mut u8,
    pub(crate) name: Option<&'a str>,
    pub(crate) taint: Box<dyn Fn(Taint) + Send + Sync + 'a>,
    pub(crate) tear: Box<dyn Fn(Torn) + Send + Sync + 'a>,
    /// Why the array cannot be used now: tainted, or lent to a handle.
    pub(crate) refused: Option<swath_array::Error>,
}

/// One array as a process that runs kernels sees it.
#[derive(Clone, Copy)]
pub struct Bound {
    pub(crate) array: ArrayRef,
    pub(crate) mode: Mode,
    pub(crate) base: *mut u8,
    /// Of locked operands, while a turn lasts.
    pub(crate) site: *const Site,
}

impl Bound {
    pub(crate) fn new(array: ArrayRef, mode: Mode, base: *mut u8) -> Bound {
        Bound { array, mode, base, site: std::ptr::null() }
    }

    pub(crate) fn is_updated(&self) -> bool {
        self.mode == Mode::Update
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.mode == Mode::Locked
    }
}

// SAFETY: a pointer into a segment's mapping, whose rows are handed out by claims only; the site is looked at by the thread
// whose turn it is.
unsafe impl Send for Bound {}

/// Write-only operand; made by [`out`].
#[derive(Debug)]
pub struct Out<'a, T: Element, D: Dimension>(pub(crate) &'a mut SharedArray<T, D>);

/// Uncut operand; made by [`whole`].
#[derive(Debug)]
pub struct Whole<'a, T: Element, D: Dimension>(&'a SharedArray<T, D>);

/// The kernel writes every element of its rows and reads none of them: no copy is taken, and an attempt after a death
/// overwrites. Debug builds fill the rows with NaN or a pattern first, so that a read or a gap shows.
pub fn out<T: Element, D: Dimension>(array: &mut SharedArray<T, D>) -> Out<'_, T, D> {
    Out(array)
}

/// The kernel sees all rows, whatever its chunk.
pub fn whole<T: Element, D: Dimension>(array: &SharedArray<T, D>) -> Whole<'_, T, D> {
    Whole(array)
}

/// What can be passed to [`Pool::phase`](crate::Pool::phase): `&a`, `&mut a`, [`out`], [`whole`],
/// [`locked`](crate::locked), and tuples of up to six.
///
/// # Safety
/// Sealed in effect: 1. [`Operand::describe`] appends exactly [`Operand::COUNT`] arrays, which stay borrowed as long as `self`.
/// 2. [`Operand::view`] uses the first `COUNT` entries of `bound` as `describe` described them, and nothing beyond `rows` of
/// those that are cut.
pub unsafe trait Operand {
    /// What the kernel receives.
    type View<'v>;

    /// Arrays in this operand.
    const COUNT: usize;

    /// Appends the arrays.
    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>);

    /// Checks that what travelled to another process fits the types here.
    fn check(bound: &[Bound]) -> Result<(), swath_array::Error>;

    /// The views of one chunk.
    ///
    /// # Safety
    /// 1. `bound` has at least `COUNT` entries, passed [`Operand::check`], mapped for as long as `'v`.
    /// 2. `rows` lies inside every operand that is cut.
    /// 3. The caller owns the chunk `rows` of a phase over these operands, so nobody else touches the rows that it writes,
    ///    and nobody writes those that it reads.
    unsafe fn view<'v>(bound: &[Bound], rows: &Range<usize>) -> Self::View<'v>;
}

pub(crate) fn described<'a, T: Element, D: Dimension>(
    array: &'a SharedArray<T, D>,
    mode: Mode,
) -> Described<'a> {
    let reference = array.array_ref();
    Described {
        array: reference,
        mode,
        base: array.base_ptr(),
        name: array.name(),
        taint: Box::new(move |taint| array.taint(taint)),
        tear: Box::new(move |torn| array.mark_torn(torn)),
        refused: if mode.writes() { array.try_exclusive() } else { array.try_shared() }.err(),
    }
}

// SAFETY: one array, described as read-only; the view is read-only and of `rows`.
unsafe impl<T: Element, D: Dimension> Operand for &SharedArray<T, D> {
    type View<'v> = ArrayView<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self, Mode::Read));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], rows: &Range<usize>) -> Self::View<'v> {
        // SAFETY: 1 checked and mapped; 2 rows inside; 3 nobody writes what a phase only reads.
        unsafe { rows_view(bound[0].base, &bound[0].array, rows.clone()) }
    }
}

// SAFETY: one array, described as updated; the view is of `rows`.
unsafe impl<T: Element, D: Dimension> Operand for &mut SharedArray<T, D> {
    type View<'v> = ArrayViewMut<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self, Mode::Update));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], rows: &Range<usize>) -> Self::View<'v> {
        // SAFETY: 1 checked and mapped writable; 2 rows inside; 3 the chunk is ours alone.
        unsafe { rows_view_mut(bound[0].base, &bound[0].array, rows.clone()) }
    }
}

// SAFETY: one array, described as written; the view is of `rows`.
unsafe impl<T: Element, D: Dimension> Operand for Out<'_, T, D> {
    type View<'v> = ArrayViewMut<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self.0, Mode::Out));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], rows: &Range<usize>) -> Self::View<'v> {
        // SAFETY: 1 checked and mapped writable; 2 rows inside; 3 the chunk is ours alone.
        unsafe { rows_view_mut(bound[0].base, &bound[0].array, rows.clone()) }
    }
}

// SAFETY: one array, described as uncut and read-only; the view is read-only.
unsafe impl<T: Element, D: Dimension> Operand for Whole<'_, T, D> {
    type View<'v> = ArrayView<'v, T, D>;
    const COUNT: usize = 1;

    fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
        into.push(described(self.0, Mode::Whole));
    }

    fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
        bound[0].array.check::<T, D>()
    }

    unsafe fn view<'v>(bound: &[Bound], _rows: &Range<usize>) -> Self::View<'v> {
        // SAFETY: 1 checked and mapped; 2 all rows are inside; 3 nobody writes what a phase only reads.
        unsafe { rows_view(bound[0].base, &bound[0].array, 0..bound[0].array.rows()) }
    }
}

macro_rules! tuple_of_operands {
    ($($name:ident),+) => {
        // SAFETY: the parts in order, each given the entries that it described.
        unsafe impl<$($name: Operand),+> Operand for ($($name,)+) {
            type View<'v> = ($($name::View<'v>,)+);
            const COUNT: usize = 0 $(+ $name::COUNT)+;

            fn describe<'a>(&'a self, into: &mut Vec<Described<'a>>) {
                #[allow(non_snake_case)]
                let ($($name,)+) = self;
                $($name.describe(into);)+
            }

            #[allow(unused_assignments)]
            fn check(bound: &[Bound]) -> Result<(), swath_array::Error> {
                let mut at = 0;
                $($name::check(&bound[at..])?; at += $name::COUNT;)+
                Ok(())
            }

            #[allow(unused_assignments)]
            unsafe fn view<'v>(bound: &[Bound], rows: &Range<usize>) -> Self::View<'v> {
                let mut at = 0;
                ($({
                    let part = &bound[at..];
                    at += $name::COUNT;
                    // SAFETY: the caller's promises hold for each part.
                    unsafe { $name::view(part, rows) }
                },)+)
            }
        }
    };
}

tuple_of_operands!(A);
tuple_of_operands!(A, B);
tuple_of_operands!(A, B, C);
tuple_of_operands!(A, B, C, D);
tuple_of_operands!(A, B, C, D, E);
tuple_of_operands!(A, B, C, D, E, F);
