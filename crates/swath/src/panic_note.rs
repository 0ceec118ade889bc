//! Panics of kernels, turned into data: where, what, and the backtrace, taken by a hook while it is known.
//!
//! The hook is installed once per process, in front of the one that was there. Outside kernels it changes nothing.
//!
//! In a program that is built with `panic = "abort"` nobody comes back to read a note: there the process dies of SIGABRT, and what
//! the panic said, in whichever thread and whoever's code, is left in the process's log instead, as its last words.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::cause::{Fault, What, at_most, shorten};
use crate::limits::LOG_RECORD_BYTES;
use crate::log::berth;

thread_local! {
    static IN_KERNEL: Cell<bool> = const { Cell::new(false) };
    static IN_OWN_KERNEL: Cell<bool> = const { Cell::new(false) };
    static NOTE: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Makes panics inside kernels silent and noted, from now on.
pub(crate) fn install() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if cfg!(panic = "abort") {
                leave_last_words(info);
                previous(info)
            } else if !take_note(info) {
                previous(info)
            }
        }));
    });
}

/// Runs `kernel`; a panic becomes [`What::Panicked`]. [`install`] comes first.
#[inline]
pub(crate) fn catching<R>(kernel: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    let outer = IN_KERNEL.replace(true);
    let result = catch_unwind(AssertUnwindSafe(kernel));
    IN_KERNEL.set(outer);
    result.unwrap_or_else(|payload| Err(Box::new(what_of(payload.as_ref()))))
}

/// True inside a kernel that this process's own pool, an inline one, has called: a phase of that pool would wait for itself. A
/// worker's kernel may have pools of its own.
pub(crate) fn in_kernel() -> bool {
    IN_OWN_KERNEL.get()
}

/// Runs the kernels of an inline pool.
pub(crate) fn in_this_process<R>(kernels: impl FnOnce() -> R) -> R {
    struct Outer(bool);
    impl Drop for Outer {
        fn drop(&mut self) {
            IN_OWN_KERNEL.set(self.0);
        }
    }
    let _outer = Outer(IN_OWN_KERNEL.replace(true));
    kernels()
}

fn take_note(info: &PanicHookInfo<'_>) -> bool {
    if !IN_KERNEL.get() {
        return false;
    }
    let location = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => shorten(backtrace.to_string()),
        _ => String::new(),
    };
    NOTE.set(Some((location, backtrace)));
    true
}

/// The process is about to abort. No formatting of the user's runs in here, and nothing waits for long.
fn leave_last_words(info: &PanicHookInfo<'_>) {
    let text = at_most(text_of(info.payload()), LOG_RECORD_BYTES);
    let (file, line) = info.location().map_or(("", 0), |place| (place.file(), place.line()));
    let location = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    berth::leave(file, line, &format!("panicked at {location}: {text}"));
}

/// A panic's text.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(a panic without a text)")
}

#[cold]
fn what_of(payload: &(dyn Any + Send)) -> What {
    let (location, backtrace) = NOTE.take().unwrap_or_else(|| ("an unknown place".into(), String::new()));
    let message = shorten(text_of(payload).to_owned());
    What::Panicked { message, location, backtrace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_where_and_what() {
        install();
        let caught = catching::<()>(|| panic!("seven is {}", 7)).expect_err("panicked");
        let What::Panicked { message, location, .. } = *caught else { panic!("another kind") };
        assert_eq!(message, "seven is 7");
        assert!(location.contains("panic_note.rs:"), "{location}");
        assert_eq!(catching(|| Ok(1)), Ok(1));
    }
}
