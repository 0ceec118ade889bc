//! The command `swath`: arguments, output, exit codes.
//!
//! Each subcommand is a file of its own with two halves: flags as they were typed, and what they mean once they have
//! been checked against each other, which touches neither files nor processes. Results go to standard output or to the
//! file named by `-o`, which appears whole or not at all; everything else goes to standard error.

#![forbid(unsafe_code)]

mod clean;
mod csv;
mod exit;
mod input;
mod ls;
mod output;
mod progress;
mod size;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Version and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SWATH_BUILD_ID"), ")");

/// Data-parallel work in several processes: the speed of threads, the safety of processes.
#[derive(Parser)]
#[command(name = "swath", version = VERSION, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Csv(Box<csv::Flags>),
    Ls(ls::Flags),
    Clean(clean::Flags),
}

fn main() -> ExitCode {
    swath::init();
    let exit = match Cli::parse().command {
        Command::Csv(flags) => csv::main(*flags),
        Command::Ls(flags) => ls::main(&flags),
        Command::Clean(flags) => clean::main(&flags),
    };
    exit.into()
}
