//! Shapes and strides: the arithmetic of an array's extent, checked once, before anything is allocated or mapped.

use std::fmt;

use ndarray::Dimension;

use crate::limits::AXES_MAX;
use crate::{DType, Error};

/// In which order the elements of an array lie in memory.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// The last axis is contiguous, rows (axis 0) lie one after the other. Everything that swath creates, unless told otherwise.
    #[default]
    C,
    /// The first axis is contiguous: columns lie one after the other, a range of rows is a strided view.
    Fortran,
}

/// The extent of an array: up to six axes whose byte size is known not to overflow `isize`.
///
/// Made by [`Extent::new`] only, so holding one is the proof.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Extent {
    dtype: DType,
    order: Order,
    ndim: usize,
    axes: [usize; AXES_MAX],
    elements: usize,
}

impl Extent {
    /// Checks the number of axes and that all bytes together are at most `isize::MAX`.
    ///
    /// As in ndarray, the product of the axes *that are not zero* counts, so that an empty array cannot smuggle in a
    /// stride that overflows.
    pub fn new(dtype: DType, order: Order, shape: &[usize]) -> Result<Extent, Error> {
        if shape.len() > AXES_MAX {
            return Err(Error::TooManyAxes { axes: shape.len() });
        }
        let too_large = || Error::TooLarge { shape: ShapeText(shape.to_vec()), dtype };
        let mut reach = dtype.size();
        for &axis in shape.iter().filter(|&&axis| axis != 0) {
            reach = reach.checked_mul(axis).ok_or_else(too_large)?;
        }
        if reach > isize::MAX as usize {
            return Err(too_large());
        }
        let mut axes = [0; AXES_MAX];
        axes[..shape.len()].copy_from_slice(shape);
        let elements = if shape.contains(&0) { 0 } else { reach / dtype.size() };
        Ok(Extent { dtype, order, ndim: shape.len(), axes, elements })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The order of the elements in memory.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.axes[..self.ndim]
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.elements * self.dtype.size()
    }

    /// Distance in elements between neighbours along each axis, never negative; all zero for an empty array (so that
    /// no offset can be computed that lies outside it).
    pub fn strides(&self) -> [usize; AXES_MAX] {
        let mut strides = [0; AXES_MAX];
        if self.elements == 0 {
            return strides;
        }
        let mut step = 1;
        let mut set = |axis: usize| {
            strides[axis] = step;
            step *= self.axes[axis];
        };
        match self.order {
            Order::C => (0..self.ndim).rev().for_each(&mut set),
            Order::Fortran => (0..self.ndim).for_each(&mut set),
        }
        strides
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ({:?} order)", self.dtype, ShapeText(self.shape().to_vec()), self.order)
    }
}

/// `axes` as a `D`, if `D` has as many axes.
pub(crate) fn dim_from<D: Dimension>(axes: &[usize]) -> Option<D> {
    if D::NDIM.is_some_and(|ndim| ndim != axes.len()) {
        return None;
    }
    let mut dim = D::zeros(axes.len());
    dim.slice_mut().copy_from_slice(axes);
    Some(dim)
}

/// A shape in error messages, in Python's notation: `(3, 4)`, `(5,)`, `()`.
#[derive(Clone, PartialEq, Eq)]
pub struct ShapeText(pub Vec<usize>);

impl fmt::Display for ShapeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (i, axis) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{axis}")?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

impl fmt::Debug for ShapeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(shape: &[usize]) -> Result<Extent, Error> {
        Extent::new(DType::Float64, Order::C, shape)
    }

    #[test]
    fn bytes_and_strides() {
        let c = extent(&[2, 3, 4]).unwrap();
        assert_eq!((c.elements(), c.bytes()), (24, 192));
        assert_eq!(c.strides()[..3], [12, 4, 1]);
        let f = Extent::new(DType::Int16, Order::Fortran, &[2, 3, 4]).unwrap();
        assert_eq!(f.strides()[..3], [1, 2, 6]);
        assert_eq!(extent(&[]).unwrap().elements(), 1);
    }

    #[test]
    fn zero_length_axes_are_empty_and_still_checked() {
        let empty = extent(&[5, 0, 7]).unwrap();
        assert_eq!((empty.elements(), empty.bytes(), empty.strides()), (0, 0, [0; AXES_MAX]));
        assert!(extent(&[0, usize::MAX]).is_err());
    }

    #[test]
    fn overflow_and_seven_axes_are_errors() {
        for shape in [&[usize::MAX][..], &[1 << 32, 1 << 31], &[isize::MAX as usize / 8 + 1]] {
            assert!(matches!(extent(shape), Err(Error::TooLarge { .. })), "{shape:?}");
        }
        assert!(extent(&[isize::MAX as usize / 8]).is_ok());
        assert!(matches!(extent(&[1; 7]), Err(Error::TooManyAxes { axes: 7 })));
    }

    #[test]
    fn shapes_read_like_python() {
        let text = |axes: &[usize]| ShapeText(axes.to_vec()).to_string();
        assert_eq!([text(&[]), text(&[5]), text(&[3, 4])], ["()", "(5,)", "(3, 4)"]);
    }
}
