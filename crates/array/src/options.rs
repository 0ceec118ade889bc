//! How to make an array that is not the default kind: [`ArrayOptions`].

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use ndarray::{ArrayBase, Data, Dimension, IntoDimension};

use crate::backing::{Backing, Place};
use crate::limits::DATA_OFFSET_BYTES;
use crate::shape::{Extent, Order};
use crate::storage::Storage;
use crate::{Element, Error, SharedArray, npy};

/// Name, place and layout of an array to be made; from [`SharedArray::options`].
///
/// ```no_run
/// use swath_array::SharedArray;
///
/// let field = SharedArray::<f32, _>::options().name("field").populate(true).create((512, 512))?;
/// let scratch = SharedArray::<f32, _>::options().unnamed().from_array(&field.view())?;
/// # Ok::<(), swath_array::Error>(())
/// ```
#[must_use = "options make nothing until one of create, from_shape_fn, from_array, read_npy is called"]
pub struct ArrayOptions<T, D> {
    place: Place,
    order: Order,
    populate: bool,
    huge_pages: bool,
    array: PhantomData<fn() -> (T, D)>,
}

impl<T: Element, D: Dimension> ArrayOptions<T, D> {
    pub(crate) fn new() -> ArrayOptions<T, D> {
        let place = Place::Automatic;
        ArrayOptions { place, order: Order::C, populate: false, huge_pages: false, array: PhantomData }
    }

    /// Under this name in `/dev/shm`: for other programs to attach to. The name is checked before anything is made.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.place = Place::Named(name.into());
        self
    }

    /// Without a name: invisible to other programs, nothing to leak, and not counted against the size of `/dev/shm`.
    pub fn unnamed(mut self) -> Self {
        self.place = Place::Unnamed;
        self
    }

    /// In a `.npy` file on disk, which may be larger than memory. The file is `PATH.partial` until
    /// [`SharedArray::finish`].
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::File(path.into());
        self
    }

    /// The order of the elements in memory; C unless told otherwise.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Fault all pages in now, by this thread. Without it each page is faulted in by whoever touches it first; the pool's
    /// `populate` has the workers do it.
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// Ask the kernel for huge pages (which faults them all in). Best effort: refused, or below 4 MiB, the array has ordinary
    /// pages.
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// An array of zeros.
    pub fn create(self, shape: impl IntoDimension<Dim = D>) -> Result<SharedArray<T, D>, Error> {
        let shape = shape.into_dimension();
        SharedArray::from_storage(self.make(shape.slice())?)
    }

    /// An array whose element at index `i` is `f(i)`, filled by this thread in C order.
    pub fn from_shape_fn(
        self,
        shape: impl IntoDimension<Dim = D>,
        mut f: impl FnMut(D::Pattern) -> T,
    ) -> Result<SharedArray<T, D>, Error> {
        let mut array = self.create(shape)?;
        for (index, element) in array.try_view_mut()?.indexed_iter_mut() {
            *element = f(index);
        }
        Ok(array)
    }

    /// A copy of `array`, which may have any layout.
    pub fn from_array<S: Data<Elem = T>>(self, array: &ArrayBase<S, D>) -> Result<SharedArray<T, D>, Error> {
        let mut copy = SharedArray::from_storage(self.make(array.shape())?)?;
        copy.try_view_mut()?.assign(array);
        Ok(copy)
    }

    /// A copy of the `.npy` file at `path`, in the file's own order.
    pub fn read_npy(mut self, path: impl AsRef<Path>) -> Result<SharedArray<T, D>, Error> {
        let mut source = npy::NpyFile::open(path.as_ref(), false)?;
        let extent = source.header.extent;
        crate::shared::expect::<T, D>(&source.object, &extent)?;
        self.order = extent.order();
        let mut storage = self.make(extent.shape())?;
        source.read_data(storage.bytes_mut()?)?;
        SharedArray::from_storage(storage)
    }

    fn make(self, shape: &[usize]) -> Result<Storage, Error> {
        let extent = Extent::new(T::DTYPE, self.order, shape)?;
        let too_large = || Error::TooLarge { shape: crate::ShapeText(shape.to_vec()), dtype: T::DTYPE };
        let len = extent.bytes().checked_add(DATA_OFFSET_BYTES).ok_or_else(too_large)?;
        let backing = Backing::create(&self.place, &extent, len)?;
        if self.huge_pages {
            backing.collapse();
        }
        if self.populate {
            backing.populate()?;
        }
        Storage::new(backing, DATA_OFFSET_BYTES, extent)
    }
}

/// Maps an existing file in place.
pub(crate) fn open_npy<T: Element, D: Dimension>(
    path: &Path,
    writable: bool,
) -> Result<SharedArray<T, D>, Error> {
    let source = npy::NpyFile::open(path, writable)?;
    let header = source.header;
    crate::shared::expect::<T, D>(&source.object, &header.extent)?;
    header.expect_aligned(&source.object)?;
    let backing = Backing::open(path, &source, writable)?;
    SharedArray::from_storage(Storage::new(backing, header.data_offset, header.extent)?)
}
