//! The first line of `main`: in a worker or a guardian it never returns.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process;

/// The argument behind the membership's, of a process that carries out one errand …
pub(crate) const PROCESS: &str = "process";
/// … of a pool's worker …
pub(crate) const WORKER: &str = "worker";
/// … and of what a pool's workers are copies of.
pub(crate) const TEMPLATE: &str = "template";

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Makes this process able to have workers, and turns the processes that it starts into workers.
///
/// Call it first in `main`: a worker is the same executable started again, and this is where it turns off. Code before the
/// call runs in every worker too. Calling it twice is harmless. Tests and benches, whose `main` is not theirs, use
/// [`worker_entry!`](crate::worker_entry).
pub fn init() {
    swath_segment::set_initialised();
    if INITIALISED.swap(true, Ordering::SeqCst) {
        return;
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = swath_segment::guardian_entry(&args) {
        std::process::exit(code);
    }
    // The first four arguments are the membership's, then what it is to be and how deep it is nested.
    match swath_segment::worker_membership(args.get(..4).unwrap_or(&args)) {
        None => {}
        Some(Ok(membership)) => {
            let word = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
            // Not readable: as deep as it gets.
            let depth = word(5).parse().unwrap_or(u32::MAX);
            let rest = args.get(6..).unwrap_or_default();
            if word(4) == TEMPLATE {
                process::lineage::is(depth, None, None);
                crate::template::main(&membership, rest);
            }
            membership.hold();
            if word(4) == PROCESS {
                process::entry::main(&membership, depth, rest);
            }
            process::lineage::is(depth, None, None);
            crate::worker::main(&membership, rest)
        }
        Some(Err(error)) => {
            eprintln!("swath worker: {error}");
            std::process::exit(crate::worker::EXIT_CANNOT_BEGIN);
        }
    }
}

/// Whether [`init`] was called.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(Ordering::SeqCst)
}

/// Calls [`init`](crate::init()) before `main`, for executables whose `main` belongs to somebody else: tests, benches.
///
/// One line at the top level of the test or bench file: `swath::worker_entry!();`. It puts one function into the
/// executable's `.init_array` (ELF gABI, "Initialization and Termination Functions"), which the C library calls after its own
/// initialisation and before `main`.
#[macro_export]
macro_rules! worker_entry {
    () => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static SWATH_WORKER_ENTRY: extern "C" fn() = {
            extern "C" fn enter() {
                $crate::init();
            }
            enter
        };
    };
}
