//! Where a ring lies, and the descriptor of its reader's bell: what is taken on trust from whoever mapped and passed them.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use swath_segment::Segment;

use super::berth::BELL_FD;
use super::ring::{RING_BYTES, Ring};

/// The words of a ring's segment, in the coordinator.
pub(super) fn words(segment: &Segment) -> &[AtomicU64] {
    let len = segment.len().min(RING_BYTES) / 8;
    // SAFETY: mapped writable and page-aligned as long as the segment is borrowed; only ever accessed as atomics.
    unsafe { std::slice::from_raw_parts(segment.as_ptr().cast::<AtomicU64>(), len) }
}

/// The ring that a worker has attached; `None` when it is not one.
///
/// # Safety
/// 1. `base` points at `len` bytes, writable, page-aligned, mapped as long as the process lives, and of a ring's segment: only
///    ever accessed as atomics.
pub(crate) unsafe fn attached(base: *mut u8, len: usize) -> Option<Ring<'static>> {
    // SAFETY: by 1.
    Ring::over(unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), len / 8) })
}

/// The bell that this worker was started with.
///
/// # Safety
/// 1. Nobody else owns [`BELL_FD`], and this is called once.
pub(crate) unsafe fn bell() -> OwnedFd {
    // SAFETY: by 1.
    unsafe { OwnedFd::from_raw_fd(BELL_FD) }
}
