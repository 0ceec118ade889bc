//! Inputs that workers can read at any place: files as they are, everything else as a copy.
//!
//! A pipe can be read once, by one process, from front to back. So what is not a regular file (`-`, a FIFO, what a
//! shell makes of `<(…)`) is first copied to a file that has no name, in the directory for temporary files. Workers open
//! it through this process: `/proc/PID/fd/N`.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use swath_jobs::csv::Input;

/// What messages call `-`.
const STDIN: &str = "standard input";

/// Inputs, and the files that must stay open as long as they are used.
pub(crate) struct Inputs {
    pub(crate) inputs: Vec<Input>,
    _copies: Vec<File>,
}

impl Inputs {
    /// Makes every path readable at any place.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Inputs, String> {
        let mut copies = Vec::new();
        let mut inputs = Vec::new();
        for path in paths {
            let (name, copy) = if path == Path::new("-") {
                (PathBuf::from(STDIN), Some(standard_input()))
            } else {
                (path.clone(), stream(path))
            };
            inputs.push(match copy {
                None => Input::from(name),
                Some(copy) => {
                    let copy = copy.map_err(|error| {
                        let directory = std::env::temp_dir();
                        format!("{}: cannot be copied to {}: {error}", name.display(), directory.display())
                    })?;
                    let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd()).into();
                    copies.push(copy);
                    Input { name, path }
                }
            });
        }
        Ok(Inputs { inputs, _copies: copies })
    }
}

/// Standard input, copied unless it already is a file from its beginning on.
fn standard_input() -> io::Result<File> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    if stdin.metadata()?.is_file() && stdin.stream_position()? == 0 {
        return Ok(stdin);
    }
    copied(stdin)
}

/// A copy of something that is neither a file nor a directory; errors of all others are reported by whoever reads them.
fn stream(path: &Path) -> Option<io::Result<File>> {
    let metadata = path.metadata().ok()?;
    let seekable = metadata.is_file() || metadata.is_dir();
    (!seekable).then(|| copied(File::open(path)?))
}

fn copied(mut from: File) -> io::Result<File> {
    let mut copy = tempfile::tempfile()?;
    io::copy(&mut from, &mut copy)?;
    Ok(copy)
}
