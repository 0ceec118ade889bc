//! Forking: whether this process is the one that said so, or a forked copy of it (one load instead of a system call); and copies
//! made on purpose, by a process with one thread.
//!
//! A page that the kernel wipes in children (`MADV_WIPEONFORK`, madvise(2), since 4.14) holds a mark. Where the kernel
//! refuses, process ids are compared.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::Advice;

use crate::spawn::Child;
use crate::{memory, process};

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

/// The names of this process's threads.
pub fn threads() -> io::Result<Vec<String>> {
    let names = std::fs::read_dir("/proc/self/task")?.map(|thread| {
        let name = std::fs::read_to_string(thread?.path().join("comm"));
        // One that ends while we look is not there any more, but we may have counted it.
        Ok(name.unwrap_or_default().trim_end().to_owned())
    });
    names.collect()
}

/// An error unless this process has one thread. Only that thread could start another, and it is here.
pub(crate) fn check_alone() -> io::Result<()> {
    match threads()?.len() {
        1 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::ResourceBusy, "this process has more than one thread")),
    }
}

/// Where [`fork`] has come back.
#[derive(Debug)]
pub enum Side {
    /// In the process that called it; this is the copy.
    Parent(Child),
    /// In the copy.
    Child,
}

/// Makes a copy of this process.
///
/// # Errors
///
/// It has more than one thread; the kernel refuses, or has no descriptor for the pidfd: then there is no copy.
pub fn fork() -> io::Result<Side> {
    check_alone()?;
    // SAFETY: what makes a fork unsafe is other threads, whose locks and half-done work the copy would keep: there are none.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => match process::pidfd_open(pid as u32) {
            Ok(pidfd) => Ok(Side::Parent(Child { pid: pid as u32, pidfd })),
            Err(error) => {
                end_child(pid as u32);
                Err(error)
            }
        },
    }
}

/// Kills and reaps a child for which there is no pidfd. Nothing happens if `pid` is no child of ours.
pub(crate) fn end_child(pid: u32) {
    let Ok(pid @ 2..) = libc::pid_t::try_from(pid) else { return };
    // SAFETY: both results are live locals or null, which is allowed. A child that nobody has reaped keeps its number.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, look) == 0 {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

/// Ends the process without what was registered for its end.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: no code of ours or the host's runs any more.
    unsafe { libc::_exit(code) }
}

/// Writes out what the C library's streams have in store.
pub fn write_out_streams() {
    // SAFETY: null means all streams, which lock themselves.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Puts `by` in the place of standard input (0), output (1) or error (2).
pub fn replace_stream(number: i32, by: impl AsFd) -> io::Result<()> {
    match number {
        0 => rustix::stdio::dup2_stdin(by)?,
        1 => rustix::stdio::dup2_stdout(by)?,
        _ => rustix::stdio::dup2_stderr(by)?,
    }
    Ok(())
}

/// Sets, or removes, a variable of this process's environment.
///
/// # Errors
///
/// It has more than one thread.
pub fn set_variable(name: &OsStr, value: Option<&OsStr>) -> io::Result<()> {
    check_alone()?;
    // SAFETY: no other thread could be reading the environment.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
    Ok(())
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
