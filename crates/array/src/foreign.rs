//! Attaching to an array by its name, from a program that does not own it.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::Zeroable;
use ndarray::{Array, ArrayView, ArrayViewMut, Dimension, ShapeBuilder};
use swath_segment::{Foreign, Mode, SegmentRef};

use crate::limits::NPY_HEADER_BYTES_MAX;
use crate::npy::{Header, parse_header};
use crate::shape::ShapeText;
use crate::snapshot::snapshot;
use crate::{ArrayRef, DType, Element, Error, rows_view, rows_view_mut};

/// Attaches, for reading only, to the array that another program of this user has named `name`.
///
/// The name is checked before any system call is made. The memory stays mapped after its owner has dropped the array;
/// only the name is gone then.
///
/// ```no_run
/// use ndarray::Ix2;
///
/// let field = swath_array::attach::<f64, Ix2>("field")?;
/// println!("{:?}: {}", field.shape(), field.snapshot().sum());
/// # Ok::<(), swath_array::Error>(())
/// ```
pub fn attach<T: Element, D: Dimension>(name: &str) -> Result<ForeignArray<T, D>, Error> {
    Ok(ForeignArray { mapped: Mapped::attach(name, Mode::ReadOnly)? })
}

/// Attaches, for reading and writing, to the array that another program of this user has named `name`.
///
/// # Safety
///
/// 1. While a mutable view of the result lives, nobody else, in any process, reads or writes the array.
/// 2. While a shared view of it lives, nobody else, in any process, writes the array.
/// 3. Whenever this program writes, the owner agrees: no view of it, no phase over it, is live over there.
pub unsafe fn attach_mut<T: Element, D: Dimension>(name: &str) -> Result<ForeignArrayMut<T, D>, Error> {
    Ok(ForeignArrayMut { mapped: Mapped::attach(name, Mode::ReadWrite)? })
}

/// An array of another program, mapped for reading only; made by [`attach`].
pub struct ForeignArray<T, D> {
    mapped: Mapped<T, D>,
}

/// An array of another program, mapped for reading and writing; made by [`attach_mut`].
pub struct ForeignArrayMut<T, D> {
    mapped: Mapped<T, D>,
}

impl<T: Element, D: Dimension> ForeignArray<T, D> {
    /// A copy in ordinary memory, in the array's own order. If its owner writes meanwhile, each number is an old or a new
    /// one (of a complex number, each part), and the copy may be a mixture.
    pub fn snapshot(&self) -> Array<T, D> {
        self.mapped.snapshot()
    }

    /// A view of all elements, without a copy.
    ///
    /// # Safety
    ///
    /// 1. While the view lives, nobody, in any process, writes an element of the array.
    pub unsafe fn view(&self) -> ArrayView<'_, T, D> {
        // SAFETY: nobody writes, says the caller.
        unsafe { self.mapped.view() }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.mapped.dim.slice()
    }

    /// The element type in numpy's words.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The name it was attached by.
    pub fn name(&self) -> &str {
        self.mapped.segment.name()
    }
}

impl<T: Element, D: Dimension> ForeignArrayMut<T, D> {
    /// A copy in ordinary memory; see [`ForeignArray::snapshot`].
    pub fn snapshot(&self) -> Array<T, D> {
        self.mapped.snapshot()
    }

    /// A view of all elements.
    pub fn view(&self) -> ArrayView<'_, T, D> {
        // SAFETY: nobody else writes, as was promised to `attach_mut` (2); `&self` excludes our own writing.
        unsafe { self.mapped.view() }
    }

    /// A mutable view of all elements.
    pub fn view_mut(&mut self) -> ArrayViewMut<'_, T, D> {
        let reference = &self.mapped.reference;
        // SAFETY: `Mapped` holds 1 to 3 of `rows_view_mut` (mapped for writing by `attach_mut`); 4 was promised to
        // `attach_mut` (1, 3), and `&mut self` excludes our own.
        unsafe { rows_view_mut(self.mapped.segment.as_ptr(), reference, 0..reference.rows()) }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.mapped.dim.slice()
    }

    /// The element type in numpy's words.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The name it was attached by.
    pub fn name(&self) -> &str {
        self.mapped.segment.name()
    }
}

/// A mapping of a named segment whose header was read and compared with `T`, `D` and the segment's length.
struct Mapped<T, D> {
    segment: Foreign,
    /// Passed `check::<T, D>()` against the length of `segment`.
    reference: ArrayRef,
    dim: D,
    element: PhantomData<T>,
}

impl<T: Element, D: Dimension> Mapped<T, D> {
    fn attach(name: &str, mode: Mode) -> Result<Mapped<T, D>, Error> {
        let segment = Foreign::attach(name, mode)?;
        let object = format!("the array \"{name}\"");
        let header = header(&segment).map_err(|source| Error::Npy { object: object.clone(), source })?;
        let dim = crate::shared::expect::<T, D>(&object, &header.extent)?;
        header.expect_aligned(&object)?;
        let described = SegmentRef { len: segment.len() as u64, ..Zeroable::zeroed() };
        let read_only = mode == Mode::ReadOnly;
        let reference = ArrayRef::new(described, header.data_offset, &header.extent, read_only);
        reference.check::<T, D>()?;
        Ok(Mapped { segment, reference, dim, element: PhantomData })
    }

    /// # Safety
    ///
    /// 1. While the view lives, nobody, in any process, writes an element of the array.
    unsafe fn view(&self) -> ArrayView<'_, T, D> {
        // SAFETY: 1 the segment is mapped as long as `self`, and has the length that 2 the reference was checked against;
        // 3 all rows; 4 is what the caller promises.
        unsafe { rows_view(self.segment.as_ptr(), &self.reference, 0..self.reference.rows()) }
    }

    fn snapshot(&self) -> Array<T, D> {
        let first = self.segment.as_ptr().wrapping_add(self.reference.data_offset as usize).cast::<T>();
        // SAFETY: the reference was checked against the mapping: all elements lie in it, aligned (1). Writers are other
        // processes (2): views of this process that could write borrow `self` mutably.
        let elements = unsafe { snapshot(first, self.dim.size()) };
        let shape = self.dim.clone().set_f(!self.reference.is_c_order());
        Array::from_shape_vec(shape, elements).expect("as many elements as the shape says")
    }
}

/// Reads the header from a copy: its writer may be at work, and what was checked must be what is used.
fn header(segment: &Foreign) -> Result<Header, crate::npy::NpyError> {
    // Magic, version and length in front of the text have at most 12 bytes.
    let len = segment.len().min(12 + NPY_HEADER_BYTES_MAX);
    // SAFETY: the first `len` bytes are mapped as long as `segment`; bytes are always aligned; writers are other processes.
    let bytes = unsafe { snapshot::<u8>(segment.as_ptr(), len) };
    let header = parse_header(&bytes)?;
    header.expect_data(segment.len() as u64)?;
    Ok(header)
}

impl<T: Element, D: Dimension> fmt::Debug for ForeignArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignArray(\"{}\" {}{})", self.name(), T::DTYPE, ShapeText(self.shape().to_vec()))
    }
}

impl<T: Element, D: Dimension> fmt::Debug for ForeignArrayMut<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignArrayMut(\"{}\" {}{})", self.name(), T::DTYPE, ShapeText(self.shape().to_vec()))
    }
}
