//! How a process is to be.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::allowance::Limits;
use super::errand::{self, Functions};
use super::launch::{Luggage, Settings, launch};
use super::method::StartMethod;
use super::value::ExitValue;
use super::{Process, forked};
use crate::LevelFilter;
use crate::error::{ErrorKind, Result};
use crate::phase::{Encoded, encode};
use crate::shared;

/// Where a process's standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// `/dev/null`: it is always at its end.
    #[default]
    Null,
    /// From where this program's comes.
    Inherit,
}

/// Where a process's standard output, or error, goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Where this program's goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To this program's, a line at a time, so that lines of several processes never mix.
    Lines,
}

/// The options that every process of one's own has, for builders with a field `settings`.
macro_rules! common_options {
    () => {
        /// A name, for messages and [`current_process`](crate::current_process); `process-N` by default.
        pub fn name(mut self, name: impl Into<String>) -> Self {
            self.settings.name = Some(name.into());
            self
        }

        /// Sets a variable of the process's environment, before it begins.
        pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
            self.settings.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
            self
        }

        /// Takes a variable out of the process's environment.
        pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
            self.settings.env.push((name.as_ref().to_owned(), None));
            self
        }

        /// The process's working directory; this program's by default.
        pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
            self.settings.cwd = Some(directory.as_ref().to_owned());
            self
        }

        /// What the process may use; what this program may by default.
        pub fn limits(mut self, limits: Limits) -> Self {
            self.settings.limits = limits;
            self
        }

        /// Where its standard output goes; where this program's goes by default.
        pub fn stdout(mut self, output: Output) -> Self {
            self.settings.stdout = output;
            self
        }

        /// Where its standard error goes; where this program's goes by default.
        pub fn stderr(mut self, output: Output) -> Self {
            self.settings.stderr = output;
            self
        }

        /// Up to which level it writes what it says by `tracing`, for the subscriber that is in force where it is started. Without it: as
        /// much as that asks for by its maximum level when the process starts; nothing without a subscriber, or up to `INFO` for
        /// the file of `log_to_files`.
        pub fn log_level(mut self, level: impl Into<LevelFilter>) -> Self {
            self.settings.log.set_level(level.into());
            self
        }

        /// It also appends what it says to a file of its own in `directory`, which is made if need be: `NAME-PID.log`, NAME being that of the
        /// program's file. As [`PoolBuilder::log_to_files`](crate::PoolBuilder::log_to_files).
        pub fn log_to_files(mut self, directory: impl Into<PathBuf>) -> Self {
            self.settings.log.set_directory(directory.into());
            self
        }
    };
}
pub(super) use common_options;

/// How a process is to be; made by [`Process::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a process is started by spawn or fork"]
pub struct ProcessBuilder {
    settings: Settings,
    method: StartMethod,
}

impl ProcessBuilder {
    common_options!();

    /// Whether it ends with this program: at this program's end it is asked to (SIGTERM), and killed if it does not. Others are
    /// waited for.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.settings.daemon = daemon;
        self
    }

    /// How it begins; [`StartMethod::Spawn`] by default.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// Where its standard input comes from; from nowhere by default.
    pub fn stdin(mut self, input: Input) -> Self {
        self.settings.stdin = input;
        self
    }

    /// Starts it: it runs `f(args)`.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]; [`Usage`](crate::ErrorKind::Usage) for a directory that is none, a variable that cannot be, or
    /// [`StartMethod::Forkserver`].
    pub fn spawn<A, R>(self, f: fn(A) -> R, args: A) -> Result<Process>
    where
        A: Serialize + DeserializeOwned,
        R: ExitValue,
    {
        match self.method {
            StartMethod::Spawn => {
                let functions = Functions::name(errand::run::<A, R>, f as *const ())?;
                launch(self.settings, functions, Luggage::pack(args)?, None).map(Process)
            }
            StartMethod::Fork => self.fork(move || f(args)),
            StartMethod::Forkserver => Err(ErrorKind::Usage.with(
                "StartMethod::Forkserver is for pools: PoolBuilder::start_method; processes have StartMethod::Spawn and \
                 StartMethod::Fork",
            )),
        }
    }

    /// Starts it as a forked copy of this process, which runs `f`. See [`Process::fork`].
    ///
    /// # Errors
    ///
    /// As [`Process::fork`].
    pub fn fork<R: ExitValue>(self, f: impl FnOnce() -> R) -> Result<Process> {
        forked::start(self.settings, f).map(Process)
    }
}

impl Luggage {
    /// Encodes arguments.
    pub(crate) fn pack<A: Serialize>(args: A) -> Result<Luggage> {
        let (Encoded { bytes, lent, .. }, objects) = shared::noting_objects(|| encode::<A, A>(&args));
        Ok(Luggage { args: bytes?, objects, lent })
    }
}
