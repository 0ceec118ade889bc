//! Owned, read-only handles: what tasks and futures take, since they cannot borrow.

use std::fmt;
use std::sync::Arc;

use ndarray::{Array, ArrayView, Dimension};

use crate::shape::{ShapeText, dim_from};
use crate::storage::Storage;
use crate::{ArrayRef, DType, Element, Error, Taint};

/// A reference-counted, read-only handle to a [`SharedArray`](crate::SharedArray): `Clone`, `Send`, `Sync`.
///
/// It keeps the memory and the name alive. While a handle exists the array itself cannot be changed:
/// [`try_view_mut`](crate::SharedArray::try_view_mut) is an error then.
///
/// It is serde, for arguments of tasks, processes and phases, in whatever they are made of: there `view()` shows the same memory, mapped
/// for reading only, once per process, until the last handle of that process is dropped. Who carries it counts as a handle until it is
/// over; and so does a process that keeps one longer. See [`travel`](crate::travel).
pub struct ArrayHandle<T, D> {
    storage: Arc<Storage>,
    dim: D,
    element: std::marker::PhantomData<fn() -> T>,
}

impl<T: Element, D: Dimension> ArrayHandle<T, D> {
    pub(crate) fn new(storage: Arc<Storage>) -> ArrayHandle<T, D> {
        let dim = dim_from(storage.extent().shape()).expect("the array has as many axes as its type says");
        ArrayHandle { storage, dim, element: std::marker::PhantomData }
    }

    pub(crate) fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// A view of all elements.
    ///
    /// # Panics
    ///
    /// If the array is tainted, with the taint's text.
    pub fn view(&self) -> ArrayView<'_, T, D> {
        self.try_view().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A view of all elements, or [`Error::Tainted`].
    pub fn try_view(&self) -> Result<ArrayView<'_, T, D>, Error> {
        self.storage.view()
    }

    /// A copy in ordinary memory.
    ///
    /// # Panics
    ///
    /// If the array is tainted.
    pub fn to_owned(&self) -> Array<T, D> {
        self.view().to_owned()
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.dim.slice()
    }

    /// The element type in numpy's words.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The name, if the array has one.
    pub fn name(&self) -> Option<&str> {
        self.storage.name()
    }

    /// What a worker needs to find the array.
    pub fn array_ref(&self) -> ArrayRef {
        *self.storage.reference()
    }

    /// The first byte of the segment in this process.
    pub fn base_ptr(&self) -> *const u8 {
        self.storage.base_ptr()
    }

    /// Who may still write into it, if somebody may.
    pub fn tainted(&self) -> Option<Taint> {
        self.storage.taint()
    }
}

impl<T, D: Clone> Clone for ArrayHandle<T, D> {
    fn clone(&self) -> Self {
        ArrayHandle { storage: self.storage.clone(), dim: self.dim.clone(), element: self.element }
    }
}

impl<T: Element, D: Dimension> fmt::Debug for ArrayHandle<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArrayHandle({} {}{})", self.storage.object(), T::DTYPE, ShapeText(self.shape().to_vec()))
    }
}
