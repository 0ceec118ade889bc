//! How an array travels to a worker: plain bytes that say which segment, where in it, what type and shape.
//!
//! Nothing here is a pointer. Bytes that come out of shared memory are an allegation until [`ArrayRef::check`] has looked
//! at them; [`rows_view`](crate::rows_view) demands that it did.

use bytemuck::{Pod, Zeroable};
use ndarray::Dimension;
use swath_segment::SegmentRef;

use crate::limits::AXES_MAX;
use crate::shape::{Extent, Order, dim_from};
use crate::{DType, Element, Error};

/// A reference to an array in shared memory, valid in every process of the session.
#[derive(Copy, Clone, PartialEq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ArrayRef {
    /// The segment that holds it.
    pub segment: SegmentRef,
    /// Where its data begins, in bytes from the start of the segment.
    pub data_offset: u64,
    /// [`DType::code`].
    pub dtype: u32,
    /// Number of axes.
    pub ndim: u32,
    /// Length of each axis; 0 behind the last.
    pub shape: [u64; AXES_MAX],
    /// Distance in elements between neighbours along each axis; 0 behind the last. Never negative.
    pub strides: [i64; AXES_MAX],
    /// [`ArrayRef::FORTRAN`], [`ArrayRef::READ_ONLY`].
    pub flags: u64,
}

// The layout is shared between processes: 104 + 8 + 4 + 4 + 48 + 48 + 8.
const _: () = assert!(size_of::<ArrayRef>() == 224 && align_of::<ArrayRef>() == 8);

impl ArrayRef {
    /// Set in `flags` if the first axis is the contiguous one.
    pub const FORTRAN: u64 = 1;
    /// Set in `flags` if the segment can be mapped for reading only (a file opened that way).
    pub const READ_ONLY: u64 = 2;

    /// Describes an array of `extent` at `data_offset` of `segment`.
    pub fn new(segment: SegmentRef, data_offset: usize, extent: &Extent, read_only: bool) -> ArrayRef {
        let fortran = match extent.order() {
            Order::C => 0,
            Order::Fortran => ArrayRef::FORTRAN,
        };
        let mut shape = [0; AXES_MAX];
        for (to, &axis) in shape.iter_mut().zip(extent.shape()) {
            *to = axis as u64;
        }
        ArrayRef {
            segment,
            data_offset: data_offset as u64,
            dtype: extent.dtype().code(),
            ndim: extent.shape().len() as u32,
            shape,
            strides: extent.strides().map(|stride| stride as i64),
            flags: fortran | if read_only { ArrayRef::READ_ONLY } else { 0 },
        }
    }

    /// The extent it alleges, if it is one: known type, at most six axes, no overflow, strides and padding that follow
    /// from the shape, data aligned for its type and inside the segment.
    pub fn extent(&self) -> Result<Extent, Error> {
        let bad = |what| Error::BadReference { what };
        let dtype = DType::from_code(self.dtype).ok_or(bad("unknown element type"))?;
        let ndim = self.ndim as usize;
        if ndim > AXES_MAX {
            return Err(Error::TooManyAxes { axes: ndim });
        }
        let mut axes = [0; AXES_MAX];
        for (to, &axis) in axes.iter_mut().zip(&self.shape) {
            *to = usize::try_from(axis).map_err(|_| bad("an axis longer than memory"))?;
        }
        let order = if self.flags & ArrayRef::FORTRAN == 0 { Order::C } else { Order::Fortran };
        let extent = Extent::new(dtype, order, &axes[..ndim])?;
        if axes[ndim..].iter().any(|&axis| axis != 0) || self.strides != extent.strides().map(|s| s as i64) {
            return Err(bad("strides that do not follow from its shape"));
        }
        if !self.data_offset.is_multiple_of(dtype.align() as u64) {
            return Err(bad("data that is not aligned for its type"));
        }
        match self.data_offset.checked_add(extent.bytes() as u64) {
            Some(end) if end <= self.segment.len => Ok(extent),
            _ => Err(bad("data that reaches beyond its segment")),
        }
    }

    /// Checks everything that [`rows_view`](crate::rows_view) relies on: [`ArrayRef::extent`], elements of `T`, as many
    /// axes as `D`.
    pub fn check<T: Element, D: Dimension>(&self) -> Result<(), Error> {
        crate::shared::expect::<T, D>("the array", &self.extent()?).map(drop)
    }

    /// Number of rows: the length of axis 0, or 1 for an array without axes.
    pub fn rows(&self) -> usize {
        if self.ndim == 0 { 1 } else { self.shape[0] as usize }
    }

    /// Bytes of one row (all rows together for an array without axes).
    pub fn row_bytes(&self) -> usize {
        let size = DType::from_code(self.dtype).map_or(0, DType::size);
        self.shape
            .iter()
            .take(self.ndim as usize)
            .skip(1)
            .fold(size, |n, &axis| n.saturating_mul(axis as usize))
    }

    /// Whether a range of rows is one contiguous range of bytes.
    pub fn is_c_order(&self) -> bool {
        self.flags & ArrayRef::FORTRAN == 0
    }

    /// Whether workers may map it for reading only.
    pub fn is_read_only(&self) -> bool {
        self.flags & ArrayRef::READ_ONLY != 0
    }

    /// Shape and strides (in elements) of a view of `rows` rows, as ndarray wants them.
    pub(crate) fn dims<D: Dimension>(&self, rows: usize) -> (D, D) {
        let ndim = self.ndim as usize;
        let mut shape = self.shape.map(|axis| axis as usize);
        if ndim > 0 {
            shape[0] = rows;
        }
        let strides = self.strides.map(|stride| stride as usize);
        let dim =
            |axes: &[usize; AXES_MAX]| dim_from(&axes[..ndim]).expect("check() compared the number of axes");
        (dim(&shape), dim(&strides))
    }
}
