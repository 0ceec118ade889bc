//! The `.npy` format, versions 1 to 3: what stands in front of the data of every array.
//!
//! ```text
//! 93 'N' 'U' 'M' 'P' 'Y' | major | minor | length of the header text (u16 in version 1, u32 after) | text
//! {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }   spaces   \n   data …
//! ```
//!
//! [`image_header`] writes ours: version 1.0, padded with spaces so that the data begins at byte 4096. [`read_header`]
//! reads anybody's, and treats every byte as an allegation: checked arithmetic, bounded lengths, no panic.

mod file;
mod literal;
mod read;
mod write;

use std::fmt;

pub(crate) use file::NpyFile;
pub use read::{parse_header, read_header};
pub use write::image_header;

use crate::Error;
use crate::shape::Extent;

/// The first six bytes of every `.npy` file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// What a `.npy` header says, after all of it was checked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Element type, order and shape.
    pub extent: Extent,
    /// Where the data begins, in bytes from the start of the file.
    pub data_offset: usize,
    /// Major version of the format: 1, 2 or 3.
    pub version: u8,
}

impl Header {
    /// That a file of `found` bytes has all the data.
    pub(crate) fn expect_data(&self, found: u64) -> Result<(), NpyError> {
        // At most a header's length and isize::MAX: no overflow.
        let needed = self.data_offset as u64 + self.extent.bytes() as u64;
        if found < needed { Err(NpyError::DataTruncated { needed, found }) } else { Ok(()) }
    }

    /// That the data can be read in place from a mapping of the file.
    pub(crate) fn expect_aligned(&self, object: &str) -> Result<(), Error> {
        let dtype = self.extent.dtype();
        match self.data_offset.is_multiple_of(dtype.align()) {
            true => Ok(()),
            false => Err(Error::Misaligned { object: object.into(), offset: self.data_offset, dtype }),
        }
    }
}

/// Why bytes are not a `.npy` image that swath can use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum NpyError {
    /// The first bytes are not the format's magic.
    NotNpy,
    /// A version of the format that did not exist when this was written.
    Version { major: u8, minor: u8 },
    /// The file ends inside the header.
    HeaderTruncated { needed: usize, found: usize },
    /// The header claims to be longer than `NPY_HEADER_BYTES_MAX`.
    HeaderTooLong { bytes: usize },
    /// The header is not the dictionary that the format prescribes.
    Malformed { at: usize, expected: &'static str },
    /// A type whose bytes stand in the other order.
    BigEndian { descr: String },
    /// Python objects: pickles, which swath does not read.
    Objects,
    /// Records with named fields.
    Structured,
    /// A type that no element type of swath corresponds to.
    UnsupportedType { descr: String },
    /// More than six axes.
    TooManyAxes { axes: usize },
    /// The shape's bytes overflow.
    TooLarge { shape: String },
    /// The data is shorter than the shape says.
    DataTruncated { needed: u64, found: u64 },
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use NpyError::*;
        match self {
            NotNpy => write!(f, "it does not begin with the magic bytes of a .npy file"),
            Version { major, minor } => {
                write!(f, "it is a .npy file of version {major}.{minor}; 1 to 3 are known")
            }
            HeaderTruncated { needed, found } => {
                write!(f, "it ends inside the header: {found} bytes, at least {needed} needed")
            }
            HeaderTooLong { bytes } => {
                write!(
                    f,
                    "its header claims {bytes} bytes; at most {} are read",
                    crate::limits::NPY_HEADER_BYTES_MAX
                )
            }
            Malformed { at, expected } => {
                write!(f, "its header is malformed at byte {at}: expected {expected}")
            }
            BigEndian { descr } => {
                write!(
                    f,
                    "its type '{descr}' is big-endian; convert it in numpy: a.astype(a.dtype.newbyteorder('<'))"
                )
            }
            Objects => write!(f, "it holds Python objects, which cannot be shared as numbers"),
            Structured => {
                write!(f, "it holds records with named fields; save each field as an array of its own")
            }
            UnsupportedType { descr } => write!(
                f,
                "its type '{descr}' is none of bool, int8–int64, uint8–uint64, float32, float64, complex64, complex128"
            ),
            TooManyAxes { axes } => {
                write!(f, "it has {axes} axes; at most {} are supported", crate::limits::AXES_MAX)
            }
            TooLarge { shape } => write!(f, "its shape {shape} is too large for memory"),
            DataTruncated { needed, found } => {
                write!(f, "it is cut short: header and data need {needed} bytes, it has {found}")
            }
        }
    }
}

impl std::error::Error for NpyError {}
