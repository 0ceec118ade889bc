//! Starting ourselves again: `posix_spawn` of `/proc/self/exe`, with declared descriptors and a clean signal state.
//!
//! Nothing of ours runs between fork and exec, so a lock that another thread holds at that moment cannot hurt. The path
//! is resolved in the child, whose executable is still ours: a binary replaced or deleted on disk does not matter.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;

use crate::process;

/// What the new process gets.
#[derive(Debug, Default)]
pub struct SpawnSelf {
    /// The arguments, name first.
    pub argv: Vec<CString>,
    /// `NAME=value` each; `None` inherits the environment of now.
    pub env: Option<Vec<CString>>,
    /// (ours, its number there). Everything above the largest number is closed.
    pub fds: Vec<(RawFd, RawFd)>,
    /// Whether it leads a process group of its own.
    pub new_group: bool,
}

/// A process that we started. Dropping the value neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: u32,
    /// What to wait on and to signal through.
    pub pidfd: OwnedFd,
}

impl SpawnSelf {
    /// Starts it. The caller's *thread* is its parent as far as PDEATHSIG goes.
    ///
    /// # Errors
    ///
    /// Those of `posix_spawn`: EAGAIN (process limit), ENOMEM, ENOENT (no `/proc`), EMFILE for the duplicates and the pidfd.
    pub fn spawn(&self) -> io::Result<Child> {
        let kept = self.duplicates()?;
        let mut actions = Actions::new()?;
        for (own, (_, target)) in kept.iter().zip(&self.fds) {
            actions.dup2(own.as_raw_fd(), *target)?;
        }
        // What a library opened without close-on-exec must not reach the child.
        actions.close_from(self.above())?;
        let attributes = Attributes::new(self.new_group)?;
        let env = match &self.env {
            Some(env) => env.clone(),
            None => inherited_env(),
        };
        let pid = spawn_with(&self.argv, &env, &actions, &attributes)?;
        // The child stays a zombie until somebody reaps it, so its pid cannot be reused before the next line, unless the
        // host program reaps strangers (`waitpid(-1)`).
        let pidfd = process::pidfd_open(pid)?;
        Ok(Child { pid, pidfd })
    }

    /// The first descriptor that is nobody's target.
    fn above(&self) -> RawFd {
        self.fds.iter().map(|fd| fd.1).max().unwrap_or(2) + 1
    }

    /// Duplicates above every target, so that one `dup2` cannot overwrite the source of another.
    fn duplicates(&self) -> io::Result<Vec<OwnedFd>> {
        let above = self.above();
        let duplicate = |&(own, _): &(RawFd, RawFd)| {
            // SAFETY: the descriptor is only borrowed for this call; if the caller passed a closed one, the kernel says EBADF.
            let own = unsafe { BorrowedFd::borrow_raw(own) };
            Ok(rustix::io::fcntl_dupfd_cloexec(own, above)?)
        };
        self.fds.iter().map(duplicate).collect()
    }
}

/// The environment as `std` sees it (under its lock, so a `set_var` elsewhere cannot tear it).
fn inherited_env() -> Vec<CString> {
    let entry = |(name, value): (OsString, OsString)| {
        let mut bytes = name.into_vec();
        bytes.push(b'=');
        bytes.extend(value.into_vec());
        CString::new(bytes).ok()
    };
    std::env::vars_os().filter_map(entry).collect()
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// `posix_spawn_file_actions_t`, destroyed on drop.
struct Actions(Box<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new() -> io::Result<Actions> {
        // SAFETY: the structure is plain memory that init fills; it is boxed, so it does not move afterwards.
        let mut actions: Box<libc::posix_spawn_file_actions_t> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the pointer is to a live, exclusively owned structure.
        check(unsafe { libc::posix_spawn_file_actions_init(&mut *actions) })?;
        Ok(Actions(actions))
    }

    fn dup2(&mut self, own: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: initialised in `new`, destroyed only in `drop`.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut *self.0, own, target) })
    }

    /// Closes everything from `first` on, after the duplicates were made (glibc 2.34).
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // SAFETY: as above.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut *self.0, first) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, not used after.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut *self.0) };
    }
}

/// `posix_spawnattr_t`: empty signal mask, default dispositions, a group of its own if wanted.
struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    fn new(new_group: bool) -> io::Result<Attributes> {
        // SAFETY: as in `Actions::new`.
        let mut raw: Box<libc::posix_spawnattr_t> = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the pointer is to a live, exclusively owned structure.
        check(unsafe { libc::posix_spawnattr_init(&mut *raw) })?;
        let mut attributes = Attributes(raw);
        let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        if new_group {
            flags |= libc::POSIX_SPAWN_SETPGROUP;
        }
        // SAFETY: the structure was initialised above; the signal sets are live locals, filled before use.
        unsafe {
            let raw = &mut *attributes.0;
            let mut none: libc::sigset_t = std::mem::zeroed();
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigfillset(&mut all);
            check(libc::posix_spawnattr_setsigmask(raw, &none))?;
            check(libc::posix_spawnattr_setsigdefault(raw, &all))?;
            check(libc::posix_spawnattr_setpgroup(raw, 0))?;
            check(libc::posix_spawnattr_setflags(raw, flags as libc::c_short))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, not used after.
        unsafe { libc::posix_spawnattr_destroy(&mut *self.0) };
    }
}

fn spawn_with(
    argv: &[CString],
    env: &[CString],
    actions: &Actions,
    attributes: &Attributes,
) -> io::Result<u32> {
    let pointers = |list: &[CString]| -> Vec<*mut libc::c_char> {
        list.iter().map(|text| text.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    let mut pid: libc::pid_t = 0;
    // SAFETY: both lists are NULL-terminated and point to NUL-terminated strings that outlive the call, which does not
    // write them; the two structures are initialised.
    let code = unsafe {
        libc::posix_spawn(
            &mut pid,
            c"/proc/self/exe".as_ptr(),
            &*actions.0,
            &*attributes.0,
            argv.as_ptr(),
            env.as_ptr(),
        )
    };
    check(code)?;
    Ok(pid as u32)
}
