//! A crash's last words: where SIGSEGV, SIGBUS, SIGILL, SIGFPE or SIGABRT struck, written by the dying thread into memory that outlives its
//! process.
//!
//! The handler runs on a stack of its own (a stack that overflowed has no room for it), walks the frames, stores one word each, puts the
//! earlier handler back and returns: the instruction strikes again, and the process ends as it would have ended without us (Rust's own
//! handler says that a stack overflowed). Names are looked up by the reader, which runs the same executable.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::exe::Image;

/// Frames that are kept, the innermost first.
pub const FRAMES_MAX: usize = 30;
/// Of the handler's stack.
const STACK_BYTES: usize = 64 << 10;
const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// Where a crash is written; all zeros: there was none.
#[repr(C)]
#[derive(Debug)]
pub struct CrashRecord {
    signal: AtomicU32,
    frames: AtomicU32,
    address: AtomicU64,
    offsets: [AtomicU64; FRAMES_MAX],
}

/// A crash, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The signal.
    pub signal: i32,
    /// The address that could not be used, for SIGSEGV and SIGBUS that nobody sent; else 0.
    pub address: u64,
    /// Return addresses as offsets in the executable, the innermost first; 0 for those in shared libraries.
    pub offsets: Vec<u64>,
}

static PLACE: AtomicPtr<CrashRecord> = AtomicPtr::new(std::ptr::null_mut());
/// The actions that were there before.
static mut BEFORE: [MaybeUninit<libc::sigaction>; SIGNALS.len()] = [MaybeUninit::uninit(); SIGNALS.len()];

impl CrashRecord {
    /// What was written, if anything was.
    pub fn read(&self) -> Option<Crash> {
        let signal = self.signal.load(Ordering::Acquire);
        let frames = (self.frames.load(Ordering::Acquire) as usize).min(FRAMES_MAX);
        (signal != 0).then(|| Crash {
            signal: signal as i32,
            address: self.address.load(Ordering::Relaxed),
            offsets: self.offsets[..frames].iter().map(|offset| offset.load(Ordering::Relaxed)).collect(),
        })
    }

    /// Forgets it.
    pub fn clear(&self) {
        self.frames.store(0, Ordering::Relaxed);
        self.signal.store(0, Ordering::Release);
    }
}

/// From now on, a crash of the calling thread is written to `place`; of other threads too, if they have room left on their own stack.
pub fn write_to(place: &'static CrashRecord) {
    PLACE.store(std::ptr::from_ref(place).cast_mut(), Ordering::Release);
    prepare();
}

/// All that [`write_to`] does but for the place: copies of this process inherit it.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What the unwinder sets up at its first use, it must not set up in a handler.
        Image::current();
        backtrace::trace(|_| false);
        // Not filled: its pages are made when a crash needs them.
        let stack = Box::leak(Box::<[u8]>::new_uninit_slice(STACK_BYTES));
        let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        // SAFETY: the stack is leaked, so it is there for as long as the thread; the handler touches atomics, walks the stack and
        // calls `sigaction`; `BEFORE` is written here, once, before the handler that reads it is there.
        unsafe {
            libc::sigaltstack(&alternate, std::ptr::null_mut());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = struck as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
            for (index, signal) in SIGNALS.into_iter().enumerate() {
                let before = (&raw mut BEFORE[index]).cast::<libc::sigaction>();
                libc::sigaction(signal, std::ptr::null(), before);
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    });
}

extern "C" fn struck(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let index = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
    // SAFETY: written before this handler was installed, and never again. First of all, so that a crash in here is the end.
    unsafe { libc::sigaction(signal, (&raw const BEFORE[index]).cast(), std::ptr::null_mut()) };
    // SAFETY: the kernel passes a filled one for a handler with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as u64) };
    if code <= 0 {
        // Sent, by `abort` or by somebody else: no instruction strikes again. It comes when this handler returns.
        // SAFETY: async-signal-safe.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: null, or a record that is there for ever.
    let Some(place) = (unsafe { PLACE.load(Ordering::Acquire).as_ref() }) else { return };
    if place.signal.load(Ordering::Relaxed) != 0 {
        return;
    }
    place.address.store(if code > 0 { address } else { 0 }, Ordering::Relaxed);
    place.signal.store(signal as u32, Ordering::Release);
    let (image, mut count) = (Image::current(), 0);
    // SAFETY: asks that no other thread looks up symbols meanwhile; this only walks, with the unwinder's own synchronisation.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            let offset = image.offset_of(frame.ip().cast_const().cast()).unwrap_or(0);
            place.offsets[count].store(offset, Ordering::Relaxed);
            count += 1;
            place.frames.store(count as u32, Ordering::Release);
            count < FRAMES_MAX
        });
    }
}

/// The address, where there is one, and the frames by name, file and line, as far as the executable knows them, from where it struck outwards; the handler's own are left out.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if [libc::SIGSEGV, libc::SIGBUS].contains(&self.signal) {
            write!(f, " at address {:#x}", self.address)?;
        }
        let names: Vec<String> = self.offsets.iter().flat_map(|offset| names(*offset)).collect();
        let own = names.iter().rposition(|name| name.contains("crash::struck")).map_or(0, |at| at + 1);
        let skipped = names[own..].iter().skip_while(|name| name.as_str() == IN_A_LIBRARY);
        skipped.take(12).try_for_each(|name| write!(f, "\n    in {name}"))
    }
}

const IN_A_LIBRARY: &str = "a shared library";

/// The functions at `offset`: more than one where some were inlined.
fn names(offset: u64) -> Vec<String> {
    let Some(address) = Image::current().address_of(offset).filter(|_| offset != 0) else {
        return vec![IN_A_LIBRARY.to_owned()];
    };
    let mut names = Vec::new();
    // The return address may belong to the next line already.
    backtrace::resolve(address.cast_mut().cast::<u8>().wrapping_sub(1).cast(), |symbol| {
        let name = symbol.name().map_or_else(|| "?".to_owned(), |name| format!("{name:#}"));
        let line = symbol.filename().zip(symbol.lineno());
        let line = line.map_or_else(String::new, |(file, line)| format!(" ({}:{line})", file.display()));
        names.push(format!("{name}{line}"));
    });
    if names.is_empty() {
        names.push(format!("executable+{offset:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_in_a_fork_is_read_here_by_name() {
        // SAFETY: a fresh shared mapping of a page, never unmapped; zeros are an empty record.
        let place: &'static CrashRecord = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let page =
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            &*page.cast()
        };
        assert_eq!(place.read(), None);
        for (signal, address) in [(libc::SIGSEGV, 8), (libc::SIGABRT, 0)] {
            // SAFETY: the child crashes, and does nothing else.
            let child = unsafe { libc::fork() };
            if child == 0 {
                write_to(place);
                crash_here(signal);
            }
            let mut status = 0;
            // SAFETY: our own child, a live local.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(libc::WTERMSIG(status), signal, "it ends as it would have without us");
            let crash = place.read().expect("it was written");
            assert_eq!(crash.signal, signal);
            assert!(signal != libc::SIGSEGV || crash.address == address);
            let text = crash.to_string();
            assert!(text.contains("crash_here") && text.contains("crash.rs:"), "{text}");
            place.clear();
        }
    }

    #[inline(never)]
    fn crash_here(signal: i32) -> ! {
        if signal == libc::SIGSEGV {
            // SAFETY: not at all: nothing is mapped there, and that is what is wanted.
            unsafe {
                std::ptr::with_exposed_provenance_mut::<u32>(std::hint::black_box(8)).write_volatile(1)
            };
        }
        std::process::abort()
    }
}
