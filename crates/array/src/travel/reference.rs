//! An array's reference on its way, in any serde format.

use std::sync::Arc;

use ndarray::Dimension;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use swath_segment::SegmentRef;

use super::{Identity, find, give, lend, refuse, remember, take_array, take_handle};
use crate::backing::Backing;
use crate::shape::{Extent, Order};
use crate::storage::Storage;
use crate::{ArrayHandle, ArrayRef, DType, Element, Error, SharedArray};

/// What stands in arguments and results. An allegation, until it is checked.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) struct Travelling {
    /// Whose descriptor it is.
    holder: u32,
    fd: i32,
    file: Identity,
    id: u64,
    len: u64,
    name: Option<String>,
    offset: u64,
    dtype: u32,
    fortran: bool,
    shape: Vec<u64>,
}

impl Travelling {
    pub(crate) fn of(storage: &Storage) -> Travelling {
        let reference = storage.reference();
        let segment = &reference.segment;
        Travelling {
            holder: storage.holder(),
            fd: segment.fd,
            file: (segment.dev, segment.ino),
            id: segment.id,
            len: segment.len,
            name: segment.name().map(str::to_owned),
            offset: reference.data_offset,
            dtype: reference.dtype,
            fortran: !reference.is_c_order(),
            shape: storage.extent().shape().iter().map(|&axis| axis as u64).collect(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.file
    }

    /// The extent that it alleges, if there is such a one.
    pub(crate) fn extent(&self) -> Result<Extent, Error> {
        let dtype =
            DType::from_code(self.dtype).ok_or(Error::BadReference { what: "unknown element type" })?;
        let order = if self.fortran { Order::Fortran } else { Order::C };
        let axes: Result<Vec<usize>, _> = self.shape.iter().map(|&axis| usize::try_from(axis)).collect();
        let axes = axes.map_err(|_| Error::BadReference { what: "an axis longer than memory" })?;
        Extent::new(dtype, order, &axes)
    }

    pub(crate) fn offset(&self) -> Result<usize, Error> {
        usize::try_from(self.offset)
            .map_err(|_| Error::BadReference { what: "data beyond the address space" })
    }

    /// Checks the elements and the number of axes.
    fn check<T: Element, D: Dimension>(&self) -> Result<Extent, Error> {
        let extent = self.extent()?;
        crate::shared::expect::<T, D>("the array that was sent", &extent)?;
        Ok(extent)
    }

    /// Whether `storage` is laid out as this says.
    pub(crate) fn describes(&self, storage: &Storage) -> Result<(), Error> {
        let reference = storage.reference();
        let same = *storage.extent() == self.extent()? && reference.data_offset == self.offset;
        if same { Ok(()) } else { Err(Error::BadReference { what: "it says otherwise than the array" }) }
    }

    /// The array in this process: the one that is here already, or a new mapping for reading.
    fn attach(&self) -> Result<Arc<Storage>, Error> {
        if let Some(storage) = find(self.file) {
            self.describes(&storage)?;
            return Ok(storage);
        }
        let name = self.name.as_deref().unwrap_or_default();
        let segment = SegmentRef::new(self.id, self.file, self.len, self.fd, name);
        let extent = self.extent()?;
        // Before anything is mapped.
        ArrayRef::new(segment, self.offset()?, &extent, true).extent()?;
        let backing = Backing::attach(&segment, self.holder)?;
        let storage = Arc::new(Storage::new(backing, self.offset()?, extent)?);
        remember(&storage);
        Ok(storage)
    }
}

impl Storage {
    /// Which file it is.
    pub(crate) fn identity(&self) -> Identity {
        let segment = &self.reference().segment;
        (segment.dev, segment.ino)
    }
}

/// In arguments and results of tasks, processes and phases; elsewhere it is an error (see [`travel`](crate::travel)).
impl<T: Element, D: Dimension> Serialize for ArrayHandle<T, D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let storage = self.storage();
        storage.usable().map_err(|e| ser::Error::custom(refuse(e)))?;
        lend(storage).map_err(ser::Error::custom)?;
        Travelling::of(storage).serialize(serializer)
    }
}

impl<'de, T: Element, D: Dimension> Deserialize<'de> for ArrayHandle<T, D> {
    fn deserialize<X: Deserializer<'de>>(deserializer: X) -> Result<ArrayHandle<T, D>, X::Error> {
        let sent = Travelling::deserialize(deserializer)?;
        let storage = || {
            sent.check::<T, D>()?;
            match take_handle(&sent)? {
                Some(storage) => Ok(storage),
                None => sent.attach(),
            }
        };
        let storage: Arc<Storage> = storage().map_err(|e: Error| de::Error::custom(refuse(e)))?;
        Ok(ArrayHandle::new(storage))
    }
}

/// In the results of tasks and isolated calls, with which it changes hands; elsewhere it is an error (see
/// [`travel`](crate::travel)).
impl<T: Element, D: Dimension> Serialize for SharedArray<T, D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.storage().changeable().map_err(|e| ser::Error::custom(refuse(e)))?;
        give(self.storage()).map_err(ser::Error::custom)?;
        Travelling::of(self.storage()).serialize(serializer)
    }
}

impl<'de, T: Element, D: Dimension> Deserialize<'de> for SharedArray<T, D> {
    fn deserialize<X: Deserializer<'de>>(deserializer: X) -> Result<SharedArray<T, D>, X::Error> {
        let sent = Travelling::deserialize(deserializer)?;
        let array = || {
            sent.check::<T, D>()?;
            SharedArray::from_shared_storage(take_array(&sent)?)
        };
        array().map_err(|e| de::Error::custom(refuse(e)))
    }
}
