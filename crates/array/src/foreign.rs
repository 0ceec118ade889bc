//! Attaching to an array by its name, from a program that does not own it.

use std::fmt;
use std::fs::File;
use std::io;

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};
use ndarray::{Array, ArrayView, ArrayViewMut, Dimension, ShapeBuilder};
use swath_platform::file::{self, Access};
use swath_platform::process;
use swath_segment::SegmentRef;

use crate::npy::NpyFile;
use crate::shape::{Order, ShapeText};
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
    Ok(ForeignArray { mapped: Mapped::attach(name, Access::Read)? })
}

/// Attaches for reading and writing to the array that another program of this user has named `name`.
///
/// # Safety
///
/// 1. While a mutable view of the result lives, nobody else, in any process, reads or writes the array.
/// 2. While a shared view of it lives, nobody else, in any process, writes the array.
/// 3. Whenever this program writes, the owner agrees: no view of it, no phase over it, is live over there.
pub unsafe fn attach_mut<T: Element, D: Dimension>(name: &str) -> Result<ForeignArrayMut<T, D>, Error> {
    Ok(ForeignArrayMut { mapped: Mapped::attach(name, Access::ReadWrite)? })
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
        // SAFETY: `Mapped` holds 1 to 3 of `rows_view`; 4 is what the caller promises.
        unsafe { rows_view(self.mapped.map.as_ptr(), &self.mapped.reference, 0..self.mapped.reference.rows()) }
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
        &self.mapped.name
    }
}

impl<T: Element, D: Dimension> ForeignArrayMut<T, D> {
    /// A copy in ordinary memory; see [`ForeignArray::snapshot`].
    pub fn snapshot(&self) -> Array<T, D> {
        self.mapped.snapshot()
    }

    /// A view of all elements.
    pub fn view(&self) -> ArrayView<'_, T, D> {
        // SAFETY: `Mapped` holds 1 to 3 of `rows_view`; 4 was promised to `attach_mut` (2), and `&self` excludes our own.
        unsafe { rows_view(self.mapped.map.as_ptr(), &self.mapped.reference, 0..self.mapped.reference.rows()) }
    }

    /// A mutable view of all elements.
    pub fn view_mut(&mut self) -> ArrayViewMut<'_, T, D> {
        let (base, rows) = (self.mapped.map.as_mut_ptr(), 0..self.mapped.reference.rows());
        // SAFETY: `Mapped` holds 1 to 3 of `rows_view_mut` (mapped for writing by `attach_mut`); 4 was promised to
        // `attach_mut` (1, 3), and `&mut self` excludes our own.
        unsafe { rows_view_mut(base, &self.mapped.reference, rows) }
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
        &self.mapped.name
    }
}

/// A mapping of a named segment whose header was read and compared with `T`, `D` and the segment's length.
struct Mapped<T, D> {
    map: MmapRaw,
    /// Passed `check::<T, D>()` against the length of `map`.
    reference: ArrayRef,
    dim: D,
    name: String,
    element: std::marker::PhantomData<T>,
}

// SAFETY: the mapping has no owner thread; what may be done with it from several threads at once (reading through `&`) is
// as for a `Vec<T>`, and `T: Element` is `Send + Sync`.
unsafe impl<T: Element, D: Send> Send for Mapped<T, D> {}
// SAFETY: as above.
unsafe impl<T: Element, D: Sync> Sync for Mapped<T, D> {}

impl<T: Element, D: Dimension> Mapped<T, D> {
    fn attach(name: &str, access: Access) -> Result<Mapped<T, D>, Error> {
        let file = open(name, access)?;
        let object = format!("the array \"{name}\"");
        let failed = |source| Error::Io { operation: "map", object: object.clone(), source };
        let source = NpyFile::check(file, object.clone())?;
        let header = source.header;
        let dim = crate::shared::expect::<T, D>(&object, &header.extent)?;
        if !header.data_offset.is_multiple_of(align_of::<T>()) {
            return Err(Error::Misaligned { object, offset: header.data_offset, dtype: T::DTYPE });
        }
        let len = header.data_offset + header.extent.bytes();
        let mut options = MmapOptions::new();
        let map = match access {
            Access::Read => options.len(len).map_raw_read_only(&source.file),
            _ => options.len(len).map_raw(&source.file),
        };
        let map = map.map_err(failed)?;
        let segment = SegmentRef { len: len as u64, ..Zeroable::zeroed() };
        let reference = ArrayRef::new(segment, header.data_offset, &header.extent, access == Access::Read);
        reference.check::<T, D>()?;
        Ok(Mapped { map, reference, dim, name: name.into(), element: std::marker::PhantomData })
    }

    fn snapshot(&self) -> Array<T, D> {
        let first = self.map.as_ptr().wrapping_add(self.reference.data_offset as usize).cast::<T>();
        // SAFETY: the reference was checked against the mapping: all elements lie in it, aligned (1). Writers are other
        // processes (2): views of this process that could write borrow `self` mutably.
        let elements = unsafe { snapshot(first, self.dim.size()) };
        let shape = self.dim.clone().set_f(!self.reference.is_c_order());
        Array::from_shape_vec(shape, elements).expect("as many elements as the shape says")
    }
}

/// The file in `/dev/shm` behind a name: a regular file of this user, never through a link.
fn open(name: &str, access: Access) -> Result<File, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::Segment(swath_segment::Error::NotFound { name: name.into() }),
        _ => Error::Io { operation: "attach to", object: format!("the array \"{name}\""), source },
    };
    swath_segment::validate(name)?;
    let file = file::open(&swath_segment::shm_path(name), access).map_err(failed)?;
    let stat = file::stat(&file).map_err(failed)?;
    // Whoever can shorten the file can end this program (SIGBUS): only ourselves are trusted with that.
    if !stat.is_regular() || stat.uid != process::geteuid() {
        return Err(failed(io::Error::other("it is not a regular file of this user")));
    }
    Ok(File::from(file))
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
