//! The limits of arrays, each by name.

use std::time::Duration;

/// Axes of one array, at most.
pub const AXES_MAX: usize = 6;

/// Where the data of an array that swath made begins, counted from the start of its segment: one page.
pub const DATA_OFFSET_BYTES: usize = 4096;

/// Length of a `.npy` header that is read, at most. Numpy itself refuses more than 10,000 characters.
pub const NPY_HEADER_BYTES_MAX: usize = 64 * 1024;

/// How long a change of an array waits for other processes that are about to let go of handles to it.
pub const READERS_WAIT: Duration = Duration::from_millis(100);

/// How often it looks meanwhile.
pub(crate) const READERS_LOOK: Duration = Duration::from_micros(200);
