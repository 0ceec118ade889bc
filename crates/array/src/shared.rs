//! [`SharedArray`]: an n-dimensional array in shared memory, owned by the coordinator.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use ndarray::{Array, ArrayBase, ArrayView, ArrayViewMut, Data, Dimension, IntoDimension};

use crate::options::ArrayOptions;
use crate::shape::{Extent, Order, ShapeText, dim_from};
use crate::storage::Storage;
use crate::{ArrayHandle, ArrayRef, DType, Element, Error, Taint, Torn, travel};

/// An array of `T` in a segment of its own, which is a `.npy` image.
///
/// It is made in the coordinator, which owns it: dropping it (and the last [`handle`](SharedArray::handle)) unlinks the
/// name and unmaps the memory. A worker may make one too, and return it: then it is the coordinator's, without a copy. Workers see its rows as ndarray views without a copy; any other program may attach to a
/// named one, or open it with `np.load("/dev/shm/NAME", mmap_mode="r")`.
///
/// ```no_run
/// use swath_array::SharedArray;
///
/// let mut field = SharedArray::<f64, _>::options().name("field").create((512, 512))?;
/// field.view_mut().fill(1.0);
/// assert_eq!(field.view().sum(), 262_144.0);
/// # Ok::<(), swath_array::Error>(())
/// ```
///
/// One mutable view at a time, and none beside a shared one:
///
/// ```compile_fail,E0499
/// # use swath_array::SharedArray;
/// let mut a = SharedArray::<f64, _>::zeros(4).unwrap();
/// let mut one = a.view_mut();
/// let mut two = a.view_mut();
/// one[0] = 1.0;
/// two[0] = 2.0;
/// ```
///
/// ```compile_fail,E0502
/// # use swath_array::SharedArray;
/// let mut a = SharedArray::<f64, _>::zeros(4).unwrap();
/// let one = a.view();
/// a.view_mut()[0] = 2.0;
/// println!("{}", one[0]);
/// ```
///
/// ```compile_fail,E0505
/// # use swath_array::SharedArray;
/// let a = SharedArray::<f64, _>::zeros(4).unwrap();
/// let view = a.view();
/// drop(a);
/// println!("{}", view[0]);
/// ```
pub struct SharedArray<T, D> {
    storage: Arc<Storage>,
    dim: D,
    element: std::marker::PhantomData<T>,
}

impl<T: Element, D: Dimension> SharedArray<T, D> {
    /// `storage` was made for elements of `T` and as many axes as `D` has.
    pub(crate) fn from_storage(storage: Storage) -> Result<SharedArray<T, D>, Error> {
        SharedArray::from_shared_storage(Arc::new(storage))
    }

    /// The same of a storage that nobody else has.
    pub(crate) fn from_shared_storage(storage: Arc<Storage>) -> Result<SharedArray<T, D>, Error> {
        let dim = expect::<T, D>(&storage.object(), storage.extent())?;
        Ok(SharedArray { storage, dim, element: std::marker::PhantomData })
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Name, place and layout by choice.
    pub fn options() -> ArrayOptions<T, D> {
        ArrayOptions::new()
    }

    /// An array of zeros under an automatic name.
    ///
    /// Nothing is written: the pages are reserved, and filled with zeros by the kernel when they are first touched, best
    /// by the worker that will use them.
    pub fn zeros(shape: impl IntoDimension<Dim = D>) -> Result<SharedArray<T, D>, Error> {
        Self::options().create(shape)
    }

    /// An array whose element at index `i` is `f(i)`.
    ///
    /// Filled here, by this thread alone, in C order, so all its pages are first touched by the coordinator. For large
    /// arrays let a phase fill `zeros` in parallel.
    pub fn from_shape_fn(
        shape: impl IntoDimension<Dim = D>,
        f: impl FnMut(D::Pattern) -> T,
    ) -> Result<SharedArray<T, D>, Error> {
        Self::options().from_shape_fn(shape, f)
    }

    /// A copy of `array`, which may have any layout; stored in C order.
    pub fn from_array<S: Data<Elem = T>>(array: &ArrayBase<S, D>) -> Result<SharedArray<T, D>, Error> {
        Self::options().from_array(array)
    }

    /// The existing `.npy` file at `path`, mapped in place for reading only: no copy, larger than memory if need be.
    ///
    /// Versions 1 to 3, any data offset that is aligned for `T` (an [`Error::Misaligned`] otherwise:
    /// [`ArrayOptions::read_npy`] copies such a file), C or Fortran order. No other program may change or shorten the file while it
    /// is mapped; in this one, a file is open in one array that can be changed or in any number that cannot
    /// ([`Error::InUse`] otherwise).
    pub fn open_npy(path: impl AsRef<Path>) -> Result<SharedArray<T, D>, Error> {
        crate::options::open_npy(path.as_ref(), false)
    }

    /// The same for reading and writing: changes go to the file as they are made, [`finish`](SharedArray::finish) waits
    /// until they are on disk.
    pub fn open_npy_mut(path: impl AsRef<Path>) -> Result<SharedArray<T, D>, Error> {
        crate::options::open_npy(path.as_ref(), true)
    }

    /// A view of all elements.
    ///
    /// # Panics
    ///
    /// If the array is tainted, with the taint's text.
    pub fn view(&self) -> ArrayView<'_, T, D> {
        self.try_view().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A mutable view of all elements.
    ///
    /// # Panics
    ///
    /// If the array is tainted, was opened for reading only, or is shared by a live [`ArrayHandle`].
    pub fn view_mut(&mut self) -> ArrayViewMut<'_, T, D> {
        self.try_view_mut().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A view of all elements, or [`Error::Tainted`].
    pub fn try_view(&self) -> Result<ArrayView<'_, T, D>, Error> {
        self.storage.view()
    }

    /// A mutable view of all elements, or [`Error::Tainted`], [`Error::NotWritable`].
    pub fn try_view_mut(&mut self) -> Result<ArrayViewMut<'_, T, D>, Error> {
        self.exclusive()?.view_mut()
    }

    /// `Ok` if the array may be changed now: not tainted, mapped writable, no handle alive, here or in another process. The engine asks this before it
    /// lets workers write; the answer lasts as long as the caller's `&mut` borrow of the array.
    pub fn try_exclusive(&self) -> Result<(), Error> {
        self.alone()?;
        // Looked at after the count: who lent it, and has let go of it since, has let readers in before.
        if !self.storage.may_be_read() {
            return Ok(());
        }
        self.storage.keep_readers_out()?;
        // No new handle can come out of a reference that arrives here; then all are counted once more. Whoever asks in vain has not
        // been in the way of what arrives, but for this moment.
        travel::forget(self.storage.identity());
        self.alone().or_else(|error| {
            travel::remember(&self.storage);
            self.storage.let_readers_in().and(Err(error))
        })
    }

    fn alone(&self) -> Result<(), Error> {
        // With Acquire, what the last holder of a handle read happened before our writes, as in Arc::get_mut.
        let handles = Arc::strong_count(&self.storage) - 1;
        fence(Ordering::Acquire);
        if handles == 0 {
            return self.storage.changeable();
        }
        let why = match handles {
            1 => "a handle to it is alive (of a task that has not finished, perhaps)".to_owned(),
            n => format!("{n} handles to it are alive (some of tasks that have not finished, perhaps)"),
        };
        Err(Error::NotWritable { object: self.storage.object(), why })
    }

    /// `Ok` unless tainted. The engine asks this before it lets workers read.
    pub fn try_shared(&self) -> Result<(), Error> {
        self.storage.usable()
    }

    /// A copy in ordinary memory.
    ///
    /// # Panics
    ///
    /// If the array is tainted.
    pub fn to_owned(&self) -> Array<T, D> {
        self.view().to_owned()
    }

    /// An owned, read-only handle. While it (or a clone) lives, the array cannot be changed.
    pub fn handle(&self) -> ArrayHandle<T, D> {
        ArrayHandle::new(self.storage.clone())
    }

    /// The name in `/dev/shm`, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.storage.name()
    }

    /// A path under which other programs can open the `.npy` image while the array lives: `/dev/shm/NAME`, the file's, or
    /// `/proc/PID/fd/N` of an unnamed one.
    pub fn path(&self) -> PathBuf {
        self.storage.path()
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.dim.slice()
    }

    /// The shape as ndarray's type.
    pub fn raw_dim(&self) -> D {
        self.dim.clone()
    }

    /// Number of axes.
    pub fn ndim(&self) -> usize {
        self.dim.ndim()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.storage.extent().elements()
    }

    /// Whether an axis has length 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type in numpy's words.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The order of the elements in memory.
    pub fn order(&self) -> Order {
        self.storage.extent().order()
    }

    /// What a worker needs to find the array.
    pub fn array_ref(&self) -> ArrayRef {
        *self.storage.reference()
    }

    /// The first byte of the segment in this process, page-aligned: the `base` of [`rows_view`](crate::rows_view).
    pub fn base_ptr(&self) -> *mut u8 {
        self.storage.base_ptr()
    }

    /// The first element in this process. Whoever writes through it must hold the array as `&mut`.
    pub fn data_ptr(&self) -> *mut T {
        self.base_ptr().wrapping_add(self.storage.reference().data_offset as usize).cast()
    }

    /// Marks the array as one that `taint.worker` may still write. For ever; the first taint stays.
    pub fn taint(&self, taint: Taint) {
        self.storage.set_taint(taint);
    }

    /// Who may still write into it, if somebody may.
    pub fn tainted(&self) -> Option<Taint> {
        self.storage.taint()
    }

    /// Marks rows whose contents are unknown.
    pub fn mark_torn(&self, torn: Torn) {
        self.storage.mark_torn(torn);
    }

    /// The rows whose contents are unknown, in the order in which they were marked.
    pub fn torn(&self) -> Vec<Torn> {
        self.storage.torn()
    }

    /// Forgets the marks, by whoever has filled the array anew.
    pub fn clear_torn(&mut self) {
        self.storage.clear_torn();
    }

    /// Makes a file-backed array final: waits until its bytes are on disk and renames `FILE.partial` to `FILE`, replacing
    /// what stood there. Dropped without `finish`, the partial file is removed. For an array opened by
    /// [`open_npy_mut`](SharedArray::open_npy_mut) it only waits.
    ///
    /// Errors: the disk's (writes through a mapping report theirs only here), tainted, a handle alive, not in a file.
    pub fn finish(mut self) -> Result<(), Error> {
        self.exclusive()?.finish()
    }

    fn exclusive(&mut self) -> Result<&mut Storage, Error> {
        self.try_exclusive()?;
        Ok(Arc::get_mut(&mut self.storage).expect("alone a moment ago, and no reference leads to it"))
    }
}

/// The shape as a `D`, if `extent` is one of `T` with as many axes.
pub(crate) fn expect<T: Element, D: Dimension>(object: &str, extent: &Extent) -> Result<D, Error> {
    if extent.dtype() != T::DTYPE {
        return Err(Error::WrongType { object: object.into(), found: extent.dtype(), expected: T::DTYPE });
    }
    dim_from(extent.shape()).ok_or_else(|| Error::WrongAxes {
        object: object.into(),
        found: ShapeText(extent.shape().to_vec()),
        expected: D::NDIM.unwrap_or_default(),
    })
}

impl<T: Element, D: Dimension> fmt::Debug for SharedArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedArray({} {}{})", self.storage.object(), T::DTYPE, ShapeText(self.shape().to_vec()))
    }
}
