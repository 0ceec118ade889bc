//! What swath computes: jobs that turn files into answers.
//!
//! A job is written in two layers. The lower one is pure: it knows files, records and numbers, and could be driven by
//! any loop. The upper one, a single file per job, hands the same functions to a [`swath::Pool`], which runs them in
//! worker processes. So everything that decides an answer can be tested without a process, and nothing that decides
//! an answer depends on how many of them there are.
//!
//! The one job so far is [`csv`]: group-by over CSV files.

#![forbid(unsafe_code)]

pub mod csv;
