//! Every system call that swath makes, and nothing else.
//!
//! One noun per file. Functions here are safe where the kernel's contract can be met by types, and `unsafe` with
//! numbered preconditions where it cannot. No policy: what to do about an error is decided above.

pub mod clock;
pub mod cpu;
pub mod crash;
pub mod exe;
pub mod file;
pub mod fork;
pub mod futex;
pub mod life;
pub mod memory;
pub mod oom;
pub mod process;
pub mod sibling;
pub mod signal;
pub mod simd;
pub mod socket;
pub mod spawn;
pub mod stream;
