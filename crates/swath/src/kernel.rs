//! Functions that travel: as their distance from the executable's load address.
//!
//! Coordinator and workers run the same file (checked at start), so the distance means the same function in both. It means
//! nothing for a function of a shared library, which is loaded by itself: an error at the call, before any chunk runs.

use swath_platform::exe::Image;

use crate::error::{Error, ErrorKind};

/// The name by which `function` travels.
pub(crate) fn name_of(function: *const ()) -> Result<u64, Error> {
    Image::current().offset_of(function).ok_or_else(|| {
        ErrorKind::KernelNotInExecutable
            .with("the kernel lies in a shared library or a plug-in; workers can only run functions of the main executable")
    })
}

/// The function that travelled as `name`, or `None` when it is not in the code of this executable.
pub(crate) fn address_of(name: u64) -> Option<*const ()> {
    Image::current().address_of(name)
}

/// The function that travelled as `name`, as the type that it has.
///
/// # Safety
/// 1. `F` is a `fn` type, and whoever named the function named one of this type.
pub(crate) unsafe fn function<F: Copy>(name: u64) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*const ()>()) };
    let address = address_of(name)?;
    // SAFETY: by 1, and since the address lies in this executable's code.
    Some(unsafe { std::mem::transmute_copy::<*const (), F>(&address) })
}
