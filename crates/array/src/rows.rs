//! Views of a range of rows: what a kernel receives.
//!
//! In C order a range of rows is one contiguous block; in Fortran order it is a strided view over all columns. Both are
//! ndarray views and copy nothing.

use std::ops::Range;

use ndarray::{ArrayView, ArrayViewMut, Dimension, ShapeBuilder, StrideShape};

use crate::{ArrayRef, Element};

/// A read-only view of the rows `rows` (axis 0) of the array that `r` describes.
///
/// # Safety
///
/// 1. `base` is the start of a mapping of `r.segment` of at least `r.segment.len` bytes, readable, aligned to a page.
/// 2. `r.check::<T, D>()` was `Ok` for exactly these bytes of `r` (a private copy, not shared memory that can change).
/// 3. `rows.start <= rows.end <= r.rows()`; of an array without axes, `rows` is `0..1`.
/// 4. During `'v` the mapping stays, and nobody, in any process, writes an element of these rows.
///
/// Preconditions 1 to 3 are also debug-asserted as far as they can be.
#[inline]
pub unsafe fn rows_view<'v, T, D>(base: *const u8, r: &ArrayRef, rows: Range<usize>) -> ArrayView<'v, T, D>
where
    T: Element,
    D: Dimension,
{
    let (dim, strides, first) = locate::<T, D>(base, r, &rows);
    // SAFETY: by 1 and 2 `first` and all elements reached by the strides lie in the mapping and are aligned; any bits
    // are a `T` (Pod); 4 is ndarray's demand that nothing mutates them during 'v.
    unsafe { ArrayView::from_shape_ptr(stride_shape(dim, strides), first) }
}

/// A mutable view of the rows `rows` (axis 0) of the array that `r` describes.
///
/// # Safety
///
/// 1. `base` is the start of a mapping of `r.segment` of at least `r.segment.len` bytes, readable and writable, aligned to
///    a page.
/// 2. `r.check::<T, D>()` was `Ok` for exactly these bytes of `r` (a private copy, not shared memory that can change).
/// 3. `rows.start <= rows.end <= r.rows()`; of an array without axes, `rows` is `0..1`.
/// 4. During `'v` the mapping stays, and nobody else, in any process, reads or writes an element of these rows.
///
/// Views of disjoint ranges may live at the same time, also in Fortran order: each is derived from the raw pointer, and
/// reaches its own elements only.
#[inline]
pub unsafe fn rows_view_mut<'v, T, D>(
    base: *mut u8,
    r: &ArrayRef,
    rows: Range<usize>,
) -> ArrayViewMut<'v, T, D>
where
    T: Element,
    D: Dimension,
{
    let (dim, strides, first) = locate::<T, D>(base, r, &rows);
    // SAFETY: as in `rows_view`, writable by 1; 4 is the exclusiveness that a mutable view demands.
    unsafe { ArrayViewMut::from_shape_ptr(stride_shape(dim, strides), first.cast_mut()) }
}

/// Shape, strides and first element of the rows.
#[inline]
fn locate<T: Element, D: Dimension>(base: *const u8, r: &ArrayRef, rows: &Range<usize>) -> (D, D, *const T) {
    debug_assert!(!base.is_null() && base.addr().is_multiple_of(4096), "precondition 1");
    debug_assert!(r.check::<T, D>().is_ok(), "precondition 2: {:?}", r.check::<T, D>());
    debug_assert!(r.ndim > 0 || *rows == (0..1), "precondition 3: {rows:?}");
    debug_assert!(rows.start <= rows.end && rows.end <= r.rows(), "precondition 3: {rows:?}");
    let (dim, strides) = r.dims::<D>(rows.len());
    // An empty range may start behind the last row: in Fortran order its address is still inside the data, in C order
    // one past its end. Wrapping arithmetic keeps the computation defined wherever the preconditions are debugged.
    let first = base.wrapping_add(r.data_offset as usize).cast::<T>();
    (dim, strides, first.wrapping_add(rows.start * r.strides[0] as usize))
}

/// A view without elements gets ndarray's own strides: it takes our zeros for overlapping ones.
#[inline]
fn stride_shape<D: Dimension>(dim: D, strides: D) -> StrideShape<D> {
    if dim.size() == 0 { dim.into() } else { dim.strides(strides) }
}
