//! What can go wrong with an array.

use std::io;

use crate::DType;
use crate::npy::NpyError;
use crate::shape::ShapeText;
use crate::taint::Taint;

/// An error of arrays: the operation, the object and the exact misfit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Error {
    #[error("an array of {axes} axes: at most {} are supported", crate::limits::AXES_MAX)]
    TooManyAxes { axes: usize },
    #[error("the shape {shape} of {dtype} is too large: its bytes do not fit into the address space")]
    TooLarge { shape: ShapeText, dtype: DType },
    #[error("cannot use {object} as a .npy image: {source}")]
    Npy { object: String, source: NpyError },
    #[error("{object} holds {found}, not {expected}")]
    WrongType { object: String, found: DType, expected: DType },
    #[error("{object} has the shape {found}; expected number of axes: {expected}")]
    WrongAxes { object: String, found: ShapeText, expected: usize },
    #[error(
        "the data of {object} begins at byte {offset}, which {dtype} cannot be read at in place; \
         load a copy into shared memory instead (read_npy)"
    )]
    Misaligned { object: String, offset: usize, dtype: DType },
    #[error("a reference to an array is not valid: {what}")]
    BadReference { what: &'static str },
    #[error("{object} cannot be changed: {why}")]
    NotWritable { object: String, why: String },
    #[error("{object} cannot be given away: {why}")]
    NotGiven { object: String, why: &'static str },
    #[error("{object} is open in another array of this process, and one of the two could change it")]
    InUse { object: String },
    #[error("{object} is not in a file: there is nothing to finish")]
    NotInFile { object: String },
    #[error("{object} is tainted: {taint}")]
    Tainted { object: String, taint: Taint },
    #[error(transparent)]
    Segment(#[from] swath_segment::Error),
    #[error("cannot {operation} {object}: {source}")]
    Io { operation: &'static str, object: String, source: io::Error },
}
