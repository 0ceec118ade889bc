//! The life word: a word of shared memory that the kernel marks when a thread dies, whatever kills it.
//!
//! Linux keeps for each thread a *robust list*, walked when the thread ends. Its field `list_op_pending` names one
//! word outside the list; if that word holds the thread's id, the kernel replaces the id by `FUTEX_OWNER_DIED` and
//! wakes one sleeper. [`arm`] registers an empty list whose pending word is ours, permanently. So the news of a
//! death by SIGKILL, fault, `exit`, exec or OOM comes from the kernel, before the process's memory is torn down, needs
//! no pointer in shared memory, and cannot be mistaken when a process id is used again.
//!
//! What it does not say: that *other* threads of the process have ended. And what it costs: a thread has one robust
//! list, so while the word is armed, robust pthread mutexes that this thread holds are not released on its death.
//! Arm it on threads that are ours. [`disarm`] gives glibc its list back.
//!
//! The kernel writes to the word at a time of its choosing, so its page must stay mapped for the process's life.
//! Kernels and sandboxes differ in how faithful they are; [`self_test`] asks this one, by killing something.

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_long, c_void};
use std::mem::{MaybeUninit, offset_of, size_of};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{clock, futex};

/// Set by the kernel in the life word of a thread that has died.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// Kept set in an armed life word: tells the kernel to wake a sleeper.
pub const WAITERS: u32 = 0x8000_0000;
/// The bits of an armed life word that hold the thread's id.
pub const TID_MASK: u32 = 0x3FFF_FFFF;

/// The head of a robust list as the kernel defines it.
#[repr(C)]
struct Head {
    /// The list's first entry; an empty list points at its own head.
    list: *const Head,
    futex_offset: c_long,
    list_op_pending: *const AtomicU32,
}

const _: () = assert!(size_of::<Head>() == 24 && offset_of!(Head, list_op_pending) == 16);

struct Own {
    head: UnsafeCell<Head>,
    saved: Cell<Option<(*const c_void, usize)>>,
    word: Cell<Option<&'static AtomicU32>>,
}

thread_local! {
    // Without a destructor: the storage lives as long as the thread, and the kernel reads it when the thread ends.
    static OWN: Own = const {
        Own {
            head: UnsafeCell::new(Head { list: ptr::null(), futex_offset: 0, list_op_pending: ptr::null() }),
            saved: Cell::new(None),
            word: Cell::new(None),
        }
    };
}

/// Makes `word` the calling thread's life word: from now on the kernel marks it with [`OWNER_DIED`] when this
/// thread ends. Says whether the kernel took it. A thread has one life word; arming another replaces it.
///
/// A death before the last store leaves the word 0: such a party has never been alive, and whoever spawned it
/// notices by other means.
pub fn arm(word: &'static AtomicU32) -> bool {
    disarm();
    OWN.with(|own| {
        let head = own.head.get();
        // SAFETY: `head` is this thread's own cell; no reference to it is ever made, and the kernel reads it only
        // inside the thread's exit, never at the same time as this.
        unsafe { head.write(Head { list: head, futex_offset: 0, list_op_pending: word }) };
        let saved = registered();
        // SAFETY: see `register`: (1) the head is in thread-local storage without a destructor, (2) its list is
        // itself, (3) `word` is 'static.
        if !unsafe { register(head.cast(), size_of::<Head>()) } {
            return false;
        }
        own.saved.set(saved);
        own.word.set(Some(word));
        word.store(thread_id() | WAITERS, Ordering::SeqCst);
        true
    })
}

/// Takes the calling thread's life word away again: the word becomes 0 and the thread's former robust list (glibc's)
/// is registered as before. Without an armed word it does nothing.
pub fn disarm() {
    OWN.with(|own| {
        let Some(word) = own.word.take() else { return };
        // First the word, then the list: killed between the two, the kernel finds 0 and leaves it.
        word.store(0, Ordering::SeqCst);
        let (head, length) = own.saved.take().unwrap_or((ptr::null(), size_of::<Head>()));
        // SAFETY: see `register`: the list is the one that was registered for this thread before, by its libc.
        let _ = unsafe { register(head, length) };
    });
}

/// Whether this kernel marks a life word within a second when its thread is killed. Asked once per process, unless
/// [`vouch`] has answered before.
///
/// Safe in a process with many threads: the victim is a `clone(CLONE_VM | CLONE_VFORK)` child, as `posix_spawn` makes
/// them, on a stack of its own, with all signals blocked, which makes four bare system calls (`gettid`,
/// `set_robust_list`, `getpid`, `kill(SIGKILL)`) and does nothing else. It copies no page tables, sends
/// no SIGCHLD and is reaped here. A thread that merely returned would show less: the kernel's paths differ.
pub fn self_test() -> bool {
    *MARKS.get_or_init(kill_a_child)
}

/// Takes the word of the process that started this one: the kernel marks life words, so nothing need be killed to find out.
pub fn vouch() {
    let _ = MARKS.set(true);
}

static MARKS: OnceLock<bool> = OnceLock::new();

/// What the victim of the self-test works with. It shares our memory, so plain memory will do.
struct Victim {
    word: AtomicU32,
    head: UnsafeCell<Head>,
}

const VICTIM_STACK_BYTES: usize = 64 * 1024;

#[repr(C, align(64))]
struct Stack([MaybeUninit<u8>; VICTIM_STACK_BYTES]);

fn kill_a_child() -> bool {
    let victim = Box::new(Victim {
        word: AtomicU32::new(0),
        head: UnsafeCell::new(Head { list: ptr::null(), futex_offset: 0, list_op_pending: ptr::null() }),
    });
    let head = victim.head.get();
    // SAFETY: nobody else has this head yet.
    unsafe { head.write(Head { list: head, futex_offset: 0, list_op_pending: &victim.word }) };
    let mut stack = Box::<Stack>::new_uninit();
    // SAFETY: one past the end of the allocation is a valid pointer value; stacks grow down from it.
    let top = unsafe { stack.as_mut_ptr().add(1) }.cast::<c_void>();
    let argument = ptr::from_ref(&*victim).cast_mut().cast::<c_void>();
    // SAFETY: (1) the stack is ours, aligned, and outlives the child: CLONE_VFORK suspends this thread until the
    // child has ended; (2) `die` keeps to raw system calls; (3) signals are blocked, so no handler of the host runs
    // in the child; (4) without CLONE_THREAD and CLONE_SIGHAND the child's SIGKILL is its own.
    let child = unsafe {
        with_signals_blocked(|| libc::clone(die, top, libc::CLONE_VM | libc::CLONE_VFORK, argument))
    };
    if child < 0 {
        return false;
    }
    reap(child);
    let deadline = clock::after(Duration::from_secs(1));
    loop {
        let word = victim.word.load(Ordering::SeqCst);
        if word & OWNER_DIED != 0 {
            return true;
        }
        if futex::wait_until(&victim.word, word, deadline) == futex::Wait::TimedOut {
            return false;
        }
    }
}

/// The victim's whole life.
extern "C" fn die(argument: *mut c_void) -> c_int {
    // SAFETY: `kill_a_child` passes its `Victim`, which outlives this process.
    let victim = unsafe { &*argument.cast::<Victim>() };
    // SAFETY: see `register`; what it names outlives the child, because its parent waits.
    let registered = unsafe { register(victim.head.get().cast(), size_of::<Head>()) };
    if registered {
        victim.word.store(thread_id() | WAITERS, Ordering::SeqCst);
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
    1
}

/// Reaps a clone child that announces its end by no signal: nobody's `wait()` but one with `__WALL` sees it.
fn reap(child: libc::pid_t) {
    // SAFETY: a plain system call on our own child; a null status is allowed.
    while unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) } < 0
        && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
    {}
}

/// Runs `body` with every signal blocked in this thread.
///
/// # Safety
/// `body` must return.
unsafe fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are ours; `sigfillset` initialises the first, `pthread_sigmask` the second.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let result = body();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

#[inline]
fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32 & TID_MASK
}

/// The robust list that is registered for this thread, or `None` where the kernel does not say.
pub(crate) fn registered() -> Option<(*const c_void, usize)> {
    let (mut head, mut length) = (ptr::null::<c_void>(), 0_usize);
    // SAFETY: 0 is the calling thread; both results are ours.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut length) };
    (result == 0 && length == size_of::<Head>()).then_some((head, length))
}

/// Registers `head` as the calling thread's robust list and says whether the kernel took it.
///
/// # Safety
/// 1. `head` is null or stays valid until the thread has ended or registers another;
/// 2. its list is empty (points at itself) or well-formed;
/// 3. its pending word, if any, stays mapped as long.
pub(crate) unsafe fn register(head: *const c_void, length: usize) -> bool {
    // SAFETY: the caller's contract is the system call's.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, length) == 0 }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn word() -> &'static AtomicU32 {
        Box::leak(Box::new(AtomicU32::new(0)))
    }

    #[test]
    fn this_kernel_passes_the_self_test() {
        assert!(self_test());
        assert!(self_test());
    }

    #[test]
    fn the_end_of_a_thread_marks_its_word() {
        let word = word();
        thread::spawn(move || {
            assert!(arm(word));
            assert_eq!(word.load(Ordering::SeqCst), thread_id() | WAITERS);
        })
        .join()
        .unwrap();
        // `join` returns when the kernel clears the thread's id, which comes after the robust list.
        assert_eq!(word.load(Ordering::SeqCst), OWNER_DIED | WAITERS);
    }

    #[test]
    fn a_disarmed_word_is_left_alone_and_libc_has_its_list_back() {
        let word = word();
        thread::spawn(move || {
            let before = registered();
            assert!(arm(word));
            assert_ne!(registered(), before);
            disarm();
            assert_eq!(registered(), before);
            disarm();
        })
        .join()
        .unwrap();
        assert_eq!(word.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn arming_again_moves_to_the_new_word() {
        let (first, second) = (word(), word());
        thread::spawn(move || {
            let before = registered();
            assert!(arm(first) && arm(second));
            disarm();
            assert_eq!(registered(), before);
            assert!(arm(first) && arm(second));
        })
        .join()
        .unwrap();
        assert_eq!(first.load(Ordering::SeqCst), 0);
        assert_eq!(second.load(Ordering::SeqCst), OWNER_DIED | WAITERS);
    }
}
