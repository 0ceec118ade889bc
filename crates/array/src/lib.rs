//! Typed n-dimensional arrays in shared memory.
//!
//! An array segment is a `.npy` image: see `README.md` beside this crate for every byte.

mod array_ref;
mod backing;
mod element;
mod error;
mod foreign;
mod handle;
pub mod limits;
pub mod npy;
mod options;
mod rows;
mod shape;
mod shared;
mod snapshot;
mod storage;
mod taint;
pub mod travel;
mod usage;

pub use array_ref::ArrayRef;
pub use element::{Bool, DType, Element, c32, c64};
pub use error::Error;
pub use foreign::{ForeignArray, ForeignArrayMut, attach, attach_mut};
pub use handle::ArrayHandle;
pub use options::ArrayOptions;
pub use rows::{rows_view, rows_view_mut};
pub use shape::{Extent, Order, ShapeText};
pub use shared::SharedArray;
pub use taint::{Taint, Torn};
