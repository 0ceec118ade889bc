//! What workers print: passed on to the coordinator's own output, a line at a time, so that lines of several workers never
//! mix.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use swath_platform::file::{self, Readiness};

use crate::limits::OUTPUT_LINE_BYTES;

/// Which of the coordinator's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The reading end of a worker's output.
pub(crate) struct Lines {
    pipe: File,
    stream: Stream,
    pending: Vec<u8>,
    bytes: u64,
}

impl Lines {
    /// Reads from `pipe`.
    pub(crate) fn new(pipe: File, stream: Stream) -> Lines {
        Lines { pipe, stream, pending: Vec::new(), bytes: 0 }
    }

    /// Passes on the whole lines that have arrived. False when the pipe is at its end; what is left is then passed on too.
    pub(crate) fn pump(&mut self) -> bool {
        let open = self.fill();
        let whole = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            _ if !open => self.pending.len(),
            None if self.pending.len() >= OUTPUT_LINE_BYTES => self.pending.len(),
            None => 0,
            Some(at) => at + 1,
        };
        if whole > 0 {
            // Nobody listens any more: a worker's output is no reason to fail.
            let _ = match self.stream {
                Stream::Out => write(&mut io::stdout().lock(), &self.pending[..whole], open),
                Stream::Err => write(&mut io::stderr().lock(), &self.pending[..whole], open),
            };
            self.pending.drain(..whole);
        }
        open
    }

    /// How many bytes have come so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The descriptor to watch.
    pub(crate) fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// The pipe once more, to look at.
    #[cfg(test)]
    pub(crate) fn try_clone_pipe(&self) -> File {
        self.pipe.try_clone().expect("a descriptor")
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0u8; 8192];
        // Bounded, so that one chatty worker does not keep the relay from the others.
        for _ in 0..16 {
            let ready = file::poll_readable(&[self.fd()], Some(Duration::ZERO));
            if !ready.is_ok_and(|r| r.first() == Some(&Readiness::Ready)) {
                return true;
            }
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.pending.extend_from_slice(&buffer[..n]);
                    self.bytes += n as u64;
                }
                Err(e) => return e.kind() == ErrorKind::Interrupted,
            }
        }
        true
    }
}

/// A last line without its end gets one, lest another worker's line is glued to it.
fn write(to: &mut impl Write, lines: &[u8], open: bool) -> io::Result<()> {
    to.write_all(lines)?;
    if !open && lines.last() != Some(&b'\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}
