//! The limits of arrays, each by name.

/// Axes of one array, at most.
pub const AXES_MAX: usize = 6;

/// Where the data of an array that swath made begins, counted from the start of its segment: one page.
pub const DATA_OFFSET_BYTES: usize = 4096;

/// Length of a `.npy` header that is read, at most. Numpy itself refuses more than 10,000 characters.
pub const NPY_HEADER_BYTES_MAX: usize = 64 * 1024;
