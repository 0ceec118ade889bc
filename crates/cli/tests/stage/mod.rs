//! A small language for tests of the command: a directory with files, a command line, and what came of it.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A directory of its own for one test; commands run in it.
pub(crate) struct Dir(TempDir);

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a file.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> &Dir {
        fs::write(self.path(name), text).expect("room for a file");
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// Starts `swath` with these words.
    pub(crate) fn start(&self, words: &str) -> Child {
        self.command(words).spawn().expect("the command starts")
    }

    /// Runs `swath` with these words.
    pub(crate) fn run(&self, words: &str) -> Ran {
        ran(self.start(words))
    }

    /// Runs `swath` with these words, and this text in a pipe on its standard input.
    pub(crate) fn run_with(&self, words: &str, input: &str) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().expect("the command starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        // A command that does not read its input to the end is judged by what it says.
        let _ = pipe.write_all(input.as_bytes());
        drop(pipe);
        ran(child)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swath"));
        command.args(words.split_whitespace()).current_dir(self.0.path()).env_remove("SWATH_WORKERS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Waits for the end of a command.
pub(crate) fn ran(child: Child) -> Ran {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("the command ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Ran {
    /// The result of a command that did all it should.
    #[track_caller]
    pub(crate) fn answer(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""));
        self.out
    }

    /// The complaint of a command that ended with this code and without a result.
    #[track_caller]
    pub(crate) fn complaint(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{}", self.err);
        self.err
    }
}

/// The repository's `data` directory.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").canonicalize().expect("the data directory")
}

/// The worker processes of a command.
pub(crate) fn workers_of(coordinator: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| is_worker_of(*pid, coordinator)).collect()
}

fn is_worker_of(pid: u32, coordinator: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((name, rest)) = stat.rsplit_once(')') else { return false };
    let parent = rest.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok());
    name.ends_with("(swath-worker") && parent == Some(coordinator)
}

/// Sends a signal, if the process is still there.
pub(crate) fn signal(name: &str, pid: u32) {
    let status =
        Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    status.expect("the command kill");
}
