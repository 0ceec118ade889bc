//! The rules of this repository, as tests.
//!
//! Each test looks at the files as they are, counts what it looked at, and fails when that was nothing. Lengths of files and
//! functions are reported and never fail: `cargo test -p swath --test tidy -- --nocapture lengths`.

mod asked_for;
mod check;
mod data;
mod layers;
mod lengths;
mod limits;
mod links;
mod manifest;
mod names;
mod python;
mod rust;
mod tree;
mod unsafety;
mod words;
