//! Links the harness with all symbols bound at start.
//!
//! Lazy binding would put the dynamic linker's resolver between the instructions of the operation under test (measured on
//! a lock, increment, unlock: 1,445 steps with it, 168 without).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,now");
}
