//! Whether this process is the one that said so, or a forked copy of it: one load instead of a system call.
//!
//! A page that the kernel wipes in children (`MADV_WIPEONFORK`, madvise(2), since 4.14) holds a mark. Where the kernel
//! refuses, process ids are compared.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::Advice;

use crate::memory;

/// The marked process; a wiped 0 in its children.
fn mark() -> Option<&'static AtomicU32> {
    static PAGE: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    *PAGE.get_or_init(|| {
        let len = memory::page_size();
        let page = memory::reserve(len).ok()?;
        // SAFETY: the page is ours, fresh and zero; wiping it in children changes nothing here.
        unsafe { rustix::mm::madvise(page.cast(), len, Advice::LinuxWipeOnFork) }.ok()?;
        // SAFETY: page-aligned, zero, mapped for ever; from now on only this atomic is used to look at it.
        Some(unsafe { &*page.cast::<AtomicU32>() })
    })
}

/// Marks the calling process.
pub fn mark_own() {
    if let Some(mark) = mark() {
        mark.store(std::process::id(), Ordering::Release);
    }
}

/// Whether `pid` is the calling process, which it marked.
#[inline]
pub fn is_own(pid: u32) -> bool {
    match mark() {
        Some(mark) => mark.load(Ordering::Acquire) == pid,
        None => std::process::id() == pid,
    }
}

/// Whether this process is a forked copy of one that had marked itself, and has not marked itself since. For who knows
/// that there was a mark; where the kernel does not wipe pages, always false.
#[inline]
pub fn is_copy() -> bool {
    mark().is_some_and(|mark| mark.load(Ordering::Relaxed) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_is_another_process() {
        let me = std::process::id();
        mark_own();
        assert!(is_own(me) && !is_own(me + 1) && !is_copy());
        // SAFETY: the child calls nothing but a few atomic loads and _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(is_own(me) || !is_copy());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: our own child, a live local.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child took itself for its parent");
        assert!(is_own(me));
    }
}
