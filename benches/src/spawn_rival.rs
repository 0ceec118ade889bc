//! The bare start: this executable again, which says hello and waits to be let go. Nothing that is a process can be faster.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

const HELLO: &str = "say-hello";

/// First in `main`: the process that [`Starting::begin`] started says hello here and does not return.
pub fn answer() {
    if std::env::args().nth(1).as_deref() == Some(HELLO) {
        let said = io::stdout().write_all(b"!").and_then(|()| io::stdout().flush());
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(i32::from(said.is_err()));
    }
}

/// A process that was started.
pub struct Starting(Child);

impl Starting {
    /// Starts one.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn begin() -> io::Result<Starting> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(HELLO).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        Ok(Starting(command.spawn()?))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has said hello.
    ///
    /// # Errors
    /// It ended first.
    pub fn hello(&mut self) -> io::Result<()> {
        self.0.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.read_exact(&mut [0])
    }

    /// Lets it go, and waits until it is gone.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn end(mut self) -> io::Result<()> {
        drop(self.0.stdin.take());
        self.0.wait().map(drop)
    }
}
