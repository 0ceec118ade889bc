//! Python's multiprocessing: each trial is an interpreter of its own, which kills a process of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::table::Outcome;
use crate::watchdog::{self, DEADLINE};

const SCRIPT: &str = include_str!("multiprocessing.py");
/// An interpreter that is not there by then has another reason.
const START_WITHIN: Duration = Duration::from_secs(20);

/// Its name and version; `None` if there is no Python.
pub(super) fn system() -> Option<String> {
    let output = Command::new("python3").arg("--version").output().ok().filter(|out| out.status.success())?;
    let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("Python ").to_owned();
    Some(format!("multiprocessing, Python {version}"))
}

/// (primitive, where its user is killed)
pub(super) const TRIALS: &[(&str, &str)] = &[
    ("Lock", "holding"),
    ("Lock", "waiting"),
    ("RLock", "holding"),
    ("RLock", "waiting"),
    ("Semaphore", "holding"),
    ("Semaphore", "waiting"),
    ("Condition", "holding"),
    ("Condition", "waiting"),
    ("Event", "waiting"),
    ("Barrier", "before it arrives"),
    ("Barrier", "waiting"),
    ("Queue", "waiting in get"),
    ("Queue", "in the middle of a put"),
];

/// Plays one; what came of it.
pub(super) fn play(primitive: &str, place: &str) -> Result<Outcome, String> {
    let mut command = Command::new("python3");
    command
        .args(["-c", SCRIPT, primitive, place])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let mut child = command.stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (sender, receiver) = channel();
    // It ends with the pipe, which ends with the group.
    let reader = std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| {
            let _ = sender.send(line);
        });
    });
    let struck = receiver.recv_timeout(START_WITHIN).is_ok_and(|line| line == "struck");
    let outcome = match receiver.recv_timeout(DEADLINE) {
        _ if !struck => Err("the victim was not struck".to_owned()),
        Ok(line) if line == "survives" => Ok(Outcome::Survives),
        Ok(line) => Ok(Outcome::Wrong(line.trim_start_matches("wrong: ").to_owned())),
        Err(RecvTimeoutError::Timeout) => Ok(Outcome::Hangs),
        Err(RecvTimeoutError::Disconnected) => {
            Ok(Outcome::Wrong("the survivor raises an exception".to_owned()))
        }
    };
    watchdog::kill_group(child.id() as i32);
    let _ = child.wait();
    let _ = reader.join();
    outcome
}
