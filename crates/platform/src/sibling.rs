//! A copy of this process that is its sibling: a child of the parent that both have.
//!
//! The parent reaps the copy, has its exact status, and can open a pidfd for it without a race, since nobody else can reap it;
//! PDEATHSIG tells the copy of the parent's death. `clone` does that with `CLONE_PARENT` (clone(2)), which no function of the C
//! library passes on, so the system call is made here, and with it what glibc's `_Fork` does in a process with one thread:
//!
//! - The kernel writes the copy's thread id where the C library keeps it (`CLONE_CHILD_SETTID`), and clears it there when the thread
//!   ends. The address is the one that the library gave to `set_tid_address` at the start; the kernel tells it
//!   (`PR_GET_TID_ADDRESS`, where `CONFIG_CHECKPOINT_RESTORE` is set). So `abort`, `raise` and mutexes that check their owner are right.
//! - The robust list, which a fork does not inherit, is registered anew.
//! - Locks of the library, the allocator's too, are free: there is no other thread that could hold one.
//!
//! What is not done: handlers of `pthread_atfork` are not called.

use std::ffi::c_long;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::spawn::Child;
use crate::{fork, life, process};

const PR_GET_TID_ADDRESS: i32 = 40;

/// Where [`copy`] has come back.
#[derive(Debug, PartialEq, Eq)]
pub enum Side {
    /// In the process that called it.
    Original,
    /// In the copy.
    Copy,
}

/// Why this system cannot make siblings, if it cannot.
///
/// # Errors
///
/// The kernel does not tell where the C library keeps the thread id, or that is not where it told the kernel.
pub fn check() -> io::Result<()> {
    // Asked of the calling thread: it is so for all of them, or for none.
    tid_address().map(drop)
}

/// Where the C library keeps the calling thread's id.
fn tid_address() -> io::Result<*mut u32> {
    let mut address: *mut u32 = ptr::null_mut();
    // SAFETY: the kernel writes one pointer into a live local.
    if unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut address) } != 0 || address.is_null() {
        let why =
            "the kernel does not tell where the C library keeps the thread id (CONFIG_CHECKPOINT_RESTORE)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    // SAFETY: the kernel clears this word when the thread ends, so the C library keeps a word of its own there for as long.
    if unsafe { address.read_volatile() } != process::gettid() {
        let why = "the C library does not keep the thread id where it told the kernel";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(address)
}

/// Makes a copy of this process whose parent is ours. `told` has its process id before anybody can learn of the copy in another way,
/// and however this process ends: if it lies in memory that the parent sees, no copy is lost.
///
/// # Errors
///
/// Those of [`check`]; this process has more than one thread; the kernel refuses (EAGAIN: process limit, ENOMEM).
pub fn copy(told: &AtomicU32) -> io::Result<Side> {
    fork::check_alone()?;
    let own_id = tid_address()?;
    let robust = life::registered();
    // A handler must not run before the list is registered.
    let _blocked = process::SignalsBlocked::new();
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    // SAFETY: a fork: without CLONE_VM the copy has its own memory, and a null stack means the one that it has. What makes a fork unsafe
    // is other threads, and there are none. The kernel writes the id to `told`, an atomic, and in the copy to the C library's word.
    let pid = unsafe { clone(c_long::from(flags | libc::SIGCHLD), told.as_ptr(), own_id) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            if let Some((head, length)) = robust {
                // SAFETY: 1. to 3. the list is the one that the C library had registered for this thread before the copy was made.
                let _ = unsafe { life::register(head, length) };
            }
            Ok(Side::Copy)
        }
        _ => Ok(Side::Original),
    }
}

/// The system call, whose last arguments differ in their order.
///
/// # Safety
/// Those of clone(2) with a null stack; what it returns twice.
unsafe fn clone(flags: c_long, parent_tid: *mut u32, child_tid: *mut u32) -> c_long {
    let (no_stack, no_tls) = (ptr::null_mut::<u8>(), 0_usize);
    #[cfg(any(target_arch = "x86_64", target_arch = "s390x"))]
    let (fourth, fifth) = (child_tid as usize, no_tls);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "s390x")))]
    let (fourth, fifth) = (no_tls, child_tid as usize);
    // SAFETY: the caller's.
    unsafe { libc::syscall(libc::SYS_clone, flags, no_stack, parent_tid, fourth, fifth) }
}

/// Takes over a copy that a sibling of it has made: it is our child.
///
/// # Errors
///
/// No descriptor for the pidfd: then the copy is killed, and reaped.
pub fn adopt(told: &AtomicU32) -> io::Result<Child> {
    let pid = told.load(Ordering::Acquire);
    process::pidfd_open(pid).map(|pidfd| Child { pid, pidfd }).inspect_err(|_| fork::end_child(pid))
}
