//! How a command ends: the same codes for all of them.

use std::fmt::Display;
use std::process::ExitCode;

/// For the end of `--help`.
pub(crate) const HELP: &str = "\
Exit codes: 0 done; 1 failed, no result; 2 wrong usage; 3 done, but something was left out (it is listed); \
130 interrupted.";

/// The end of a command. What there was to say has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done,
    /// There is no result.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// There is a result, and a list of what is not in it.
    LeftOut,
    /// A signal asked for it.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::LeftOut => 3,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Says why there is no result.
pub(crate) fn failed(why: impl Display) -> Exit {
    eprintln!("swath: {why}");
    Exit::Failed
}

/// Says what is wrong with the command line.
pub(crate) fn usage(why: impl Display) -> Exit {
    eprintln!("swath: {why}\nTry 'swath --help'.");
    Exit::Usage
}
